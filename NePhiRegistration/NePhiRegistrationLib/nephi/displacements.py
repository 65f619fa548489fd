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

from .errors import InputError
from .geometry import Grid, apply_affine
from .interpolation import linear
from .metrics import random_points
from .sampled import through_spline

SPACING_FACTORS = (4.0, 3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5)
"""Spacings tried, as multiples of the fixed image's mean voxel spacing."""

_CHECK_POINTS = 8192
_SEED = 1
_MARGIN = 0.05

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


def sample_displacements(transform, direction: str = "forward", spacing: Optional[float] = None,
                         tolerance_mm: float = 0.05, mask: Optional[Tensor] = None, max_megabytes: float = 100.0
                         ) -> Displacements:
    """One direction of a transform on a grid over its image, a little beyond it on every side.

    Args:
        transform: a :class:`nephi.transform.Transform`.
        direction: "forward" (on the fixed image's grid) or "inverse" (on the moving image's).
        spacing: mm between nodes; None picks the coarsest of :data:`SPACING_FACTORS` whose largest measured error is
            within the tolerance, or else the finest that ``max_megabytes`` allows.
        tolerance_mm: the largest error accepted when the spacing is picked.
        mask: (*shape) bool on the image's grid; errors are measured inside it.
        max_megabytes: of the displacements as float32, when the spacing is picked.
    """
    image = transform.fixed_grid if direction == "forward" else transform.moving_grid
    points = random_points(image, _CHECK_POINTS, mask, _SEED)
    expected = transform.map_points(points, direction).to("cpu", torch.float64)

    def grid_at(step: float) -> Grid:
        nodes = image.with_spacing(step)
        return nodes.padded(_MARGIN * float(image.extent.max()) + max(nodes.spacing))

    def build(grid: Grid) -> tuple[Displacements, float]:
        made = Displacements(_total(transform, grid, direction), grid, direction, {}, tolerance_mm)
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
                    build: Callable[[Grid], tuple[T, float]], tolerance_mm: float, fits: Callable[[Grid], bool]) -> T:
    """What is built at the first spacing whose error is within a tolerance, or else at the last that fits.

    Args:
        spacings: mm, coarse to fine.
        grid_at: the grid for a spacing.
        build: makes something on a grid and measures its largest error, mm.
        fits: whether a grid is small enough; the first one always is.
    """
    built, error, last = None, 0.0, 0.0
    for spacing in spacings:
        if built is not None and _hopeless(last, error, spacing, tolerance_mm):
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


def _hopeless(last: float, error: float, spacing: float, tolerance_mm: float) -> bool:
    """Whether a spacing can be passed over: linear interpolation, whose error falls with the square of the spacing,
    would leave it above the tolerance. Half the last spacing is always tried."""
    ratio = spacing / last
    return ratio > 0.55 and error * ratio ** 2 > 1.3 * tolerance_mm


def _total(transform, grid: Grid, direction: str) -> Tensor:
    """map(x) - x at the nodes: a spline of what the fields do, and the affine as it is."""
    matrix = np.asarray(transform.affine, dtype=np.float64)
    matrix = matrix if direction == "forward" else np.linalg.inv(matrix)
    back = np.linalg.inv(matrix)
    values = through_spline(lambda x: apply_affine(back, transform.map_points(x, direction).cpu()) - x, grid)
    out = torch.empty((grid.count, grid.dim), dtype=torch.float32)
    for start, stop in grid.chunks(1 << 18):
        points = grid.points(start, stop).double()
        out[start:stop] = apply_affine(matrix, points + values.view(-1, grid.dim)[start:stop]) - points
    return out.view(*grid.shape, grid.dim)


def _megabytes(grid: Grid) -> float:
    return grid.count * grid.dim * 4 / 1e6
