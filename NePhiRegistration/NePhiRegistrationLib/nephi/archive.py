"""NumPy archives with a JSON header: the form of transforms, weights and checkpoints. Nothing in them is executed, and
no memory is taken for what they only claim to hold."""

from __future__ import annotations

import io
import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np

from .device import free_memory
from .errors import InputError
from .storage import PathLike, atomic_path, read_bytes

Bytes = Union[bytes, bytearray, memoryview]

LARGEST = 1 << 32  # bytes of a file: hundreds of times what a registration or a training leaves

_UNREADABLE = (OSError, MemoryError, ValueError, KeyError, EOFError, AttributeError, TypeError, RuntimeError,
               zipfile.BadZipFile, zlib.error, SyntaxError, tokenize.TokenError)
"""NumPy reads the header of an array as Python text."""


@dataclass(frozen=True)
class ArchiveFormat:
    """One kind of archive.

    Attributes:
        name: what the header calls it.
        version: the newest that can be read, and the one that is written.
        content: for messages, such as "a NePhi transform".
        remedy: for messages, what to do instead.
        compressed: whether it is written small, which takes a while.
    """

    name: str
    version: int
    content: str
    remedy: str
    compressed: bool = True

    def write(self, path: PathLike, header: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
        """Write an archive, completely or not at all.

        Raises:
            InputError: the folder is missing, cannot be written or is full.
        """
        packed = self.pack(header, arrays)
        with atomic_path(path) as temporary:
            temporary.write_bytes(packed)

    def pack(self, header: Mapping, arrays: Mapping[str, np.ndarray]) -> memoryview:
        """The bytes of an archive."""
        text = json.dumps({"format": self.name, "version": self.version, **header})
        save, packed = np.savez_compressed if self.compressed else np.savez, io.BytesIO()
        save(packed, header=np.frombuffer(text.encode("utf-8"), dtype=np.uint8), **arrays)
        return packed.getbuffer()

    def read(self, path: PathLike) -> tuple[dict, dict[str, np.ndarray]]:
        """The header and the arrays of an archive.

        Raises:
            InputError: it cannot be read, is of another kind, truncated or damaged, of a newer version, or too large.
        """
        try:
            data = read_bytes(path, LARGEST)
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
        return self.unpack(data, str(path))

    def is_kind_of(self, path: PathLike) -> bool:
        """Whether a file says of itself that it is such an archive; nothing but its header is looked at."""
        try:
            with zipfile.ZipFile(path) as archive:
                entry = archive.getinfo("header.npy")
                _check_sizes([entry], Path(path).stat().st_size, str(path))
                header = json.loads(_array(archive, entry).tobytes().decode("utf-8"))
        except (*_UNREADABLE, _TooLarge):
            return False
        return isinstance(header, dict) and header.get("format") == self.name

    def unpack(self, data: Bytes, name: str) -> tuple[dict, dict[str, np.ndarray]]:
        """The header and the arrays of an archive in memory.

        Args:
            name: what messages call it.

        Raises:
            InputError: as :meth:`read`.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                _check_sizes(archive.infolist(), len(data), name)
                arrays = {entry.filename[:-len(".npy")]: _array(archive, entry) for entry in archive.infolist()}
            header = json.loads(arrays.pop("header").tobytes().decode("utf-8"))
        except _TooLarge as error:
            raise InputError(str(error)) from error
        except _UNREADABLE as error:
            raise InputError(f"{name} is not {self.content} or is truncated ({len(data)} bytes); {self.remedy}."
                             ) from error
        if not isinstance(header, dict) or header.get("format") != self.name:
            raise InputError(f"{name} is not {self.content}; {self.remedy}.")
        if not isinstance(header.get("version"), int) or header["version"] > self.version:
            raise InputError(f"{name} has format version {header.get('version')}, newer than {self.version}, which is "
                             "the newest known here; update NePhi registration.")
        return header, arrays


class _TooLarge(Exception):
    """What is packed does not fit into memory; one sentence."""


def _check_sizes(entries: list[zipfile.ZipInfo], packed: int, name: str) -> None:
    """Refuse what inflates without limit: parts that share their bytes, other packings, more than there is memory."""
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise ValueError("it is packed in another way")
    if sum(entry.compress_size for entry in entries) > packed:
        raise ValueError("its parts overlap")
    size, room = sum(entry.file_size for entry in entries), free_memory()
    if size > room:
        raise _TooLarge(f"{name} holds {size / 1e9:.2f} GB and {room / 1e9:.2f} GB of memory are free; choose another "
                        "file or close other programs.")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """An array of numbers; its own header has to agree with the size of the entry before anything is inflated."""
    with archive.open(entry) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("it is of another version of NumPy's format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in "biuf" or dtype.itemsize * math.prod(shape) != entry.file_size - file.tell():
            raise ValueError(f"{entry.filename} holds no numbers, or other ones than it says")
        return np.ndarray(shape, dtype, bytearray(file.read()), order="F" if fortran else "C")
