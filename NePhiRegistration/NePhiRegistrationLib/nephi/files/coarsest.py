"""The coarsest grid on which a map is reproduced within a tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from ..geometry import Grid

SPACING_FACTORS = (4.0, 3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.85, 0.72, 0.6, 0.5)
"""Spacings tried, as multiples of the image's mean voxel spacing."""

TOLERANCE = 0.1
"""The largest error of an exported map, voxels, unless another is asked for."""

CHECK_POINTS = 8192  # at which errors are measured
SEED = 1  # of these points

T = TypeVar("T")


def candidates(image: Grid) -> list[float]:
    """Node spacings worth trying, mm, coarse to fine."""
    mean = float(np.mean(image.spacing))
    return [factor * mean for factor in SPACING_FACTORS]


def coarsest_within(spacings: Iterable[float], grid_at: Callable[[float], Grid],
                    build: Callable[[Grid], tuple[T, float]], tolerance_mm: float, fits: Callable[[Grid], bool],
                    order: int = 2) -> T:
    """What is built at the first spacing whose error is within a tolerance, or else at the last that fits.

    Args:
        spacings: mm, coarse to fine.
        grid_at: the grid for a spacing.
        build: makes something on a grid and measures its largest error, mm.
        fits: whether a grid is small enough; the first one always is.
        order: the power of the spacing with which the error falls.
    """
    built, error, last = None, 0.0, 0.0
    for spacing in spacings:
        if built is not None and _hopeless(last, error, spacing, tolerance_mm, order):
            continue
        grid = grid_at(spacing)
        if built is not None and not fits(grid):
            break
        built = None  # two large fields at once would set the peak memory of a registration
        built, error = build(grid)
        last = float(np.mean(grid.spacing))
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
            "tolerance_mm": tolerance_mm, "within_tolerance": error_mm["max"] <= tolerance_mm, "megabytes": megabytes}


def _hopeless(last: float, error: float, spacing: float, tolerance_mm: float, order: int) -> bool:
    """Whether a spacing can be passed over: its error would still be above the tolerance. Half the last spacing is
    always tried."""
    ratio = spacing / last
    return ratio > 0.55 and error * ratio**order > 1.3 * tolerance_mm
