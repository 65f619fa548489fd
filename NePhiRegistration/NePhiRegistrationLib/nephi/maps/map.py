"""What a map is: a function of points with its Jacobian; and several maps one after the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional, Protocol

import numpy as np
import torch
from torch import Tensor

from ..device import free_memory
from ..errors import DeviceMemoryError
from ..geometry import POINTS_AT_ONCE, Grid, apply_affine

CPU = torch.device("cpu")


class Map(ABC):
    """A smooth map of points (n, d).

    Points are taken from any device and in any floating-point type, and returned in the same way.

    Attributes:
        domain: the grid of the image whose points it maps, or None where there is no such image.
    """

    domain: Optional[Grid] = None

    @property
    def device(self) -> torch.device:
        """Where the map computes."""
        return CPU

    @property
    def is_linear(self) -> bool:
        """Whether :attr:`linear` is all there is of it."""
        return False

    @property
    def linear(self) -> np.ndarray:
        """(d + 1, d + 1) the map without its nonlinear parts."""
        if self.domain is None:
            raise ValueError("A map without a domain does not know its dimension.")
        return np.eye(self.domain.dim + 1)

    @abstractmethod
    def map(self, points: Tensor) -> Tensor:
        """Where points (n, d) go, (n, d)."""

    @abstractmethod
    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points (n, d) go, (n, d), and the Jacobian there, (n, d, d), [n, i, a] = dy_i / dx_a."""

    def jacobian(self, points: Tensor) -> Tensor:
        """The Jacobian at points (n, d), (n, d, d), [n, i, a] = dy_i / dx_a."""
        return self.with_jacobian(points)[1]

    def displacement_on(self, grid: Grid) -> Tensor:
        """map(x) - x at the points of a grid, (*grid.shape, d) float32 on the CPU."""
        def shifted(slab: Grid) -> Tensor:
            points = _points(slab)
            return self.map(points) - points

        return in_slabs(shifted, grid, grid.dim)

    def mapped_on(self, grid: Grid, matrix: np.ndarray) -> Tensor:
        """Where the points of a grid go, and from there by a matrix: (*grid.shape, d) float32 on the CPU.

        Args:
            matrix: (d + 1, d + 1), as from the world to the indices of an image.
        """
        points = _points(grid) + self.displacement_on(grid).view(-1, grid.dim)
        return apply_affine(matrix, points).float().view(*grid.shape, grid.dim)

    def gradients_on(self, grid: Grid, matrix: np.ndarray, differences: bool = False) -> Iterator[Tensor]:
        """How what :meth:`mapped_on` gives changes by a step of the grid's index, for slabs of the grid along its
        slowest axis: (*slab.shape, d, d) float32 on the CPU, [..., i, a] = dy_i / d index_a.

        Args:
            differences: central differences of the mapped points, one-sided at the border, not the exact derivative.
        """
        after, steps = (torch.from_numpy(part[:-1, :-1].copy()).float() for part in (matrix, grid.index_to_world))
        if differences:
            for slab, inner in grid.slabs_with_neighbours(POINTS_AT_ONCE):
                slopes = torch.gradient(self.displacement_on(slab), dim=tuple(range(grid.dim)))
                yield after @ (steps + torch.stack(slopes[::-1], dim=-1)[inner])
        else:
            for slab in grid.slabs(POINTS_AT_ONCE):
                jacobian = self.jacobian(slab.points(CPU)).to(steps)
                yield (after @ jacobian @ steps).view(*slab.shape, grid.dim, grid.dim)


class Invertible(Protocol):
    """What has a forward and an inverse map, both of the same standing."""

    forward: Map
    inverse: Map


@dataclass(frozen=True)
class MapPair:
    """A map and its inverse."""

    forward: Map
    inverse: Map


class Composition(Map):
    """Maps one after the other, in the order in which they act; the identity if there are none."""

    def __init__(self, parts: Sequence[Map], domain: Optional[Grid] = None) -> None:
        self.parts, self.domain = tuple(parts), domain

    @property
    def device(self) -> torch.device:
        """That of the first part which is not on the CPU."""
        return next((part.device for part in self.parts if part.device.type != "cpu"), CPU)

    @property
    def is_linear(self) -> bool:
        """Whether all parts are."""
        return all(part.is_linear for part in self.parts)

    @property
    def linear(self) -> np.ndarray:
        """(d + 1, d + 1) the linear parts one after the other."""
        matrix = super().linear
        for part in self.parts:
            matrix = part.linear @ matrix
        return matrix

    def map(self, points: Tensor) -> Tensor:
        for part in self.parts:
            points = part.map(points)
        return points

    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points (n, d) go, and the product of the Jacobians on the way, (n, d, d)."""
        dim = points.shape[-1]
        total = torch.eye(dim, dtype=points.dtype, device=points.device).expand(len(points), dim, dim)
        for part in self.parts:
            points, jacobian = part.with_jacobian(points)
            total = jacobian @ total
        return points, total

    def displacement_on(self, grid: Grid) -> Tensor:
        """map(x) - x at the points of a grid, (*grid.shape, d) float32: the first part may know a fast way."""
        if len(self.parts) < 2:
            return self.parts[0].displacement_on(grid) if self.parts else torch.zeros(*grid.shape, grid.dim)
        first, rest = self.parts[0], Composition(self.parts[1:], self.domain)

        def shifted(slab: Grid) -> Tensor:
            points = _points(slab)
            return rest.map(points + first.displacement_on(slab).view(-1, grid.dim)) - points

        return in_slabs(shifted, grid, grid.dim)

    def mapped_on(self, grid: Grid, matrix: np.ndarray) -> Tensor:
        """As any map's; the first part may know a fast way where the rest is linear."""
        rest = self._linear_rest()
        return super().mapped_on(grid, matrix) if rest is None else self.parts[0].mapped_on(grid, matrix @ rest)

    def gradients_on(self, grid: Grid, matrix: np.ndarray, differences: bool = False) -> Iterator[Tensor]:
        """As any map's; the first part may know a fast way where the rest is linear."""
        rest = self._linear_rest()
        return (super().gradients_on(grid, matrix, differences) if rest is None else
                self.parts[0].gradients_on(grid, matrix @ rest, differences))

    def _linear_rest(self) -> Optional[np.ndarray]:
        """(d + 1, d + 1) all parts after the first, or None where they are not linear or there is no first."""
        if not self.parts or not all(part.is_linear for part in self.parts[1:]):
            return None
        matrix = np.eye(len(self.parts[0].linear))
        for part in self.parts[1:]:
            matrix = part.linear @ matrix
        return matrix


def _points(grid: Grid) -> Tensor:
    """The points of a grid, (n, d) float64 LPS mm on the CPU."""
    return grid.through(np.eye(grid.dim + 1), torch.float64).view(-1, grid.dim)


def in_slabs(function: Callable[[Grid], Tensor], grid: Grid, *shape: int, dtype: torch.dtype = torch.float32
             ) -> Tensor:
    """What a function gives for parts of a grid, together: (*grid.shape, *shape) on the CPU.

    Raises:
        DeviceMemoryError: there is not enough memory; at once, before any work.
    """
    values, start = reserved(grid, *shape, dtype=dtype), 0
    for slab in grid.slabs(POINTS_AT_ONCE):
        stop = start + slab.shape[0]
        values[start:stop] = function(slab).view(*slab.shape, *shape)
        start = stop
    return values


def reserved(grid: Grid, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory for values (*shape) at the points of a grid: (*grid.shape, *shape) on the CPU.

    Raises:
        DeviceMemoryError: there is not enough memory.
    """
    size, room = 1.0 * dtype.itemsize * grid.count * math.prod(shape), free_memory()
    if size > room:
        raise DeviceMemoryError(f"A grid of {' x '.join(map(str, grid.size))} voxels needs {size / 1e9:.1f} GB and "
                                f"{room / 1e9:.1f} GB of memory are free; choose a larger spacing or a smaller image.")
    return torch.empty(*grid.shape, *shape, dtype=dtype)
