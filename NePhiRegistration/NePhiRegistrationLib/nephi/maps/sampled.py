"""Smooth functions on grids from a few of their points: many times fewer evaluations of the fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Grid, apply_affine
from ..images.interpolation import linear
from ..images.resampling import sample
from .determinant import determinant, determinant_at

EVERY = 2  # voxels between evaluations
SPARSE = 2  # times as far where nobody looks, outside the mask
REACH = 2  # evaluations around the mask that belong to it: what is beyond hardly shows in a spline inside
SUSPECT = 0.25  # determinants below this are worth an exact look
_POINTS_AT_ONCE = 1 << 18


def through_spline(function: Callable[[Tensor], Tensor], grid: Grid) -> Tensor:
    """A function of world points (n, d) to (n, c) on a grid, (*shape, c) float64, by natural cubic splines.

    It is evaluated on a lattice of about :data:`EVERY` times the spacing over the same box.
    """
    lattice = grid.with_spacing(tuple(EVERY * s for s in grid.spacing))
    return _read(_evaluate(function, lattice), lattice, grid)


class SampledMap:
    """One direction of a transform over a box, by natural cubic splines between the nodes of a lattice.

    The map is matrix(x + r(x)), with the affine exact and the splines for the rest, r.

    Args:
        transform: a :class:`nephi.maps.transform.Transform`.
        grid: of an image in the space the direction starts from; a node is about every second voxel.
        direction: "forward" or "inverse".
        mask: (*grid.shape) bool; far outside it the nodes are twice as far apart.
        margin: mm, how far the box reaches beyond the grid.
    """

    def __init__(self, transform, grid: Grid, direction: str, mask: Optional[Tensor] = None, margin: float = 0.0
                 ) -> None:
        self.transform, self.direction = transform, direction
        self.matrix = transform.affine if direction == "forward" else np.linalg.inv(transform.affine)
        back = np.linalg.inv(self.matrix)
        self.lattice = grid.padded(margin).with_spacing(_steps(grid))

        def residual(x: Tensor) -> Tensor:
            return apply_affine(back, transform.map_points(x, direction).cpu()) - x

        if mask is None:
            self._values = _evaluate(residual, self.lattice)
            return
        sparse = self.lattice.with_spacing(tuple(SPARSE * s for s in self.lattice.spacing))
        self._values = _read(_evaluate(residual, sparse), sparse, self.lattice)
        near = _near(mask, grid, self.lattice).flatten()
        points = self.lattice.points()[near]
        parts = [residual(part).double() for part in points.split(_POINTS_AT_ONCE)]
        self._values.view(-1, grid.dim)[near] = torch.cat(parts)

    def displacement_on(self, grid: Grid) -> Tensor:
        """map(x) - x at the points of a grid with the same axes, (*shape, d) float32 mm."""
        out = torch.empty(*grid.shape, grid.dim, dtype=torch.float32)
        for rows, slab in _slabs(grid):
            points = slab.points().double()
            moved = apply_affine(self.matrix, points + _read(self._values, self.lattice, slab).view(-1, grid.dim))
            out[rows] = (moved - points).view(*slab.shape, grid.dim).float()
        return out

    def determinant_on(self, grid: Grid, mask: Optional[Tensor] = None) -> Tensor:
        """The Jacobian determinant at the points of a grid with the same axes, (*shape) float32.

        It is that of the splines, and the fields' own at points inside the mask where that is below :data:`SUSPECT`,
        so that folds are counted by the fields themselves.
        """
        out = torch.empty(grid.shape, dtype=torch.float32)
        to_index = torch.from_numpy(self.lattice.world_to_index[:-1, :-1].copy())
        matrix = torch.from_numpy(self.matrix[:-1, :-1].copy())
        for rows, slab in _slabs(grid):
            slopes = [_read(self._values, self.lattice, slab, axis) for axis in range(grid.dim)]
            inner = torch.eye(grid.dim, dtype=torch.float64) + torch.stack(slopes, dim=-1) @ to_index
            out[rows] = determinant(matrix @ inner).float()
        suspect = out < SUSPECT if mask is None else (out < SUSPECT) & mask
        exact = determinant_at(self.transform, grid.points()[suspect.flatten()], self.direction)
        out[suspect] = exact
        return out

    def at_voxels(self, grid: Grid) -> VoxelMap:
        """The map for what reads it at the points of a grid with the same axes."""
        return VoxelMap(self.displacement_on(grid), grid, self.direction)


class VoxelMap:
    """The map of a grid's points, linear in between.

    Args:
        displacement: map(x) - x, (*grid.shape, d) float32 mm.
        direction: of the map; there is no other.
    """

    def __init__(self, displacement: Tensor, grid: Grid, direction: str) -> None:
        self._values, self._grid, self.direction = displacement.movedim(-1, 0), grid, direction

    def map_points(self, points: Tensor, direction: str) -> Tensor:
        """The map at points (n, d) LPS mm; beyond the grid the displacement is that of its border."""
        if direction != self.direction:
            raise ValueError(f"This is the {self.direction} map and has no {direction} one.")
        return points + linear(self._values, self._grid.to_index(points)).T.to(points)


def _steps(grid: Grid) -> tuple[float, ...]:
    """Spacings of the lattice: every second voxel, but not coarser than that along the long sides of long voxels."""
    mean = float(np.mean(grid.spacing))
    return tuple(min(EVERY * s, max(s, EVERY * mean)) for s in grid.spacing)


def _near(mask: Tensor, grid: Grid, lattice: Grid) -> Tensor:
    """The nodes inside a mask or within REACH nodes of it, (*lattice.shape) bool."""
    parts = [sample(mask.float(), grid, lattice.points(*part)) for part in lattice.chunks(_POINTS_AT_ONCE)]
    inside = (torch.cat(parts) > 0).view(1, 1, *lattice.shape).float()
    pool = F.max_pool3d if grid.dim == 3 else F.max_pool2d
    return pool(inside, 2 * REACH + 1, 1, REACH)[0, 0] > 0


def _evaluate(function: Callable[[Tensor], Tensor], lattice: Grid) -> Tensor:
    parts = [function(lattice.points(*part)).to("cpu", torch.float64) for part in lattice.chunks(_POINTS_AT_ONCE)]
    return torch.cat(parts).view(*lattice.shape, -1)


def _slabs(grid: Grid) -> Iterator[tuple[slice, Grid]]:
    """A grid in parts along its slowest axis, so that few large arrays are alive at once."""
    thickness = max(1, _POINTS_AT_ONCE * grid.shape[0] // grid.count)
    for first in range(0, grid.shape[0], thickness):
        stop = min(first + thickness, grid.shape[0])
        start = [0] * (grid.dim - 1) + [first]
        yield slice(first, stop), grid.window(start, [*grid.size[:-1], stop - first])


def _read(values: Tensor, lattice: Grid, grid: Grid, slope: Optional[int] = None) -> Tensor:
    """Splines through values (*lattice.shape, c) at the points of a grid with the same axes, (*grid.shape, c).

    Args:
        slope: the derivative along this axis (0 is i), per step of the lattice, instead of the value.
    """
    between = lattice.world_to_index @ grid.index_to_world
    for position in range(grid.dim):
        axis = grid.dim - 1 - position
        where = between[axis, -1] + between[axis, axis] * np.arange(grid.size[axis])
        matrix = _spline_matrices(lattice.size[axis], where)[int(slope == axis)]
        values = torch.tensordot(matrix, values, dims=([1], [position])).movedim(0, position)
    return values.contiguous()


def _spline_matrices(n: int, positions: Sequence[float]) -> tuple[Tensor, Tensor]:
    """(m, n) each: a natural cubic spline through n values at 0, 1, ..., n - 1 read at m positions, linear beyond the
    ends; and its slope."""
    if n == 1:
        return torch.ones(len(positions), 1, dtype=torch.float64), torch.zeros(len(positions), 1, dtype=torch.float64)
    inside = np.clip(positions, 0, n - 1)
    cell = np.minimum(inside.astype(int), n - 2)
    t = (inside - cell)[:, None]
    s, identity, second = 1 - t, np.eye(n), _second_derivatives(n)
    left, right, bend, bend_right = identity[cell], identity[cell + 1], second[cell], second[cell + 1]
    values = s * left + t * right + ((s**3 - s) * bend + (t**3 - t) * bend_right) / 6
    slopes = right - left + ((1 - 3 * s**2) * bend + (3 * t**2 - 1) * bend_right) / 6
    values = values + (np.asarray(positions) - inside)[:, None] * slopes
    return torch.from_numpy(values), torch.from_numpy(slopes)


def _second_derivatives(n: int) -> np.ndarray:
    """(n, n): the second derivatives of a natural cubic spline at its nodes, as a matrix on its values."""
    second = np.zeros((n, n))
    if n > 2:
        system = 4 * np.eye(n - 2) + np.eye(n - 2, k=1) + np.eye(n - 2, k=-1)
        right = 6 * (np.eye(n - 2, n) - 2 * np.eye(n - 2, n, k=1) + np.eye(n - 2, n, k=2))
        second[1:-1] = np.linalg.solve(system, right)
    return second
