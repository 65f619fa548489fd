"""Where to look: masks on an image's grid, an image's foreground, dilation."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Optional

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid, random_points
from .image import Image

log = logging.getLogger(__name__)


_MOST = 0.5  # of a mask, or of a field of view
_POINTS = 20_000  # random ones in a mask tell which share of it is where, to a percent


def mask_on(labels: Image, image: Image) -> Tensor:
    """The non-zero voxels of a label image for the voxels of an image, (k, j, i) bool.

    A mask on another grid is resampled, nearest neighbour; outside its own field of view nothing is inside. What is
    done about a header that cannot be right, :func:`seated` says.

    Raises:
        InputError: the mask is empty, of another dimension, or lies mostly outside the image.
    """
    if not (labels.values != 0).any():
        raise InputError(f"The {labels.name} is empty; draw a region in it or leave the mask out.")
    labels = seated(labels, image)
    inside, grid = labels.values != 0, image.grid
    if labels.grid is grid or labels.grid.same_as(grid):
        return inside
    log.info("The %s is on another grid than the %s: resampled, nearest neighbour.", labels.name, image.name)
    resampled = sitk.Resample(Image(inside, labels.grid).to_sitk(sitk.sitkUInt8), grid.size,
                              sitk.Transform(grid.dim, sitk.sitkIdentity), sitk.sitkNearestNeighbor, grid.origin,
                              grid.spacing, grid.direction)
    inside = torch.from_numpy(sitk.GetArrayFromImage(resampled) > 0)
    if not inside.any():
        raise InputError(f"The {labels.name} does not overlap the {image.name}; use a mask drawn on that image.")
    return inside


def seated(labels: Image, image: Image) -> Image:
    """A mask or label image where it belongs beside an image; any grid in the image's space is right.

    A header is believed unless it was lost: it says nothing (origin 0, spacing 1 or the image's, axes along the
    world's), and yet the fields of view have less than half in common. If the numbers of voxels are the image's the
    labels are then taken voxel by voxel, which is logged. Where the order of the axes differs or the numbers do they
    are refused, for nothing says where they belong. What a header that does say something puts mostly outside the image
    is refused too: it belongs to another image, or has a wrong sign or direction that cannot be guessed.

    Args:
        image: only its grid and its name are used.

    Raises:
        InputError: the labels are of another dimension, or one of these.
    """
    own, grid = labels.grid, image.grid
    if own.dim != grid.dim:
        raise InputError(f"The {labels.name} is {own.dim}D and the {image.name} is {grid.dim}D; "
                         "use one of the same dimension.")
    if own.same_as(grid):
        return labels
    if _says_nothing(own, grid) and min(_share(own, grid), _share(grid, own)) < _MOST:
        if own.size == grid.size:
            log.warning("The %s has lost its header (origin 0) and as many voxels along each axis as the %s: it is "
                        "taken voxel by voxel; check in a viewer that its axes are in the same order.", labels.name,
                        image.name)
            return replace(labels, grid=grid)
        turned = sorted(own.size) == sorted(grid.size)
        if turned or not np.allclose(grid.origin, 0):  # at the image's own origin a small mask may be right
            what = f"the axes of the {image.name} in another order" if turned else f"another size than the {image.name}"
            raise InputError(f"The {labels.name} has lost its header (origin 0) and {what} ({_sizes(own)} voxels, not "
                             f"{_sizes(grid)}); save it with that image's header.")
    inside = labels.values != 0
    share = 1.0
    if inside.any() and not grid.contains(torch.from_numpy(own.corners())).all():
        share = float(grid.contains(random_points(own, _POINTS, inside)).double().mean())
    if share < _MOST:
        where = f"lies mostly outside the {image.name} ({share:.0%} of it are inside)" if share else \
            f"does not overlap the {image.name}"
        raise InputError(f"The {labels.name} {where}; use one drawn on that image, or correct the origin and direction "
                         "in its header.")
    return labels


def _says_nothing(grid: Grid, beside: Grid) -> bool:
    """Whether a header is what programs write that were told no geometry, or only the voxel size."""
    plain = np.allclose(grid.origin, 0) and np.allclose(np.abs(grid.axes), np.eye(grid.dim))
    return plain and (np.allclose(grid.spacing, 1) or np.allclose(grid.spacing, beside.spacing, rtol=1e-3))


def _share(grid: Grid, other: Grid) -> float:
    """The share of a grid's field of view that lies in another's."""
    coarse = grid.with_spacing(grid.extent / np.minimum(grid.size, 32))
    return float(other.contains(coarse.points("cpu")).double().mean())


def _sizes(grid: Grid) -> str:
    return " x ".join(map(str, grid.size))


def inside(values: Tensor, mask: Tensor) -> Tensor:
    """The values (k, j, i) at the voxels of a mask, (n,), on the CPU: torch would take the memory of many images."""
    return torch.from_numpy(values.detach().cpu().numpy()[mask.cpu().numpy()])


def dilate(mask: Tensor, grid: Grid, mm: float) -> Tensor:
    """The voxels within ``mm`` (Euclidean) of a mask, (k, j, i) bool to (k, j, i) bool."""
    squared = sitk.SignedMaurerDistanceMap(Image(mask, grid).to_sitk(sitk.sitkUInt8), useImageSpacing=True)
    near = sitk.GetArrayViewFromImage(squared) <= (mm * (1 + 1e-5)) ** 2  # a voxel at the very margin counts
    return mask | torch.from_numpy(near).to(mask.device)  # a mask without a border has no distance


def carried_mask(mask: Tensor, grid: Grid, onto: Grid, matrix: np.ndarray, within: Optional[Tensor]
                 ) -> Optional[Tensor]:
    """The voxels (k, j, i) of another image that a matrix takes into a mask; ``within`` if there are none.

    Args:
        grid: of the mask.
        onto: of the other image.
        matrix: (d + 1, d + 1) from the other image's world to the mask's.
        within: where to look for them, bool on ``onto``; None means everywhere.
    """
    way = sitk.AffineTransform(matrix[:-1, :-1].flatten().tolist(), matrix[:-1, -1].tolist())
    resampled = sitk.Resample(Image(mask, grid).to_sitk(sitk.sitkUInt8), onto.size, way, sitk.sitkNearestNeighbor,
                              onto.origin, onto.spacing, onto.direction)
    carried = torch.from_numpy(sitk.GetArrayFromImage(resampled) > 0)
    carried = carried if within is None else carried & within
    return carried if carried.any() else within


def box_of(mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The first voxel (i, j, k) and the size of the smallest box around a mask (k, j, i) with voxels inside."""
    axes = range(mask.dim() - 1, -1, -1)
    ends = [torch.nonzero(mask.amax(dim=tuple(a for a in axes if a != axis))).flatten() for axis in axes]
    low = np.asarray([int(present[0]) for present in ends])
    return low, np.asarray([int(present[-1]) for present in ends]) - low + 1


def bounding_box(grid: Grid, mask: Optional[Tensor], margin: int = 0) -> tuple[tuple[slice, ...], Grid]:
    """The box around a mask with voxels inside, with a margin of voxels within its grid: as array slices and as a grid;
    all of the grid without a mask."""
    if mask is None:
        return (slice(None),) * grid.dim, grid
    start, size = box_of(mask)
    low = np.maximum(start - margin, 0)
    high = np.minimum(start + size + margin, grid.size)
    return tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1])), grid.window(low, high - low)


def foreground(image: Image) -> Optional[Tensor]:
    """The voxels above the minimum, if the rest is padding (skull-stripped, cropped to a circle); else those that
    count; None if all do.
    """
    counted = image.values if image.known is None else image.values[image.known]
    inside = image.values > counted.min()
    if image.known is not None:
        inside &= image.known
    seen = image.values[inside]
    padded = 0 < seen.numel() < 0.9 * counted.numel() and bool(seen.min() < seen.max())
    return inside if padded else image.known


def region(image: Image, mask: Optional[Tensor]) -> Optional[Tensor]:
    """Where to look in an image: its mask, without voxels that do not count; without a mask its foreground.

    Raises:
        InputError: no voxel of the mask counts.
    """
    if mask is None:
        return foreground(image)
    if image.known is None:
        return mask
    inside = mask & image.known.to(mask.device)
    if not inside.any():
        raise InputError(f"The mask of the {image.name} holds only NaN, infinite or excluded voxels; use another mask.")
    return inside
