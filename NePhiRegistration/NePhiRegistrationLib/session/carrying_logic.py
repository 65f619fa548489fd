"""What scripts and the panel do with a result and what belongs to the volumes it joins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, Optional

import slicer

from ..i18n import tr as _
from ..mrml import belongings, carried_segmentation, doubtful_places, error_volume
from ..mrml.node_error import NodeError
from ..mrml.slabs import Gradual, run_now
from .applying import Applying, Carried, reference_grid
from .carried_points import carry as carry_points
from .last_result import LastResult
from .warm_worker import WarmWorker


class CarryingLogic:
    """The part of :class:`.logic.RegistrationLogic` that carries nodes from one volume to the other."""

    _worker: WarmWorker
    _last: LastResult

    def applyTo(self, nodes: Any, to: str = "fixed", transform: Optional[Any] = None, harden: bool = False,
                reference: Optional[Any] = None) -> list[Carried]:
        """Take what belongs to one volume to the other: volumes, label maps, segmentations, markups and models.

        Markups and models follow the exact map, voxels its splines, which are within a tenth of a voxel of it.

        Args:
            nodes: one or several, of the moving image for ``to="fixed"``, of the fixed one for ``to="moving"``; their
                parent transforms are honoured.
            harden: change the nodes themselves. By default new ones are made, and these stay as they are.
            reference: the volume node on whose grid voxels come; by default the one of the registration.

        Returns:
            What came of each node, in their order; one that could not be carried has a ``problem``.

        Raises:
            NodeError: (a ValueError) there is no transform, or ``to`` is neither.
        """
        carried: list[Carried] = []
        run_now(self.applyToGradually(nodes, carried.append, to, transform, harden, reference))
        return carried

    def applyToGradually(self, nodes: Any, done: Callable[[Carried], None], to: str = "fixed",
                         transform: Optional[Any] = None, harden: bool = False, reference: Optional[Any] = None
                         ) -> Gradual[None]:
        """As :meth:`applyTo`, in small steps; ``done`` is called with what came of each node."""
        _check_side(to)
        exact, result = self._last.exact(transform), self._last.around(transform)
        applying = Applying(self._worker, exact, to, lambda: reference or self._last.volume(transform, to), result,
                            harden)
        return applying.run([nodes] if hasattr(nodes, "IsA") else list(nodes), done)

    def belongings(self, to: str = "fixed", transform: Optional[Any] = None, others: Iterable[Any] = ()
                   ) -> list[belongings.Belonging]:
        """The nodes of the scene that :meth:`applyTo` may be meant for, and why some cannot be carried.

        Args:
            others: nodes that do not belong.
        """
        result = self._last.around(transform)
        transforms = [node for node in result if node.IsA("vtkMRMLTransformNode")]
        return belongings.belongings(slicer.mrmlScene, to, [*result, *others], transforms)

    def doubtfulPlaces(self, table: Optional[Any] = None) -> Any:
        """Where to look: the places where a result is doubtful as a markups node, the worst first.

        Args:
            table: the table node of the result, by default the last one's.

        Returns:
            The node; each point is labelled with the millimetres and the reason. It has no points where nothing is
            doubtful.

        Raises:
            NodeError: (a ValueError) there is no table.
        """
        return doubtful_places.points(self._last.output("table") if table is None else table)

    def errorMap(self, table: Optional[Any] = None, reference: Optional[Any] = None, transform: Optional[Any] = None
                 ) -> Any:
        """Where how much is left: the error that is estimated at distinctive points, in mm, smooth between them.

        Args:
            table: the table node of the result, by default the last one's.
            reference: the volume node that the map covers; by default the fixed one of the registration.
            transform: of the result, by default the last one.

        Returns:
            The scalar volume node, with colours of its own; -1 where no distinctive point is near.

        Raises:
            NodeError: (a ValueError) there is no table, or it has no error at distinctive points.
        """
        table = self._last.output("table") if table is None else table
        reference = self._last.volume(transform, "fixed") if reference is None else reference
        transforms = [node for node in self._last.around(transform) if node.IsA("vtkMRMLTransformNode")]
        return error_volume.volume(table, reference_grid(reference, "fixed", transforms))

    def applyToPoints(self, points: Any, to: str = "fixed", transform: Optional[Any] = None,
                      output: Optional[Any] = None) -> Any:
        """Take points from one image to the other.

        Args:
            points: a markups node, or an array (n, 3) RAS mm.
            to: "fixed" for points of the moving image, "moving" for points of the fixed one.
            output: a markups node to fill; made when there is none.

        Returns:
            The filled markups node, or an array (n, 3) RAS mm.
        """
        _check_side(to)
        return carry_points(self._worker, self._last.exact(transform), points, to, output)

    def applyToSegmentation(self, segmentation: Any, to: str = "fixed", transform: Optional[Any] = None,
                            reference: Optional[Any] = None, output: Optional[Any] = None) -> Any:
        """Take a segmentation from one image to the other, by the displacement field in the transform node.

        Args:
            segmentation: of the moving image for ``to="fixed"``, of the fixed one for ``to="moving"``; or a label map,
                each label of which becomes a segment.
            transform: the transform node to apply; by default the last forward transform, or the inverse one
                for ``to="moving"``.
            reference: the volume node on whose grid; by default the one of the registration.
            output: a segmentation node to fill; made when there is none.

        Returns:
            The filled segmentation, with the names and colours of the other.
        """
        _check_side(to)
        if transform is None:
            transform = self._last.output("forward" if to == "fixed" else "inverse")
        grid = reference_grid(reference or self._last.volume(transform, to), to, [transform])
        made = None
        if output is None:
            name = slicer.mrmlScene.GenerateUniqueName(f"{segmentation.GetName()} on {to}")
            output = made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        try:
            carried_segmentation.carry_segments(output, segmentation, transform, grid)
        except NodeError:
            if made is not None:
                slicer.mrmlScene.RemoveNode(made)
            raise
        return output


def _check_side(to: str) -> None:
    if to not in ("fixed", "moving"):
        raise NodeError(_("The destination is {to!r}; use 'fixed' or 'moving'.").format(to=to))
