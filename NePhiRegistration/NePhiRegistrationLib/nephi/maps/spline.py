"""The latent code of a pair: one global vector and a grid of local vectors, read with cubic B-splines.

The published model interpolates trilinearly, whose derivative jumps at the cell faces; cubic B-splines have
continuous second derivatives, as the Jacobian regulariser wants, and act on plain gathers and products, so they
can be differentiated twice in every version of torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MARGIN = 3  # a cubic B-spline over n cells is carried by n + 3 nodes


@dataclass(frozen=True)
class LatentBox:
    """The box of the fixed image's frame that a latent grid covers.

    Attributes:
        low: (d,) corner with the smallest coordinates, frame units.
        cell: side of a cell, frame units; the same along all axes.
        cells: how many along (x, y, z).
    """

    low: tuple[float, ...]
    cell: float
    cells: tuple[int, ...]

    @classmethod
    def covering(cls, low: Sequence[float], high: Sequence[float], cell: float) -> LatentBox:
        """The smallest box of whole cells, centred on low..high, that covers it."""
        cells = [max(1, math.ceil((b - a) / cell - 1e-6)) for a, b in zip(low, high)]
        start = [(a + b - n * cell) / 2 for a, b, n in zip(low, high, cells)]
        return cls(tuple(float(s) for s in start), float(cell), tuple(cells))

    @property
    def high(self) -> tuple[float, ...]:
        """(d,) corner with the largest coordinates, frame units."""
        return tuple(a + n * self.cell for a, n in zip(self.low, self.cells))

    def nearest(self, points: Tensor) -> Tensor:
        """The points of the box nearest to points (n, d)."""
        return torch.minimum(torch.maximum(points, points.new_tensor(self.low)), points.new_tensor(self.high))

    @property
    def shape(self) -> tuple[int, ...]:
        """The node counts of the grid as an array: (k, j, i)."""
        return tuple(n + MARGIN for n in reversed(self.cells))


class LatentCode(nn.Module):
    """z = [z_global, z_local(x)], the unknowns that describe one pair (paper, section 3.2).

    Attributes:
        box: where the local code lies.
        local: (k, j, i, C) B-spline coefficients.
        shared: (G,) the global code; G may be 0.
    """

    def __init__(self, box: LatentBox, local: Tensor, shared: Tensor) -> None:
        super().__init__()
        if tuple(local.shape[:-1]) != box.shape:
            raise ValueError(f"A local code of shape {tuple(local.shape)} does not fit the box's nodes {box.shape}.")
        self.box = box
        self.local = nn.Parameter(local.contiguous())  # as the many reads want it
        self.shared = nn.Parameter(shared)

    @classmethod
    def random(cls, box: LatentBox, channels: int, shared: int, scale: float, generator: torch.Generator) -> LatentCode:
        """A code drawn from N(0, scale^2), where optimisation without an encoder begins."""
        local = scale * torch.randn(*box.shape, channels, generator=generator)
        return cls(box, local, scale * torch.randn(shared, generator=generator))

    @classmethod
    def through(cls, values: Tensor, low: Sequence[float], cell: float) -> LatentCode:
        """The natural cubic spline through values on a lattice, as a local code that needs no training.

        Args:
            values: (k, j, i, C) at the lattice's points.
            low: (d,) the first of them; ``cell`` lies between neighbours along each axis.
        """
        cells = tuple(n - 1 for n in reversed(values.shape[:-1]))
        for axis, n in enumerate(values.shape[:-1]):
            values = torch.tensordot(_through(n).to(values), values, dims=([1], [axis])).movedim(0, axis)
        return cls(LatentBox(tuple(low), cell, cells), values.contiguous(), values.new_zeros(0))

    def at(self, points: Tensor) -> Tensor:
        """Local codes (n, C) at points (n, d), frame coordinates inside the box."""
        return self._read(points, derivatives=False)[:, 0]

    def at_with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Local codes (n, C) and their derivatives (n, d, C), [n, a, c] = dz_c / dx_a, at points (n, d)."""
        read = self._read(points, derivatives=True)
        return read[:, 0], read[:, 1:]

    def on_lattice(self, axes: Sequence[Tensor]) -> Tensor:
        """Local codes on the lattice spanned by coordinates along (x, y, z): (len z, len y, len x, C).

        The spline is separable, so a lattice costs one small matrix product per axis instead of 4^d reads a point.
        """
        values = self.local
        dim = len(axes)
        for position in range(dim):
            axis = dim - 1 - position
            matrix = self._axis_matrix(axes[axis], axis)
            values = torch.tensordot(matrix, values, dims=([1], [position])).movedim(0, position)
        return values

    def _axis_matrix(self, coordinates: Tensor, axis: int) -> Tensor:
        first, weights, _ = self._axis_weights(coordinates, axis)
        matrix = coordinates.new_zeros(len(coordinates), self.box.cells[axis] + MARGIN)
        return matrix.scatter(1, first[:, None] + torch.arange(4, device=first.device), weights)

    def _axis_weights(self, coordinates: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """First of four nodes (n), their weights (n, 4) and the weights' derivatives (n, 4)."""
        position = (coordinates - self.box.low[axis]) / self.box.cell
        first = position.detach().floor().clamp(0, self.box.cells[axis] - 1)
        weights, slopes = cubic_bspline(position - first)
        return first.long(), weights, slopes / self.box.cell

    def _read(self, points: Tensor, derivatives: bool) -> Tensor:
        """(n, 1 or d + 1, C): the value, then the derivative along each axis."""
        n, dim = points.shape
        in_bags = not torch.is_grad_enabled() and points.device.type == "cpu"
        kind = torch.int32 if in_bags else torch.long
        index = torch.zeros(n, 1, dtype=kind, device=points.device)
        offsets = torch.zeros(1, dtype=kind, device=points.device)
        rows = [points.new_ones(n, 1)] * (1 + dim * derivatives)
        for axis in reversed(range(dim)):
            nodes = self.box.cells[axis] + MARGIN
            first, weights, slopes = self._axis_weights(points[:, axis], axis)
            index = index * nodes + first[:, None].to(kind)
            offsets = (offsets[:, None] * nodes + torch.arange(4, dtype=kind, device=points.device)).flatten()
            rows = [(row[:, :, None] * (slopes if r == axis + 1 else weights)[:, None]).flatten(1)
                    for r, row in enumerate(rows)]
        index, table = index + offsets, self.local.flatten(0, -2)
        if not in_bags:
            return torch.stack(rows, dim=1) @ table[index]
        # Many times faster on the CPU, but without second derivatives.
        return torch.stack([F.embedding_bag(index, table, per_sample_weights=row, mode="sum") for row in rows], dim=1)


def _through(n: int) -> Tensor:
    """(n + 2, n): B-spline coefficients from n equally spaced values, no curvature at the ends."""
    system = np.zeros((n + 2, n + 2))
    system[0, :3] = system[-1, -3:] = (1, -2, 1)
    for offset, weight in enumerate((1 / 6, 4 / 6, 1 / 6)):
        system[np.arange(1, n + 1), np.arange(n) + offset] = weight
    return torch.from_numpy(np.linalg.inv(system)[:, 1:-1])


def cubic_bspline(t: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the four nodes around positions ``t`` in [0, 1] within a cell, and their derivatives: (..., 4)."""
    s = 1 - t
    weights = [s**3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (3 * s**3 - 6 * s**2 + 4) / 6, t**3 / 6]
    slopes = [-(s**2) / 2, (3 * t**2 - 4 * t) / 2, (4 * s - 3 * s**2) / 2, t**2 / 2]
    return torch.stack(weights, dim=-1), torch.stack(slopes, dim=-1)
