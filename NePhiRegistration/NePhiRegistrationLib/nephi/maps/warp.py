"""Images carried through a transform onto any grid."""

from __future__ import annotations

from typing import Optional

import torch

from ..errors import InputError
from ..geometry import Grid
from ..images.image import Image
from ..images.resampling import sample

_POINTS_AT_ONCE = 1 << 18


def warp(image: Image, transform, onto: Grid, direction: str = "forward", mode: str = "linear",
         fill: Optional[float] = None) -> Image:
    """Resample an image through a transform: ``result(x) = image(map(x))`` for every voxel centre x of ``onto``.

    The moving image comes onto the fixed image's space with direction "forward" (which maps fixed points to
    moving points), the fixed image onto the moving image's space with "inverse".

    Args:
        image: the image to carry.
        transform: anything with ``map_points(points, direction)``, or None for the identity.
        onto: the grid of the result; any grid in the space the direction starts from.
        mode: "linear", or "nearest" for label images, whose values are kept exactly.
        fill: the value outside the image; by default the image's minimum, and 0 with "nearest".

    Returns:
        An Image on ``onto``, float32 on the CPU.

    Raises:
        InputError: an unknown direction or mode, or a grid of another dimension.
    """
    if direction not in ("forward", "inverse"):
        raise InputError(f"Unknown direction {direction!r}; use 'forward' or 'inverse'.")
    if mode not in ("linear", "nearest"):
        raise InputError(f"Unknown interpolation {mode!r}; use 'linear' or 'nearest'.")
    if onto.dim != image.grid.dim:
        raise InputError(f"The reference grid is {onto.dim}D and the {image.name} is {image.grid.dim}D; "
                         f"choose a {image.grid.dim}D reference.")
    if fill is None:
        fill = 0.0 if mode == "nearest" else float(image.values.min())
    values = torch.empty(onto.count, dtype=torch.float32)
    for start, stop in onto.chunks(_POINTS_AT_ONCE):
        points = onto.points(start, stop)
        if transform is not None:
            points = transform.map_points(points, direction)
        points = points.to(image.values.device)
        values[start:stop] = sample(image.values, image.grid, points, mode=mode, fill=fill).to("cpu", torch.float32)
    return Image(values.reshape(onto.shape), onto, f"warped {image.name}")
