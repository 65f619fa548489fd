"""A map as displacements on a grid, linear part included, for programs that know nothing else.

Between the nodes the map is linear. The spacing is the coarsest that keeps a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ..geometry import Grid, random_points
from ..maps.coarsest import CHECK_POINTS, JUDGED, SEED, TOLERANCE, coarsest_within, described, error_summary
from ..maps.displacement_map import DisplacementMap
from ..maps.map import Map

MARGIN = 2  # nodes around the image; beyond them the displacements are those of the border


@dataclass(frozen=True)
class Displacements:
    """A map by its displacements, and how closely they reproduce it.

    Attributes:
        map: the map, float32, on nodes over its image and a little beyond.
        error_mm: ``mean``, ``p95``, ``p999``, ``max`` distance from the fields' own map at random points off the nodes.
        tolerance_mm: the error that all but one point in a thousand may have.
    """

    map: DisplacementMap
    error_mm: dict[str, float]
    tolerance_mm: float

    def to_dict(self) -> dict:
        """Plain values for JSON: what a report says of them."""
        return described(self.map.grid, self.error_mm, self.tolerance_mm, _megabytes(self.map.grid))


def sample_displacements(exact: Map, splines: Map, spacing: Optional[float] = None, tolerance: float = TOLERANCE,
                         mask: Optional[Tensor] = None, max_megabytes: float = 100.0) -> Displacements:
    """A map on a grid over its domain, a little beyond it on every side.

    Args:
        exact: the map.
        splines: the same from :func:`nephi.maps.sampled.sampled`, which is read at the nodes.
        spacing: mm between nodes; None picks the coarsest that keeps the tolerance, or else the finest that
            ``max_megabytes`` allows.
        tolerance: the error that all but one point in a thousand may have when the spacing is picked, voxels.
        mask: (*shape) bool on the domain; errors are measured inside it.
        max_megabytes: of the displacements as float32, when the spacing is picked.
    """
    limit = tolerance * exact.domain.voxel
    points = random_points(exact.domain, CHECK_POINTS, mask, SEED)
    expected = exact.map(points).to("cpu", torch.float64)

    def grid_at(step: float) -> Grid:
        nodes = exact.domain.with_spacing(step)
        return nodes.window([-MARGIN] * nodes.dim, [n + 2 * MARGIN for n in nodes.size])

    def build(grid: Grid) -> tuple[Displacements, float]:
        made = DisplacementMap(splines.displacement_on(grid), grid, exact.domain)
        error = error_summary((made.map(points) - expected).norm(dim=-1).numpy())
        return Displacements(made, error, limit), error[JUDGED]

    if spacing is not None:
        return build(grid_at(spacing))[0]
    return coarsest_within(lambda factor: grid_at(factor * exact.domain.voxel), build, limit,
                           lambda grid: _megabytes(grid) <= max_megabytes, order=2)


def _megabytes(grid: Grid) -> float:
    return grid.count * grid.dim * 4 / 1e6
