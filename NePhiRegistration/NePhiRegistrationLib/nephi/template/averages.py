"""Many arrays of one shape as one, a slab at a time: however many there are, few of their voxels are in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..geometry import Grid
from ..images.image import Image
from ..storage import PathLike, atomic_path

AT_ONCE = 1 << 28  # bytes of all arrays together that are read at a time
SHARPER = 0.5
"""How much of what a Gaussian of one voxel takes away is added to a mean, which blurs what does not lie exactly in one
place."""


def save_array(path: PathLike, values: np.ndarray) -> None:
    """Write an array, completely or not at all.

    Raises:
        InputError: the folder cannot be written or is full.
    """
    values = np.ascontiguousarray(values)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
        file.write(values.data)  # not by np.save, which does not say that a disk is full


def mean_of(files: Sequence[Path], shape: tuple[int, ...]) -> np.ndarray:
    """The mean of arrays, (*shape) float64."""
    mean = np.empty(shape)
    for part, stack in _slabs(files, shape):
        mean[part] = stack.mean(0, dtype=np.float64)
    return mean


def mean_and_variance(files: Sequence[Path], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the variance of arrays, (*shape) float64 each, of those that have a number there: others are NaN.
    Where none has, the mean is the least there is and the variance zero."""
    mean, variance = np.empty(shape), np.empty(shape)
    for part, stack in _slabs(files, shape):
        known = np.isfinite(stack)
        count = known.sum(0)
        total = np.where(known, stack, 0).sum(0, dtype=np.float64)
        mean[part] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        squares = np.where(known, (stack - mean[part]) ** 2, 0).sum(0, dtype=np.float64)
        variance[part] = squares / np.maximum(count - 1, 1)
    if np.isnan(mean).all():
        raise InputError("No image covers any part of the template; check the places of the images in their headers.")
    return np.where(np.isnan(mean), np.nanmin(mean), mean), variance


def majority_of(files: Sequence[Path], shape: tuple[int, ...]) -> np.ndarray:
    """The label that most of the arrays have, the smallest of those that as many have, (*shape) of their type."""
    chosen = np.empty(shape, np.int64)
    for part, stack in _slabs(files, shape):
        most = np.zeros(stack.shape[1:], int)
        for label in np.unique(stack):
            count = (stack == label).sum(0)
            chosen[part][count > most] = label
            most = np.maximum(count, most)
    return chosen


def sharpened(image: Image) -> Image:
    """A mean image with its edges restored; its range stays."""
    values = image.values
    sharp = sitk.UnsharpMask(image.to_sitk(), list(image.grid.spacing), SHARPER, 0.0)
    result = torch.from_numpy(sitk.GetArrayFromImage(sharp)).to(values).clamp(values.min(), values.max())
    return Image(result, image.grid, image.name)


def load_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An array as a view of its file.

    Raises:
        InputError: it is not there, or is not such an array.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove its folder, and the same command makes it anew."
                         ) from error
    if found.shape != shape:
        raise InputError(f"{path} has shape {found.shape}, not {shape}; remove its folder, and the same command makes "
                         "it anew.")
    return found


def on_grid(values: np.ndarray, grid: Grid, name: str) -> Image:
    """An array as an image, float32."""
    return Image(torch.from_numpy(np.asarray(values, np.float32)), grid, name)


def _slabs(files: Sequence[Path], shape: tuple[int, ...]) -> Iterator[tuple[slice, np.ndarray]]:
    """Parts along the first axis: which, and of all arrays, (n, ...)."""
    layer = 8 * len(files) * math.prod(shape[1:])
    thickness = max(1, AT_ONCE // layer)
    for start in range(0, shape[0], thickness):
        part = slice(start, min(start + thickness, shape[0]))
        yield part, np.stack([load_array(path, shape)[part] for path in files])
