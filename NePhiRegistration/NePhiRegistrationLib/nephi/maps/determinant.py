"""How a map changes volume: Jacobian determinants, analytic and by finite differences, and where they fold.

A determinant of 1 keeps the volume, 0.5 halves it, and one at or below zero is a fold: the map is not invertible there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid

LOG_FLOOR = 1e-3
"""The smallest determinant whose logarithm is taken; folds show as log(0.001) = -6.9."""

_POINTS_AT_ONCE = 1 << 17
_SLAB_VOXELS = 1 << 18


def determinant(matrices: Tensor) -> Tensor:
    """Determinants (...) of 2 x 2 or 3 x 3 matrices (..., d, d), written out, which is several times faster than LU."""
    m = matrices
    if m.shape[-1] == 2:
        return m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]
    return (m[..., 0, 0] * (m[..., 1, 1] * m[..., 2, 2] - m[..., 1, 2] * m[..., 2, 1])
            - m[..., 0, 1] * (m[..., 1, 0] * m[..., 2, 2] - m[..., 1, 2] * m[..., 2, 0])
            + m[..., 0, 2] * (m[..., 1, 0] * m[..., 2, 1] - m[..., 1, 1] * m[..., 2, 0]))


def determinant_at(transform, points: Tensor, direction: str = "forward") -> Tensor:
    """The analytic Jacobian determinant at points.

    Args:
        transform: anything with ``jacobian(points, direction)``.
        points: (n, d) LPS mm; of the fixed image for "forward", of the moving image for "inverse".

    Returns:
        (n,) float32 on the CPU, dimensionless.
    """
    out = torch.empty(len(points), dtype=torch.float32)
    for start in range(0, len(points), _POINTS_AT_ONCE):
        part = slice(start, start + _POINTS_AT_ONCE)
        out[part] = determinant(transform.jacobian(points[part], direction)).to("cpu", torch.float32)
    return out


def determinant_image(transform, grid: Grid, direction: str = "forward") -> Tensor:
    """The analytic Jacobian determinant at every voxel of a grid, (*grid.shape) float32 on the CPU."""
    parts = [determinant_at(transform, grid.points(start, stop), direction)
             for start, stop in grid.chunks(_POINTS_AT_ONCE)]
    return torch.cat(parts).reshape(grid.shape)


def log_determinant(values: Tensor, floor: float = LOG_FLOOR) -> Tensor:
    """The natural logarithm of determinants; values below ``floor``, folds among them, are clamped to it."""
    return values.clamp_min(floor).log()


def log_determinant_image(transform, grid: Grid, direction: str = "forward") -> Tensor:
    """The log-Jacobian at every voxel, (*grid.shape) float32: 0 keeps volume, folds are at log(LOG_FLOOR)."""
    return log_determinant(determinant_image(transform, grid, direction))


def finite_difference_determinant(transform, grid: Grid, direction: str = "forward") -> Tensor:
    """The Jacobian determinant by central differences of the mapped voxel centres, one-sided at the border.

    This sees what a resampled image sees, folds between voxels that the analytic determinant at the voxel centres
    can miss. Derivatives are taken along the voxel axes and divided by the voxel's volume, so that the result
    is in world space for any spacing and direction.

    Returns:
        (*grid.shape) float32 on the CPU, dimensionless.

    Raises:
        InputError: an axis of a single voxel, which has no difference.
    """
    if min(grid.size) < 2:
        raise InputError(f"Finite differences need two voxels along every axis; the grid has size {grid.size}.")
    voxel = float(np.linalg.det(grid.index_to_world[:-1, :-1]))
    out = torch.empty(grid.shape, dtype=torch.float32)
    for first, stop, low, high in _slabs(grid):
        mapped = _map_slab(transform, grid, low, high, direction)
        derivatives = torch.gradient(mapped, dim=tuple(range(grid.dim)))
        det = determinant(torch.stack(derivatives[::-1], dim=-1)) / voxel
        out[first:stop] = det[first - low:first - low + stop - first]
    return out


def fold_percent(det: Tensor, mask: Optional[Tensor] = None) -> float:
    """The percentage of determinants at or below zero, inside a mask of the same shape when one is given.

    Raises:
        InputError: a mask with no voxel inside.
    """
    if mask is not None:
        det = det[mask.to(det.device)]
    if det.numel() == 0:
        raise InputError("Folds cannot be counted: the mask has no voxel inside.")
    # A determinant that is not a number is a broken map, not a sound one: count it as a fold.
    return 100.0 * float((~(det > 0)).sum()) / det.numel()


def summary(det: Tensor, mask: Optional[Tensor] = None) -> dict[str, float]:
    """``min``, ``p01``, ``median``, ``p99``, ``max`` of determinants, inside a mask when one is given."""
    values = (det if mask is None else det[mask.to(det.device)]).detach().cpu().flatten().numpy()
    if values.size == 0:
        raise InputError("The Jacobian cannot be summarised: the mask has no voxel inside.")
    quantiles = np.quantile(values, (0, 0.01, 0.5, 0.99, 1))
    return dict(zip(("min", "p01", "median", "p99", "max"), (float(q) for q in quantiles)))


def _slabs(grid: Grid) -> Iterator[tuple[int, int, int, int]]:
    """Ranges of the slowest array axis (first, stop), and the same with one neighbour on each side (low, high)."""
    length = grid.shape[0]
    thickness = max(2, _SLAB_VOXELS // math.prod(grid.shape[1:]))
    for first in range(0, length, thickness):
        stop = min(first + thickness, length)
        low, high = max(0, first - 1), min(length, stop + 1)
        yield first, stop, low, high


def _map_slab(transform, grid: Grid, low: int, high: int, direction: str) -> Tensor:
    """Mapped voxel centres of the slices low..high, (high - low, ..., d) LPS mm."""
    row = math.prod(grid.shape[1:])
    points = grid.points(low * row, high * row)
    mapped = transform.map_points(points, direction).to("cpu", torch.float32)
    return mapped.reshape(high - low, *grid.shape[1:], grid.dim)
