"""Files of trained weights: the shipped ones, their names, reading them."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path
from typing import Optional, Union

import numpy as np

from ..errors import InputError
from ..resources import resources_folder
from ..storage import unpack

FORMAT = "nephi-weights"
FORMAT_VERSION = 1
SUFFIX = ".npz"
GENERAL = {3: "universal"}  # dimension -> shipped weights for images of any kind


def names() -> list[str]:
    """The weights that are shipped."""
    return sorted(path.stem for path in (resources_folder() / "Models").glob("*" + SUFFIX))


def shipped_for(dim: int) -> Optional[str]:
    """The name of the weights that are shipped for images of that dimension, if there are any."""
    name = GENERAL.get(dim)
    return name if name in names() else None


def find(name: Union[str, PathLike]) -> Path:
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
    return values.astype(np.float16) if values.dtype == np.float32 else values


def full(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) if values.dtype == np.float16 else values


def digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype.str}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def read_archive(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    try:
        header, arrays = unpack(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} does not hold NePhi weights or is damaged ({error}); give a {SUFFIX} file that "
                         "'nephi train' wrote.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{path} does not hold NePhi weights; give a {SUFFIX} file that 'nephi train' wrote.")
    if not isinstance(header.get("version"), int) or header["version"] > FORMAT_VERSION:
        raise InputError(f"The weights {path} have format version {header.get('version')}, newer than "
                         f"{FORMAT_VERSION}, the newest known here; update NePhi registration.")
    return header, arrays
