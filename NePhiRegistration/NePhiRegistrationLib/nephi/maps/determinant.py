"""How a map changes volume: Jacobian determinants, analytic and by finite differences.

A determinant of 1 keeps the volume, 0.5 halves it, and one at or below zero is a fold: the map is not invertible there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import POINTS_AT_ONCE, Grid
from .map import Map, reserved

LOG_FLOOR = 1e-3
"""The smallest determinant whose logarithm is taken; folds show as log(0.001) = -6.9."""


def determinant(matrices: Tensor) -> Tensor:
    """Determinants (...) of 2 x 2 or 3 x 3 matrices (..., d, d), written out, which is several times faster than LU."""
    m = matrices
    if m.shape[-1] == 2:
        return m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]
    return (m[..., 0, 0] * (m[..., 1, 1] * m[..., 2, 2] - m[..., 1, 2] * m[..., 2, 1])
            - m[..., 0, 1] * (m[..., 1, 0] * m[..., 2, 2] - m[..., 1, 2] * m[..., 2, 0])
            + m[..., 0, 2] * (m[..., 1, 0] * m[..., 2, 1] - m[..., 1, 1] * m[..., 2, 0]))


def determinant_at(map_: Map, points: Tensor) -> Tensor:
    """The Jacobian determinant at points (n, d) of the map's space: (n,) float32 on the CPU, dimensionless."""
    parts = [determinant(map_.jacobian(part)).to("cpu", torch.float32) for part in points.split(POINTS_AT_ONCE)]
    return torch.cat(parts)


def determinant_image(map_: Map, grid: Grid) -> Tensor:
    """The Jacobian determinant at every voxel of a grid, (*grid.shape) float32 on the CPU."""
    return _determinants(map_, grid, differences=False)


def log_determinant(values: Tensor, floor: float = LOG_FLOOR) -> Tensor:
    """The natural logarithm of determinants; values below ``floor``, folds among them, are clamped to it."""
    return values.clamp_min(floor).log()


def finite_difference_determinant(map_: Map, grid: Grid) -> Tensor:
    """The Jacobian determinant by central differences of the mapped voxel centres, one-sided at the border.

    This sees what a resampled image sees, folds between voxels that the determinant at the voxel centres can miss.
    Derivatives are taken along the voxel axes and turned into the world, for any spacing and direction.

    Returns:
        (*grid.shape) float32 on the CPU, dimensionless.

    Raises:
        InputError: an axis of a single voxel, which has no difference.
    """
    if min(grid.size) < 2:
        raise InputError(f"Finite differences need two voxels along every axis; the grid has size {grid.size}.")
    return _determinants(map_, grid, differences=True)


def _determinants(map_: Map, grid: Grid, differences: bool) -> Tensor:
    """Those of the change by a step in the world, which is that by a step of the index but for a constant factor."""
    values, start, per_voxel = reserved(grid), 0, float(np.linalg.det(grid.index_to_world))
    for gradients in map_.gradients_on(grid, np.eye(grid.dim + 1), differences):
        values[start:start + len(gradients)] = determinant(gradients).div_(per_voxel)
        start += len(gradients)
    return values


def difference_determinant(displacement: Tensor, grid: Grid) -> Tensor:
    """The same from displacements (*grid.shape, d) at all voxels of a grid: (*grid.shape)."""
    per_voxel = torch.gradient(displacement, dim=tuple(range(grid.dim)))
    to_index = torch.from_numpy(grid.world_to_index[:-1, :-1].copy()).to(displacement)
    return determinant(torch.eye(grid.dim).to(displacement) + torch.stack(per_voxel[::-1], dim=-1) @ to_index)
