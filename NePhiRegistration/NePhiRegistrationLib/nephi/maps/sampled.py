"""A map read at few points: splines through the coarsest lattice that keeps a tolerance, and the error that is left.

Whatever is made of a finished registration is read from these splines: files, warped images, volume changes, numbers.
The fields are evaluated once, at the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid, random_points
from .affine_map import AffineMap
from .coarsest import CHECK_POINTS, JUDGED, SEED, TOLERANCE, coarsest_within, described, error_summary
from .folded import folded
from .map import Composition, Map
from .resampled import lattice_every, lattice_over, through_splines
from .spline import SplineMap
from .transform import Transform

LARGEST = 15.0  # MB of coefficients over the image, as files hold them; up to a half more around it
FAITHFUL = 0.5  # voxels: with a larger error images are carried by the fields themselves


@dataclass(frozen=True)
class SampledMap:
    """A map through splines, and how closely they reproduce it.

    Attributes:
        map: splines over the map's domain, then its linear part.
        error_mm: ``mean``, ``p95``, ``p999``, ``max`` distance from the exact map at random points off the nodes,
            inside the field of view and the mask if there was one.
        tolerance_mm: the error that all but one point in a thousand may have.
    """

    map: Composition
    error_mm: dict[str, float]
    tolerance_mm: float

    @property
    def lattice(self) -> Grid:
        """The nodes that the splines interpolate."""
        return self.map.parts[0].lattice

    @property
    def within_tolerance(self) -> bool:
        """Whether all but one point in a thousand keep the tolerance."""
        return self.error_mm[JUDGED] <= self.tolerance_mm

    @property
    def faithful(self) -> bool:
        """Whether images can be carried by it."""
        return self.error_mm[JUDGED] <= FAITHFUL * self.map.domain.voxel

    def to_dict(self) -> dict:
        """Plain values for JSON: what a report says of them."""
        return described(self.lattice, self.error_mm, self.tolerance_mm, megabytes(self.lattice))


@dataclass(frozen=True)
class Change:
    """How a map differs from one that was sampled before.

    Attributes:
        before: that one, of the same linear part.
        touches: which points (n, d) LPS mm it takes elsewhere, (n,) bool.
    """

    before: SampledMap
    touches: Callable[[Tensor], Tensor]

    def through(self, exact: Map, lattice: Grid) -> Composition:
        """The map through splines: what was sampled before, read anew where that is touched."""
        splines, linear = self.before.map.parts
        values = splines.read_on(lattice).double().view(-1, lattice.dim)
        points = lattice.points(values.device, dtype=torch.float64)
        there = self.touches(points)
        back = AffineMap(np.linalg.inv(linear.linear))
        values[there] = back.map(exact.map(points[there])) - points[there]
        return Composition([SplineMap.through(values.view(*lattice.shape, -1), lattice), linear], exact.domain)


@torch.no_grad()
def sampled(exact: Map, mask: Optional[Tensor] = None, tolerance: float = TOLERANCE, spacing: Optional[float] = None,
            max_megabytes: float = LARGEST, quick: Optional[Map] = None, kept: Optional[Tensor] = None,
            change: Optional[Change] = None) -> SampledMap:
    """Read a map at the coarsest lattice that reproduces it.

    Args:
        exact: the map, with a domain.
        mask: (*shape) bool on the domain; errors are measured inside it, and far outside it the nodes are sparse.
        tolerance: the error that all but one point in a thousand may have when the spacing is picked, voxels.
        spacing: mm between the nodes; None picks the coarsest that keeps the tolerance, or else the finest that
            ``max_megabytes`` allows.
        quick: what is read at the nodes in the place of the map, as :func:`nephi.maps.folded.folded` makes it; its
            error is part of the error that is measured. Where it is off by half of the tolerance it is left alone.
        kept: (n, d) points at all of which the tolerance is kept too, as where the map was pulled to landmarks: random
            points may miss what is done there.
        change: how it differs from what was sampled with the same options; the map is read where it does alone, at no
            fewer nodes.
    """
    grid, limit = exact.domain, tolerance * exact.domain.voxel
    points = random_points(grid, CHECK_POINTS, mask, SEED).double()
    expected = exact.map(points)
    there = None if kept is None else exact.map(kept)
    if quick is not None and error_summary((quick.map(points) - expected).norm(dim=-1).numpy())[JUDGED] > limit / 2:
        quick = None  # no lattice would keep the tolerance

    def through(lattice: Grid) -> tuple[SampledMap, float]:
        made = change.through(exact, lattice) if change else through_splines(quick or exact, grid, mask, lattice)
        error = error_summary((made.map(points) - expected).norm(dim=-1).numpy())
        at_kept = 0.0 if kept is None else float((made.map(kept) - there).norm(dim=-1).max())
        return SampledMap(made, error, limit), max(error[JUDGED], at_kept)

    if spacing is not None:
        return through(lattice_over(grid, (spacing,) * grid.dim))[0]
    fewest = change.before.lattice.count if change else 0
    return coarsest_within(lambda every: lattice_every(grid, every), through, limit, lambda lattice:
                           lattice.count >= fewest and megabytes(lattice) <= max_megabytes, order=4)


def quick_forward(transform: Transform, mask: Optional[Tensor] = None, tolerance: float = TOLERANCE) -> Map:
    """The forward map of a transform through splines where they are as good, to carry whole images.

    Args:
        mask, tolerance: see :func:`sampled`.
    """
    if not transform.stages:
        return transform.forward
    found = sampled(transform.forward, mask, tolerance, quick=folded(transform, (mask, None), tolerance).forward)
    return found.map if found.faithful else transform.forward


def megabytes(lattice: Grid) -> float:
    """The size of a spline's coefficients over a lattice in double precision, which is how ITK writes them."""
    return lattice.count * lattice.dim * 8 / 1e6
