"""Images carried through a map onto any grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid
from ..images.image import Image
from ..images.resampling import sample_at
from .affine_map import AffineMap
from .map import Map, in_slabs

_ROUNDING = 1e-3  # of the weights between voxels: below it a voxel without a number is not touched


def warp(image: Image, map_: Optional[Map], onto: Grid, mode: str = "linear", fill: Optional[float] = None) -> Image:
    """Resample an image through a map: ``result(x) = image(map(x))`` for every voxel centre x of ``onto``.

    A transform's forward map, which takes fixed points to moving points, brings the moving image into the fixed image's
    space; its inverse map brings the fixed image into the moving image's space.

    Args:
        image: the image to carry.
        map_: the map, or None for the identity.
        onto: the grid of the result; any grid in the space the map starts from.
        mode: "linear", or "nearest" for label images, whose values stay exact.
        fill: the value outside the image; by default the image's minimum, and 0 with "nearest".

    Returns:
        An Image on ``onto``, on the CPU: float32, and with "nearest" the type of the image if that is an integer.

    Raises:
        InputError: an unknown mode, a grid of another dimension, or a ``fill`` that is no label.
    """
    if onto.dim != image.grid.dim:
        raise InputError(f"The reference grid is {onto.dim}D and the {image.name} is {image.grid.dim}D; "
                         f"choose a {image.grid.dim}D reference.")
    if fill is None:
        fill = 0.0 if mode == "nearest" else float(image.values.min())
    whole = mode == "nearest" and image.values.dtype in (torch.int32, torch.int64)
    values = carry(image.values[None] if whole else image.values[None].float(), image.grid, map_, onto, mode, fill)
    return replace(image, values=values[0], grid=onto, name=f"warped {image.name}", known=None)


def carry(values: Tensor, grid: Grid, map_: Optional[Map], onto: Grid, mode: str, fill: float) -> Tensor:
    """Resample the channels of an image through a map, all at once.

    A voxel between others of which one is NaN is NaN; an infinite one makes it infinite.

    Args:
        values: (n, k, j, i) on ``grid``: floating point, or labels of an integer type for "nearest".
        map_, onto, mode, fill: as :func:`warp` takes them.

    Returns:
        (n, k', j', i') on ``onto``, of the type of ``values``, on the CPU.

    Raises:
        InputError: an unknown mode, or a ``fill`` that is no label.
    """
    if mode not in ("linear", "nearest"):
        raise InputError(f"Unknown interpolation {mode!r}; use 'linear' or 'nearest'.")
    if not values.is_floating_point():
        values = values.to(_label_type(values.dtype, fill))
    known = torch.isfinite(values) if mode == "linear" else None
    known = None if known is None or bool(known.all()) else known.to(values.dtype)
    way = AffineMap(np.eye(onto.dim + 1)) if map_ is None else map_

    def read(slab: Grid) -> Tensor:
        index = way.mapped_on(slab, grid.world_to_index).view(-1, onto.dim).to(values.device)
        return sample_at(values, index, mode, fill).T if known is None else _between(values, known, index, fill).T

    return in_slabs(read, onto, len(values), dtype=values.dtype).movedim(-1, 0)


def _between(values: Tensor, known: Tensor, index: Tensor, fill: float) -> Tensor:
    weights = sample_at(known, index, fill=1.0)
    clean = sample_at(values.where(known > 0, 0), index, fill=fill) / weights
    return torch.where(weights > 1 - _ROUNDING, clean, sample_at(values, index, fill=fill))


def _label_type(kind: torch.dtype, fill: float) -> torch.dtype:
    """In which labels of a type and this one have room."""
    if not (fill % 1 == 0 and abs(fill) < 2**63):
        raise InputError(f"The fill value {fill:g} is no label; give a whole number.")
    return kind if abs(fill) < 2**31 else torch.int64
