"""A transform measured by all that a pair offers."""

from __future__ import annotations

from typing import Optional

from torch import Tensor

from ..geometry import random_points
from ..images.image import Image
from ..images.pair import Pair, with_masks
from ..maps.sampled import SampledMap
from ..maps.warp import warp
from .folds import folds
from .inverse_consistency import inverse_consistency
from .labels import overlap, surface_distance
from .landmarks import tre
from .likeness import similarity

CONSISTENCY_POINTS = 20_000
"""Random points of each image at which the inverse-consistency error is measured."""


def evaluate(transform, pair: Pair, determinants: Optional[dict[str, Tensor]] = None,
             warped: Optional[tuple[Image, Image]] = None, whole: bool = True,
             maps: Optional[dict[str, SampledMap]] = None) -> dict:
    """Measure a transform by all that the pair offers.

    Args:
        transform: a :class:`nephi.maps.transform.Transform`.
        determinants: analytic Jacobian determinants at hand, direction -> (*shape) on that direction's grid.
        warped: the moving image on the fixed grid, without and with the transform, when at hand.
        whole: count folds at every voxel, outside the masks too; without it inside them.
        maps: direction -> the map through splines; without ``whole``, finite differences are taken of these, which
            takes a small part of the time.

    Returns:
        The arguments of :func:`nephi.report.make_report` that are measurements; None where the pair has nothing to
        measure with.
    """
    pair = with_masks(pair)
    fixed_points = random_points(transform.fixed_grid, CONSISTENCY_POINTS, pair.fixed_mask)
    moving_points = random_points(transform.moving_grid, CONSISTENCY_POINTS, pair.moving_mask)
    before, after = _similarity(transform, pair, warped)
    return {
        "tre": tre(transform, *pair.landmarks) if pair.landmarks is not None else None,
        **_labels(transform, pair),
        "folds": folds(transform, pair.fixed_mask, pair.moving_mask, whole, determinants, maps),
        "inverse_consistency": inverse_consistency(transform, fixed_points, moving_points),
        "similarity_before": before, "similarity_after": after,
    }


def _labels(transform, pair: Pair) -> dict:
    if pair.fixed_labels is None:
        return {"dice": None, "surface_distance": None}
    grid = pair.fixed_labels.grid
    fixed = pair.fixed_labels.values
    before, after = (warp(pair.moving_labels, t, grid, mode="nearest").values for t in (None, transform))
    shared = overlap(fixed, before, after, pair.labels)
    return {"dice": shared, "surface_distance": surface_distance(fixed, after, grid, shared["per_label"])}


def _similarity(transform, pair: Pair, warped: Optional[tuple[Image, Image]]) -> tuple[Optional[dict], Optional[dict]]:
    """Before and after, over the fixed grid."""
    if pair.fixed is None or pair.moving is None:
        return None, None
    images = warped or tuple(warp(pair.moving, t, pair.fixed.grid) for t in (None, transform))
    before, after = (similarity(pair.fixed.values.cpu(), image.values, pair.fixed_mask) for image in images)
    return before, after
