"""What an image must be before it is used: somewhere in the world, and to be registered one 2D or 3D volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..device import free_memory
from ..errors import InputError


def check_header(name: str, dim: int, components: int, spacing: Sequence[float], direction: Sequence[float]) -> None:
    """Refuse an image whose header is not that of one scalar 2D or 3D volume somewhere in the world.

    Args:
        name: what the message calls the image, here and below.

    Raises:
        InputError: it is not.
    """
    if dim not in (2, 3):
        raise InputError(f"The {name} is {dim}D; extract one 2D or 3D volume from it.")
    if components != 1:
        raise InputError(f"The {name} has {components} values per voxel (colour or vectors); convert it to one.")
    check_place(name, dim, components, spacing, direction)


def check_place(name: str, dim: int, components: int, spacing: Sequence[float], direction: Sequence[float]) -> None:
    """Refuse an image, of any number of values per voxel and perhaps over time, that is nowhere in the world.

    Raises:
        InputError: it is.
    """
    if dim not in (2, 3, 4):
        raise InputError(f"The {name} is {dim}D; extract 2D, 3D or 4D images from it.")
    check_spacing(name, spacing)
    matrix = np.asarray(direction, dtype=np.float64).reshape(dim, dim)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        raise InputError(f"The {name} has a singular direction matrix {_short(direction)}; correct its header.")


def check_spacing(name: str, spacing: Sequence[float]) -> None:
    """Refuse a voxel spacing that is not positive and finite along every axis, with an InputError."""
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InputError(f"The {name} has the voxel spacing {_short(spacing)}, not all positive; correct its header.")


def check_size(name: str, size: Sequence[int], numbers: int = 1) -> None:
    """Refuse what a header claims to hold and memory cannot, before any of it is taken.

    Args:
        size: voxels along each axis.
        numbers: in each voxel.

    Raises:
        InputError: as numbers in single precision they take more than is free.
    """
    needed, room = 4.0 * numbers * math.prod(size), free_memory()
    if needed > room:
        voxels = " x ".join(map(str, size))
        raise InputError(f"The {name} has {voxels} voxels by its header, {needed / 1e9:.1f} GB, and "
                         f"{room / 1e9:.1f} GB of memory are free; check that the file is whole, or crop the image.")


def check_finite(name: str, bad: int, voxels: int) -> None:
    """Refuse an image with ``bad`` voxels of all its ``voxels`` that are no finite numbers, with an InputError."""
    if bad:
        raise InputError(f"The {name} has {bad} NaN or infinite voxels of {voxels}; replace them first.")


def _short(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
