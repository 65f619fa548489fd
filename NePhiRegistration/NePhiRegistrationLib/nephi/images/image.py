"""A scalar image in the world, and its intensities in [0, 1]."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Optional, Union

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid, some_of
from .checks import check_finite, check_header
from .pixel_types import as_type, holding
from .shear import at_right_angles

log = logging.getLogger(__name__)

QUANTILE_SAMPLES = 200_000  # 0.1 % of them is 200 values: enough for a robust intensity range, whatever the image


@dataclass(frozen=True)
class Image:
    """A scalar image in the world.

    Attributes:
        values: shaped ``grid.shape`` (k, j, i): float32; of labels int32 or int64, see :func:`whole_numbers`.
        grid: where the voxels are.
        name: what messages call it, for instance ``fixed image ct.nii.gz``.
        known: bool of that shape, which voxels have a value that counts; None means all. Those that are NaN or infinite
            in a file hold the lowest value; those that were excluded (:meth:`without`) keep theirs. Nothing of either
            is compared.
        kind: the integer type in which the file has the voxels, and files of the warped image will; None where it is
            none.
    """

    values: Tensor
    grid: Grid
    name: str = "image"
    known: Optional[Tensor] = None
    kind: Optional[np.dtype] = None

    @classmethod
    def from_sitk(cls, image: sitk.Image, name: str = "image") -> Image:
        """A registrable image: scalar, 2D or 3D, not constant; NaN and infinite voxels are left out, and a shear is
        taken out, which is logged.

        Raises:
            InputError: it is not one; the message says why and what to do.
        """
        result = _without_unknown(_scalar(image, name), _count_unknown(image))
        if float(result.values.min()) == float(result.values.max()):
            raise InputError(f"The {name} is constant ({float(result.values.flatten()[0]):g} everywhere); "
                             "choose an image that shows something.")
        return result

    def to_sitk(self, pixel_type: int = sitk.sitkFloat32) -> sitk.Image:
        """This image for SimpleITK; label images want an integer ``pixel_type``."""
        whole = self.values.dtype in (torch.int32, torch.int64)  # exact, as labels have to be
        values = self.values.detach().to("cpu", self.values.dtype if whole else torch.float32)
        image = self._placed(values.numpy())
        return image if pixel_type == image.GetPixelID() else sitk.Cast(image, pixel_type)

    def stored(self, kind: Optional[np.dtype] = None) -> sitk.Image:
        """This image as files have it: in a type, by default its own :attr:`kind`, by :func:`.pixel_types.as_type`."""
        if not self.values.is_floating_point():
            kind = kind or holding(self.values, self.kind)
        return self._placed(as_type(self.values.detach().cpu().numpy(), kind or self.kind or np.dtype(np.float32)))

    def _placed(self, array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.grid.spacing)
        image.SetOrigin(self.grid.origin)
        image.SetDirection(self.grid.direction)
        return image

    def to(self, device: Union[str, torch.device]) -> Image:
        """The same image on another device."""
        known = None if self.known is None else self.known.to(device)
        return replace(self, values=self.values.to(device), known=known)

    def without(self, hole: Tensor) -> Image:
        """The same image with voxels excluded: a cavity, metal, a tumour that the other image does not have.

        Nothing inside the hole or on its rim is compared with the other image; there the map goes on smoothly.

        Args:
            hole: bool, shaped ``grid.shape``.

        Raises:
            InputError: it is of another shape, or nothing would be left.
        """
        if tuple(hole.shape) != self.grid.shape:
            raise InputError(f"The exclusion mask of the {self.name} has shape {tuple(hole.shape)} and the image "
                             f"{self.grid.shape}; give one on the image's grid.")
        known = ~hole.to(self.values.device, torch.bool)
        known = known if self.known is None else known & self.known
        if not known.any():
            raise InputError(f"The exclusion mask of the {self.name} leaves nothing of it; give a smaller one.")
        left = self.values[known]
        if left.min() == left.max():
            raise InputError(f"The exclusion mask of the {self.name} leaves only voxels of one value ({left[0]:g}); "
                             "non-zero voxels are excluded: give its opposite, or a smaller one.")
        return replace(self, known=known)


def label_image(image: sitk.Image, name: str) -> Image:
    """Any scalar image of whole numbers, also a constant one.

    Raises:
        InputError: it is not 2D or 3D, not scalar, complex, without a sound geometry or not of whole numbers.
    """
    image = _sound(image, name, sitk.sitkNearestNeighbor)
    array = sitk.GetArrayViewFromImage(image)
    return Image(whole_numbers(array, name), Grid.from_sitk(image), name, kind=_integer(array))


def whole_numbers(array: np.ndarray, name: str) -> Tensor:
    """Labels of any type without rounding one of them: a copy as int32, or as int64 where they do not fit into that.

    Args:
        name: what messages call the label image.

    Raises:
        InputError: voxels that are not finite, not whole numbers, or too large for int64.
    """
    if array.dtype.kind == "f":
        check_finite(name, array.size - int(np.count_nonzero(np.isfinite(array))), array.size)
        fractions = int(np.count_nonzero(array != np.round(array)))
        if fractions:
            raise InputError(f"The {name} has {fractions} voxels that are not whole numbers; use a label image.")
    low, high = int(array.min()), int(array.max())
    if not -2**63 <= low <= high < 2**63:
        raise InputError(f"The {name} has labels from {low} to {high}, beyond signed 64-bit integers; give its labels "
                         "smaller numbers.")
    return torch.from_numpy(array.astype(np.int32 if -2**31 <= low <= high < 2**31 else np.int64))


def _scalar(image: sitk.Image, name: str) -> Image:
    kind = _integer(sitk.GetArrayViewFromImage(image))
    image = _sound(image, name, sitk.sitkLinear)
    values = torch.from_numpy(sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32)))
    return Image(values, Grid.from_sitk(image), name, kind=kind)


def _integer(array: np.ndarray) -> Optional[np.dtype]:
    return array.dtype if array.dtype.kind in "iu" else None


def _sound(image: sitk.Image, name: str, how: int) -> sitk.Image:
    """The image at right angles; refused where it is no scalar image in the world."""
    components = image.GetNumberOfComponentsPerPixel()
    check_header(name, image.GetDimension(), components, image.GetSpacing(), image.GetDirection())
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"The {name} has complex voxels; register its magnitude.")
    return at_right_angles(image, name, how)


def _count_unknown(image: sitk.Image) -> int:
    array = sitk.GetArrayViewFromImage(image)
    return array.size - int(np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0


def _without_unknown(image: Image, in_file: int) -> Image:
    """Without voxels that have no number, in the file or where it was resampled to right angles."""
    known = torch.isfinite(image.values)
    if bool(known.all()):
        return image
    if not bool(known.any()):
        raise InputError(f"The {image.name} has only NaN or infinite voxels; choose an image that shows something.")
    if in_file:
        log.warning("The %s has %d NaN or infinite voxels of %d: they are left out, as if outside its mask.",
                    image.name, in_file, known.numel())
    return replace(image, values=image.values.where(known, image.values[known].min()), known=known)


def normalise(values: Tensor, mask: Optional[Tensor] = None, name: str = "image") -> Tensor:
    """Map intensities to [0, 1] by their 0.1 and 99.9 percentiles inside the mask; beyond them clamped.

    Args:
        values: any shape.
        mask: bool of that shape, or None for all voxels.
        name: the image's, for the message.

    Raises:
        InputError: all voxels inside the mask are equal.
    """
    low, high = intensity_range(values, mask, name)
    return ((values - low) / (high - low)).clamp(0, 1)


def intensity_range(values: Tensor, mask: Optional[Tensor] = None, name: str = "image") -> tuple[float, float]:
    """The 0.1 and 99.9 percentiles inside the mask, or where those are equal the least and the largest value.

    Raises:
        InputError: all voxels inside the mask are equal.
    """
    inside = values.flatten() if mask is None else values[mask]
    some = inside[some_of(inside.numel(), QUANTILE_SAMPLES).to(inside.device)]
    low, high = torch.quantile(some, torch.tensor([0.001, 0.999], dtype=some.dtype, device=some.device)).tolist()
    if not high > low:  # a few bright voxels on a constant ground
        low, high = float(inside.min()), float(inside.max())
    if not high > low:
        raise InputError(f"The {name} is constant ({low:g}) inside its mask; use another mask or none.")
    return low, high
