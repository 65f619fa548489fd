"""Slice views brought to a volume: Slicer never fits a new slice view by itself, and keeps only the height of what a
resized one shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import slicer

from .node_geometry import numpy_matrix


def slice_nodes(scene: Any, names: Optional[Sequence[str]] = None) -> list[Any]:
    """The slice nodes of a scene; with ``names`` those of these layout names."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode", scene)
    return [node for node in nodes if names is None or node.GetLayoutName() in names]


def position(views: Sequence[Any], orientation: str) -> Optional[np.ndarray]:
    """A point (3) RAS of the slice that the first of some slice nodes with an orientation shows, or None."""
    found = next((view for view in views if view.GetOrientation() == orientation), None)
    return None if found is None else numpy_matrix(found.GetSliceToRAS())[:3, 3]


def fit(views: Sequence[Any], volume: Any, at: Optional[np.ndarray] = None) -> None:
    """Show all of a volume in slice views (slice nodes), from side to side and from top to bottom.

    Args:
        at: a point (3) RAS of the slice to show; without it the slice of each view stays. A slice beside the volume
            becomes the one through its middle.
    """
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    corners = np.array(np.meshgrid(bounds[:2], bounds[2:4], bounds[4:], indexing="ij")).reshape(3, -1)
    for view in views:
        place = numpy_matrix(view.GetSliceToRAS())
        axes, origin = place[:3, :3], place[:3, 3]
        reach = axes.T @ corners
        low, high = reach.min(1), reach.max(1)
        middle = (low + high) / 2
        across = axes[:, 2] @ (origin if at is None else at)
        middle[2] = across if low[2] <= across <= high[2] else middle[2]
        width, height = view.GetDimensions()[:2]
        pixel = max((high[0] - low[0]) / max(width, 1), (high[1] - low[1]) / max(height, 1))
        modified = view.StartModify()
        for row, value in enumerate(axes @ middle):
            view.GetSliceToRAS().SetElement(row, 3, value)
        view.SetXYZOrigin(0, 0, 0)
        view.SetFieldOfView(pixel * max(width, 1), pixel * max(height, 1), view.GetFieldOfView()[2])
        view.UpdateMatrices()
        view.EndModify(modified)
