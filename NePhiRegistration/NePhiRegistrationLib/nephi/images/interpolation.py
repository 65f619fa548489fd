"""Reading arrays between their voxels, at continuous indices (i, j, k)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(values: Tensor, index: Tensor) -> Tensor:
    """Linear interpolation, differentiable in both; beyond the border the border's value.

    Args:
        values: (C, k, j, i) or (C, j, i), floating point.
        index: (n, d) voxel indices (i, j, k).

    Returns:
        (C, n).
    """
    last = index.new_tensor([max(1, size - 1) for size in reversed(values.shape[1:])])
    return linear_in_unit(values, (index * (2 / last) - 1).to(values.dtype))


def linear_in_unit(values: Tensor, unit: Tensor) -> Tensor:
    """:func:`linear` at unit coordinates (n, d): -1 at the first voxel and 1 at the last along each axis."""
    n, dim = unit.shape
    # On the CPU grid_sample is parallel over the batch only: give every thread its share of the points.
    batch = torch.get_num_threads() if values.device.type == "cpu" else 1
    rows = -(-n // batch)
    if batch * rows > n:
        unit = F.pad(unit, (0, 0, 0, batch * rows - n))
    unit = unit.view(batch, *(1,) * (dim - 1), rows, dim)
    picked = F.grid_sample(values.expand(batch, *values.shape), unit, padding_mode="border", align_corners=True)
    return picked.flatten(2).transpose(0, 1).flatten(1)[:, :n]


def nearest(values: Tensor, index: Tensor) -> Tensor:
    """The value of the nearest voxel, of any type; beyond the border the border's value. Shapes as :func:`linear`."""
    last = index.new_tensor([size - 1 for size in reversed(values.shape[1:])])
    rounded = torch.minimum(torch.floor(index + 0.5).clamp(min=0), last).long()
    flat = rounded[:, -1]
    for axis in range(index.shape[-1] - 2, -1, -1):
        flat = flat * values.shape[-1 - axis] + rounded[:, axis]
    return values.flatten(1)[:, flat]


def stretched(values: Tensor, size: Sequence[int], corners: bool = False) -> Tensor:
    """Arrays (B, C, k, j, i) or (B, C, j, i) resized linearly over the same extent.

    Args:
        size: (k, j, i) or (j, i).
        corners: the extent reaches from the first voxel's centre to the last one's, not from edge to edge.
    """
    mode = "trilinear" if values.dim() == 5 else "bilinear"
    return F.interpolate(values, size=tuple(size), mode=mode, align_corners=corners)
