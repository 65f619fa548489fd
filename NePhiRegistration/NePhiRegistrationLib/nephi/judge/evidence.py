"""A transform measured by all that a pair offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid, apply_affine, random_points
from ..images.image import Image
from ..images.masks import bounding_box
from ..images.pair import Pair, with_masks
from ..images.resampling import sample
from ..maps.determinant import determinant_at
from ..maps.map import CPU, Map, MapPair
from ..maps.transform import Transform
from ..maps.warp import warp
from .folds import folds
from .labels import overlap, surface_distance
from .likeness import similarity
from .point_errors import inverse_consistency, tre
from .residual import residual
from .segments import segments

CONSISTENCY_POINTS = 5_000
"""Random points of each image at which the inverse-consistency error, the overlap and volume changes are measured."""

COMPARED_VOXELS = 100_000
"""About so many voxels tell the similarity, or up to some times as many; 64 x 64 bins of a histogram need no more."""

FEWEST_VOXELS = 64
"""Fewer voxels in common tell no similarity."""

EXTREME = 3.0
"""A volume that grows or shrinks by more than this factor is extreme."""


@dataclass(frozen=True)
class Sampled:
    """What is known of a transform, for quick measurements.

    Attributes:
        maps: both maps through splines.
        determinants: of the forward map at voxels inside the fixed mask and of the inverse map at voxels inside the
            moving mask, (n,) each.
    """

    maps: MapPair
    determinants: tuple[Tensor, Tensor]


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
    fixed_points, moving_points = (random_points(grid, CONSISTENCY_POINTS, mask) for grid, mask in (
        (transform.fixed_grid, pair.fixed_mask), (transform.moving_grid, pair.moving_mask)))
    maps = transform if sampled is None else sampled.maps
    has_images = pair.fixed is not None and pair.moving is not None
    found = residual(pair.fixed, pair.moving, maps.forward, pair.fixed_mask) if has_images else None
    met, met_back = (_met(way, points, grid, mask) for way, points, grid, mask in (
        (maps.forward, fixed_points, transform.moving_grid, pair.moving_mask),
        (maps.inverse, moving_points, transform.fixed_grid, pair.fixed_mask)))
    return {
        "tre": tre(transform.forward, *pair.landmarks) if pair.landmarks is not None else None,
        **_labels(maps.forward, pair),
        "folds": _folds(transform, pair, whole, sampled),
        "inverse_consistency": inverse_consistency(transform, fixed_points, moving_points),
        "overlap": {"forward": float(met.float().mean()), "inverse": float(met_back.float().mean())},
        "volume_change": _volume_change(maps.forward, transform.affine, fixed_points[met | ~met.any()]),
        "residual": None if found is None else found.to_dict(),
        "similarity": _similarity(maps.forward, transform.affine, pair),
        "voxel": transform.fixed_grid.voxel,
    }


def _met(map_: Map, points: Tensor, other: Grid, mask: Optional[Tensor]) -> Tensor:
    """Which of an image's points (n, d) land inside the other image, inside its mask if it has one: (n) bool."""
    mapped = map_.map(points.to(map_.device)).cpu()
    inside = other.contains(mapped)
    return inside if mask is None else inside & sample(mask.cpu(), other, mapped, "nearest")


def _volume_change(forward: Map, affine: np.ndarray, points: Tensor) -> dict:
    """``p01``, ``median``, ``p99`` of the deformation's volume change, and ``extreme_percent`` of the points."""
    change = determinant_at(forward, points.to(forward.device)) / abs(float(np.linalg.det(affine)))
    extreme = ~((change > 1 / EXTREME) & (change < EXTREME))
    low, middle, high = change.quantile(torch.tensor([0.01, 0.5, 0.99])).tolist()
    return {"p01": low, "median": middle, "p99": high, "extreme_percent": 100 * float(extreme.float().mean())}


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
        return {"dice": None, "surface_distance": None, "segments": None}
    grid, fixed = pair.fixed_labels.grid, pair.fixed_labels.values
    before, after = (warp(pair.moving_labels, way, grid, mode="nearest").values for way in (None, forward))
    shared = overlap(fixed, before, after, pair.labels)
    return {"dice": shared, "surface_distance": surface_distance(fixed, after, grid, shared["per_label"]),
            "segments": segments(pair.fixed_labels, pair.moving_labels, after, forward, shared["per_label"])}


def _similarity(forward: Map, affine: np.ndarray, pair: Pair) -> dict:
    """``before``, after the ``linear`` part and ``after`` the whole map: over voxels of the fixed mask that land inside
    the moving image, where it counts, each time; None where they are too few, or without images.
    """
    if pair.fixed is None or pair.moving is None:
        return dict.fromkeys(("before", "linear", "after"))
    box, grid = _compared_voxels(pair)
    moving, values = pair.moving.to(CPU), pair.fixed.values[box].cpu()
    inside = torch.ones(grid.shape, dtype=torch.bool) if pair.fixed_mask is None else pair.fixed_mask[box].cpu()
    points = grid.points(CPU, dtype=torch.float64)
    moved = {"before": points, "linear": apply_affine(affine, points),
             "after": points + forward.displacement_on(grid).view(-1, grid.dim)}
    return {when: _compared(values[inside], moving, there.view(*grid.shape, -1)[inside].float())
            for when, there in moved.items()}


def _compared_voxels(pair: Pair) -> tuple[tuple[slice, ...], Grid]:
    """Evenly spaced voxels of the box around the fixed mask, so many that about :data:`COMPARED_VOXELS` are inside: as
    array slices and as a grid."""
    mask = pair.fixed_mask
    box, window = bounding_box(pair.fixed.grid, mask)
    count = pair.fixed.grid.count if mask is None else int(mask.count_nonzero())
    step = max(1, int((count / COMPARED_VOXELS) ** (1 / window.dim)))
    return tuple(slice(part.start, part.stop, step) for part in box), window.strided(step)


def _compared(fixed: Tensor, moving: Image, points: Tensor) -> Optional[dict]:
    inside = moving.grid.contains(points)
    if moving.known is not None:
        inside &= sample((~moving.known).float(), moving.grid, points) == 0
    if int(inside.sum()) < FEWEST_VOXELS:
        return None
    return similarity(fixed[inside], sample(moving.values, moving.grid, points[inside]))
