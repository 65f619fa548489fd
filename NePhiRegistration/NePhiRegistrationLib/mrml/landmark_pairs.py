"""Pairs of landmarks as they are placed: completed, measured and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import slicer

from .view_fitting import slice_nodes


@dataclass(frozen=True)
class PairDistance:
    """How far apart the points of a pair are.

    Attributes:
        number: of the pair, from 0.
        name: the label of its fixed point.
        fixed, moving: where they are, (3,) RAS mm in the world.
        before: mm between them, as the volumes lie.
        now: mm from where the forward transform takes the fixed point to the moving one, or None without a transform.
    """

    number: int
    name: str
    fixed: np.ndarray
    moving: np.ndarray
    before: float
    now: Optional[float]


def pair_distances(fixed: Any, moving: Any, forward: Any = None) -> list[PairDistance]:
    """All pairs of two markups nodes, the farthest apart first.

    Args:
        forward: a transform node; its spline or field is read, which is within a tenth of a voxel of the exact map.
    """
    if fixed is None or moving is None:
        return []
    pairs = []
    for number, (start, end) in enumerate(zip(placed(fixed), placed(moving))):
        now = None if forward is None else float(np.linalg.norm(carried(forward, start) - end))
        pairs.append(PairDistance(number, fixed.GetNthControlPointLabel(number), start, end,
                                  float(np.linalg.norm(start - end)), now))
    return sorted(pairs, key=lambda pair: -(pair.before if pair.now is None else pair.now))


def placed(node: Any) -> list[np.ndarray]:
    """The points (3,) RAS of a markups node up to the first that is still being placed."""
    points = []
    for index in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(index) != node.PositionDefined:
            break
        points.append(np.array(node.GetNthControlPointPositionWorld(index)))
    return points


def carried(transform: Any, point: np.ndarray) -> np.ndarray:
    """A point (3,) RAS through the from-parent map of a transform node."""
    return np.array(transform.GetTransformFromParent().TransformPoint(point.tolist()))


def start_placing(scene: Any, node: Any) -> None:
    """The user's next click in a view places a point of a markups node."""
    selection, interaction = (_single(scene, kind) for kind in ("vtkMRMLSelectionNode", "vtkMRMLInteractionNode"))
    selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selection.SetReferenceActivePlaceNodeID(node.GetID())
    interaction.SetPlaceModePersistence(0)
    interaction.SetCurrentInteractionMode(interaction.Place)


def stop_placing(scene: Any) -> None:
    """Clicks in views do what they do otherwise."""
    interaction = _single(scene, "vtkMRMLInteractionNode")
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)


def complete_pair(fixed: Any, moving: Any, volume: Any = None, forward: Any = None, inverse: Any = None) -> bool:
    """Give the newest point of one list its partner in the other, where the map takes it; without a map where it is.

    Args:
        fixed, moving: markups nodes.
        volume: the moving volume: a point that was placed in a view of it belongs to the moving list.
        forward, inverse: transform nodes, or None.

    Returns:
        Whether a point was missing.
    """
    numbers = len(placed(fixed)), len(placed(moving))
    if numbers[0] > numbers[1]:
        last = numbers[0] - 1
        point = placed(fixed)[last]
        if volume is not None and fixed.GetNthControlPointAssociatedNodeID(last) == volume.GetID():
            fixed.SetNthControlPointPositionWorld(last, point if inverse is None else carried(inverse, point))
            moving.AddControlPointWorld(point.tolist())
        else:
            moving.AddControlPointWorld((point if forward is None else carried(forward, point)).tolist())
    elif numbers[1] > numbers[0]:
        point = placed(moving)[-1]
        fixed.AddControlPointWorld((point if inverse is None else carried(inverse, point)).tolist())
    return numbers[0] != numbers[1]


def show_pair(scene: Any, pair: PairDistance, volume: Any = None) -> None:
    """Bring all slice views to a pair: those of the moving volume to its moving point, all others to its fixed one."""
    composites = {node.GetLayoutName(): node
                  for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)}
    for view in slice_nodes(scene):
        composite = composites.get(view.GetLayoutName())
        shows = None if composite is None else composite.GetBackgroundVolumeID()
        of_moving = volume is not None and shows == volume.GetID()
        view.JumpSliceByCentering(*(pair.moving if of_moving else pair.fixed))


def _single(scene: Any, kind: str) -> Any:
    node = scene.GetFirstNodeByClass(kind)
    return node if node is not None else scene.AddNewNodeByClass(kind)
