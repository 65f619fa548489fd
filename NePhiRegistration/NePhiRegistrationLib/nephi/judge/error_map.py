"""The error that is left as an image: smooth between distinctive points, and nothing where there are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import numpy as np
import torch

from ..geometry import Grid
from ..images.image import Image

UNKNOWN = -1.0
"""The value where no distinctive point is near."""

LONGEST = 96  # voxels of a side
NEIGHBOUR = 2  # the distance to this nearest point is how far a point's error is carried
NEAR = 2.0  # points, by their weights, that tell the error of a place; what one point shows may be chance


def error_map(found: Optional[Mapping], fixed: Grid) -> Image:
    """Errors between the points at which they are known: means with the weights of a Gaussian, whose width follows the
    points' distances.

    Args:
        found: as :meth:`nephi.judge.residual.Residual.to_dict` gives it; None is no evidence anywhere.
        fixed: the fixed image's grid; the map covers it, with at most :data:`LONGEST` voxels along each side.

    Returns:
        (k, j, i) float32 mm, :data:`UNKNOWN` where less than :data:`NEAR` points are near.
    """
    grid = fixed.with_spacing(fixed.extent / np.minimum(fixed.size, LONGEST))
    if found is None:
        return Image(torch.full(grid.shape, UNKNOWN), grid, "estimated error")
    points = np.asarray(found["at"], dtype=float)
    errors = np.asarray([found["reach"] if mm is None else mm for mm in found["distances"]], dtype=float)
    apart = np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)
    width = max(found["voxel"], float(np.median(apart[:, min(NEIGHBOUR, len(points) - 1)])))
    at = (points - np.asarray(grid.origin)) @ grid.axes
    first, *others = (np.exp(-0.5 * ((np.arange(n) * step - at[:, axis, None]) / width) ** 2)
                      for axis, (n, step) in enumerate(zip(grid.size, grid.spacing)))
    rows = first
    for axis in others[:-1]:
        rows = (axis[:, :, None] * rows[:, None]).reshape(len(points), -1)
    near, total = ((others[-1] * weight).T @ rows for weight in (1.0, errors[:, None]))
    values = np.where(near >= NEAR, total / np.maximum(near, NEAR), UNKNOWN)
    return Image(torch.from_numpy(values.reshape(grid.shape).astype(np.float32)), grid, "estimated error")
