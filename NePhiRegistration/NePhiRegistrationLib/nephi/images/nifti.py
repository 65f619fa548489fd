"""NIfTI files as they are, before ITK reads them and repairs what is wrong without a word."""

from __future__ import annotations

import contextlib
import gzip
import logging
import math
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from .checks import check_size, check_spacing
from .shear import farthest, grid_from

log = logging.getLogger(__name__)

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
_CHUNK = 1 << 20  # bytes, whole voxels of any type
_ITK_ORTHOGONAL = 1e-5  # cosines between axes that ITK takes for right angles, on the safe side
_NOTHING = 0.01  # voxels that an sform may be off what ITK has before it is believed instead
_SAME_AXES, _SAME_ORIGIN = 0.02, 0.5  # cosines, voxels: a qform further from its sform means another place


@dataclass(frozen=True)
class Nifti:
    """What ITK does not tell of a NIfTI file.

    Attributes:
        version: 1 or 2.
        size: voxels along (i, j, k), as many axes as there are up to three.
        unknown: (n,) flat indices, in the order of the file, of the NaN and infinite numbers, which ITK reads as zeros.
        sform: (4, 4) from voxel indices (i, j, k) to LPS mm, if that is what places the image, else None.
        shadowed: whether ITK would read the voxels of another file, the .nii beside a .nii.gz.
    """

    version: int
    size: tuple[int, ...]
    unknown: np.ndarray
    sform: Optional[np.ndarray]
    shadowed: bool

    @property
    def straight(self) -> bool:
        """Whether the sform, if there is one, has axes at right angles; ITK reads no other."""
        if self.sform is None:
            return True
        cosines = self.sform[:3, :3] / np.linalg.norm(self.sform[:3, :3], axis=0)
        return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() < _ITK_ORTHOGONAL)

    def placed(self, grid: Grid, name: str) -> Grid:
        """Where the image is, from where ITK has it: ITK drops a shear without a word where there is a qform too, and
        takes the voxel size from another field."""
        d = grid.dim
        if self.sform is None or grid.size != self.size:
            return grid
        if self.sform[:d, d:3].any() or self.sform[d:3, :d].any():  # a picture that is not in the plane z = 0
            return grid
        at = [*range(d), 3]
        found = grid_from(self.sform[np.ix_(at, at)], grid.size)
        if farthest(found, grid) <= _NOTHING:
            return grid
        if self.straight:
            log.warning("The %s is placed as its sform says, up to %.3g mm from where its qform or its voxel size has "
                        "it.", name, np.linalg.norm(found.corners() - grid.corners(), axis=1).max())
        return found


def check_nifti(path: Path, name: str, voxels: bool = True) -> Optional[Nifti]:
    """Refuse what ITK's NIfTI reader repairs silently: zero spacing and missing voxels.

    Args:
        path: a .nii, or either file of a .hdr and .img.
        name: what the message calls the image.
        voxels: look at them too, and not only at the header.

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
        axes, sform = tuple(dims[1 : min(dims[0], 3) + 1]), _sform(header, order, version, spacing)
        shadowed = body.suffix.lower() == ".gz" and body.with_suffix("").exists()
        if not voxels:
            return Nifti(version, axes, np.zeros(0, np.int64), sform, shadowed)
        check_size(name, dims[1 : dims[0] + 1])
        needed = math.prod(dims[1 : dims[0] + 1]) * bits // 8
        with _opened(body) as file:
            file.seek(int(offset))
            size, unknown = _read_through(file, needed, {code: order + form for code, form in _REAL.items()}.get(kind))
    except (EOFError, OSError, zlib.error, struct.error) as error:
        raise InputError(f"The {name} cannot be read ({error}); copy the file again.") from error
    if size < needed:
        raise InputError(f"The {name} is truncated ({size} of {needed} bytes of voxels); copy the file again.")
    return Nifti(version, axes, unknown, sform, shadowed)


_REAL = {16: "f4", 64: "f8", 32: "f4", 1792: "f8"}
"""The numbers in voxels of these data types, real and complex."""


_LAYOUT = {1: (("8h", 40), ("2h", 70), ("8f", 76), ("f", 108)), 2: (("8q", 16), ("2h", 12), ("8d", 104), ("q", 168))}
"""Where dim, datatype and bitpix, pixdim and vox_offset stand, for each version."""


def _sform(header: bytes, order: str, version: int, spacing: Sequence[float]) -> Optional[np.ndarray]:
    """The sform, (4, 4) to LPS mm, if that is what places the image.

    The codes decide as they do for ITK, and so for most other programs: the sform holds if it means the scanner's space
    (code 1) or there is no qform. It also holds, whatever its code, if the qform is no other place but the same less
    its shear, which a qform cannot express and ITK drops.
    """
    if version == 1 and header[344:348] not in (b"n+1\0", b"ni1\0"):  # Analyze
        return None
    codes, numbers, (units,) = (struct.unpack_from(order + form, header, at) for form, at in _GEOMETRY[version])
    matrix = np.eye(4)
    matrix[:3] = np.reshape(numbers[6:], (3, 4))
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if codes[1] <= 0 or not np.isfinite(matrix).all() or not lengths.min() > 0:
        return None
    if codes[0] > 0 and codes[1] != 1:
        cosines = matrix[:3, :3] / lengths
        left, _, right = np.linalg.svd(cosines)
        shear = np.abs(cosines.T @ cosines - np.eye(3)).max()
        turn = np.abs(left @ right - _rotation(numbers[:3], spacing[0])).max()
        shift = np.abs(matrix[:3, 3] - numbers[3:6]).max() / lengths.min()
        if turn > shear + _SAME_AXES or shift > _SAME_ORIGIN:
            return None
    matrix[:3] *= {1: 1e3, 3: 1e-3}.get(units & 7, 1.0)  # metres and micrometres
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


def _rotation(quaternion: Sequence[float], sign: float) -> np.ndarray:
    """The axes of a qform, (3, 3): its quaternion without the real part, and the sign of its third axis."""
    b, c, d = quaternion
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    axes = np.array([[a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                     [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                     [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c]])
    return axes * (1, 1, -1 if sign < 0 else 1)


_GEOMETRY = {1: (("2h", 252), ("18f", 256), ("B", 123)), 2: (("2i", 344), ("18d", 352), ("i", 500))}
"""Where the codes of qform and sform, both of these, and the units stand, for each version."""


@contextlib.contextmanager
def readable(path: Path, name: str, nifti: Nifti) -> Iterator[Path]:
    """The file, or where ITK would not read it a copy that ITK reads; the copy is gone afterwards.

    It is NIfTI-1, and has no geometry where ITK refuses that of the file: :meth:`Nifti.placed` knows it.

    Raises:
        InputError: a NIfTI-2 file has more than 32767 voxels along an axis.
        OSError: there is no space.
    """
    if nifti.version == 1 and nifti.straight and not nifti.shadowed:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nephi-") as folder:
        if nifti.version == 1 and nifti.straight:
            yield _unzipped(path, Path(folder))
        else:
            yield _rewritten(path, name, nifti, Path(folder))


def _unzipped(path: Path, folder: Path) -> Path:
    head, body = _files(path)
    for file, suffix in ((body, ".img"), (head, ".nii" if head == body else ".hdr")):
        copy = folder / f"image{suffix}"
        with open(copy, "wb") as out, _opened(file) as content:
            shutil.copyfileobj(content, out, _CHUNK)
    return copy


def _rewritten(path: Path, name: str, nifti: Nifti, folder: Path) -> Path:
    """A copy as one NIfTI-1 file, without a geometry that ITK refuses."""
    head, body = _files(path)
    with _opened(head) as file:
        old = file.read(540)
    order = "<" if int.from_bytes(old[:4], "little") in (348, 540) else ">"
    new, (offset,) = bytearray(352), struct.unpack_from(order + _LAYOUT[nifti.version][3][0], old,
                                                        _LAYOUT[nifti.version][3][1])
    if nifti.version == 1:
        new[:348] = old[:348]
    else:
        _as_version_1(old, new, order, name)
    if not nifti.straight:
        struct.pack_into(order + "2h", new, 252, 0, 0)
    struct.pack_into(order + "f", new, 108, 352)
    new[344:348] = b"n+1\0"
    copy = folder / "image.nii"
    with open(copy, "wb") as out, _opened(body) as file:
        out.write(new)
        file.seek(int(offset))
        shutil.copyfileobj(file, out, _CHUNK)
    return copy


def _as_version_1(old: bytes, new: bytearray, order: str, name: str) -> None:
    """Put a NIfTI-2 header into a NIfTI-1 header."""
    longest = max(struct.unpack_from(order + "8q", old, 16))
    if longest > 2**15 - 1:
        raise InputError(f"The {name} has {longest} voxels along an axis, more than NIfTI-1 can hold; give it as "
                         ".nrrd.")
    struct.pack_into(order + "i", new, 0, 348)
    for form, at, form_2, at_2 in _SHARED:
        struct.pack_into(order + form, new, at, *struct.unpack_from(order + form_2, old, at_2))
    new[123] = old[500 if order == "<" else 503]


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


def _read_through(file: BinaryIO, most: int, floats: Optional[str]) -> tuple[int, np.ndarray]:
    """How many of the next bytes there are, and which of the numbers in them, of this type, are NaN or infinite."""
    size, unknown = 0, [np.zeros(0, np.int64)]
    while chunk := file.read(max(0, min(_CHUNK, most - size))):
        if floats:
            width = np.dtype(floats).itemsize
            numbers = np.frombuffer(chunk, floats, len(chunk) // width)
            unknown.append(np.flatnonzero(~np.isfinite(numbers)) + size // width)
        size += len(chunk)
    return size, np.concatenate(unknown)
