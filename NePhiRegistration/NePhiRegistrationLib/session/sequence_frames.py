"""A sequence of volumes aligned with one of them, frame by frame, each going on from its neighbour's result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, Optional

import slicer

from ..i18n import tr as _
from ..mrml.node_error import NodeError
from .values import Inputs, Outputs

AlignFrame = Callable[[Inputs, Outputs, Optional[bytes]], bytes]
"""Registers with the outputs that are given, from a neighbour's .nephi on; returns the new .nephi."""


@dataclass(frozen=True)
class TrackedSequence:
    """What a registered sequence leaves in the scene.

    Attributes:
        transforms: a sequence node; each transform carries its frame onto the reference.
        warped: a sequence node, the frames on the reference's grid.
        browser: the node that plays both, and the frames themselves, together.
    """

    transforms: Any
    warped: Any
    browser: Any


def align_sequence(sequence: Any, reference: int, cycle: bool, mask: Any, align: AlignFrame,
                   on_frame: Optional[Callable[[int], None]] = None) -> TrackedSequence:
    """Align all volumes of a sequence node with one of them; if it fails, the scene is as it was.

    Args:
        reference: the number of that volume, from 0.
        cycle: the last volume is followed by the first.
        mask: a segmentation or label map node of the reference, or None.
        on_frame: called with the number of each frame that is done.

    Raises:
        NodeError: the sequence holds no series of volumes, or no such reference.
    """
    _check(sequence, reference)
    scene, made = slicer.mrmlScene, []

    def add(kind: str, name: str) -> Any:
        made.append(scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(name)))
        return made[-1]

    kept: list[Any] = []
    try:
        fixed, moving = (add(sequence.GetNthDataNode(0).GetClassName(), name) for name in ("reference", "frame"))
        fixed.CopyContent(sequence.GetNthDataNode(reference))
        results = [_sequence_like(sequence, add, what) for what in ("transforms", "warped")]
        exact: dict[int, bytes] = {}
        _store(sequence, reference, results, add("vtkMRMLTransformNode", "identity"), fixed)
        for number, neighbour in _outwards(sequence.GetNumberOfDataNodes(), reference, cycle):
            moving.CopyContent(sequence.GetNthDataNode(number))
            outputs = Outputs(add("vtkMRMLTransformNode", f"frame {number + 1} transform"),
                              warped=add("vtkMRMLScalarVolumeNode", f"frame {number + 1} warped"), createMissing=False)
            exact[number] = align(Inputs(fixed, moving, fixedMask=mask), outputs, exact.get(neighbour))
            _store(sequence, number, results, outputs.forward, outputs.warped)
            if on_frame is not None:
                on_frame(number)
        browser = add("vtkMRMLSequenceBrowserNode", f"{sequence.GetName()} aligned")
        for node in (sequence, *results):
            browser.AddSynchronizedSequenceNode(node)
        kept = [*results, browser]
    finally:
        for node in made:
            if node not in kept:
                scene.RemoveNode(node)
    return TrackedSequence(*results, browser)


def _check(sequence: Any, reference: int) -> None:
    if sequence is None or not sequence.IsA("vtkMRMLSequenceNode"):
        raise NodeError(_("There is no sequence; choose one of volumes."))
    count, name = sequence.GetNumberOfDataNodes(), sequence.GetName()
    if count < 2:
        raise NodeError(_("The sequence {name} has {count} volume(s); choose one with at least two.").format(
            name=name, count=count))
    if not all(sequence.GetNthDataNode(n).IsA("vtkMRMLScalarVolumeNode") for n in range(count)):
        raise NodeError(_("The sequence {name} holds other nodes than scalar volumes; choose one of volumes.").format(
            name=name))
    if not 0 <= reference < count:
        raise NodeError(_("There is no frame {number} in the sequence {name}, which has {count}; choose another "
                          "reference.").format(number=reference + 1, name=name, count=count))


def _outwards(count: int, reference: int, cycle: bool) -> Iterator[tuple[int, Optional[int]]]:
    """Each frame but the reference, and the neighbour that it goes on from: the order of the engine
    (``nephi.series.tracking``), which Slicer's process never imports."""
    if cycle:
        row = [(reference + n) % count for n in range(1, count)]
        yield from zip(row, [None, *row])
        return
    up, down = range(reference + 1, count), range(reference - 1, -1, -1)
    yield from zip(up, [None, *up])
    yield from zip(down, [up[0] if up else None, *down])


def _sequence_like(sequence: Any, add: Callable[[str, str], Any], what: str) -> Any:
    """An empty sequence with the index of another."""
    made = add("vtkMRMLSequenceNode", f"{sequence.GetName()} {what}")
    made.SetIndexName(sequence.GetIndexName())
    made.SetIndexUnit(sequence.GetIndexUnit())
    made.SetIndexType(sequence.GetIndexType())
    return made


def _store(sequence: Any, number: int, results: list[Any], *nodes: Any) -> None:
    for result, node in zip(results, nodes):
        result.SetDataNodeAtValue(node, sequence.GetNthIndexValue(number))
