"""NIfTI files as they are, before ITK reads them and repairs what is wrong without a word."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Optional

import numpy as np

from ..errors import InputError
from .checks import check_finite, check_spacing


def check_nifti(path: Path, name: str) -> None:
    """Refuse what ITK's NIfTI reader repairs silently: zero spacing, missing voxels, NaN and infinity.

    Args:
        name: what the message calls the image.

    Raises:
        InputError: one of these, or a file that cannot be read.
    """
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
    check_spacing(name, spacing)
    voxels = math.prod(dims[1 : dims[0] + 1])
    if size < voxels * bits // 8:
        raise InputError(f"The {name} is truncated ({size} of {voxels * bits // 8} bytes of voxels); "
                         "copy the file again.")
    check_finite(name, bad, voxels)


def _count_bytes(file: BinaryIO, floats: Optional[str]) -> tuple[int, int]:
    """The bytes left in a file, and how many of them, read as this type, are NaN or infinite numbers."""
    size = bad = 0
    for chunk in iter(lambda: file.read(1 << 20), b""):
        size += len(chunk)
        if floats:
            numbers = np.frombuffer(chunk, floats, len(chunk) // np.dtype(floats).itemsize)
            bad += numbers.size - int(np.isfinite(numbers).sum())
    return size, bad
