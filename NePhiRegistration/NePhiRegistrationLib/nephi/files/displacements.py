"""One direction of a transform as displacements on a grid, affine included, for programs that know nothing else.

In between nodes the map is linear. The spacing is the coarsest whose measured error is within a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Optional, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid, random_points
from ..images.interpolation import linear
from ..maps.sampled import SampledMap

SPACING_FACTORS = (4.0, 3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.85, 0.72, 0.6, 0.5)
"""Spacings tried, as multiples of the fixed image's mean voxel spacing."""

_CHECK_POINTS = 8192
_SEED = 1
MARGIN = 2  # nodes around the image; beyond them the displacements are those of the border

T = TypeVar("T")


@dataclass(frozen=True)
class Displacements:
    """A map of world points, linear between the nodes of a grid; beyond the grid it goes on as at its border.

    Attributes:
        values: (*grid.shape, d) float32, map(x) - x in LPS mm.
        grid: in the space the direction starts from.
        direction: "forward" or "inverse".
        error_mm: ``mean``, ``p95``, ``p999``, ``max`` distance from the fields' own map at random points off the nodes.
        tolerance_mm: the largest error asked for.
    """

    values: Tensor
    grid: Grid
    direction: str
    error_mm: dict[str, float]
    tolerance_mm: float

    def map_points(self, points: Tensor, direction: str = "forward") -> Tensor:
        """Map points (n, d) LPS mm.

        Raises:
            InputError: the other direction.
        """
        if direction != self.direction:
            raise InputError(f"These displacements are those of the {self.direction} map, not of the {direction} one.")
        return points + linear(self.values.movedim(-1, 0), self.grid.to_index(points)).T.to(points)

    def to_dict(self) -> dict:
        """Plain values for JSON: what a report says of them."""
        return {"direction": self.direction, "spacing_mm": float(np.mean(self.grid.spacing)),
                "size": list(self.grid.size), "error_mm": dict(self.error_mm), "tolerance_mm": self.tolerance_mm,
                "within_tolerance": self.error_mm["max"] <= self.tolerance_mm,
                "megabytes": _megabytes(self.grid)}


def sampled_map(transform, direction: str, mask: Optional[Tensor] = None) -> SampledMap:
    """What :func:`sample_displacements` reads: the map over its image and a little beyond."""
    image = transform.fixed_grid if direction == "forward" else transform.moving_grid
    return SampledMap(transform, image, direction, mask, 2 * MARGIN * max(image.spacing))


def sample_displacements(sampled: SampledMap, spacing: Optional[float] = None, tolerance_mm: float = 0.05,
                         mask: Optional[Tensor] = None, max_megabytes: float = 100.0) -> Displacements:
    """One direction of a transform on a grid over its image, a little beyond it on every side.

    Args:
        sampled: from :func:`sampled_map`.
        spacing: mm between nodes; None picks the coarsest of :data:`SPACING_FACTORS` whose largest measured error is
            within the tolerance, or else the finest that ``max_megabytes`` allows.
        tolerance_mm: the largest error accepted when the spacing is picked.
        mask: (*shape) bool on the image's grid; errors are measured inside it.
        max_megabytes: of the displacements as float32, when the spacing is picked.
    """
    transform, direction = sampled.transform, sampled.direction
    image = transform.fixed_grid if direction == "forward" else transform.moving_grid
    points = random_points(image, _CHECK_POINTS, mask, _SEED)
    expected = transform.map_points(points, direction).to("cpu", torch.float64)

    def grid_at(step: float) -> Grid:
        nodes = image.with_spacing(step)
        return nodes.window([-MARGIN] * nodes.dim, [n + 2 * MARGIN for n in nodes.size])

    def build(grid: Grid) -> tuple[Displacements, float]:
        made = Displacements(sampled.displacement_on(grid), grid, direction, {}, tolerance_mm)
        error = summary((made.map_points(points, direction) - expected).norm(dim=-1).numpy())
        return replace(made, error_mm=error), error["max"]

    if spacing is not None:
        return build(grid_at(spacing))[0]
    return coarsest_within(candidates(transform), grid_at, build, tolerance_mm,
                           lambda grid: _megabytes(grid) <= max_megabytes)


def candidates(transform) -> list[float]:
    """Node spacings worth trying, mm, coarse to fine."""
    mean = float(np.mean(transform.fixed_grid.spacing))
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


def summary(distances: np.ndarray) -> dict[str, float]:
    """``mean``, ``p95``, ``p999`` and ``max`` of distances."""
    return {"mean": float(distances.mean()), "p95": float(np.percentile(distances, 95)),
            "p999": float(np.percentile(distances, 99.9)), "max": float(distances.max())}


def _hopeless(last: float, error: float, spacing: float, tolerance_mm: float, order: int) -> bool:
    """Whether a spacing can be passed over: its error would still be above the tolerance. Half the last spacing is
    always tried."""
    ratio = spacing / last
    return ratio > 0.55 and error * ratio**order > 1.3 * tolerance_mm


def _megabytes(grid: Grid) -> float:
    return grid.count * grid.dim * 4 / 1e6
