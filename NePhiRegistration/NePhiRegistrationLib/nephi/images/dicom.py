"""DICOM: the volumes in a folder, one of them as an image, and doses in Gy."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .checks import check_size
from .shear import straightened

log = logging.getLogger(__name__)

_SERIES, _DESCRIPTION, _INSTANCE, _NUMBER = "0020|000e", "0008|103e", "0008|0018", "0020|0013"
_OFFSETS, _DOSE_SCALING = "3004|000c", "3004|000e"
_PHASES = {"0020|0100": "temporal position", "0020|9241": "cardiac phase", "0018|1060": "trigger time",
           "0018|0086": "echo", "0018|9087": "b-value", "0008|0008": "image type", "0020|0012": "acquisition",
           "0008|0032": "acquisition time", "0008|0031": "series time"}
_CLASS, _SEGMENTATION = "0008|0016", "1.2.840.10008.5.1.4.1.1.66.4"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_ENHANCED = tuple(_STORAGE + end for end in ("2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "12.1.1", "12.2.1", "128.1",
                                             "130"))
"""Objects with a place and a scaling of its own for each frame: enhanced CT, MR, PET, ultrasound, angiography."""
_LISTED = 12  # volumes that a message names
_UNEVEN = 0.1  # of the distance of slices: how far off its even place a slice may be
_DRIFT = 0.25  # voxels over all slices: up to here a shear is rounding


@dataclass(frozen=True)
class _File:
    """The header of one file: a slice, or a volume of its own."""

    path: str
    tags: Mapping[str, str]
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: np.ndarray
    axes: np.ndarray
    real: bool

    def tag(self, key: str) -> str:
        return self.tags.get(key, "").strip(" \0")

    def beside(self, other: _File) -> bool:
        """Whether both can be slices of one volume."""
        return (self.size == other.size and np.allclose(self.spacing[:2], other.spacing[:2], rtol=1e-3)
                and np.allclose(self.axes, other.axes, atol=1e-2))


@dataclass(frozen=True)
class _Volume:
    """The files of one volume, in the order of their positions along the slices' normal."""

    files: tuple[_File, ...]
    what: str

    def __str__(self) -> str:
        first = self.files[0]
        slices = f"{len(self.files) * first.size[2]} slices"
        return ", ".join(filter(None, (first.tag("0008|0060"), first.tag(_DESCRIPTION), self.what, slices)))


@dataclass(frozen=True)
class Choice:
    """Which volume of a folder that holds several.

    Attributes:
        series: a series UID, with "/1", "/2" and so on for the phases of a series that has several, or that number
            alone where there is one series; None for the only one.
        flag: how the command line chooses one, for the message.
    """

    series: Optional[str] = None
    flag: str = "--fixed-series, --moving-series or --series"


def read_folder(folder: Path, name: str, choice: Choice) -> sitk.Image:
    """The one volume of a folder of DICOM files, or of the folders in it where it holds none itself.

    Args:
        name: what messages call the image.

    Raises:
        InputError: there is none, there are several, or its slices do not fill a volume.
        RuntimeError: a file cannot be read.
    """
    volumes = _volumes(_headers(folder))
    if not volumes:
        raise InputError(f"The {name} holds no DICOM image, nor do the folders in it; give the folder of a DICOM "
                         "series, or an image file.")
    series = choice.series
    if series is None and len(volumes) == 1:
        series = next(iter(volumes))
    if series not in volumes:
        series = next((key for key in volumes if series and key.endswith(f"/{series}")), series)
    if series not in volumes:
        found = f"holds {len(volumes)} DICOM volumes" if series is None else f"has no DICOM series {series}"
        raise InputError(f"The {name} {found}; choose one with {choice.flag}: {_listed(volumes)}.")
    return _load(volumes[series], name)


def read_volumes(folder: Path, name: str, choice: Choice) -> list[tuple[str, Callable[[], sitk.Image]]]:
    """All volumes of a folder of DICOM files in their order: what the headers call each, and how to read it.

    Several series, as scanners write the phases of a 4D CT, are ordered by their descriptions, numbers in them by
    value, then by their UIDs; the phases of one series by the numbers of their slices.

    Args:
        name: what messages call the images.
        choice: of one series; without one all belong together.

    Raises:
        InputError: there is none, or not the one that is chosen.
    """
    volumes = _volumes(_headers(folder))
    if not volumes:
        raise InputError(f"The {name} holds neither volumes, such as .nii.gz, nor DICOM images; give a folder with "
                         "either.")
    if choice.series is not None:
        chosen = {key: part for key, part in volumes.items() if key.split("/")[0] == choice.series}
        if not chosen:
            raise InputError(f"The {name} has no DICOM series {choice.series}; choose one with {choice.flag}: "
                             f"{_listed(volumes)}.")
        volumes = chosen

    def place(key: str) -> list:
        uid, _, number = key.partition("/")
        return [numbers_by_value(volumes[key].files[0].tag(_DESCRIPTION)), uid, int(number or 0)]

    def loader(volume: _Volume) -> Callable[[], sitk.Image]:
        return lambda: _load(volume, f"{name} ({volume})")

    return [(_called(volumes[key]), loader(volumes[key])) for key in sorted(volumes, key=place)]


def numbers_by_value(text: str) -> list[tuple[bool, int, str]]:
    """A key to sort names by, numbers in them by value: frame 2 before frame 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part.lower())
            for part in re.split(r"(\d+)", text) if part]


def _called(volume: _Volume) -> str:
    return volume.what or volume.files[0].tag(_DESCRIPTION) or "volume"


def _load(volume: _Volume, name: str) -> sitk.Image:
    files = volume.files
    if len(files) > 1:
        return _stack(files, name)
    reader = sitk.ImageFileReader()
    reader.SetFileName(files[0].path)
    reader.ReadImageInformation()
    return read_file(reader, name)


def _listed(volumes: Mapping[str, _Volume]) -> str:
    listed = "; ".join(f"{key} ({volume})" for key, volume in list(volumes.items())[:_LISTED])
    return listed + (f"; and {len(volumes) - _LISTED} more" if len(volumes) > _LISTED else "")


def is_dicom(reader: sitk.ImageFileReader) -> bool:
    """Whether the header that a reader has read is DICOM."""
    return reader.HasMetaDataKey(_CLASS)


def read_file(reader: sitk.ImageFileReader, name: str) -> sitk.Image:
    """The volume of one DICOM file whose header the reader has read; doses in Gy.

    Raises:
        InputError: it is a single slice, or its frames are not evenly apart.
        RuntimeError: it cannot be read.
    """
    if is_dicom(reader) and reader.GetMetaData(_CLASS).strip(" \0") == _SEGMENTATION:
        raise InputError(f"The {name} is a DICOM segmentation object (SEG), whose segments this program does not read; "
                         "convert it to a label image, for instance .nrrd in 3D Slicer.")
    if is_dicom(reader) and reader.GetMetaData(_CLASS).strip(" \0") in _ENHANCED and reader.GetSize()[2:] != (1,):
        raise InputError(f"The {name} is an enhanced multi-frame DICOM object, whose frames have places and scalings "
                         "of their own, which this program does not read; convert it to NIfTI, for instance with "
                         "dcm2niix.")
    if reader.GetSize()[2:] == (1,):
        raise InputError(f"The {name} is a single DICOM slice; give the folder that holds all slices of its series, or "
                         "convert a 2D picture to .nrrd.")
    check_size(name, reader.GetSize(), reader.GetNumberOfComponents())
    image = reader.Execute()
    if not reader.HasMetaDataKey(_DOSE_SCALING):
        return image
    dose = sitk.Cast(sitk.Cast(image, sitk.sitkFloat64) * float(reader.GetMetaData(_DOSE_SCALING)), sitk.sitkFloat32)
    if reader.HasMetaDataKey(_OFFSETS):
        _place_frames(dose, np.asarray(reader.GetMetaData(_OFFSETS).strip(" \0").split("\\"), dtype=float), name)
    return dose


def _place_frames(dose: sitk.Image, offsets: np.ndarray, name: str) -> None:
    """Frames may go down the normal, and ITK does not see when they are not even."""
    gaps = np.diff(offsets)
    if len(offsets) != dose.GetSize()[2] or not abs(gaps - gaps[0]).max() <= _UNEVEN * abs(gaps[0]):
        raise InputError(f"The {name} has dose planes that are not evenly apart; resample it to even planes.")
    axes = np.asarray(dose.GetDirection()).reshape(3, 3)
    normal = np.cross(axes[:, 0], axes[:, 1])
    step = (offsets[-1] - offsets[0]) / len(gaps)
    dose.SetSpacing([*dose.GetSpacing()[:2], abs(step)])
    dose.SetDirection(np.column_stack([axes[:, :2], np.sign(step) * normal]).ravel().tolist())


def _headers(folder: Path) -> list[_File]:
    """The headers of all DICOM images in a folder; only where there is none, those in the folders below it."""
    found = _headers_of(sorted(str(path) for path in folder.iterdir() if path.is_file()))
    if not found:
        below = [str(Path(at) / file) for at, _, files in os.walk(folder) for file in files]
        found = _headers_of(sorted(below))
    return found


def _headers_of(paths: Sequence[str]) -> list[_File]:
    files, reader = {}, sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    for path in paths:
        reader.SetFileName(path)
        try:
            reader.ReadImageInformation()
        except RuntimeError:  # another kind of file, or DICOM without an image, such as a structure set
            continue
        if reader.GetDimension() != 3:
            continue
        tags = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if "|" in key}
        real = reader.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64)
        file = _File(path, tags, reader.GetSize(), reader.GetSpacing(), np.asarray(reader.GetOrigin()),
                     np.asarray(reader.GetDirection()).reshape(3, 3), real)
        # A copy of a slice is not another slice; a UID alone is no proof, for some programs give all slices the same.
        files.setdefault((file.tag(_INSTANCE) or path, file.tag(_NUMBER), tuple(file.origin)), file)
    return list(files.values())


def _volumes(files: Sequence[_File]) -> dict[str, _Volume]:
    """The volumes in some files by what chooses them: the UID of a series, with a number where it has several."""
    series: dict[str, list[_File]] = {}
    for file in files:
        series.setdefault(file.tag(_SERIES), []).append(file)
    found = {}
    for uid, members in sorted(series.items()):
        parts = _parts(members)
        found.update({uid if len(parts) == 1 else f"{uid}/{n}": part for n, part in enumerate(parts, start=1)})
    return found


def _parts(files: Sequence[_File]) -> list[_Volume]:
    """The volumes of one series: other orientations, other sizes, phases."""
    stacks: list[list[_File]] = []
    for file in files:
        like = (stack for stack in stacks if file.size[2] == 1 and stack[0].beside(file))
        stack = next(like, None)
        stacks.append([file]) if stack is None else stack.append(file)
    return [part for stack in stacks for part in _phases(stack)]


def _phases(files: Sequence[_File]) -> list[_Volume]:
    """The volumes of a stack: one, or as many as there are slices at one place, told apart by what the headers say."""
    normal = files[0].axes[:, 2]
    files = sorted(files, key=lambda file: (round(float(file.origin @ normal), 2), _number(file)))
    places: dict[tuple, list[_File]] = {}
    for file in files:
        places.setdefault(tuple(np.round(file.origin, 2)), []).append(file)
    most = max(map(len, places.values()))
    if most == 1:
        return [_Volume(tuple(files), "")]
    for key, word in _PHASES.items():
        groups: dict[str, list[_File]] = {}
        for file in files:
            groups.setdefault(file.tag(key), []).append(file)
        if len(groups) == most and all(_one_each(group) for group in groups.values()):
            ordered = sorted(groups.items(), key=lambda item: min(map(_number, item[1])))
            return [_Volume(tuple(group), f"{word} {value}") for value, group in ordered]
    return [_Volume(tuple(at[n] for at in places.values() if len(at) > n), f"slices number {n + 1} at their place")
            for n in range(most)]


def _one_each(files: Sequence[_File]) -> bool:
    return len({tuple(np.round(file.origin, 2)) for file in files}) == len(files)


def _number(file: _File) -> int:
    text = file.tag(_NUMBER)
    return int(text) if text.lstrip("+-").isdigit() else 0


def _stack(files: Sequence[_File], name: str) -> sitk.Image:
    """Slices as one volume where their positions say, sheared ones on a grid at right angles."""
    step = _step([file.origin for file in files], name)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([file.path for file in files])
    if any(file.real for file in files):  # the first slice alone may have a whole rescale slope
        reader.SetOutputPixelType(sitk.sitkFloat32)
    check_size(name, (*files[0].size[:2], len(files)))
    image, first = reader.Execute(), files[0]
    normal = first.axes[:, 2]
    across = step - (step @ normal) * normal
    sheared = np.linalg.norm(across) * (len(files) - 1) > _DRIFT * min(first.spacing[:2])
    distance = float(np.linalg.norm(step) if sheared else step @ normal)
    image.SetOrigin(first.origin.tolist())
    image.SetSpacing([*first.spacing[:2], distance])
    third = step / distance if sheared else normal
    image.SetDirection(np.column_stack([first.axes[:, :2], third]).ravel().tolist())
    if not sheared:
        return image
    angle = np.degrees(np.arctan2(np.linalg.norm(across), step @ normal))
    log.warning("The %s has slices tilted by %.1f degrees against their row (a tilted gantry): resampled once onto a "
                "grid at right angles, which it does not fill.", name, angle)
    return straightened(image, name)


def _step(origins: Sequence[np.ndarray], name: str) -> np.ndarray:
    """From slice to slice, (3,) mm. A missing slice would silently shift everything beyond it: ITK spaces evenly."""
    places = np.asarray(origins)
    gaps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    step = (places[-1] - places[0]) / len(gaps)
    off = np.linalg.norm(places - places[0] - np.arange(len(places))[:, None] * step, axis=1).max()
    if gaps.max() - gaps.min() > _UNEVEN * np.median(gaps) or off > 0.5 * np.median(gaps):
        raise InputError(f"The {name} has slices {gaps.min():g} to {gaps.max():g} mm apart or out of line; "
                         "complete the series or resample it to even slices.")
    return step
