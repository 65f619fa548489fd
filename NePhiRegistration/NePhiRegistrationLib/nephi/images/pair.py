"""Two images and what comes with them: masks, landmarks, labels; and whether they can be registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import apply_affine
from .image import Image
from .masks import region

MOST_TIMES = 20  # as long as the other image; beyond, units differ or the smaller one lies anywhere
MIN_AXIS = 8  # voxels; below this there is nothing to smooth, differentiate or downsample


def check_pair(fixed: Image, moving: Image) -> None:
    """Refuse two images that cannot be registered to each other.

    Raises:
        InputError: one is 2D and the other 3D, an axis is shorter than 8 voxels, or values are not float32 on the grid.
    """
    if fixed.grid.dim != moving.grid.dim:
        raise InputError(f"The {fixed.name} is {fixed.grid.dim}D and the {moving.name} is {moving.grid.dim}D; "
                         "register images of the same dimension.")
    for image in (fixed, moving):
        if image.values.dtype != torch.float32 or tuple(image.values.shape) != image.grid.shape:
            raise InputError(f"The {image.name} has values of {image.values.dtype} and shape "
                             f"{tuple(image.values.shape)}; give torch.float32 of shape {image.grid.shape}, that of "
                             "its grid.")
        if min(image.grid.size) < MIN_AXIS:
            size = " x ".join(map(str, image.grid.size))
            what = "save a single slice as a 2D image" if min(image.grid.size) == 1 else "choose a larger part"
            raise InputError(f"The {image.name} has {size} voxels; every axis needs at least {MIN_AXIS}: {what}.")


def check_sizes(fixed: Image, moving: Image, matrix: Optional[np.ndarray] = None) -> None:
    """Refuse images whose sizes tell that their lengths are in different units: metres, millimetres, micrometres.

    Args:
        matrix: (d + 1, d + 1) from fixed to moving LPS mm, which may bring them to one unit; identity if None.

    Raises:
        InputError: one is more than twenty times as long as the other.
    """
    scale = 1.0 if matrix is None else abs(np.linalg.det(np.asarray(matrix)[:-1, :-1])) ** (1 / fixed.grid.dim)
    lengths = [float(max(image.grid.extent)) for image in (fixed, moving)]
    if max(scale * lengths[0] / lengths[1], lengths[1] / (scale * lengths[0])) > MOST_TIMES:
        raise InputError(f"The {fixed.name} is {lengths[0]:.6g} mm long and the {moving.name} {lengths[1]:.6g} mm; "
                         "check the units of their spacing, crop the larger image, or give an initial transform that "
                         "scales.")


def check_overlap(fixed: Image, moving: Image, matrix: Optional[np.ndarray] = None) -> None:
    """Refuse a pair whose fields of view do not overlap; for when no affine will bring them together.

    Args:
        matrix: (d + 1, d + 1) from fixed to moving LPS mm; identity if None.

    Raises:
        InputError: no point of the fixed image falls inside the moving one.
    """
    coarse = fixed.grid.with_spacing(fixed.grid.extent / np.minimum(fixed.grid.size, 32))
    points = coarse.points("cpu")
    if matrix is not None:
        points = apply_affine(matrix, points)
    if not moving.grid.contains(points).any():
        if matrix is not None and not np.allclose(matrix, np.eye(len(matrix))):
            raise InputError("After the initial transform the images do not overlap; leave it out, or check that it "
                             "maps fixed points to moving points.")
        offset = float(np.linalg.norm(moving.grid.center - fixed.grid.center))
        raise InputError(f"The {fixed.name} and the {moving.name} do not overlap (their centres are {offset:.0f} mm "
                         "apart); turn the affine pre-alignment on or give an initial transform.")


@dataclass(frozen=True)
class Pair:
    """Two images and all that can be used to judge a registration of them; what is None is not judged.

    Attributes:
        fixed, moving: the images.
        fixed_mask, moving_mask: (*shape) bool on the images' grids; where there is none, an image's foreground.
        landmarks: corresponding (fixed, moving) points, each (n, d) LPS mm.
        fixed_labels, moving_labels: label images, on any grids in the images' spaces.
        labels: the labels that count; None means those of the fixed label image.
    """

    fixed: Optional[Image] = None
    moving: Optional[Image] = None
    fixed_mask: Optional[Tensor] = None
    moving_mask: Optional[Tensor] = None
    landmarks: Optional[tuple[Tensor, Tensor]] = None
    fixed_labels: Optional[Image] = None
    moving_labels: Optional[Image] = None
    labels: Optional[Sequence[int]] = None

    def __post_init__(self) -> None:
        if (self.fixed_labels is None) != (self.moving_labels is None):
            given, missing = ("fixed", "moving") if self.moving_labels is None else ("moving", "fixed")
            raise InputError(f"There are {given} labels but no {missing} ones; give both or neither.")
        if self.labels is not None and self.fixed_labels is not None:
            present = set(self.fixed_labels.values.unique().tolist())
            absent = [label for label in self.labels if label not in present]
            if absent:
                raise InputError(f"The {self.fixed_labels.name} has no label {', '.join(map(str, absent))}; "
                                 "choose labels that it has.")


def with_masks(pair: Pair) -> Pair:
    """The pair with the regions of its images as masks: what the registration itself looks at."""
    sides = (("fixed_mask", pair.fixed), ("moving_mask", pair.moving))
    return replace(pair, **{name: region(image, getattr(pair, name)) for name, image in sides if image is not None})
