"""Images on other grids and at points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Grid
from .interpolation import linear, nearest

FEWER = 4  # times fewer voxels that are worth resampling for


def downsample(values: Tensor, grid: Grid, spacing: Union[float, Sequence[float]]) -> tuple[Tensor, Grid]:
    """Resample onto about this spacing over the same box, without aliasing.

    Axes that become coarser are averaged with a Gaussian of half the new spacing, the others interpolated
    linearly. As the axes stay the same this is one small matrix per axis.

    Args:
        values: (k, j, i) floating point on ``grid``.
        spacing: mm, along all axes or along each.

    Returns:
        The values (k', j', i') and their grid.
    """
    coarse = grid.with_spacing(spacing)
    for axis, (n, m) in enumerate(zip(grid.shape, coarse.shape)):
        if n != m:
            weights = _axis_weights(n, m).to(values)
            values = (values.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return values.contiguous(), coarse


def coarser_spacing(grid: Grid, spacing: float) -> Optional[tuple[float, ...]]:
    """The spacing (mm) along each axis to which an image can be made coarser first, if it is to be read about this far
    apart again and again; None where that is hardly fewer voxels."""
    wanted = tuple(max(own, spacing) for own in grid.spacing)
    return wanted if grid.with_spacing(wanted).count * FEWER <= grid.count else None


def touched(mask: Tensor, grid: Grid) -> Tensor:
    """The voxels of a coarser grid over the same box that touch a mask (k, j, i): one thinner than they are stays."""
    pool = F.adaptive_max_pool3d if mask.dim() == 3 else F.adaptive_max_pool2d
    return pool(mask[None].float(), grid.shape)[0] > 0


def highest_within(values: Tensor, reach: int) -> Tensor:
    """The largest of the values (k, j, i) or (j, i) within so many voxels along all axes, axis after axis."""
    for axis in range(values.dim()):
        rows = values.movedim(axis, -1)
        highest = rows.clone()
        for step in range(1, min(reach, rows.shape[-1] - 1) + 1):
            torch.maximum(highest[..., step:], rows[..., :-step], out=highest[..., step:])
            torch.maximum(highest[..., :-step], rows[..., step:], out=highest[..., :-step])
        values = highest.movedim(-1, axis)
    return values


def filled(values: Tensor, known: Optional[Tensor]) -> Tensor:
    """An array whose unknown values are replaced by averages of the known ones nearby.

    Whatever is made of it, filtered or between voxels, then has nothing of what the unknown voxels held.

    Args:
        values: (k, j, i) or (j, i) floating point.
        known: bool of that shape; None for all. Where none is, the values stay as they are.
    """
    if known is None or bool(known.all()) or not bool(known.any()):
        return values
    mean = F.avg_pool3d if values.dim() == 3 else F.avg_pool2d
    both = torch.stack([values.where(known, values.new_zeros(())), known.to(values.dtype)])
    summed, share = mean(both[None], 2, ceil_mode=True)[0]
    coarse = filled(summed / share.clamp(min=1e-6), share > 0)
    return values.where(known, F.interpolate(coarse[None, None], size=values.shape)[0, 0])


def _axis_weights(old: int, new: int) -> Tensor:
    """What each of ``old`` voxels along an axis gives to each of ``new`` over the same length, (new, old)."""
    step = old / new
    centers = (torch.arange(new, dtype=torch.float64) + 0.5) * step - 0.5
    distance = centers.clamp(0, old - 1)[:, None] - torch.arange(old, dtype=torch.float64)
    # The Gaussian ends at 4 sigma: its tail of denormal numbers would cost more time than all the rest.
    gaussian = torch.exp(-2 * (distance / step) ** 2) * (distance.abs() <= 2 * step)
    weights = gaussian if step > 1 else (1 - distance.abs()).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def sample(values: Tensor, grid: Grid, points: Tensor, mode: str = "linear", fill: float = 0.0) -> Tensor:
    """Read an image at points, as ITK does: the border voxels reach half a voxel out, beyond is ``fill``.

    Linear sampling is differentiable in the points and the values.

    Args:
        values: (C, k, j, i) or (k, j, i) on ``grid``; any type for nearest, floating point for linear.
        points: (n, d) LPS mm.
        mode: "linear" or "nearest".

    Returns:
        (C, n) or (n), of the type of ``values``.
    """
    if values.shape[-grid.dim:] != grid.shape or points.shape[-1] != grid.dim:
        raise ValueError(f"Values {tuple(values.shape)} or points {tuple(points.shape)} do not fit grid {grid.shape}.")
    picked = sample_at(values if values.dim() > grid.dim else values[None], grid.to_index(points), mode, fill)
    return picked if values.dim() > grid.dim else picked[0]


def sample_at(channels: Tensor, index: Tensor, mode: str = "linear", fill: float = 0.0) -> Tensor:
    """As :func:`sample`, from values (C, k, j, i) at continuous indices (i, j, k), (n, d): (C, n)."""
    if mode not in ("linear", "nearest"):
        raise ValueError(f"mode is {mode!r}; use 'linear' or 'nearest'.")
    last = index.new_tensor(channels.shape[:0:-1]) - 1
    inside = ((index >= -0.5) & (index < last + 0.5)).all(-1)
    picked = linear(channels, index) if mode == "linear" else nearest(channels, index)
    return torch.where(inside, picked, torch.tensor(fill, dtype=picked.dtype, device=picked.device))
