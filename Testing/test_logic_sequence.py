"""A sequence node of volumes becomes sequences of transforms and of warped volumes that play together."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from logic_case import PHANTOM, add_pair, content, engine, logic  # noqa: F401
from mrml_scene import add_node, add_volume
from nephi.series import tracking
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.mrml.node_geometry import ijk_to_ras
from NePhiRegistrationLib.session import sequence_frames

FAST = {"iterations": [6], "resolution": [20], "points": 20000, "device": "cpu", "search": "never"}


def _sequence(shifts: tuple[int, ...]):
    """The breathed-in phantom moved down by so many voxels, a volume for each."""
    slicer.mrmlScene.RegisterNodeClass(slicer.vtkMRMLSequenceBrowserNode())  # as Slicer's module Sequences does
    sequence = add_node("Sequence", "breath")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for number, shift in enumerate(shifts):
        values = np.roll(PHANTOM.fixed.values.numpy(), shift, 0)
        volume = add_volume(values, ijk_to_ras(PHANTOM.fixed.grid.to_dict()), f"frame{number}")
        sequence.SetDataNodeAtValue(volume, str(0.5 * number))
        slicer.mrmlScene.RemoveNode(volume)
    return sequence


def test_the_frames_of_a_sequence_are_aligned_and_play_together(logic):  # noqa: F811
    sequence, done = _sequence((0, 1, 2)), []
    before = content()
    found = logic.registerSequence(sequence, preset="lung-ct", onFrame=done.append, **FAST)
    assert done == [1, 2]
    assert content() - before == {"breath transforms", "breath warped", "breath aligned"}
    assert found.browser.GetNumberOfSynchronizedSequenceNodes(True) == 3
    for result, kind in ((found.transforms, "vtkMRMLTransformNode"), (found.warped, "vtkMRMLScalarVolumeNode")):
        assert [float(result.GetNthIndexValue(n)) for n in range(3)] == [0, 0.5, 1]
        assert result.GetNthDataNode(2).IsA(kind) and result.GetIndexUnit() == "s"
    reference, warped = (slicer.util.arrayFromVolume(node.GetNthDataNode(n))[8:-8].astype(float)
                         for node, n in ((sequence, 0), (found.warped, 2)))
    moved = slicer.util.arrayFromVolume(sequence.GetNthDataNode(2))[8:-8].astype(float)
    assert np.abs(warped - reference).mean() < 0.5 * np.abs(moved - reference).mean()


def test_what_is_no_sequence_of_volumes_is_refused_and_the_scene_stays(logic):  # noqa: F811
    with pytest.raises(NodeError, match="There is no sequence"):
        logic.registerSequence(add_pair().fixed)
    sequence = _sequence((0,))
    before = content()
    with pytest.raises(NodeError, match="has 1 volume"):
        logic.registerSequence(sequence)
    with pytest.raises(NodeError, match="There is no frame 6"):
        logic.registerSequence(_sequence((0, 1)), 5)
    with pytest.raises(ValueError, match="Unknown preset"):
        logic.registerSequence(_sequence((0, 1)), preset="heart")
    assert not any("frame" in name for name in content() - before)


@pytest.mark.parametrize("cycle", [False, True])
@pytest.mark.parametrize("reference", [0, 2, 4])
def test_frames_follow_each_other_as_on_the_command_line(reference, cycle):
    assert list(sequence_frames._outwards(5, reference, cycle)) == list(tracking._outwards(5, reference, cycle))
