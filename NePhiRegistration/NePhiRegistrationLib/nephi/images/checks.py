"""What a header must say before an image is used."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InputError


def check_header(name: str, dim: int, components: int, spacing: tuple, direction: tuple) -> None:
    if dim not in (2, 3):
        raise InputError(f"The {name} is {dim}D; extract one 2D or 3D volume from it.")
    if components != 1:
        raise InputError(f"The {name} has {components} values per voxel (colour or vectors); convert it to one.")
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InputError(f"The {name} has the voxel spacing {short(spacing)}, not all positive; correct its header.")
    matrix = np.asarray(direction, dtype=np.float64).reshape(dim, dim)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        raise InputError(f"The {name} has a singular direction matrix {short(direction)}; correct its header.")


def check_finite(name: str, bad: int, voxels: int) -> None:
    if bad:
        raise InputError(f"The {name} has {bad} NaN or infinite voxels of {voxels}; replace them first.")


def short(values: tuple) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
