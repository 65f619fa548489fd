"""The coarsest grid on which a map is reproduced within a tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ..geometry import Grid

SPACING_FACTORS = (4.0, 3.0, 2.5, 2.25, 2.1, 2.0, 1.75, 1.5, 1.25, 1.0, 0.85, 0.72, 0.6, 0.5)
"""Spacings tried, voxels, coarse to fine."""

TOLERANCE = 0.1
"""The error of an exported map that all but one point in a thousand keep, voxels, unless another is asked for."""

JUDGED = "p999"
"""The error that is held against the tolerance: the largest of some points would depend on their number."""

CHECK_POINTS = 8192  # at which errors are measured
SEED = 1  # of these points

T = TypeVar("T")


def coarsest_within(grid_at: Callable[[float], Grid], build: Callable[[Grid], tuple[T, float]], tolerance_mm: float,
                    fits: Callable[[Grid], bool], order: int) -> T:
    """What is built at the first of :data:`SPACING_FACTORS` whose error is within a tolerance, or else at the last that
    fits.

    Args:
        grid_at: the nodes for a factor.
        build: makes something on nodes and measures its error, mm.
        fits: whether nodes are few enough; the first ones always are.
        order: the power of the spacing with which the error falls.
    """
    grids = {factor: grid_at(factor) for factor in SPACING_FACTORS}
    factors = [factor for factor in SPACING_FACTORS if fits(grids[factor])] or [SPACING_FACTORS[0]]
    built, error, last = None, 0.0, 0.0
    for factor in factors:
        if built is not None and factor != factors[-1] and _hopeless(last, error, factor, tolerance_mm, order):
            continue
        built = None  # two large fields at once would set the peak memory of a registration
        built, error = build(grids[factor])
        last = factor
        if error <= tolerance_mm:
            break
    return built


def error_summary(distances: np.ndarray) -> dict[str, float]:
    """``mean``, ``p95``, ``p999`` and ``max`` of distances."""
    return {"mean": float(distances.mean()), "p95": float(np.percentile(distances, 95)),
            "p999": float(np.percentile(distances, 99.9)), "max": float(distances.max())}


def described(grid: Grid, error_mm: dict[str, float], tolerance_mm: float, megabytes: float) -> dict:
    """Plain values for JSON: what a report says of a map on a grid."""
    return {"spacing_mm": float(np.mean(grid.spacing)), "size": list(grid.size), "error_mm": dict(error_mm),
            "tolerance_mm": tolerance_mm, "within_tolerance": error_mm[JUDGED] <= tolerance_mm, "megabytes": megabytes}


def _hopeless(last: float, error: float, factor: float, tolerance_mm: float, order: int) -> bool:
    """Whether a factor can be passed over: its error would still be above the tolerance. Half the last one is always
    tried."""
    ratio = factor / last
    return ratio > 0.55 and error * ratio**order > 1.3 * tolerance_mm
