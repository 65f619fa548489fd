"""A result applied to what else belongs to a registered volume: volumes, segmentations, markups and models."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np
import slicer

from ..i18n import tr as _
from ..mrml import belongings, carried_shapes, snapshot, volume_nodes
from ..mrml.carried_segmentation import carried_segments, keep_segments, put_segments
from ..mrml.carried_volume import carried_volume
from ..mrml.deformation_nodes import write_splines
from ..mrml.node_error import NodeError
from ..mrml.node_geometry import geometry_from
from ..mrml.slabs import Gradual
from ..worker.messages import Message
from .values import RegistrationError
from .warm_worker import WarmWorker, failure

logger = logging.getLogger(__name__)

_TURN = 20  # ms that the worker is waited for at a time


@dataclass(frozen=True)
class Carried:
    """What came of one node.

    Attributes:
        source: the node that was to be carried.
        node: the new node, or the source itself where it was hardened; None where it could not be carried.
        problem: why not, one sentence.
        undo: gives a hardened node back what it held, and its parent transform; None where there is nothing to undo.
    """

    source: Any
    node: Optional[Any] = None
    problem: str = ""
    undo: Optional[Callable[[], None]] = None


@dataclass
class Applying:
    """Carries nodes from one volume to the other.

    Attributes:
        worker: maps points, by the exact map, and gives it as splines.
        exact: the bytes of the .nephi file, (n,) uint8.
        to: "fixed" or "moving", where they shall lie.
        reference: gives the volume node on whose grid voxels come.
        result: the nodes of the result: the registered volumes, which stay as they are, and the transforms.
        harden: change the nodes themselves, instead of making new ones.
    """

    worker: WarmWorker
    exact: np.ndarray
    to: str
    reference: Callable[[], Any]
    result: tuple
    harden: bool = False

    def __post_init__(self) -> None:
        self._splines: Any = None

    @property
    def transforms(self) -> list[Any]:
        """Those among the nodes of the result."""
        return [node for node in self.result if node is not None and node.IsA("vtkMRMLTransformNode")]

    def run(self, nodes: Iterable[Any], done: Callable[[Carried], None]) -> Gradual[None]:
        """Carry nodes one by one; one that cannot be carried does not stop the rest, and stays as it is.

        Args:
            done: called with what came of each.
        """
        for node in nodes:
            try:
                carried = yield from self._carry(node)
            except (NodeError, RegistrationError) as error:
                logger.warning("%s", error)
                carried = Carried(node, problem=str(error))
            done(carried)
            yield

    def _carry(self, node: Any) -> Gradual[Carried]:
        belongings.check(node, self.transforms)
        if self.harden and node in self.result:
            raise NodeError(_("'{name}' was registered, and the result would no longer belong to it; carry it as a new "
                              "node.").format(name=node.GetName()))
        put = yield from self._content(node)
        scene = node.GetScene()
        if scene is None or not scene.IsNodePresent(node):
            raise NodeError(_("'{name}' was removed meanwhile.").format(name=node.GetName()))
        undo = _undoing(node) if self.harden else None
        target = node if self.harden else _copy(node, self.to)
        try:
            put(target)
        except Exception:
            snapshot.remove(target) if undo is None else undo()
            raise
        target.SetAttribute(belongings.SIDE, self.to)
        return Carried(node, target, undo=undo)

    def _content(self, node: Any) -> Gradual[Callable[[Any], None]]:
        """What a node holds on the other volume, as what writes it into a node."""
        if node.IsA("vtkMRMLVolumeNode"):
            grid, splines = self._grid(), (yield from self._to_parent())
            image = yield from carried_volume(node, splines, grid)
            return lambda target: volume_nodes.write_image(target, image, grid)
        if node.IsA("vtkMRMLSegmentationNode"):
            grid, splines = self._grid(), (yield from self._to_parent())
            images = yield from carried_segments(node, splines, grid, self.harden)
            return lambda target: put_segments(target, images, node)
        # Points go against the image: what resamples the moving image takes fixed points to moving ones.
        fields = {"direction": "inverse" if self.to == "fixed" else "forward"}
        reply = yield from self._ask("map_points", fields, {"points": carried_shapes.points_of(node)})
        return lambda target: carried_shapes.put_points(target, reply.arrays["points"])

    def _grid(self) -> dict:
        return reference_grid(self.reference(), self.to, self.transforms)

    def _to_parent(self) -> Gradual[Any]:
        """The map as a VTK transform that carries images, through splines within a tenth of a voxel."""
        if self._splines is None:
            reply = yield from self._ask("maps", {"outputs": []}, {})
            name = "forward" if self.to == "fixed" else "inverse"
            self._splines = slicer.vtkMRMLTransformNode()
            write_splines(self._splines, reply.arrays[name], **reply.fields[name])
        return self._splines.GetTransformToParent()

    def _ask(self, kind: str, fields: dict, arrays: dict) -> Gradual[Message]:
        request = self.worker.request(kind, fields, {**arrays, "transform": self.exact})
        while not self.worker.wait(request, _TURN):
            yield
        if request.state != "finished":
            raise failure(request.failure, request.message)
        return request.reply


def reference_grid(volume: Any, role: str, transforms: Iterable[Any] = ()) -> dict:
    """The grid of a volume node in the world, LPS mm.

    Args:
        transforms: of the result: where the volume lies under one of them the grid is meant without it.
    """
    volume_nodes.checked_kind(volume, role)
    without = next((one for one in transforms if one is volume.GetParentTransformNode()), None)
    matrix, _transform = volume_nodes.place(volume, without)
    if matrix is None:
        return volume_nodes.read_volume(volume, role).geometry
    return geometry_from(matrix, volume.GetImageData().GetDimensions())


def _undoing(node: Any) -> Callable[[], None]:
    """What gives a node back what it holds now, if it is still there."""
    is_segmentation, side = node.IsA("vtkMRMLSegmentationNode"), node.GetAttribute(belongings.SIDE)
    restore = keep_segments(node) if is_segmentation else snapshot.Snapshot(node).restore

    def undo() -> None:
        if node.GetScene() is not None:
            restore()
            node.SetAttribute(belongings.SIDE, side)

    return undo


def _copy(node: Any, to: str) -> Any:
    """A new node like another one, with its display."""
    scene = node.GetScene()
    name = scene.GenerateUniqueName(f"{node.GetName()} on {to}")
    made = scene.AddNewNodeByClass(node.GetClassName(), name)
    if not node.IsA("vtkMRMLSegmentationNode"):  # whose segments are made anew
        made.CopyContent(node, not node.IsA("vtkMRMLVolumeNode"))  # and the voxels of volumes
    shown = node.GetDisplayNode()
    if shown is not None:
        made.CreateDefaultDisplayNodes()
        made.GetDisplayNode().CopyContent(shown)
        if shown.IsA("vtkMRMLVolumeDisplayNode"):
            made.GetDisplayNode().SetAndObserveColorNodeID(shown.GetColorNodeID())
    return made
