"""Points at which an image cannot be mistaken for its surroundings: corners, tips, crossings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

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
    pool = F.max_pool3d if values.dim() == 3 else F.max_pool2d
    highest = pool(measure[None, None], 2 * gap + 1, 1, gap)[0, 0]
    peaks = (measure == highest) & (measure > 0)
    order = measure[peaks].argsort(descending=True)[:count]
    return peaks.nonzero()[order]


def _foerstner(values: Tensor) -> Tensor:
    slopes = torch.gradient(_gaussian(values, 1.0), dim=tuple(range(values.dim())))
    dim = len(slopes)
    tensor = torch.empty(*values.shape, dim, dim)
    for a in range(dim):
        for b in range(a, dim):
            tensor[..., a, b] = tensor[..., b, a] = _gaussian(slopes[a] * slopes[b], INTEGRATION)
    kept = [[axis for axis in range(dim) if axis != left_out] for left_out in range(dim)]
    adjugate_trace = sum(_minor(tensor, axes) for axes in kept)
    return determinant(tensor).clamp_min(0) / (adjugate_trace + 1e-20)


def _minor(tensor: Tensor, axes: list[int]) -> Tensor:
    """The determinant of a part of matrices (..., d, d) on its diagonal."""
    return tensor[..., axes[0], axes[0]] if len(axes) == 1 else determinant(tensor[..., axes, :][..., axes])


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
