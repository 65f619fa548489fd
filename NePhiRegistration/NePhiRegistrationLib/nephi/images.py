"""Images in and out, and the few operations on voxels the engine needs: normalise, downsample, dilate, sample."""

from __future__ import annotations

import contextlib
import gzip
import logging
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Optional, Union

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .errors import InputError
from .geometry import Grid, apply_affine
from .interpolation import linear, nearest

log = logging.getLogger(__name__)

PathLike = Union[str, os.PathLike]

MIN_AXIS = 8  # voxels; below this there is nothing to smooth, differentiate or downsample
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
        result = _from_sitk(image, name)
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


# ---------------------------------------------------------------------------------------------------- reading


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


def mask_on(labels: Image, image: Image) -> Tensor:
    """The non-zero voxels of a label image for the voxels of an image, (k, j, i) bool.

    A mask on another grid is resampled, nearest neighbour; outside its own field of view nothing is inside.

    Raises:
        InputError: the mask is empty, of another dimension, or has nothing inside the image.
    """
    inside = labels.values != 0
    if not inside.any():
        raise InputError(f"The {labels.name} is empty; draw a region in it or leave the mask out.")
    if labels.grid.dim != image.grid.dim:
        raise InputError(f"The {labels.name} is {labels.grid.dim}D and the {image.name} is {image.grid.dim}D; "
                         "use a mask of the same dimension.")
    if labels.grid.same_as(image.grid):
        return inside
    log.info("The %s is on another grid than the %s: resampled, nearest neighbour.", labels.name, image.name)
    inside = resample_nearest(inside, labels.grid, image.grid)
    if not inside.any():
        raise InputError(f"The {labels.name} does not overlap the {image.name}; use a mask drawn on that image.")
    return inside


def check_pair(fixed: Image, moving: Image) -> None:
    """Refuse two images that cannot be registered to each other.

    Raises:
        InputError: one is 2D and the other 3D, or an axis is shorter than 8 voxels.
    """
    if fixed.grid.dim != moving.grid.dim:
        raise InputError(f"The {fixed.name} is {fixed.grid.dim}D and the {moving.name} is {moving.grid.dim}D; "
                         "register images of the same dimension.")
    for image in (fixed, moving):
        if min(image.grid.size) < MIN_AXIS:
            size = " x ".join(map(str, image.grid.size))
            raise InputError(f"The {image.name} has {size} voxels; every axis needs at least {MIN_AXIS}.")


def check_overlap(fixed: Image, moving: Image, matrix: Optional[np.ndarray] = None) -> None:
    """Refuse a pair whose fields of view do not overlap; for when no affine will bring them together.

    Args:
        matrix: (d + 1, d + 1) from fixed to moving LPS mm; identity if None.

    Raises:
        InputError: no point of the fixed image falls inside the moving one.
    """
    coarse = fixed.grid.with_spacing(fixed.grid.extent / np.minimum(fixed.grid.size, 32))
    points = coarse.points()
    if matrix is not None:
        points = apply_affine(matrix, points)
    if not moving.grid.contains(points).any():
        offset = float(np.linalg.norm(moving.grid.center - fixed.grid.center))
        raise InputError(f"The {fixed.name} and the {moving.name} do not overlap (their centres are {offset:.0f} mm "
                         "apart); turn the affine pre-alignment on or give an initial transform.")


def _from_sitk(image: sitk.Image, name: str) -> Image:
    """Any scalar finite image; what :meth:`Image.from_sitk` asks for beyond that is left to it."""
    components = image.GetNumberOfComponentsPerPixel()
    _check_header(name, image.GetDimension(), components, image.GetSpacing(), image.GetDirection())
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"The {name} has complex voxels; register its magnitude.")
    values = torch.from_numpy(sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32)))
    _check_finite(name, values.numel() - int(torch.isfinite(values).sum()), values.numel())
    return Image(values, Grid.from_sitk(image), name)


def _labels(path: PathLike, name: str) -> Image:
    labels = _from_sitk(_read(path, name), name)
    fractions = int((labels.values != labels.values.round()).sum())
    if fractions:
        raise InputError(f"The {name} has {fractions} voxels that are not whole numbers; use a label image.")
    return labels


def _read(path: PathLike, name: str) -> sitk.Image:
    path = Path(path)
    if not path.exists():
        raise InputError(f"The {name} does not exist ({path}); check the path.")
    if ".nii" in path.suffixes and path.is_file():
        _check_nifti(path, name)
    try:
        if path.is_dir():
            return _read_dicom(path, name)
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        # The header first: ITK refuses bad geometry while reading, in words that do not say which value is wrong.
        _check_header(name, reader.GetDimension(), reader.GetNumberOfComponents(), reader.GetSpacing(),
                      reader.GetDirection())
        return reader.Execute()
    except RuntimeError as error:
        raise InputError(f"The {name} cannot be read as an image ({reason(error)}); "
                         "give a whole NIfTI, NRRD or MetaImage file or a DICOM folder, or correct its header."
                         ) from error


def _check_nifti(path: Path, name: str) -> None:
    """Refuse what ITK's NIfTI reader mends without a word: zero spacing, missing voxels, NaN and infinity."""
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else open(path, "rb") as file:
            header = file.read(348)
            order = {b"\x5c\x01\x00\x00": "<", b"\x00\x00\x01\x5c": ">"}.get(header[:4])
            if order is None or header[344:347] != b"n+1":  # NIfTI-2, two files or no NIfTI at all: left to ITK
                return
            dims = struct.unpack_from(order + "8h", header, 40)
            kind, bits = struct.unpack_from(order + "2h", header, 70)
            spacing = struct.unpack_from(order + "8f", header, 76)[1 : min(dims[0], 3) + 1]
            file.seek(int(struct.unpack_from(order + "f", header, 108)[0]))
            size, bad = _count_bytes(file, {16: order + "f4", 64: order + "f8"}.get(kind))
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"The {name} cannot be read ({error}); copy the file again.") from error
    if 0 in spacing:
        raise InputError(f"The {name} has the voxel spacing {_short(spacing)}, not all positive; correct its header.")
    voxels = math.prod(dims[1 : dims[0] + 1])
    if size < voxels * bits // 8:
        raise InputError(f"The {name} is truncated ({size} of {voxels * bits // 8} bytes of voxels); "
                         "copy the file again.")
    _check_finite(name, bad, voxels)


def _count_bytes(file: BinaryIO, floats: Optional[str]) -> tuple[int, int]:
    """The bytes left in a file, and how many of them, read as this type, are NaN or infinite numbers."""
    size = bad = 0
    for chunk in iter(lambda: file.read(1 << 20), b""):
        size += len(chunk)
        if floats:
            numbers = np.frombuffer(chunk, floats, len(chunk) // np.dtype(floats).itemsize)
            bad += numbers.size - int(np.isfinite(numbers).sum())
    return size, bad


def _check_finite(name: str, bad: int, voxels: int) -> None:
    if bad:
        raise InputError(f"The {name} has {bad} NaN or infinite voxels of {voxels}; replace them first.")


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


def _check_header(name: str, dim: int, components: int, spacing: tuple, direction: tuple) -> None:
    if dim not in (2, 3):
        raise InputError(f"The {name} is {dim}D; extract one 2D or 3D volume from it.")
    if components != 1:
        raise InputError(f"The {name} has {components} values per voxel (colour or vectors); convert it to one.")
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InputError(f"The {name} has the voxel spacing {_short(spacing)}, not all positive; correct its header.")
    matrix = np.asarray(direction, dtype=np.float64).reshape(dim, dim)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        raise InputError(f"The {name} has a singular direction matrix {_short(direction)}; correct its header.")


def _short(values: tuple) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def reason(error: BaseException) -> str:
    """The one line of a SimpleITK error that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1] if lines else type(error).__name__
    return line.replace("sitk::ERROR:", "").replace("ITK ERROR:", "").strip(" .")


# ---------------------------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Write a file completely or not at all.

    Yields a path of the same name in a temporary folder beside ``path``; when the block ends well everything
    in that folder (formats such as .mhd write two files) is renamed into place, otherwise it is removed.

    Raises:
        InputError: the folder is missing, cannot be written or is full.
    """
    path = Path(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".nephi-", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            companions = [file for file in Path(folder).iterdir() if file != temporary]
            for file in [*companions, temporary]:  # the file that refers to the others comes last
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise InputError(f"Cannot write {path} ({error.strerror or error}); "
                         "choose an existing folder with write permission and free space.") from error


def write_image(image: sitk.Image, path: PathLike) -> None:
    """Write an image, compressed, completely or not at all.

    Raises:
        InputError: the format is unknown, or the folder is missing, cannot be written or is full.
    """
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            if ".nii" in temporary.suffixes:  # ITK's NIfTI writer says nothing when the disk is full
                _check_nifti(temporary, "file just written")
        except (RuntimeError, InputError) as error:
            raise InputError(f"Cannot write {path} ({reason(error)}); use .nii.gz, .nrrd or .mha, "
                             "and a folder with free space.") from error


# ------------------------------------------------------------------------------------------------- operations


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


def downsample(values: Tensor, grid: Grid, spacing: float) -> tuple[Tensor, Grid]:
    """Resample onto about this isotropic spacing over the same box, without aliasing.

    Axes that become coarser are averaged with a Gaussian of half the new spacing, the others interpolated
    linearly. As the axes stay the same this is one small matrix per axis.

    Args:
        values: (k, j, i) floating point on ``grid``.
        spacing: mm.

    Returns:
        The values (k', j', i') and their grid.
    """
    coarse = grid.with_spacing(spacing)
    for axis, (n, m) in enumerate(zip(grid.shape, coarse.shape)):
        if n != m:
            weights = _axis_weights(n, m).to(values)
            values = (values.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return values.contiguous(), coarse


def _axis_weights(old: int, new: int) -> Tensor:
    """What each of ``old`` voxels along an axis gives to each of ``new`` over the same length, (new, old)."""
    step = old / new
    centers = (torch.arange(new, dtype=torch.float64) + 0.5) * step - 0.5
    distance = centers.clamp(0, old - 1)[:, None] - torch.arange(old, dtype=torch.float64)
    # The Gaussian ends at 4 sigma: its tail of denormal numbers would cost more time than all the rest.
    gaussian = torch.exp(-2 * (distance / step) ** 2) * (distance.abs() <= 2 * step)
    weights = gaussian if step > 1 else (1 - distance.abs()).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def dilate(mask: Tensor, grid: Grid, mm: float) -> Tensor:
    """The voxels within ``mm`` (Euclidean) of a mask, (k, j, i) bool to (k, j, i) bool."""
    squared = torch.where(mask, 0.0, math.inf)
    for axis, spacing in enumerate(reversed(grid.spacing)):  # squared distances add up axis by axis
        nearest = squared.clone()
        size = mask.shape[axis]
        for shift in range(1, min(int(mm / spacing), size - 1) + 1):
            cost = (shift * spacing) ** 2
            low, high = nearest.narrow(axis, 0, size - shift), nearest.narrow(axis, shift, size - shift)
            torch.minimum(low, squared.narrow(axis, shift, size - shift) + cost, out=low)
            torch.minimum(high, squared.narrow(axis, 0, size - shift) + cost, out=high)
        squared = nearest
    return squared <= mm**2


def resample_nearest(values: Tensor, grid: Grid, onto: Grid) -> Tensor:
    """Nearest-neighbour resampling of labels or a mask, any type, from one grid to another; zero outside."""
    parts = [sample(values, grid, onto.points(start, stop, values.device), "nearest")
             for start, stop in onto.chunks(1 << 20)]
    return torch.cat(parts).reshape(onto.shape)


def sample(values: Tensor, grid: Grid, points: Tensor, mode: str = "linear", fill: float = 0.0) -> Tensor:
    """Read an image at points, as ITK does: the border voxels reach half a voxel out, beyond is ``fill``.

    Linear sampling is differentiable in the points and the values.

    Args:
        values: (C, k, j, i) or (k, j, i) on ``grid``; any type for nearest, floating point for linear.
        points: (n, d) LPS mm.
        mode: "linear" or "nearest".

    Returns:
        (C, n) or (n), of the type of ``values``.
    """
    if mode not in ("linear", "nearest"):
        raise ValueError(f"mode is {mode!r}; use 'linear' or 'nearest'.")
    if values.shape[-grid.dim:] != grid.shape or points.shape[-1] != grid.dim:
        raise ValueError(f"Values {tuple(values.shape)} or points {tuple(points.shape)} do not fit grid {grid.shape}.")
    channels = values if values.dim() > grid.dim else values[None]
    index = grid.to_index(points)
    last = torch.tensor(grid.size, dtype=index.dtype, device=index.device) - 1
    inside = ((index >= -0.5) & (index < last + 0.5)).all(-1)
    picked = linear(channels, index) if mode == "linear" else nearest(channels, index)
    picked = torch.where(inside, picked, torch.tensor(fill, dtype=picked.dtype, device=picked.device))
    return picked if values.dim() > grid.dim else picked[0]
