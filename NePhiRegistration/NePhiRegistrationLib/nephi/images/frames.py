"""A series in time: volumes of one size at one place, from a 4D file, a folder of files or DICOM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import SimpleITK as sitk

from ..errors import InputError
from ..geometry import Grid
from ..storage import PathLike
from .dicom import Choice, numbers_by_value, read_volumes
from .image import Image, label_image
from .pair import MIN_AXIS
from .reading import read_grid, read_image, read_labels, read_whole

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr")
FEWEST = 2


@dataclass(frozen=True)
class Frames:
    """The frames of a series in their order; each is read when it is asked for.

    Attributes:
        names: of the frames, as messages and tables call them.
        grid: where the voxels of all frames are.
        time: spacing and origin of the axis of time, in the unit of the file; 1 and 0 where it has none.
        read: a frame by its number from 0.
    """

    names: tuple[str, ...]
    grid: Grid
    time: tuple[float, float]
    read: Callable[[int], Image]

    def __len__(self) -> int:
        return len(self.names)


def read_frames(path: PathLike, role: str = "series", series: Optional[str] = None, labels: bool = False,
                fewest: int = FEWEST) -> Frames:
    """Find the frames of a series.

    Args:
        path: a 4D image; an image whose voxels hold a value for each time, as Slicer writes sequences (.seq.nrrd); a
            folder of volumes, in the order of their names, numbers in them by value; or a folder of DICOM files, whose
            series and phases are the frames.
        role: for messages.
        series: of DICOM, the UID of the one series whose phases are meant.
        labels: whether the frames are label images.
        fewest: how many frames there must be.

    Raises:
        InputError: there is none or only one frame, or they have different sizes or places.
    """
    path = Path(path)
    found = _files(path) if path.is_dir() else []
    if found:
        return _checked(_of_files(found, role, labels), role, path, fewest)
    if path.is_dir():
        volumes = read_volumes(path, f"{role} {path.name}", Choice(series, "--series"))
        return _checked(_of_images(volumes, labels), role, path, fewest)
    image = read_whole(path, role)
    return _checked(_of_images(_split(image), labels, _time(image)), role, path, fewest)


def _files(folder: Path) -> list[Path]:
    """The image files of a folder in their order; one of a pair .hdr and .img."""
    return sorted((file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")
                   and file.name.lower().endswith(ENDINGS)), key=lambda file: numbers_by_value(file.name))


def _of_files(files: Sequence[Path], role: str, labels: bool) -> Frames:
    grids = [read_grid(file, f"{role} frame") for file in files]
    for file, grid in zip(files, grids):
        check_place(f"{role} frame {file.name}", grid, grids[0])

    def read(number: int) -> Image:
        image = (read_labels if labels else read_image)(files[number], f"{role} frame")
        check_place(image.name, image.grid, grids[0])
        return image

    return Frames(tuple(file.name for file in files), grids[0], (1.0, 0.0), read)


def _of_images(found: Sequence[tuple[str, Callable[[], sitk.Image]]], labels: bool,
               time: tuple[float, float] = (1.0, 0.0)) -> Frames:
    first = _image(found[0], labels).grid

    def read(number: int) -> Image:
        image = _image(found[number], labels)
        check_place(image.name, image.grid, first)
        return image

    return Frames(tuple(what for what, _ in found), first, time, read)


def _image(frame: tuple[str, Callable[[], sitk.Image]], labels: bool) -> Image:
    what, load = frame
    return (label_image if labels else Image.from_sitk)(load(), f"frame {what}")


def _split(image: sitk.Image) -> list[tuple[str, Callable[[], sitk.Image]]]:
    """The volumes of an image over time; of one that has no axis of time, its components."""
    dim, size, components = image.GetDimension(), image.GetSize(), image.GetNumberOfComponentsPerPixel()

    def volume(number: int) -> Callable[[], sitk.Image]:
        if dim == 4:
            return lambda: sitk.Extract(image, [*size[:3], 0], [0, 0, 0, number])
        return lambda: sitk.VectorIndexSelectionCast(image, number) if components > 1 else image

    return [(str(number + 1), volume(number)) for number in range(size[3] if dim == 4 else components)]


def _time(image: sitk.Image) -> tuple[float, float]:
    return (image.GetSpacing()[3], image.GetOrigin()[3]) if image.GetDimension() == 4 else (1.0, 0.0)


def _checked(frames: Frames, role: str, path: Path, fewest: int) -> Frames:
    if len(frames) < fewest:
        raise InputError(f"The {role} {path.name} has {len(frames)} frame; give at least two, as a 4D image, a folder "
                         "of volumes or DICOM phases.")
    if min(frames.grid.size) < MIN_AXIS:
        size = " x ".join(map(str, frames.grid.size))
        raise InputError(f"The {role} {path.name} has frames of {size} voxels; every axis needs at least {MIN_AXIS}.")
    return frames


def check_place(name: str, grid: Grid, first: Grid) -> None:
    """Refuse a frame that lies elsewhere than the first one.

    Raises:
        InputError: it does.
    """
    if grid.dim != first.dim:
        raise InputError(f"The {name} is {grid.dim}D and the first frame {first.dim}D; give frames of one dimension.")
    if grid.size != first.size:
        sizes = [" x ".join(map(str, one.size)) for one in (grid, first)]
        raise InputError(f"The {name} has {sizes[0]} voxels and the first frame {sizes[1]}; give frames of one size.")
    if not grid.same_as(first, 1e-2):
        raise InputError(f"The {name} has its voxels elsewhere than the first frame; resample the frames onto one "
                         "grid, or correct their headers.")
