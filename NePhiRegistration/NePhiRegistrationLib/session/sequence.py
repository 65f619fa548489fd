"""A sequence of volumes aligned with one of them, with their mean, or each with the one before: what is asked for, and
what it leaves in the scene. A :class:`.task.Task` does it, as it does a pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

import numpy as np
import slicer

from ..i18n import tr as _
from ..mrml import belongings, landmark_nodes, mask_nodes, slab_writing, transform_nodes, volume_nodes
from ..mrml.deformation_nodes import write_splines
from ..mrml.node_error import NodeError
from ..mrml.node_geometry import ijk_to_ras, vtk_matrix
from ..mrml.slabs import Gradual, fill_slabs
from ..mrml.vtk_images import image_array
from ..worker.messages import Message
from .orders import Order
from .output_nodes import provenance

MEAN, PREVIOUS = "mean", "previous"
OUTPUTS = ("transforms", "warped")
"""Sequences that can be asked for; one of followed points is made where there are points."""


@dataclass(frozen=True)
class SequenceInputs:
    """What to align.

    Attributes:
        sequence: a sequence node of scalar volumes.
        reference: the number of the volume that all are aligned with, from 0; "mean" for the mean of all; "previous"
            for each with the one before, the first being where the maps begin.
        cycle: the last volume is followed by the first, as in a breath or a heart beat.
        fixedMask: a segmentation or label map node, drawn on the reference; with "mean" and "previous" on the first.
        trackPoints: a markups node, whose points are followed through all volumes.
        trackFrame: the number of the volume on which they were placed; None is the one on which masks are drawn.
        timeSmoothness: how strongly a path is drawn to the middle between its neighbours, 0 for not at all.
        outputs: names of :data:`OUTPUTS`.
    """

    sequence: Any = None
    reference: Union[int, str] = 0
    cycle: bool = False
    fixedMask: Any = None
    trackPoints: Any = None
    trackFrame: Optional[int] = None
    timeSmoothness: float = 0.0
    outputs: Sequence[str] = OUTPUTS

    @property
    def anchor(self) -> int:
        """The number of the volume on which masks are drawn."""
        return self.reference if isinstance(self.reference, int) else 0


@dataclass(frozen=True)
class TrackedSequence:
    """What an aligned sequence leaves in the scene; None where it is not wanted.

    Attributes:
        transforms: a sequence node; each transform carries its frame onto the reference.
        warped: a sequence node, the frames on the reference's grid.
        points: a sequence node of markups, where the points are in each frame.
        browser: the node that plays them, and the frames themselves, together; None until they are there.
        frames: how many frames they hold.
    """

    transforms: Any = None
    warped: Any = None
    points: Any = None
    browser: Any = None
    frames: int = 0

    def nodes(self) -> Iterator[tuple[str, Any]]:
        """The name and node of each sequence there is."""
        for name in (*OUTPUTS, "points"):
            if getattr(self, name) is not None:
                yield name, getattr(self, name)


def check_sequence(inputs: SequenceInputs) -> None:
    """Refuse what can be seen at once, before any voxel is looked at.

    Raises:
        NodeError: there is no sequence of volumes, no such frame, nothing wanted, or points that cannot be followed.
    """
    sequence = inputs.sequence
    if sequence is None or not sequence.IsA("vtkMRMLSequenceNode"):
        raise NodeError(_("There is no sequence; choose one of volumes."))
    count, name = sequence.GetNumberOfDataNodes(), sequence.GetName()
    if count < 2:
        raise NodeError(_("The sequence {name} has {count} volume(s); choose one with at least two.").format(
            name=name, count=count))
    if not all(sequence.GetNthDataNode(n).IsA("vtkMRMLScalarVolumeNode") for n in range(count)):
        raise NodeError(_("The sequence {name} holds other nodes than scalar volumes; choose one of volumes.").format(
            name=name))
    if isinstance(inputs.reference, str) and inputs.reference not in (MEAN, PREVIOUS):
        raise NodeError(_("The reference {reference} is no frame; give its number, 'mean' or 'previous'.").format(
            reference=inputs.reference))
    for number in (inputs.anchor, inputs.trackFrame or 0):
        if not 0 <= number < count:
            raise NodeError(_("There is no frame {number} in the sequence {name}, which has {count}; choose another."
                              ).format(number=number + 1, name=name, count=count))
    if set(inputs.outputs) - set(OUTPUTS) or not (inputs.outputs or inputs.trackPoints is not None):
        raise NodeError(_("Nothing is wanted of the sequence {name}; choose transforms, warped volumes or points."
                          ).format(name=name))
    if inputs.trackPoints is not None:
        belongings.check(inputs.trackPoints, ())
        landmark_nodes.read_points(inputs.trackPoints)


class SequenceOrder(Order):
    """To align the volumes of a sequence.

    Args:
        inputs: checked by :func:`check_sequence`.
        preset, options: as for a pair.
    """

    def __init__(self, inputs: SequenceInputs, preset: str, options: Mapping[str, Any]) -> None:
        super().__init__("series", {
            "preset": preset, "options": dict(options), "reference": inputs.reference, "cycle": inputs.cycle,
            "time_smoothness": inputs.timeSmoothness,
            "points_frame": inputs.anchor if inputs.trackFrame is None else inputs.trackFrame})
        self._inputs = inputs

    def read(self) -> Gradual[None]:
        """See :meth:`Order.read`."""
        sequence, inputs = self._inputs.sequence, self._inputs
        for number in range(sequence.GetNumberOfDataNodes()):
            node = sequence.GetNthDataNode(number)
            role = _("frame {number}").format(number=number + 1)
            volume = yield from volume_nodes.read_volume_gradually(node, role)
            name = f"frame_{number}"
            self.fields[name], self.arrays[name] = volume.geometry, volume.array
            if number == inputs.anchor:
                mask = yield from mask_nodes.read_mask(inputs.fixedMask, None, volume, role)
                if mask is not None:
                    self.arrays["mask"] = mask
            yield
        if inputs.trackPoints is not None:
            self.arrays["points"] = landmark_nodes.read_points(inputs.trackPoints)


class SequenceNodes:
    """The nodes of an aligned sequence, in the place of :class:`.output_nodes.OutputNodes`: made empty, filled frame by
    frame, played together at last, or taken away again. A node that leaves the scene meanwhile is passed over.

    Args:
        scene: where they are made.
        inputs: checked by :func:`check_sequence`.

    Attributes:
        nodes: all of them.
    """

    def __init__(self, scene: Any, inputs: SequenceInputs) -> None:
        self._scene, self._sequence, self._points = scene, inputs.sequence, inputs.trackPoints
        self._name = inputs.sequence.GetName()
        self._values = [inputs.sequence.GetNthIndexValue(n) for n in range(inputs.sequence.GetNumberOfDataNodes())]
        self._made: list[Any] = []
        wanted = [*inputs.outputs, *(["points"] if inputs.trackPoints is not None else [])]
        self.nodes = TrackedSequence(**{name: self._sequence_of(name) for name in wanted})

    def remember(self) -> None:
        """Nothing that was there is changed."""

    def restore(self) -> tuple[str, ...]:
        """Take away what was made; the names of what could not be taken away."""
        for node in self._made:
            if self._scene.IsNodePresent(node):
                self._scene.RemoveNode(node)
        self.forget()
        return ()

    def forget(self) -> None:
        """There is no way back any more."""
        self._made.clear()

    def fill(self, fields: dict, arrays: dict) -> Gradual[None]:
        """Write what is wanted of a frame.

        Args:
            fields, arrays: of the message "shown" (docs/worker.md).
        """
        number, geometry = fields["frame"], fields["geometry"]
        for what, sequence in self.nodes.nodes():
            if not self._scene.IsNodePresent(sequence):
                continue
            if what == "transforms":
                node = slicer.vtkMRMLTransformNode()
                if "forward" in arrays:  # of the reference itself there is nothing to tell
                    write_splines(node, arrays["forward"], **fields["forward"])
            elif what == "warped":
                node = yield from _volume(arrays["warped"], geometry)
            else:
                node = self._points.CreateNodeInstance()
                landmark_nodes.write_points(node, arrays["points"], self._points)
            node.SetName(f"{sequence.GetName()} {number + 1}")
            sequence.SetDataNodeAtValue(node, self._values[number])
            yield
        self.nodes = replace(self.nodes, frames=number + 1)

    def fill_jacobian(self, geometry: dict, arrays: dict) -> Gradual[None]:
        """There is none."""
        yield from ()

    def fill_numbers(self, report: dict, histogram: Optional[dict], doubts: Sequence[dict] = ()) -> None:
        """Let all that was filled be played, and say on it what it comes from."""
        made = [node for _name, node in self.nodes.nodes() if self._scene.IsNodePresent(node)]
        for node in made:
            transform_nodes.set_provenance(node, provenance(report))
        kind = "vtkMRMLSequenceBrowserNode"
        browser = self._scene.AddNewNodeByClass(kind, self._scene.GenerateUniqueName(f"{self._name} aligned"))
        self._made.append(browser)
        frames = [self._sequence] if self._scene.IsNodePresent(self._sequence) else []
        for node in (*frames, *made):
            browser.AddSynchronizedSequenceNode(node)
        self.nodes = replace(self.nodes, browser=browser)

    def show_preview(self, message: Message) -> None:
        """There is none."""

    def _sequence_of(self, what: str) -> Any:
        """An empty sequence with the index of the one that is aligned."""
        name = self._scene.GenerateUniqueName(f"{self._name} {what}")
        made = self._scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        made.SetIndexName(self._sequence.GetIndexName())
        made.SetIndexUnit(self._sequence.GetIndexUnit())
        made.SetIndexType(self._sequence.GetIndexType())
        self._made.append(made)
        return made


def _volume(array: np.ndarray, geometry: dict) -> Gradual[Any]:
    """A volume node in no scene: a sequence copies what it is given."""
    image = slab_writing.empty(array.shape, 1, array.dtype)
    yield from fill_slabs(image_array(image), lambda part: array[part])
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetIJKToRASMatrix(vtk_matrix(ijk_to_ras(geometry)))
    node.SetAndObserveImageData(image)
    return node
