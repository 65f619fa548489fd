"""A map given by its displacements on a grid."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from ..geometry import Grid
from ..images.interpolation import linear
from .map import Map


class DisplacementMap(Map):
    """x + d(x), linear between the points of a grid; beyond them the displacement is that of the border.

    Args:
        values: (*grid.shape, d) displacements in the unit of the grid's world.
        grid: where they are.
    """

    def __init__(self, values: Tensor, grid: Grid, domain: Optional[Grid] = None) -> None:
        self.values, self.grid, self.domain = values, grid, domain
        self._channels = values.movedim(-1, 0)

    @property
    def device(self) -> torch.device:
        """Where the displacements are."""
        return self.values.device

    def displacement(self, points: Tensor) -> Tensor:
        """d at points (n, d), (n, d)."""
        return self._read(self.grid.to_index(points.to(self.device))).to(points)

    def map(self, points: Tensor) -> Tensor:
        return points + self.displacement(points)

    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points (n, d) go, and the Jacobian of the cell they lie in, (n, d, d)."""
        index = self.grid.to_index(points.to(self.device))
        slopes = []
        for axis in range(self.grid.dim):
            low, high = index.clone(), index.clone()
            low[:, axis] = index[:, axis].floor()
            high[:, axis] = low[:, axis] + 1
            slopes.append(self._read(high) - self._read(low))
        per_world = torch.from_numpy(self.grid.world_to_index[:-1, :-1].copy()).to(points)
        identity = torch.eye(self.grid.dim, dtype=points.dtype, device=points.device)
        return self.map(points), identity + torch.stack(slopes, dim=-1).to(points) @ per_world

    def _read(self, index: Tensor) -> Tensor:
        return linear(self._channels, index).T
