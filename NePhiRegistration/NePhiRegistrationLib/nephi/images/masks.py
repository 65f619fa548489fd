"""Where to look: masks on an image's grid, an image's foreground, dilation."""

from __future__ import annotations

import logging
import math
from typing import Optional

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid
from .image import Image
from .resampling import resample_nearest

log = logging.getLogger(__name__)


def mask_on(labels: Image, image: Image) -> Tensor:
    """The non-zero voxels of a label image for the voxels of an image, (k, j, i) bool.

    A mask on another grid is resampled, nearest neighbour; outside its own field of view nothing is inside.

    Raises:
        InputError: the mask is empty, of another dimension, or has nothing inside the image.
    """
    inside = labels.values != 0
    if not inside.any():
        raise InputError(f"The {labels.name} is empty; draw a region in it or leave the mask out.")
    if labels.grid.dim != image.grid.dim:
        raise InputError(f"The {labels.name} is {labels.grid.dim}D and the {image.name} is {image.grid.dim}D; "
                         "use a mask of the same dimension.")
    if labels.grid.same_as(image.grid):
        return inside
    log.info("The %s is on another grid than the %s: resampled, nearest neighbour.", labels.name, image.name)
    inside = resample_nearest(inside, labels.grid, image.grid)
    if not inside.any():
        raise InputError(f"The {labels.name} does not overlap the {image.name}; use a mask drawn on that image.")
    return inside


def dilate(mask: Tensor, grid: Grid, mm: float) -> Tensor:
    """The voxels within ``mm`` (Euclidean) of a mask, (k, j, i) bool to (k, j, i) bool."""
    squared = torch.where(mask, 0.0, math.inf)
    for axis, spacing in enumerate(reversed(grid.spacing)):  # squared distances add up axis by axis
        nearest = squared.clone()
        size = mask.shape[axis]
        for shift in range(1, min(int(mm / spacing), size - 1) + 1):
            cost = (shift * spacing) ** 2
            low, high = nearest.narrow(axis, 0, size - shift), nearest.narrow(axis, shift, size - shift)
            torch.minimum(low, squared.narrow(axis, shift, size - shift) + cost, out=low)
            torch.minimum(high, squared.narrow(axis, 0, size - shift) + cost, out=high)
        squared = nearest
    return squared <= mm**2


def foreground(image: Image) -> Optional[Tensor]:
    """The voxels above the minimum, if the rest is padding (skull-stripped, cropped to a circle); else None."""
    inside = image.values > image.values.min()
    seen = image.values[inside]
    padded = seen.numel() < 0.9 * inside.numel() and bool(seen.min() < seen.max())
    return inside if padded else None
