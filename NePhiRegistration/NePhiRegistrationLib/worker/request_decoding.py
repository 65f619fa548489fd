"""From requests to what the engine works on: images, masks, points, labels, grids and transforms."""

from __future__ import annotations

from typing import Optional

import numpy as np
import SimpleITK as sitk
import torch
from nephi.align.initial import Start, start_from_itk
from nephi.errors import InputError
from nephi.geometry import Grid
from nephi.images.image import Image, whole_numbers
from nephi.images.masks import mask_on
from nephi.images.pair import Pair
from nephi.maps.transform import Transform
from torch import Tensor

from .messages import Message


def read_pair(request: Message) -> Pair:
    """The images and all that judges them, as far as the request has them.

    Raises:
        InputError: an array that cannot be used.
    """
    sides = {}
    for role in ("fixed", "moving"):
        image = read_image(request, role) if role in request.arrays else None
        sides[f"{role}_mask"], hole = (_mask(request, role, kind, image) for kind in ("mask", "exclude"))
        sides[role] = image if image is None or hole is None else image.without(hole)
        sides[f"{role}_labels"] = _labels(request, role)
    return Pair(**sides, landmarks=read_points(request, "landmarks"))


def read_image(request: Message, role: str) -> Image:
    """The array ``role`` on the grid ``role``, checked as an image file would be."""
    array, grid = request.arrays[role], read_grid(request, role)
    name = f"{role} image {request.fields.get('names', {}).get(role, '')}".strip()
    _check_shape(array, grid, name)
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
    return Image.from_sitk(_placed(image, grid), name)


def read_grid(request: Message, name: str) -> Grid:
    """The geometry in the field ``name``.

    Raises:
        InputError: there is none, or it is not one.
    """
    values = request.fields.get(name)
    try:
        return Grid.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The request {request.kind} needs a geometry {name!r} with size, spacing, origin and "
                         f"direction; it has {values!r}.") from error


def read_points(request: Message, name: str) -> Optional[tuple[Tensor, Tensor]]:
    """The pair of arrays ``name_fixed`` and ``name_moving``, (n, d) LPS mm, or None if there is neither."""
    arrays = [request.arrays.get(f"{name}_{role}") for role in ("fixed", "moving")]
    if arrays[0] is None and arrays[1] is None:
        return None
    if arrays[0] is None or arrays[1] is None or arrays[0].shape != arrays[1].shape:
        numbers = [0 if a is None else len(a) for a in arrays]
        raise InputError(f"There are {numbers[0]} fixed {name} points and {numbers[1]} moving ones; give pairs.")
    return tuple(torch.from_numpy(array.astype(np.float64)) for array in arrays)


def read_initial(request: Message, fixed: Grid, device: torch.device) -> Start:
    """Where to start: the field ``initial``, (d + 1, d + 1) fixed to moving LPS mm; or the array
    ``initial_displacement`` on the grid ``initial_grid``, as stages on a device.

    Raises:
        InputError: displacements that do not fit their grid, or fold.
    """
    field, values = request.arrays.get("initial_displacement"), request.fields.get("initial")
    if field is None:
        return Start(None if values is None else np.asarray(values, dtype=np.float64))
    grid = read_grid(request, "initial_grid")
    if field.shape != (*grid.shape, grid.dim):
        raise InputError(f"The initial displacements have shape {field.shape} and their geometry is {grid.shape}; give "
                         f"{grid.dim} in each voxel of it.")
    image = _placed(sitk.GetImageFromArray(field.astype(np.float64), isVector=True), grid)
    return start_from_itk(sitk.DisplacementFieldTransform(image), fixed, "initial transform", device)


def read_transform(request: Message) -> Transform:
    """The array ``transform``, the bytes of a .nephi file.

    Raises:
        InputError: there is none, or it is not one.
    """
    if "transform" not in request.arrays:
        raise InputError("There is no transform; register first or load one.")
    return Transform.from_bytes(request.arrays["transform"].tobytes())


def transform_bytes(transform: Transform) -> np.ndarray:
    """A transform as the bytes of a .nephi file, (n,) uint8."""
    return np.frombuffer(transform.to_bytes(), np.uint8)


def _placed(image: sitk.Image, grid: Grid) -> sitk.Image:
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def _mask(request: Message, role: str, kind: str, image: Optional[Image]) -> Optional[Tensor]:
    """For the voxels of the image, which are no longer those of the request if these were sheared."""
    array, name = request.arrays.get(f"{role}_{kind}"), f"{'exclusion ' * (kind == 'exclude')}mask of the {role} image"
    if array is None:
        return None
    grid, mask = read_grid(request, role), torch.from_numpy(array != 0)
    _check_shape(array, grid, name)
    if not mask.any():
        raise InputError(f"The {name} is empty; draw a region in it or leave it out.")
    return mask if image is None or image.grid.shape == grid.shape else mask_on(Image(mask, grid, name), image)


def _labels(request: Message, role: str) -> Optional[Image]:
    array = request.arrays.get(f"{role}_labels")
    if array is None:
        return None
    grid, name = read_grid(request, role), f"{role} labels"
    _check_shape(array, grid, name)
    return Image(whole_numbers(array, name), grid, name)


def _check_shape(array: np.ndarray, grid: Grid, name: str) -> None:
    if array.shape != grid.shape:
        raise InputError(f"The {name} has an array of shape {array.shape} and a geometry of {grid.shape}; "
                         "both are (k, j, i) and must agree.")
