"""Any image as scalar volumes on one grid, and back: colour, vectors, complex numbers, time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid, some_of
from .image import whole_numbers
from .pixel_types import as_type, holding

LOOKED_AT = 100_000  # voxels that tell a label map
FEW_LABELS = 32
LARGEST_INTENSITY = 65_535


@dataclass(frozen=True)
class Channels:
    """An image of any kind that has a place in the world.

    Attributes:
        values: (n, k, j, i), the components of the voxels of each volume: float32, or float64 where that could not hold
            the voxels; of labels int32 or int64.
        grid: where the voxels of each volume are.
        name: what messages call it.
        kind: the type of one number as the file has it, complex ones included.
        components: how many numbers a voxel has; a complex one counts as one.
        time: size, spacing and origin of the fourth axis of a 4D image.
    """

    values: Tensor
    grid: Grid
    name: str
    kind: np.dtype
    components: int = 1
    time: Optional[tuple[int, float, float]] = None

    @property
    def looks_like_labels(self) -> bool:
        """Whether the voxels are whole numbers such as label maps have: few different ones, or larger ones than any
        scanner's."""
        if self.kind.kind not in "iu" or self.components != 1:
            return False
        some = self.values.flatten()[some_of(self.values.numel(), LOOKED_AT)]
        return float(some.abs().max()) > LARGEST_INTENSITY or len(some.unique()) <= FEW_LABELS

    @property
    def minimum(self) -> float:
        """The lowest of the finite values, NaN if none is."""
        known = self.values[torch.isfinite(self.values)]
        return float(known.min()) if known.numel() else float("nan")

    def joined(self, values: Tensor, grid: Grid, kind: Optional[np.dtype] = None) -> sitk.Image:
        """An image of this kind of channels (n, k, j, i) on any grid, or with numbers of another type.

        Numbers become integers by rounding; those beyond the type become the nearest that it has.

        Raises:
            InputError: complex voxels, or labels, that the other type cannot hold.
        """
        kind = self._target(values, kind)
        if kind.kind in "iu" and values.is_floating_point() and bool(values.isnan().any()):
            raise InputError(f"The carried {self.name} has NaN voxels, which {kind} cannot hold; give a number as fill "
                             "value and a floating-point pixel type.")
        array = as_type(values.numpy(), kind)
        array = array.reshape(*([self.time[0]] if self.time else []), -1, *grid.shape)
        array = np.ascontiguousarray(np.moveaxis(array, 1 if self.time else 0, -1))
        if self.kind.kind == "c":
            array = array.view(kind)
        vectors, place = self.components > 1, self.place(grid)
        image = sitk.GetImageFromArray(array if vectors else array[..., 0], isVector=vectors)
        image.SetSpacing(place["spacing"])
        image.SetOrigin(place["origin"])
        image.SetDirection(place["direction"])
        return image

    def place(self, grid: Grid) -> dict:
        """The place of an image of this kind on a grid, with the axis of time: size, spacing, origin, direction."""
        if self.time is None:
            return grid.to_dict()
        axes = np.eye(grid.dim + 1)
        axes[:-1, :-1] = grid.axes
        size, spacing, origin = self.time
        return {"size": [*grid.size, size], "spacing": [*grid.spacing, spacing], "origin": [*grid.origin, origin],
                "direction": axes.ravel().tolist()}

    def _target(self, values: Tensor, asked: Optional[np.dtype]) -> np.dtype:
        if asked is None:
            return self.kind if values.is_floating_point() else holding(values, self.kind)
        if self.kind.kind == "c":
            raise InputError(f"The {self.name} has complex voxels, which {asked} cannot hold; leave the pixel type "
                             "out.")
        if not values.is_floating_point() and holding(values, asked) != asked:
            raise InputError(f"The {self.name} has labels from {int(values.min())} to {int(values.max())}, which "
                             f"{asked} cannot hold; choose a larger pixel type or leave it out.")
        return asked


def as_channels(image: sitk.Image, name: str) -> Channels:
    """The channels of an image.

    Raises:
        InputError: it is 4D and its fourth axis is not apart from the others.
    """
    array = sitk.GetArrayViewFromImage(image)
    exact = array.real.dtype if array.dtype.kind in "fc" else np.dtype(np.float32 if array.itemsize < 4 else np.float64)
    numbers = np.ascontiguousarray(array).view(exact) if array.dtype.kind == "c" else array.astype(exact)
    if array.dtype.kind == "c":
        numbers = numbers.reshape(*array.shape, 2)
    return _channels(image, name, numbers, array.dtype)


def as_label_channels(image: sitk.Image, name: str) -> Channels:
    """The channels of an image of whole numbers, each exactly as it is.

    Raises:
        InputError: as :func:`as_channels` does, or it is complex or not of whole numbers.
    """
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "c":
        raise InputError(f"The {name} has complex voxels; use a label image.")
    return _channels(image, name, whole_numbers(array, name).numpy(), array.dtype)


def _channels(image: sitk.Image, name: str, numbers: np.ndarray, kind: np.dtype) -> Channels:
    dim, size = image.GetDimension(), image.GetSize()
    if numbers.ndim > dim:
        numbers = np.moveaxis(numbers, -1, max(0, dim - 3))
    space = min(dim, 3)
    axes = np.reshape(image.GetDirection(), (dim, dim))
    if np.abs(axes[:space, space:]).max(initial=0) > 1e-6 or np.abs(axes[space:, :space]).max(initial=0) > 1e-6:
        raise InputError(f"The {name} has a fourth axis that is not apart from the others; correct its header.")
    grid = Grid(size[:space], image.GetSpacing()[:space], image.GetOrigin()[:space],
                tuple(axes[:space, :space].ravel().tolist()))
    values = torch.from_numpy(np.ascontiguousarray(numbers).reshape(-1, *grid.shape))
    time = (size[3], image.GetSpacing()[3], image.GetOrigin()[3]) if dim == 4 else None
    return Channels(values, grid, name, kind, image.GetNumberOfComponentsPerPixel(), time)
