"""A map through splines between few of its points: many times fewer evaluations of the fields."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..geometry import POINTS_AT_ONCE, Grid
from ..images.resampling import highest_within, sample_at
from .affine_map import AffineMap
from .determinant import determinant_at
from .map import Composition, Map
from .spline import SplineMap

EVERY = 2  # voxels between evaluations
SPARSE = 2  # times as far where nobody looks, outside the mask
REACH = 2  # evaluations around the mask that belong to it: what is beyond hardly shows in a spline inside
SUSPECT = 0.15  # determinants below this are worth an exact look


def through_splines(exact: Map, grid: Grid, mask: Optional[Tensor] = None, lattice: Optional[Grid] = None
                    ) -> Composition:
    """A map over a box as matrix(x + r(x)): its linear part, and natural cubic splines r through a lattice.

    Args:
        exact: the map.
        grid: of an image in the space the map starts from.
        mask: (*grid.shape) bool; far outside it the nodes are twice as far apart.
        lattice: the nodes, over the grid's box and along its axes; None takes every second voxel.
    """
    linear = AffineMap(exact.linear)
    residual = Composition([exact, AffineMap(np.linalg.inv(exact.linear))], exact.domain)
    lattice = lattice or lattice_every(grid, EVERY)
    if mask is None:
        values = residual.displacement_on(lattice).double()
    else:
        sparse = lattice_over(lattice, tuple(SPARSE * s for s in lattice.spacing))
        values = SplineMap.through(residual.displacement_on(sparse).double(), sparse).read_on(lattice)
        near = _near(mask, grid, lattice).flatten()
        points = lattice.to_world(near.view(lattice.shape).nonzero().flip(-1).double())
        parts = [residual.map(part) - part for part in points.split(POINTS_AT_ONCE)]
        values.view(-1, grid.dim)[near] = torch.cat(parts)
    return Composition([SplineMap.through(values, lattice), linear], exact.domain)


def lattice_over(grid: Grid, spacing: tuple[float, ...]) -> Grid:
    """Nodes at no more than a spacing from the first to the last voxel of a grid along each axis."""
    lengths = (np.asarray(grid.size) - 1) * np.asarray(grid.spacing)
    cells = np.ceil(lengths / np.asarray(spacing) - 1e-6)
    steps = np.where(cells > 0, lengths / np.maximum(cells, 1), grid.spacing)
    return Grid(tuple(int(n) + 1 for n in cells), tuple(steps.tolist()), grid.origin, grid.direction)


def lattice_every(grid: Grid, every: float) -> Grid:
    """Nodes about every so many voxels of a grid, equally far apart along all axes: maps do not know voxels."""
    return lattice_over(grid, (every * grid.voxel,) * grid.dim)


def exact_where_suspect(determinants: Tensor, exact: Map, grid: Grid, mask: Optional[Tensor] = None) -> Tensor:
    """Determinants of splines on a grid, and the fields' own inside a mask where those are below :data:`SUSPECT`, so
    that folds are counted by the fields themselves."""
    suspect = determinants < SUSPECT if mask is None else (determinants < SUSPECT) & mask
    result = determinants.clone()
    result[suspect] = determinant_at(exact, grid.to_world(suspect.nonzero().flip(-1).float()))
    return result


def _near(mask: Tensor, grid: Grid, lattice: Grid) -> Tensor:
    """The nodes inside a mask or within REACH nodes of it, (*lattice.shape) bool."""
    values = mask[None].float()
    parts = [sample_at(values, slab.through(grid.world_to_index).flatten(0, -2)) for slab in lattice.slabs(
        POINTS_AT_ONCE)]
    return highest_within(torch.cat(parts, dim=1).view(lattice.shape), REACH) > 0
