"""A sequence node of volumes becomes sequences of transforms and of warped volumes that play together."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from logic_case import ENDLESS, PHANTOM, Told, add_pair, content, engine, logic, spin  # noqa: F401
from mrml_scene import add_node, add_points, add_volume
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.mrml.node_geometry import FLIP, ijk_to_ras
from NePhiRegistrationLib.session.logic import SequenceInputs

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


def _mean_error(sequence, found, number: int) -> tuple[float, float]:
    """Grey values by which a frame is off the first one, warped and as it is."""
    reference, warped, moved = (slicer.util.arrayFromVolume(node.GetNthDataNode(n))[8:-8].astype(float)
                                for node, n in ((sequence, 0), (found.warped, number), (sequence, number)))
    return np.abs(warped - reference).mean(), np.abs(moved - reference).mean()


def test_the_frames_of_a_sequence_are_aligned_and_play_together(logic):  # noqa: F811
    sequence, done = _sequence((0, 1, 2)), []
    before = content()
    found = logic.registerSequence(sequence, preset="lung-ct", onFrame=done.append, **FAST)
    assert done == [0, 1, 2]
    assert content() - before == {"breath transforms", "breath warped", "breath aligned"}
    assert found.browser.GetNumberOfSynchronizedSequenceNodes(True) == 3
    for result, kind in ((found.transforms, "vtkMRMLTransformNode"), (found.warped, "vtkMRMLScalarVolumeNode")):
        assert [float(result.GetNthIndexValue(n)) for n in range(3)] == [0, 0.5, 1]
        assert result.GetNthDataNode(2).IsA(kind) and result.GetIndexUnit() == "s"
    after, as_it_is = _mean_error(sequence, found, 2)
    assert after < 0.5 * as_it_is
    frame, warped = (node.GetNthDataNode(1) for node in (sequence, found.warped))
    matrices = [slicer.util.arrayFromVTKMatrix(_ijk_to_ras(node)) for node in (frame, warped)]
    assert np.allclose(*matrices) and frame.GetImageData().GetScalarType() == warped.GetImageData().GetScalarType()


def _ijk_to_ras(volume):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


@pytest.mark.parametrize("reference", [0, "mean", "previous"])
def test_points_placed_on_one_frame_are_followed_through_all(logic, reference):  # noqa: F811
    sequence, points = _sequence((0, 1, 2)), add_points(PHANTOM.landmarks_fixed.numpy()[:6] * FLIP, "forks")
    step = PHANTOM.fixed.grid.spacing[2]
    points.SetNthControlPointLabel(3, "carina")
    found = logic.registerSequence(sequence, reference, "lung-ct", trackPoints=points, trackFrame=0, outputs=(), **FAST)
    assert found.transforms is None and found.warped is None and found.points.GetName() == "breath points"
    assert [float(found.points.GetNthIndexValue(n)) for n in range(3)] == [0, 0.5, 1]
    start, *there = (slicer.util.arrayFromMarkupsControlPoints(found.points.GetNthDataNode(n)) for n in range(3))
    assert found.points.GetNthDataNode(2).GetNthControlPointLabel(3) == "carina"
    assert np.allclose(start, slicer.util.arrayFromMarkupsControlPoints(points), atol=0.3 * step)
    for number, places in enumerate(there, start=1):
        truth = start + np.array([0, 0, number * step])
        assert np.linalg.norm(places - truth, axis=1).mean() < 0.5 * number * step
    assert found.browser.GetNumberOfSynchronizedSequenceNodes(True) == 2


def test_a_sequence_is_aligned_while_the_window_answers(logic):  # noqa: F811
    sequence = _sequence((0, 1, 2))
    before = content()
    task = logic.startSequence(SequenceInputs(sequence, cycle=True, outputs=("transforms",)), "lung-ct", FAST)
    told, shown = Told.by(task), []
    task.shown.connect(lambda task: shown.append(task.outputs.frames))
    assert task.state == "starting"  # nothing has been waited for
    with pytest.raises(RuntimeError, match="A registration is running"):
        logic.startSequence(SequenceInputs(sequence))
    assert spin(lambda: task.done) and told.ends == ["finished"] and shown == [1, 2, 3]
    assert {(fields["number"], fields["of"]) for fields in told.progress if fields["phase"] == "done"} == {(1, 2),
                                                                                                           (2, 2)}
    assert content() - before == {"breath transforms", "breath aligned"}
    assert task.report["metrics"]["closure_mm"]["mean"] >= 0 and "3 frames" in task.report["verdict"]["text"]


def test_a_cancelled_sequence_leaves_the_scene_as_it_was_and_the_worker_free(logic):  # noqa: F811
    sequence = _sequence((0, 1))
    before = content()
    task = logic.startSequence(SequenceInputs(sequence), "lung-ct", ENDLESS)
    told = Told.by(task)
    assert spin(lambda: told.reached("level"))
    task.cancel()
    assert spin(lambda: task.done) and told.ends == ["cancelled"]
    assert content() == before
    assert logic.registerSequence(sequence, preset="lung-ct", **FAST).browser is not None


def test_a_scene_that_is_closed_ends_a_series(logic):  # noqa: F811
    task = logic.startSequence(SequenceInputs(_sequence((0, 1))), "lung-ct", ENDLESS)
    told = Told.by(task)
    assert spin(lambda: told.reached("level"))
    slicer.mrmlScene.Clear(0)
    assert spin(lambda: task.done) and told.ends == ["cancelled"]
    assert task.message == "The scene was closed; the task was stopped." and not content() & {"breath transforms"}


def test_a_frame_that_cannot_be_used_fails_the_task_in_one_sentence(logic):  # noqa: F811
    sequence = _sequence((0, 1, 2))
    sequence.GetNthDataNode(1).SetSpacing(3, 3, 3)
    before = content()
    with pytest.raises(NodeError, match="The frame 2 has its voxels elsewhere than the first frame"):
        logic.registerSequence(sequence, preset="lung-ct", **FAST)
    slicer.util.arrayFromVolume(sequence.GetNthDataNode(1))[:] = 7
    with pytest.raises(NodeError, match="frame 2 volume .* is constant"):
        logic.registerSequence(sequence, preset="lung-ct", **FAST)
    outside = add_points([[1e4, 0, 0]], "far")
    with pytest.raises(NodeError, match="1 of 1 fixed landmarks lie outside"):
        logic.registerSequence(_sequence((0, 1)), preset="lung-ct", trackPoints=outside, **FAST)
    assert content() == before | {"far"}


def test_what_is_no_sequence_of_volumes_is_refused_and_the_scene_stays(logic):  # noqa: F811
    with pytest.raises(NodeError, match="There is no sequence"):
        logic.registerSequence(add_pair().fixed)
    sequence = _sequence((0,))
    before = content()
    with pytest.raises(NodeError, match="has 1 volume"):
        logic.registerSequence(sequence)
    two = _sequence((0, 1))
    with pytest.raises(NodeError, match="There is no frame 6"):
        logic.registerSequence(two, 5)
    with pytest.raises(NodeError, match="The reference median is no frame"):
        logic.registerSequence(two, "median")
    with pytest.raises(NodeError, match="Nothing is wanted"):
        logic.registerSequence(two, outputs=())
    with pytest.raises(NodeError, match="has no points"):
        logic.registerSequence(two, trackPoints=add_node("MarkupsFiducial", "none yet"))
    with pytest.raises(NodeError, match="box or a plane"):
        logic.registerSequence(two, trackPoints=add_node("MarkupsROI", "box"))
    with pytest.raises(ValueError, match="Unknown preset"):
        logic.registerSequence(two, preset="heart")
    assert content() - before == {"none yet", "box"}
