"""What a map is: a function of points with its Jacobian; and several maps one after the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional, Protocol

import numpy as np
import torch
from torch import Tensor

from ..device import free_memory
from ..errors import DeviceMemoryError
from ..geometry import POINTS_AT_ONCE, Grid

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
            points = slab.points(CPU).double()
            return self.map(points) - points

        return in_slabs(shifted, grid, grid.dim)

    def jacobian_on(self, grid: Grid) -> Tensor:
        """The Jacobian at the points of a grid, (*grid.shape, d, d) float32 on the CPU."""
        return in_slabs(lambda slab: self.jacobian(slab.points(CPU)), grid, grid.dim, grid.dim)


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
            points = slab.points(CPU).double()
            return rest.map(points + first.displacement_on(slab).view(-1, grid.dim)) - points

        return in_slabs(shifted, grid, grid.dim)

    def jacobian_on(self, grid: Grid) -> Tensor:
        """The Jacobian at the points of a grid, (*grid.shape, d, d) float32: the first part may know a fast way."""
        if len(self.parts) < 2:
            return self.parts[0].jacobian_on(grid) if self.parts else super().jacobian_on(grid)
        first, rest = self.parts[0], Composition(self.parts[1:], self.domain)

        def product(slab: Grid) -> Tensor:
            if rest.is_linear:
                inner = first.jacobian_on(slab)
                return torch.from_numpy(rest.linear[:-1, :-1].copy()).to(inner) @ inner
            moved = slab.points(CPU).double() + first.displacement_on(slab).view(-1, grid.dim)
            inner = first.jacobian_on(slab)
            return rest.jacobian(moved).to(inner).view(inner.shape) @ inner

        return in_slabs(product, grid, grid.dim, grid.dim)


def in_slabs(function: Callable[[Grid], Tensor], grid: Grid, *shape: int, dtype: torch.dtype = torch.float32
             ) -> Tensor:
    """What a function gives for parts of a grid, together: (*grid.shape, *shape) on the CPU.

    Raises:
        DeviceMemoryError: there is not enough memory; at once, before any work.
    """
    size, room = 1.0 * dtype.itemsize * grid.count * math.prod(shape), free_memory()
    if size > room:
        raise DeviceMemoryError(f"A grid of {' x '.join(map(str, grid.size))} voxels needs {size / 1e9:.1f} GB and "
                                f"{room / 1e9:.1f} GB of memory are free; choose a larger spacing or a smaller image.")
    values, start = torch.empty(*grid.shape, *shape, dtype=dtype), 0
    for slab in grid.slabs(POINTS_AT_ONCE):
        stop = start + slab.shape[0]
        values[start:stop] = function(slab).view(*slab.shape, *shape)
        start = stop
    return values
