"""A scalar image in the world, and its intensities in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Union

import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid
from .checks import check_finite, check_header

QUANTILE_SAMPLES = 200_000  # 0.1 % of them is 200 values: enough for a robust intensity range, whatever the image


@dataclass(frozen=True)
class Image:
    """A scalar image in the world.

    Attributes:
        values: float32, shaped ``grid.shape`` (k, j, i).
        grid: where the voxels are.
        name: what messages call it, for instance ``fixed image ct.nii.gz``.
    """

    values: Tensor
    grid: Grid
    name: str = "image"

    @classmethod
    def from_sitk(cls, image: sitk.Image, name: str = "image") -> Image:
        """A registrable image: scalar, 2D or 3D, finite, not constant.

        Raises:
            InputError: it is not one; the message says why and what to do.
        """
        result = scalar_image(image, name)
        if float(result.values.min()) == float(result.values.max()):
            raise InputError(f"The {name} is constant ({float(result.values.flatten()[0]):g} everywhere); "
                             "choose an image that shows something.")
        return result

    def to_sitk(self, pixel_type: int = sitk.sitkFloat32) -> sitk.Image:
        """This image for SimpleITK; label images want an integer ``pixel_type``."""
        image = sitk.GetImageFromArray(self.values.detach().to("cpu", torch.float32).numpy())
        image.SetSpacing(self.grid.spacing)
        image.SetOrigin(self.grid.origin)
        image.SetDirection(self.grid.direction)
        return image if pixel_type == sitk.sitkFloat32 else sitk.Cast(image, pixel_type)

    def to(self, device: Union[str, torch.device]) -> Image:
        """The same image on another device."""
        return replace(self, values=self.values.to(device))


def scalar_image(image: sitk.Image, name: str) -> Image:
    """Any scalar finite image, also a constant one: label images may be that.

    Raises:
        InputError: it is not 2D or 3D, not scalar, complex, without a sound geometry or not finite everywhere.
    """
    components = image.GetNumberOfComponentsPerPixel()
    check_header(name, image.GetDimension(), components, image.GetSpacing(), image.GetDirection())
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"The {name} has complex voxels; register its magnitude.")
    values = torch.from_numpy(sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32)))
    check_finite(name, values.numel() - int(torch.isfinite(values).sum()), values.numel())
    return Image(values, Grid.from_sitk(image), name)


def normalise(values: Tensor, mask: Optional[Tensor] = None, name: str = "image") -> Tensor:
    """Map intensities to [0, 1] by their 0.1 and 99.9 percentiles inside the mask; beyond them clamped.

    Args:
        values: any shape.
        mask: bool of that shape, or None for all voxels.
        name: the image's, for the message.

    Raises:
        InputError: all voxels inside the mask are equal.
    """
    inside = values.flatten() if mask is None else values[mask]
    some = inside[:: max(1, inside.numel() // QUANTILE_SAMPLES)]
    low, high = torch.quantile(some, torch.tensor([0.001, 0.999], dtype=some.dtype, device=some.device)).tolist()
    if not high > low:  # a few bright voxels on a constant ground
        low, high = float(inside.min()), float(inside.max())
    if not high > low:
        raise InputError(f"The {name} is constant ({low:g}) inside its mask; use another mask or none.")
    return ((values - low) / (high - low)).clamp(0, 1)
