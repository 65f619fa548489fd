"""Files of trained weights: the shipped ones, their names, reading them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Optional

import numpy as np

from ..archive import ArchiveFormat
from ..errors import InputError
from ..resources import resources_folder
from ..storage import PathLike

SUFFIX = ".npz"
FORMAT = ArchiveFormat("nephi-weights", 1, "a file of NePhi weights", f"give a {SUFFIX} file that 'nephi train' wrote")
GENERAL = {3: "universal"}  # dimension -> shipped weights for images of any kind


def names() -> list[str]:
    """The weights that are shipped."""
    return sorted(path.stem for path in (resources_folder() / "Models").glob("*" + SUFFIX))


def shipped_for(dim: int) -> Optional[str]:
    """The name of the weights that are shipped for images of that dimension, if there are any."""
    name = GENERAL.get(dim)
    return name if name in names() else None


def find(name: PathLike) -> Path:
    """Where weights are, given the name of shipped ones or a path.

    Raises:
        InputError: there are none.
    """
    if str(name) in names():
        return resources_folder() / "Models" / f"{name}{SUFFIX}"
    path = Path(name)
    if not path.is_file():
        shipped = f"one of {', '.join(names())}, " if names() else ""
        raise InputError(f"There are no weights {str(name)!r}; give {shipped}the path of a {SUFFIX} file, or 'none'.")
    return path


def half(values: np.ndarray) -> np.ndarray:
    """Single precision as half precision, the rest as it is."""
    return values.astype(np.float16) if values.dtype == np.float32 else values


def full(values: np.ndarray) -> np.ndarray:
    """Half precision as single precision, the rest as it is."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of arrays, their names, shapes and types."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].shape} {arrays[name].dtype.str}".encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()
