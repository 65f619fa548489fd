"""Images to files, completely or not at all."""

from __future__ import annotations

import SimpleITK as sitk

from ..errors import InputError, reason
from ..storage import PathLike, atomic_path
from .image import Image
from .nifti import check_nifti


def write_image(image: sitk.Image, path: PathLike) -> None:
    """Write an image, compressed, completely or not at all.

    Raises:
        InputError: the format is unknown, or the folder is missing, cannot be written or is full.
    """
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            if ".nii" in temporary.suffixes:  # ITK's NIfTI writer says nothing when the disk is full
                check_nifti(temporary, "file just written")
        except (RuntimeError, InputError) as error:
            raise InputError(f"Cannot write {path} ({reason(error)}); use .nii.gz, .nrrd or .mha, "
                             "and a folder with free space.") from error


def write_labels(labels: Image, path: PathLike) -> None:
    """Write a label image with the smallest integer type that holds its values, otherwise as :func:`write_image`."""
    low, high = int(labels.values.min()), int(labels.values.max())
    kinds = ((sitk.sitkUInt8, 0, 2**8), (sitk.sitkUInt16, 0, 2**16), (sitk.sitkInt16, -2**15, 2**15))
    kind = next((kind for kind, first, stop in kinds if first <= low and high < stop), sitk.sitkInt32)
    write_image(labels.to_sitk(kind), path)
