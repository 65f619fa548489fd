"""Images, label images and masks from files and DICOM folders."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Optional, Union

import numpy as np
import SimpleITK as sitk
from torch import Tensor

from ..errors import InputError, reason
from ..geometry import Grid
from ..storage import PathLike
from . import dicom
from .channels import Channels, as_channels, as_label_channels
from .checks import check_header, check_place, check_size
from .image import Image, label_image
from .masks import mask_on
from .nifti import Nifti, check_nifti, readable
from .shear import grid_at_right_angles, grid_from


def read_image(path: PathLike, role: str = "fixed", series: Optional[str] = None) -> Image:
    """Read an image file, or a DICOM series from a folder.

    Args:
        path: anything SimpleITK reads.
        role: "fixed" or "moving", for messages.
        series: which series of a folder that holds several, as :class:`nephi.images.dicom.Choice` names them.

    Raises:
        InputError: the file cannot be read or is no registrable image.
    """
    name = f"{role} image {Path(path).name}"
    return Image.from_sitk(_read(path, name, dicom.Choice(series, f"--{role}-series")), name)


def read_labels(path: PathLike, role: str = "fixed", series: Optional[str] = None) -> Image:
    """Read a label image: whole numbers, each exactly as the file has it, zero is background.

    Args:
        series: as :func:`read_image` takes it.

    Raises:
        InputError: the file cannot be read, or has voxels that are not whole numbers.
    """
    name = f"{role} labels {Path(path).name}"
    return label_image(_read(path, name, dicom.Choice(series, f"--{role}-labels-series")), name)


def read_channels(path: PathLike, role: str = "input", series: Optional[str] = None, labels: bool = False,
                  flag: str = "--series") -> Channels:
    """Read any image, constant, in colour, of vectors or complex numbers, over time, with NaN: what can be carried.

    Args:
        role, series: as :func:`read_image` takes them.
        labels: whether it has to be of whole numbers.
        flag: how the command line chooses a series, for the message.

    Raises:
        InputError: the file cannot be read, is nowhere in the world, or is of no whole numbers where it has to be.
    """
    name = f"{role} {'labels' if labels else 'image'} {Path(path).name}"
    image = _read(path, name, dicom.Choice(series, flag), check_place)
    return as_label_channels(image, name) if labels else as_channels(image, name)


def read_whole(path: PathLike, role: str = "series") -> sitk.Image:
    """An image file as SimpleITK has it, with all its volumes and components.

    Raises:
        InputError: the file cannot be read or is nowhere in the world.
    """
    return _read(path, f"{role} {Path(path).name}", dicom.Choice(), check_place)


def read_mask(path: PathLike, image: Image, role: str = "fixed", series: Optional[str] = None, what: str = "mask"
              ) -> Tensor:
    """Read a mask, any label image whose non-zero voxels are inside, for the voxels of ``image``.

    Args:
        series: as :func:`read_image` takes it.
        what: "mask", or "exclude" for what is not to be compared.

    Returns:
        bool, shaped ``image.grid.shape``.

    Raises:
        InputError: it cannot be read, is empty, or has nothing inside the image.
    """
    name = f"{role} {'mask' if what == 'mask' else 'exclusion mask'} {Path(path).name}"
    return mask_on(label_image(_read(path, name, dicom.Choice(series, f"--{role}-{what}-series")), name), image)


def _read(path: PathLike, name: str, series: dicom.Choice, check: Callable[..., None] = check_header) -> sitk.Image:
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
            return _read_file(path, name, check)
        with readable(path, name, nifti) as file:
            image = _with_unknown(_read_file(file, name, check), nifti.unknown)
        return _placed(image, nifti, name)
    except (RuntimeError, OSError) as error:
        raise InputError(f"The {name} cannot be read as an image ({reason(error)}); "
                         "give a whole NIfTI, NRRD or MetaImage file or a DICOM folder, or correct its header."
                         ) from error


def _read_file(path: Path, name: str, check: Callable[..., None]) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if dicom.is_dicom(reader):
        return dicom.read_file(reader, name)
    # The header first: ITK refuses bad geometry while reading, in words that do not say which value is wrong.
    check(name, reader.GetDimension(), reader.GetNumberOfComponents(), reader.GetSpacing(), reader.GetDirection())
    check_size(name, reader.GetSize(), reader.GetNumberOfComponents())
    return reader.Execute()


def read_grid(path: PathLike, role: str = "reference", series: Optional[str] = None) -> Grid:
    """The grid of an image file, of any voxel type, or of a folder of DICOM files; of an image over time that of its
    volumes. Only the header of a file is read.

    A grid that is not at right angles becomes the one that its image would be brought onto.

    Args:
        series: as :func:`read_image` takes it.

    Raises:
        InputError: it cannot be read.
    """
    path = Path(path)
    name = f"{role} {path.name}"
    if path.is_dir() or not path.exists():
        image = _read(path, name, dicom.Choice(series, f"--{role}-series"))
        return grid_at_right_angles(Grid.from_sitk(image), name)
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
    if dicom.is_dicom(reader):
        return grid_at_right_angles(Grid.from_sitk(dicom.read_file(reader, name)), name)
    grid = _volume_grid(reader)
    return grid_at_right_angles(grid if nifti is None else nifti.placed(grid, name), name)


def _volume_grid(image: Union[sitk.Image, sitk.ImageFileReader]) -> Grid:
    """The grid of an image, of one over time that of its volumes."""
    dim = image.GetDimension()
    space = min(dim, 3)
    axes = np.reshape(image.GetDirection(), (dim, dim))[:space, :space]
    return Grid(image.GetSize()[:space], image.GetSpacing()[:space], image.GetOrigin()[:space],
                tuple(axes.ravel().tolist()))


def _placed(image: sitk.Image, nifti: Nifti, name: str) -> sitk.Image:
    """The image where its own header has it; a fourth axis stays as it is."""
    dim = image.GetDimension()
    space = min(dim, 3)
    axes = np.reshape(image.GetDirection(), (dim, dim))
    own = _volume_grid(image)
    grid = nifti.placed(own, name)
    if grid is not own:
        axes[:space, :space] = grid.axes
        image.SetSpacing([*grid.spacing, *image.GetSpacing()[space:]])
        image.SetOrigin([*grid.origin, *image.GetOrigin()[space:]])
        image.SetDirection(axes.ravel().tolist())
    return image


def _with_unknown(image: sitk.Image, unknown: np.ndarray) -> sitk.Image:
    """The image with NaN at some flat indices of its file, which has the components of voxels one after the other."""
    if not len(unknown):
        return image
    array, components = sitk.GetArrayFromImage(image), image.GetNumberOfComponentsPerPixel()
    numbers = array.view(array.real.dtype) if array.dtype.kind == "c" else array
    in_file = numbers if components == 1 else np.moveaxis(numbers, -1, 0)
    in_file[np.unravel_index(unknown, in_file.shape)] = np.nan
    result = sitk.GetImageFromArray(array, isVector=components > 1)
    result.CopyInformation(image)
    return result
