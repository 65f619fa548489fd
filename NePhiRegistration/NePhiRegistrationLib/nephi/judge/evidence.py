"""A transform measured by all that a pair offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from torch import Tensor

from ..geometry import random_points
from ..images.image import Image
from ..images.pair import Pair, with_masks
from ..maps.map import Map, MapPair
from ..maps.transform import Transform
from ..maps.warp import warp
from .folds import folds
from .labels import overlap, surface_distance
from .likeness import similarity
from .point_errors import inverse_consistency, tre

CONSISTENCY_POINTS = 20_000
"""Random points of each image at which the inverse-consistency error is measured."""


@dataclass(frozen=True)
class Sampled:
    """What is known of a transform at the voxels of both images, for quick measurements.

    Attributes:
        maps: both maps through splines.
        determinants: of the forward map on the fixed grid and of the inverse map on the moving grid, (*shape) each.
        before, after: the moving image on the fixed grid, without and with the transform.
    """

    maps: MapPair
    determinants: tuple[Tensor, Tensor]
    before: Image
    after: Image


def evaluate(transform: Transform, pair: Pair, whole: bool = True, sampled: Optional[Sampled] = None) -> dict:
    """Measure a transform by all that the pair offers.

    Args:
        whole: count folds at every voxel, outside the masks too; without it inside them.
        sampled: what is at hand; finite differences are then taken through splines, in a small part of the time.

    Returns:
        The arguments of :func:`nephi.report.make_report` that are measurements; None where the pair has nothing to
        measure with.
    """
    pair = with_masks(pair)
    points = [random_points(grid, CONSISTENCY_POINTS, mask) for grid, mask in (
        (transform.fixed_grid, pair.fixed_mask), (transform.moving_grid, pair.moving_mask))]
    before, after = _similarity(transform.forward, pair, sampled)
    return {
        "tre": tre(transform.forward, *pair.landmarks) if pair.landmarks is not None else None,
        **_labels(transform.forward, pair),
        "folds": _folds(transform, pair, whole, sampled),
        "inverse_consistency": inverse_consistency(transform, *points),
        "similarity_before": before, "similarity_after": after,
    }


def _folds(transform: Transform, pair: Pair, whole: bool, sampled: Optional[Sampled]) -> dict:
    """{"inside": {"forward": percentages, "inverse": percentages}, "whole": the same, or None}."""
    maps = transform if sampled is None else sampled.maps
    forward_determinants, inverse_determinants = (None, None) if sampled is None else sampled.determinants
    forward = folds(maps.forward, pair.fixed_mask, whole, forward_determinants)
    inverse = folds(maps.inverse, pair.moving_mask, whole, inverse_determinants)
    inside, everywhere = ({"forward": a, "inverse": b} for a, b in zip(forward, inverse))
    return {"inside": inside, "whole": everywhere if all(everywhere.values()) else None}


def _labels(forward: Map, pair: Pair) -> dict:
    if pair.fixed_labels is None:
        return {"dice": None, "surface_distance": None}
    grid, fixed = pair.fixed_labels.grid, pair.fixed_labels.values
    before, after = (warp(pair.moving_labels, way, grid, mode="nearest").values for way in (None, forward))
    shared = overlap(fixed, before, after, pair.labels)
    return {"dice": shared, "surface_distance": surface_distance(fixed, after, grid, shared["per_label"])}


def _similarity(forward: Map, pair: Pair, sampled: Optional[Sampled]) -> tuple[Optional[dict], Optional[dict]]:
    """Before and after, over the fixed grid."""
    if pair.fixed is None or pair.moving is None:
        return None, None
    if sampled is not None:
        images = sampled.before, sampled.after
    else:
        images = tuple(warp(pair.moving, way, pair.fixed.grid) for way in (None, forward))
    before, after = (similarity(pair.fixed.values.cpu(), image.values, pair.fixed_mask) for image in images)
    return before, after
