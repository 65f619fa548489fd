"""Images, label images and masks from files and DICOM folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from torch import Tensor

from ..errors import InputError, reason
from ..storage import PathLike
from .checks import check_header
from .image import Image, scalar_image
from .masks import mask_on
from .nifti import check_nifti


def read_image(path: PathLike, role: str = "fixed") -> Image:
    """Read an image file, or the one DICOM series of a folder.

    Args:
        path: anything SimpleITK reads.
        role: "fixed" or "moving", for messages.

    Raises:
        InputError: the file cannot be read or is no registrable image.
    """
    name = f"{role} image {Path(path).name}"
    return Image.from_sitk(_read(path, name), name)


def read_labels(path: PathLike, role: str = "fixed") -> Image:
    """Read a label image: whole numbers, zero is background.

    Raises:
        InputError: the file cannot be read, or has voxels that are not whole numbers.
    """
    return _labels(path, f"{role} labels {Path(path).name}")


def read_mask(path: PathLike, image: Image, role: str = "fixed") -> Tensor:
    """Read a mask, any label image whose non-zero voxels are inside, for the voxels of ``image``.

    Returns:
        bool, shaped ``image.grid.shape``.

    Raises:
        InputError: it cannot be read, is empty, or has nothing inside the image.
    """
    return mask_on(_labels(path, f"{role} mask {Path(path).name}"), image)


def _labels(path: PathLike, name: str) -> Image:
    labels = scalar_image(_read(path, name), name)
    fractions = int((labels.values != labels.values.round()).sum())
    if fractions:
        raise InputError(f"The {name} has {fractions} voxels that are not whole numbers; use a label image.")
    return labels


def _read(path: PathLike, name: str) -> sitk.Image:
    path = Path(path)
    if not path.exists():
        raise InputError(f"The {name} does not exist ({path}); check the path.")
    if ".nii" in path.suffixes and path.is_file():
        check_nifti(path, name)
    try:
        if path.is_dir():
            return _read_dicom(path, name)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        # The header first: ITK refuses bad geometry while reading, in words that do not say which value is wrong.
        check_header(name, reader.GetDimension(), reader.GetNumberOfComponents(), reader.GetSpacing(),
                      reader.GetDirection())
        return reader.Execute()
    except RuntimeError as error:
        raise InputError(f"The {name} cannot be read as an image ({reason(error)}); "
                         "give a whole NIfTI, NRRD or MetaImage file or a DICOM folder, or correct its header."
                         ) from error


def _read_dicom(folder: Path, name: str) -> sitk.Image:
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise InputError(f"The {name} is a folder with {len(series)} DICOM series; give a folder with exactly one.")
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    if len(files) > 2:
        _check_slices(files, name)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    return reader.Execute()


def _check_slices(files: tuple, name: str) -> None:
    """A missing slice would silently shift everything beyond it, for ITK spaces slices evenly."""
    header = sitk.ImageFileReader()
    origins = []
    for file in files:
        header.SetFileName(file)
        header.ReadImageInformation()
        origins.append(header.GetOrigin())
    gaps = np.linalg.norm(np.diff(np.asarray(origins), axis=0), axis=1)
    if gaps.max() - gaps.min() > 0.1 * np.median(gaps):
        raise InputError(f"The {name} has slices {gaps.min():g} to {gaps.max():g} mm apart; "
                         "complete the series or resample it to even slices.")
