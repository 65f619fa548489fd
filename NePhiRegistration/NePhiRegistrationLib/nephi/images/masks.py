"""Where to look: masks on an image's grid, an image's foreground, dilation."""

from __future__ import annotations

import logging
from typing import Optional

import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid
from .image import Image

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
    grid, identity = image.grid, sitk.Transform(image.grid.dim, sitk.sitkIdentity)
    resampled = sitk.Resample(Image(inside, labels.grid).to_sitk(sitk.sitkUInt8), grid.size, identity,
                              sitk.sitkNearestNeighbor, grid.origin, grid.spacing, grid.direction)
    inside = torch.from_numpy(sitk.GetArrayFromImage(resampled) > 0)
    if not inside.any():
        raise InputError(f"The {labels.name} does not overlap the {image.name}; use a mask drawn on that image.")
    return inside


def dilate(mask: Tensor, grid: Grid, mm: float) -> Tensor:
    """The voxels within ``mm`` (Euclidean) of a mask, (k, j, i) bool to (k, j, i) bool."""
    squared = sitk.SignedMaurerDistanceMap(Image(mask, grid).to_sitk(sitk.sitkUInt8), useImageSpacing=True)
    near = sitk.GetArrayViewFromImage(squared) <= (mm * (1 + 1e-5)) ** 2  # a voxel at the very margin counts
    return mask | torch.from_numpy(near).to(mask.device)  # a mask without a border has no distance


def foreground(image: Image) -> Optional[Tensor]:
    """The voxels above the minimum, if the rest is padding (skull-stripped, cropped to a circle); else those that have
    a value; None if all have one.
    """
    inside = image.values > image.values.min()
    seen, known = image.values[inside], inside.numel() if image.known is None else int(image.known.sum())
    padded = seen.numel() < 0.9 * known and bool(seen.min() < seen.max())
    return inside if padded else image.known


def region(image: Image, mask: Optional[Tensor]) -> Optional[Tensor]:
    """Where to look in an image: its mask, without voxels that have no value; without a mask its foreground.

    Raises:
        InputError: no voxel of the mask has a value.
    """
    if mask is None:
        return foreground(image)
    if image.known is None:
        return mask
    inside = mask & image.known.to(mask.device)
    if not inside.any():
        raise InputError(f"The mask of the {image.name} holds only NaN or infinite voxels; use another mask.")
    return inside
