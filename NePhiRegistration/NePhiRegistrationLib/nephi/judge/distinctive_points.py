"""Points at which an image cannot be mistaken for its surroundings: corners, tips, crossings."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.resampling import highest_within
from ..maps.determinant import determinant

INTEGRATION = 1.5  # voxels; the structure tensor's Gaussian, to see a corner as a whole


def distinctive_points(values: Tensor, inside: Tensor, count: int, gap: int = 2) -> Tensor:
    """The most distinctive voxels of an image, no two nearer than ``gap`` along all axes.

    The measure is Förstner's, det(S) / tr(adj(S)) of the structure tensor S (Förstner and Gülch 1987; Rohr 1997). It is
    large where the image changes along every direction, so that a displacement along none of them goes unseen.

    Args:
        values: (k, j, i) on an isotropic grid.
        inside: bool of that shape; points are taken from there.
        count: at most so many.

    Returns:
        (n, d) int64 array indices (k, j, i), the most distinctive first.
    """
    measure = _foerstner(values) * inside
    highest = highest_within(measure, gap)
    peaks = (measure == highest) & (measure > 0)
    order = measure[peaks].argsort(descending=True)[:count]
    return peaks.nonzero()[order]


def spread_points(values: Tensor, inside: Tensor, count: int, cell: int = 4) -> Tensor:
    """The most distinctive voxel of each cell of ``cell`` voxels: points all over an image, also where it is smooth.

    Arguments and result are those of :func:`distinctive_points`.
    """
    measure = _foerstner(values) * inside
    pool = F.max_pool3d if values.dim() == 3 else F.max_pool2d
    highest, at = (found.flatten() for found in pool(measure[None, None], cell, cell, ceil_mode=True,
                                                      return_indices=True))
    chosen = highest.argsort(descending=True)[:min(count, int((highest > 0).sum()))]
    return torch.from_numpy(np.stack(np.unravel_index(at[chosen].numpy(), measure.shape), 1))


def _foerstner(values: Tensor) -> Tensor:
    slopes = torch.gradient(_gaussian(values, 1.0), dim=tuple(range(values.dim())))
    dim = len(slopes)
    tensor = torch.empty(dim, dim, *values.shape).movedim((0, 1), (-2, -1))  # entry by entry in memory
    for a in range(dim):
        for b in range(a, dim):
            tensor[..., a, b] = tensor[..., b, a] = _gaussian(slopes[a] * slopes[b], INTEGRATION)
    if dim == 2:
        adjugate_trace = tensor[..., 0, 0] + tensor[..., 1, 1]
    else:
        adjugate_trace = sum(tensor[..., a, a] * tensor[..., b, b] - tensor[..., a, b] ** 2
                             for a, b in ((0, 1), (0, 2), (1, 2)))
    return determinant(tensor).clamp_min(0) / (adjugate_trace + 1e-20)


def _gaussian(values: Tensor, sigma: float) -> Tensor:
    """Blurred along every axis, (k, j, i); beyond the border stand the border's values."""
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1) / sigma) ** 2 / 2)
    weights /= weights.sum()
    for axis in range(values.dim()):
        rows = values.movedim(axis, -1)
        padded = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")
        values = F.conv1d(padded, weights[None, None]).view(rows.shape).movedim(-1, axis)
    return values
