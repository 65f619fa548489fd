"""Images carried through a map onto any grid."""

from __future__ import annotations

from typing import Optional

from torch import Tensor

from ..errors import InputError
from ..geometry import Grid
from ..images.image import Image
from ..images.resampling import sample
from .map import CPU, Map, in_slabs


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
        An Image on ``onto``, float32 on the CPU.

    Raises:
        InputError: an unknown mode, or a grid of another dimension.
    """
    if mode not in ("linear", "nearest"):
        raise InputError(f"Unknown interpolation {mode!r}; use 'linear' or 'nearest'.")
    if onto.dim != image.grid.dim:
        raise InputError(f"The reference grid is {onto.dim}D and the {image.name} is {image.grid.dim}D; "
                         f"choose a {image.grid.dim}D reference.")
    if fill is None:
        fill = 0.0 if mode == "nearest" else float(image.values.min())

    def read(slab: Grid) -> Tensor:
        points = slab.points(CPU)
        if map_ is not None:
            points = points + map_.displacement_on(slab).view(-1, onto.dim)
        return sample(image.values, image.grid, points.to(image.values.device), mode=mode, fill=fill)

    return Image(in_slabs(read, onto), onto, f"warped {image.name}")
