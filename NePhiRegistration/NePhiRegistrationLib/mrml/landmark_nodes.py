"""Landmark pairs from two markups lists."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ..i18n import tr as _
from .node_error import NodeError
from .node_geometry import FLIP, ijk_to_ras
from .volume_nodes import VolumeData


def read_landmark_pairs(fixed_node: Any, moving_node: Any, fixed: Optional[VolumeData] = None,
                        moving: Optional[VolumeData] = None) -> Optional[tuple[np.ndarray, np.ndarray]]:
    """Corresponding points, in the order of the two lists.

    Args:
        fixed_node, moving_node: markups nodes; their parent transforms are honoured.
        fixed, moving: when given, every point must lie within its volume.

    Returns:
        (n, 3) and (n, 3) float64 LPS mm, in the world; None when neither node is given.

    Raises:
        NodeError: only one list, an empty one, different numbers, a point that is not placed or outside its volume.
    """
    if fixed_node is None and moving_node is None:
        return None
    if fixed_node is None or moving_node is None:
        given, missing = ("moving", "fixed") if fixed_node is None else ("fixed", "moving")
        raise NodeError(_("There are {given} landmarks but no {missing} landmarks; choose both lists or neither."
                          ).format(given=given, missing=missing))
    if fixed_node is moving_node:
        raise NodeError(_("'{name}' is chosen for the fixed and the moving landmarks; choose two lists.").format(
            name=fixed_node.GetName()))
    points = [_points(node, role) for node, role in ((fixed_node, "fixed"), (moving_node, "moving"))]
    if len(points[0]) != len(points[1]):
        raise NodeError(_("There are {fixed} fixed and {moving} moving landmarks; both lists need the same "
                          "number of points, in the same order.").format(fixed=len(points[0]), moving=len(points[1])))
    for node, place, volume in zip((fixed_node, moving_node), points, (fixed, moving)):
        if volume is not None:
            _check_inside(node, place, volume)
    return points[0], points[1]


def write_points(node: Any, points: np.ndarray, like: Optional[Any] = None) -> None:
    """Replace the control points of a markups node by points (n, 3), LPS mm in the world.

    Args:
        node: a markups node; a parent transform is taken off.
        like: a markups node with as many points, whose labels are taken over.
    """
    modified = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        node.RemoveAllControlPoints()
        for index, point in enumerate((np.asarray(points) * FLIP).tolist()):
            node.AddControlPoint(point, "" if like is None else like.GetNthControlPointLabel(index))
    finally:
        node.EndModify(modified)


def read_points(node: Any, role: str = "") -> np.ndarray:
    """The control points of a markups node, (n, 3) float64 LPS mm in the world.

    Raises:
        NodeError: there are none, or one is not placed.
    """
    return _points(node, role)


def _points(node: Any, role: str) -> np.ndarray:
    name = f"{role} list '{node.GetName()}'".strip()
    if not node.IsA("vtkMRMLMarkupsNode"):
        raise NodeError(_("The {name} is not a markups node; choose a point list.").format(name=name))
    count = node.GetNumberOfControlPoints()
    if count == 0:
        raise NodeError(_("The {name} has no points; place some, or choose another list or None.").format(name=name))
    points = np.zeros((count, 3))
    for index in range(count):
        node.GetNthControlPointPositionWorld(index, points[index])
        placed = node.GetNthControlPointPositionStatus(index) == node.PositionDefined
        if not (placed and np.isfinite(points[index]).all()):
            raise NodeError(_("Point {number} of the {name} is not placed; place it or delete it.").format(
                number=index + 1, name=name))
    return points * FLIP


def _check_inside(node: Any, points: np.ndarray, volume: VolumeData) -> None:
    inverse = np.linalg.inv(ijk_to_ras(volume.geometry))
    index = (points * FLIP) @ inverse[:3, :3].T + inverse[:3, 3]
    outside = ((index < -0.5) | (index > np.asarray(volume.geometry["size"]) - 0.5)).any(1)
    if outside.any():
        first = int(outside.argmax())
        raise NodeError(_("{count} of {total} points of '{name}' lie outside the {volume}, {first} first; correct or "
                          "delete them.").format(
            count=int(outside.sum()), total=len(points), name=node.GetName(), volume=volume.name,
            first=node.GetNthControlPointLabel(first)))
