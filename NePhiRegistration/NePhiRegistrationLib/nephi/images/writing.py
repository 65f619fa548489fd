"""Images to files, completely or not at all, in a format that keeps them in their place."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Optional

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, reason
from ..geometry import Grid
from ..storage import PathLike, atomic_path
from .nifti import check_nifti

log = logging.getLogger(__name__)

FORMATS = ("nii.gz", "nrrd", "mha", "nii")
_OWN = {".nii": "nii.gz", ".nii.gz": "nii.gz", ".hdr": "nii.gz", ".hdr.gz": "nii.gz", ".img": "nii.gz",
        ".img.gz": "nii.gz", ".mha": "mha", ".mhd": "mha", ".nrrd": "nrrd", ".nhdr": "nrrd"}
"""Endings of files -> the format of images that belong to them; for all others NRRD."""
_TOLERANCE = 1e-6  # what SimpleITK allows between two images in one place: of a voxel, and in each direction cosine


def write_image(image: sitk.Image, path: PathLike) -> None:
    """Write an image, compressed, completely or not at all; what the format does to its place is logged.

    Raises:
        InputError: the format is unknown, or the folder is missing, cannot be written or is full.
    """
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            if ".nii" in temporary.suffixes:  # ITK's NIfTI writer says nothing when the disk is full
                _check_whole(temporary)
            kept = _in_place(temporary, image)
        except (RuntimeError, InputError) as error:
            raise InputError(f"Cannot write {path} ({reason(error)}); use .nii.gz, .nrrd or .mha, "
                             "and a folder with free space.") from error
    if not kept:
        log.warning("%s cannot hold the place of its voxels exactly, so that other programs may not take it for an "
                    "image on the same grid; write .nrrd instead.", Path(path).name)


def _check_whole(path: Path) -> None:
    try:
        check_nifti(path, "file")
    except InputError as error:
        raise InputError("not all of it could be written") from error


def own_format(path: Optional[PathLike], grid: Grid) -> str:
    """The one of :data:`FORMATS` for images on the grid of a file: the file's own, or NRRD where that is none of them
    or could not hold the grid exactly.

    Args:
        path: of the file, or of a folder; None is as NIfTI.
    """
    name = "x.nii.gz" if path is None else Path(path).name.lower()
    matching = [kind for ending, kind in _OWN.items() if name.endswith(ending)]
    if not matching or (path is not None and Path(path).is_dir()):
        return "nrrd"
    return matching[0] if _holds(matching[0], grid) else "nrrd"


def _holds(kind: str, grid: Grid) -> bool:
    """Whether an image on a grid is still there after it was a file."""
    image = sitk.Image([1] * grid.dim, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    with tempfile.TemporaryDirectory(prefix="nephi-") as folder:
        path = Path(folder) / f"image.{kind}"
        try:
            sitk.WriteImage(image, str(path))
            return _in_place(path, image)
        except RuntimeError:
            return False


def _in_place(path: Path, image: sitk.Image) -> bool:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetDimension() != image.GetDimension():
        return False
    within = _TOLERANCE * image.GetSpacing()[0]
    return all(np.allclose(there, here, rtol=0, atol=tolerance) for there, here, tolerance in (
        (reader.GetOrigin(), image.GetOrigin(), within), (reader.GetSpacing(), image.GetSpacing(), within),
        (reader.GetDirection(), image.GetDirection(), _TOLERANCE)))
