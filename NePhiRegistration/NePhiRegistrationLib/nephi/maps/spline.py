"""Cubic B-splines over a lattice, and the map whose displacement is one.

The published model interpolates its latent code trilinearly; the derivative jumps at the cell faces. Cubic B-splines
have continuous second derivatives, as the Jacobian regulariser wants, and act on plain gathers and products, so they
can be differentiated twice in every version of torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import POINTS_AT_ONCE, POINTS_IN_CACHE, Grid
from .map import Map

EXTRA = 2  # coefficients beyond the nodes, one on each side
ROUNDING = 1e-3  # of a step between nodes


class Spline(nn.Module):
    """A cubic B-spline over the nodes 0, 1, ... n - 1 along each axis; its coordinates are indices (i, j, k).

    Attributes:
        coefficients: (k + 2, j + 2, i + 2, C), the first of them one node before node 0.
    """

    def __init__(self, coefficients: Tensor) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(coefficients.contiguous())  # as the many reads want it

    @classmethod
    def random(cls, shape: Sequence[int], channels: int, scale: float, generator: torch.Generator) -> Spline:
        """Coefficients drawn from N(0, scale^2).

        Args:
            shape: nodes along (k, j, i).
        """
        return cls(scale * torch.randn(*(n + EXTRA for n in shape), channels, generator=generator))

    @classmethod
    def through(cls, values: Tensor) -> Spline:
        """The natural cubic spline through values (k, j, i, C) at the nodes; nothing to be trained."""
        for axis, n in enumerate(values.shape[:-1]):
            values = torch.tensordot(_coefficients(n).to(values), values, dims=([1], [axis])).movedim(0, axis)
        return cls(values).requires_grad_(False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes along (k, j, i)."""
        return tuple(n - EXTRA for n in self.coefficients.shape[:-1])

    def at(self, index: Tensor) -> Tensor:
        """Values (n, C) at indices (n, d) between the outermost nodes."""
        return self._read(index, derivatives=False)[:, 0]

    def with_slopes(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Values (n, C) at indices (n, d) between the outermost nodes, and their derivatives (n, d, C) by the index."""
        read = self._read(index, derivatives=True)
        return read[:, 0], read[:, 1:]

    def on_lattice(self, axes: Sequence[Tensor], slope: Optional[int] = None) -> Tensor:
        """Values (len z, len y, len x, C) on the lattice spanned by indices along (x, y, z).

        The spline is separable, so a lattice costs one small matrix product per axis instead of 4^d reads a point.
        Beyond the outermost nodes it is constant.

        Args:
            slope: take the derivative along this axis (0 is i) instead of the value.
        """
        values, dim = self.coefficients, len(axes)
        for position in range(dim):
            axis = dim - 1 - position
            matrix = self.axis_matrix(axes[axis].to(values.dtype), axis, slope == axis)
            values = torch.tensordot(matrix, values, dims=([1], [position])).movedim(0, position)
        return values

    def axis_matrix(self, index: Tensor, axis: int, slope: bool) -> Tensor:
        """(n, nodes + 2) what each coefficient along an axis gives to values at indices (n), or to their slopes."""
        nodes = self.coefficients.shape[-2 - axis]
        inside = index.clamp(0, nodes - EXTRA - 1)
        first, within = self._cell(inside, axis)
        chosen = bspline_slopes(within) * _same(inside, index)[:, None] if slope else bspline_weights(within)
        columns = first[:, None] + torch.arange(4, device=first.device)
        return index.new_zeros(len(index), nodes).scatter(1, columns, chosen)

    def _cell(self, index: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """First of the four coefficients around indices (n), and where they are in that cell, in [0, 1] (n)."""
        cells = self.coefficients.shape[-2 - axis] - EXTRA - 1
        first = index.detach().floor().clamp(0, cells - 1)
        return first.long(), index - first

    def _read(self, index: Tensor, derivatives: bool) -> Tensor:
        """(n, 1 or d + 1, C): the value, then the derivative along each axis."""
        n, dim = index.shape
        in_bags = not torch.is_grad_enabled() and index.device.type == "cpu"
        kind = torch.int32 if in_bags else torch.long
        between = torch.tensor(self.coefficients.shape[-2::-1], device=index.device) - EXTRA - 1
        corners = index.detach().floor().clamp_min(0).minimum(between.to(index) - 1)
        weights = bspline_weights(index - corners)
        slopes = bspline_slopes(index - corners) if derivatives else weights
        flat = torch.zeros(n, 1, dtype=kind, device=index.device)
        offsets = torch.zeros(1, dtype=kind, device=index.device)
        rows = [index.new_ones(n, 1)] * (1 + dim * derivatives)
        for axis in reversed(range(dim)):
            nodes = self.coefficients.shape[-2 - axis]
            flat = flat * nodes + corners[:, axis, None].to(kind)
            offsets = (offsets[:, None] * nodes + torch.arange(4, dtype=kind, device=index.device)).flatten()
            rows = [(row[:, :, None] * (slopes if r == axis + 1 else weights)[:, None, axis]).flatten(1)
                    for r, row in enumerate(rows)]
        flat, table = flat + offsets, self.coefficients.flatten(0, -2)
        if not in_bags:
            return torch.stack(rows, dim=1) @ table[flat]
        # Many times faster on the CPU, but without second derivatives.
        return torch.stack([F.embedding_bag(flat, table, per_sample_weights=row, mode="sum") for row in rows], dim=1)


class SplineMap(Map):
    """x + s(x), s a spline over a lattice; beyond the lattice the displacement is that of its border.

    Args:
        spline: of displacements, in the unit of the lattice's world.
        lattice: where its nodes are.
    """

    def __init__(self, spline: Spline, lattice: Grid, domain: Optional[Grid] = None) -> None:
        self.spline, self.lattice, self.domain = spline, lattice, domain

    @classmethod
    def through(cls, displacements: Tensor, lattice: Grid, domain: Optional[Grid] = None) -> SplineMap:
        """The natural spline through displacements (*lattice.shape, d) at the lattice's points."""
        return cls(Spline.through(displacements), lattice, domain)

    @classmethod
    def from_coefficients(cls, coefficients: Tensor, lattice: Grid, domain: Optional[Grid] = None) -> SplineMap:
        """The spline of coefficients (n + 2 along each axis of n nodes, d); nothing to be trained."""
        return cls(Spline(coefficients).requires_grad_(False), lattice, domain)

    @property
    def device(self) -> torch.device:
        """Where the coefficients are."""
        return self.spline.coefficients.device

    @property
    def linear(self) -> np.ndarray:
        """The identity: its lattice knows the dimension also where there is no domain."""
        return np.eye(self.lattice.dim + 1)

    def displacement(self, points: Tensor) -> Tensor:
        """s at points (n, d), (n, d)."""
        parts = self.lattice.nearest_index(points).to(self.spline.coefficients).split(POINTS_IN_CACHE)
        return torch.cat([self.spline.at(part) for part in parts]).to(points)

    def map(self, points: Tensor) -> Tensor:
        return points + self.displacement(points)

    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        index = self.lattice.to_index(points.to(self.spline.coefficients))
        inside = self.lattice.nearest_index(points.to(self.spline.coefficients))
        values, slopes = self.spline.with_slopes(inside)
        slopes = slopes * _same(inside, index)[:, :, None]
        gradient = slopes.transpose(1, 2) @ self._per_world(slopes)
        identity = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
        return points + values.to(points), identity + gradient.to(points)

    def displacement_on(self, grid: Grid) -> Tensor:
        """s at the points of a grid, (*grid.shape, d) float32 on the CPU; fast where the axes are the lattice's."""
        return self.read_on(grid).float().cpu() if self._axes(grid) else super().displacement_on(grid)

    def mapped_on(self, grid: Grid, matrix: np.ndarray) -> Tensor:
        """As any map's; fast where the axes are the lattice's."""
        axes = self._axes(grid)
        if not axes:
            return super().mapped_on(grid, matrix)
        weights = self._matrices(axes)
        near = _used(weights[0])
        values, weights[0] = self._channels(matrix, near), weights[0][:, near]
        for position, part in enumerate(weights):
            values = _along(values, part, position)
        return grid.through(matrix).add_(values.movedim(0, -1))

    def gradients_on(self, grid: Grid, matrix: np.ndarray, differences: bool = False) -> Iterator[Tensor]:
        """As any map's; where the axes are the lattice's by one matrix product an axis, as differences are linear in
        the coefficients too."""
        axes = self._axes(grid)
        if not axes:
            yield from super().gradients_on(grid, matrix, differences)
            return
        values, weights = self._channels(matrix), self._matrices(axes)
        slopes = [torch.gradient(part, dim=0)[0] for part in weights] if differences else self._matrices(axes, True)
        steps = torch.from_numpy((matrix @ grid.index_to_world)[:-1, :-1].copy()).float()
        for slab in torch.arange(grid.shape[0]).split(max(1, POINTS_AT_ONCE * grid.shape[0] // grid.count)):
            near = _used(weights[0][slab] + slopes[0][slab].abs())
            of_slab = [(part[0][slab][:, near], *part[1:]) for part in (weights, slopes)]
            value, parts = values[:, near], []
            for position, (weight, slope) in enumerate(zip(*of_slab)):
                parts = [_along(part, weight, position) for part in parts] + [_along(value, slope, position)]
                value = _along(value, weight, position) if position < grid.dim - 1 else value
            gradients = torch.stack(parts[::-1], dim=1).add_(steps.view(*steps.shape, *[1] * grid.dim))
            yield gradients.movedim((0, 1), (-2, -1))

    def read_on(self, grid: Grid, slope: Optional[int] = None) -> Tensor:
        """s at the points of a grid whose axes are the lattice's, (*grid.shape, d) where the coefficients are.

        Args:
            slope: the derivative along this axis (0 is i), per step of the lattice, instead of s.
        """
        return self.spline.on_lattice(self._axes(grid), slope).contiguous()

    def _channels(self, matrix: np.ndarray, near: slice = slice(None)) -> Tensor:
        """The coefficients of matrix(s), (d, k + 2, j + 2, i + 2) float32 on the CPU."""
        values = self.spline.coefficients.detach()[near].float().cpu()
        return (values @ torch.from_numpy(matrix[:-1, :-1].T.copy()).float()).movedim(-1, 0).contiguous()

    def _matrices(self, axes: Sequence[Tensor], slopes: bool = False) -> list[Tensor]:
        """Along (k, j, i): (n, nodes + 2) float32 what the coefficients give to the points of a grid, or to the slopes
        there by a step of the grid."""
        parts = [self.spline.axis_matrix(index, axis, slopes) for axis, index in enumerate(axes)]
        steps = [float(index[1] - index[0]) if slopes and len(index) > 1 else 1.0 for index in axes]
        return [(part * step).float().cpu() for part, step in zip(parts, steps)][::-1]

    def _per_world(self, like: Tensor) -> Tensor:
        """(d, d) index steps per world unit."""
        return torch.from_numpy(self.lattice.world_to_index[:-1, :-1].copy()).to(like)

    def _axes(self, grid: Grid) -> Optional[list[Tensor]]:
        """A grid's points as indices of the lattice along (x, y, z), or None if its axes are others."""
        between = self.lattice.world_to_index @ grid.index_to_world
        scales = np.diag(between)[:-1]
        if np.abs(between[:-1, :-1] - np.diag(scales)).max() * max(grid.size) > 1e-6:
            return None
        return [torch.as_tensor(offset + scale * np.arange(n)).to(self.spline.coefficients)
                for offset, scale, n in zip(between[:-1, -1], scales, grid.size)]


def _used(weights: Tensor) -> slice:
    """The columns of a matrix (n, m) from the first to the last with a positive number."""
    used = weights.amax(0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1)


def _along(values: Tensor, weights: Tensor, position: int) -> Tensor:
    """A matrix (n, m) applied along an axis of values (C, k, j, i): 0 is k."""
    if position == values.dim() - 2:
        return values @ weights.T
    rows = values.flatten(position + 2).flatten(0, position)
    return (weights @ rows).view(*values.shape[:position + 1], len(weights), *values.shape[position + 2:])


def _same(inside: Tensor, index: Tensor) -> Tensor:
    """Which indices lie between the outermost nodes; those of the border itself are rounded to either side of it."""
    return (inside - index).abs() < ROUNDING


def _coefficients(n: int) -> Tensor:
    """(n + 2, n): B-spline coefficients from n equally spaced values, no curvature at the ends."""
    if n == 1:
        return torch.ones(4, 1)  # as two equal values
    system = np.zeros((n + 2, n + 2))
    system[0, :3] = system[-1, -3:] = (1, -2, 1)
    for offset, weight in enumerate((1 / 6, 4 / 6, 1 / 6)):
        system[np.arange(1, n + 1), np.arange(n) + offset] = weight
    return torch.from_numpy(np.linalg.inv(system)[:, 1:-1])


def bspline_weights(t: Tensor) -> Tensor:
    """Weights of the four nodes around positions ``t`` in [0, 1] within a cell, (..., 4)."""
    s = 1 - t
    squares = s * s, t * t
    return torch.stack([s * squares[0] / 6, (t / 2 - 1) * squares[1] + 2 / 3, (s / 2 - 1) * squares[0] + 2 / 3,
                        t * squares[1] / 6], dim=-1)


def bspline_slopes(t: Tensor) -> Tensor:
    """The derivatives of :func:`bspline_weights`."""
    s = 1 - t
    return torch.stack([-s * s / 2, (1.5 * t - 2) * t, (2 - 1.5 * s) * s, t * t / 2], dim=-1)
