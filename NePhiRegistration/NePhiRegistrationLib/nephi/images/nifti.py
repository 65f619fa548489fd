"""NIfTI files as they are, before ITK reads them and repairs what is wrong without a word."""

from __future__ import annotations

import contextlib
import gzip
import math
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional

import numpy as np

from ..errors import InputError
from .checks import check_spacing

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
_CHUNK = 1 << 20  # bytes, whole voxels of any type


@dataclass(frozen=True)
class Nifti:
    """What ITK does not tell of a NIfTI file.

    Attributes:
        version: 1 or 2.
        unknown: (n,) flat indices, in the order of the file, of the NaN and infinite numbers, which ITK reads as zeros.
        shadowed: whether ITK would read the voxels of another file, the .nii beside a .nii.gz.
    """

    version: int
    unknown: np.ndarray
    shadowed: bool


def check_nifti(path: Path, name: str) -> Optional[Nifti]:
    """Refuse what ITK's NIfTI reader repairs silently: zero spacing and missing voxels.

    Args:
        path: a .nii, or either file of a .hdr and .img.
        name: what the message calls the image.

    Returns:
        None for a file that is no NIfTI, which is left to ITK.

    Raises:
        InputError: one of these, or a file that cannot be read.
    """
    if not path.name.lower().endswith(_SUFFIXES):
        return None
    head, body = _files(path)
    if not body.is_file() or not head.is_file():
        raise InputError(f"The {name} lacks its other file, {(body if head.is_file() else head).name}; put both into "
                         "one folder.")
    try:
        with _opened(head) as file:
            header = file.read(540)
        order = {348: "<", 540: "<"}.get(int.from_bytes(header[:4], "little")) or \
            {348: ">", 540: ">"}.get(int.from_bytes(header[:4], "big"))
        if order is None or len(header) < 348:
            return None
        version = 1 if struct.unpack_from(order + "i", header)[0] == 348 else 2
        dims, (kind, bits), spacing, (offset,) = (struct.unpack_from(order + form, header, at)
                                                  for form, at in _LAYOUT[version])
        check_spacing(name, spacing[1 : min(dims[0], 3) + 1])
        if not 0 <= offset < 2**53:
            raise InputError(f"The {name} has the voxel offset {offset:g} in its header; copy the file again.")
        with _opened(body) as file:
            file.seek(int(offset))
            size, unknown = _read_through(file, {code: order + form for code, form in _REAL.items()}.get(kind))
    except (EOFError, OSError, zlib.error, struct.error) as error:
        raise InputError(f"The {name} cannot be read ({error}); copy the file again.") from error
    needed = math.prod(dims[1 : dims[0] + 1]) * bits // 8
    if size < needed:
        raise InputError(f"The {name} is truncated ({size} of {needed} bytes of voxels); copy the file again.")
    return Nifti(version, unknown, body.suffix.lower() == ".gz" and body.with_suffix("").exists())


_REAL = {16: "f4", 64: "f8", 32: "f4", 1792: "f8"}
"""The numbers in voxels of these data types, real and complex."""


_LAYOUT = {1: (("8h", 40), ("2h", 70), ("8f", 76), ("f", 108)), 2: (("8q", 16), ("2h", 12), ("8d", 104), ("q", 168))}
"""Where dim, datatype and bitpix, pixdim and vox_offset stand, for each version."""


@contextlib.contextmanager
def readable(path: Path, name: str, nifti: Nifti) -> Iterator[Path]:
    """The file, or where ITK would not read it a copy that ITK reads; the copy is gone afterwards.

    Raises:
        InputError: a NIfTI-2 file has more than 32767 voxels along an axis.
        OSError: there is no space.
    """
    if nifti.version == 1 and not nifti.shadowed:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nephi-") as folder:
        yield _as_version_1(path, name, Path(folder)) if nifti.version == 2 else _unzipped(path, Path(folder))


def _unzipped(path: Path, folder: Path) -> Path:
    head, body = _files(path)
    for file, suffix in ((body, ".img"), (head, ".nii" if head == body else ".hdr")):
        copy = folder / f"image{suffix}"
        with open(copy, "wb") as out, _opened(file) as content:
            shutil.copyfileobj(content, out, _CHUNK)
    return copy


def _as_version_1(path: Path, name: str, folder: Path) -> Path:
    """A copy of a NIfTI-2 file as a NIfTI-1 file; ITK reads no other."""
    head, body = _files(path)
    with _opened(head) as file:
        old = file.read(540)
    order = "<" if int.from_bytes(old[:4], "little") == 540 else ">"
    dims, (offset,) = (struct.unpack_from(order + form, old, at) for form, at in (_LAYOUT[2][0], _LAYOUT[2][3]))
    if max(dims) > 2**15 - 1:
        raise InputError(f"The {name} has {max(dims)} voxels along an axis, more than NIfTI-1 can hold; give it as "
                         ".nrrd.")
    new = bytearray(352)
    struct.pack_into(order + "i", new, 0, 348)
    for form, at, form_2, at_2 in _SHARED:
        struct.pack_into(order + form, new, at, *struct.unpack_from(order + form_2, old, at_2))
    struct.pack_into(order + "f", new, 108, 352)
    new[123], new[344:348] = old[500 if order == "<" else 503], b"n+1\0"
    copy = folder / "image.nii"
    with open(copy, "wb") as out, _opened(body) as file:
        out.write(new)
        file.seek(offset)
        shutil.copyfileobj(file, out, _CHUNK)
    return copy


_SHARED = (("8h", 40, "8q", 16), ("h", 68, "i", 504), ("2h", 70, "2h", 12), ("8f", 76, "8d", 104),
           ("2f", 112, "2d", 176), ("2h", 252, "2i", 344), ("18f", 256, "18d", 352))
"""Type and place in version 1, and in version 2: dim, intent, datatype, pixdim, the scaling, and the two geometries."""


def _files(path: Path) -> tuple[Path, Path]:
    """The file of the header and the file of the voxels."""
    lower = path.name.lower()
    if ".nii" in lower[-7:]:
        return path, path
    zipped = lower.endswith(".gz")
    stem = path.name[: -7 if zipped else -4]

    def other(suffix: str) -> Path:
        if suffix in lower[-7:]:
            return path
        made = [path.with_name(stem + suffix + end) for end in ((".gz", "") if zipped else ("", ".gz"))]
        return next((file for file in made if file.is_file()), made[0])

    return other(".hdr"), other(".img")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else open(path, "rb") as file:
        yield file


def _read_through(file: BinaryIO, floats: Optional[str]) -> tuple[int, np.ndarray]:
    """The bytes left in a file, and which of the numbers in them, read as this type, are NaN or infinite."""
    size, unknown = 0, [np.zeros(0, np.int64)]
    for chunk in iter(lambda: file.read(_CHUNK), b""):
        if floats:
            width = np.dtype(floats).itemsize
            numbers = np.frombuffer(chunk, floats, len(chunk) // width)
            unknown.append(np.flatnonzero(~np.isfinite(numbers)) + size // width)
        size += len(chunk)
    return size, np.concatenate(unknown)
