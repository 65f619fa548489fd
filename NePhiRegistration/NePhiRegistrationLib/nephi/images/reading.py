"""Images, label images and masks from files and DICOM folders."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import SimpleITK as sitk
from torch import Tensor

from ..errors import InputError, reason
from ..geometry import Grid
from ..storage import PathLike
from . import dicom
from .checks import check_header, check_size
from .image import Image, scalar_image
from .masks import mask_on
from .nifti import Nifti, check_nifti, readable
from .shear import grid_at_right_angles, grid_from


def read_image(path: PathLike, role: str = "fixed", series: Optional[str] = None) -> Image:
    """Read an image file, or a DICOM series from a folder.

    Args:
        path: anything SimpleITK reads.
        role: "fixed" or "moving", for messages.
        series: which series of a folder that holds several, as :func:`nephi.images.dicom.read_folder` names them.

    Raises:
        InputError: the file cannot be read or is no registrable image.
    """
    name = f"{role} image {Path(path).name}"
    return Image.from_sitk(_read(path, name, series), name)


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


def _read(path: PathLike, name: str, series: Optional[str] = None) -> sitk.Image:
    path = Path(path)
    if not path.exists():
        raise InputError(f"The {name} does not exist ({path}); check the path.")
    if path.name.lower().endswith((".mgz", ".mgh")):
        raise InputError(f"The {name} is in FreeSurfer's format, which this program does not read; convert it with "
                         f"'mri_convert {path.name} {path.stem}.nii.gz'.")
    try:
        if path.is_dir():
            return dicom.read_folder(path, name, series)
        nifti = check_nifti(path, name)
        if nifti is None:
            return _read_file(path, name)
        with readable(path, name, nifti) as file:
            image = _with_unknown(_read_file(file, name), nifti.unknown)
        return _placed(image, nifti, name)
    except (RuntimeError, OSError) as error:
        raise InputError(f"The {name} cannot be read as an image ({reason(error)}); "
                         "give a whole NIfTI, NRRD or MetaImage file or a DICOM folder, or correct its header."
                         ) from error


def _read_file(path: Path, name: str) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if dicom.is_dicom(reader):
        return dicom.read_file(reader, name)
    # The header first: ITK refuses bad geometry while reading, in words that do not say which value is wrong.
    check_header(name, reader.GetDimension(), reader.GetNumberOfComponents(), reader.GetSpacing(),
                 reader.GetDirection())
    check_size(name, reader.GetSize(), reader.GetNumberOfComponents())
    return reader.Execute()


def read_grid(path: PathLike, role: str = "reference") -> Grid:
    """The grid of an image file, of any voxel type, or of a folder of DICOM files; only the header of a file is read.

    A grid that is not at right angles becomes the one that its image would be brought onto.

    Raises:
        InputError: it cannot be read.
    """
    path = Path(path)
    name = f"{role} {path.name}"
    if path.is_dir():
        return read_image(path, role).grid
    if not path.exists():
        raise InputError(f"The {role} {path} does not exist; check the path.")
    nifti = check_nifti(path, name, voxels=False)
    if nifti is not None and nifti.sform is not None and len(nifti.size) == 3 and \
            not (nifti.version == 1 and nifti.straight):  # ITK does not read it
        return grid_at_right_angles(grid_from(nifti.sform, nifti.size), name)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"The {name} cannot be read as an image ({reason(error)}); "
                         "give a NIfTI, NRRD or MetaImage file or a DICOM folder.") from error
    grid = Grid(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    return grid_at_right_angles(grid if nifti is None else nifti.placed(grid, name), name)


def _placed(image: sitk.Image, nifti: Nifti, name: str) -> sitk.Image:
    """The image where its own header has it."""
    if image.GetDimension() in (2, 3):
        grid = nifti.placed(Grid.from_sitk(image), name)
        image.SetSpacing(grid.spacing)
        image.SetOrigin(grid.origin)
        image.SetDirection(grid.direction)
    return image


def _with_unknown(image: sitk.Image, unknown: np.ndarray) -> sitk.Image:
    """The image with NaN at some flat indices."""
    if not len(unknown):
        return image
    array = sitk.GetArrayFromImage(image)
    array.reshape(-1)[unknown] = np.nan
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result
