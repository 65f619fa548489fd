"""NumPy archives with a JSON header: the form of transforms and of weights. Nothing in them is executed."""

from __future__ import annotations

import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Union

import numpy as np

from .device import free_memory
from .errors import InputError
from .storage import PathLike, atomic_path

Bytes = Union[bytes, bytearray, memoryview]
_UNREADABLE = (OSError, MemoryError, ValueError, KeyError, EOFError, AttributeError, TypeError, RuntimeError,
               zipfile.BadZipFile, zlib.error, SyntaxError,
               tokenize.TokenError)  # NumPy reads the header of an array as Python text


@dataclass(frozen=True)
class ArchiveFormat:
    """One kind of archive.

    Attributes:
        name: what the header calls it.
        version: the newest that can be read, and the one that is written.
        content: for messages, such as "a NePhi transform".
        remedy: for messages, what to do instead.
    """

    name: str
    version: int
    content: str
    remedy: str

    def write(self, path: PathLike, header: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
        """Write an archive, completely or not at all.

        Raises:
            InputError: the folder is missing, cannot be written or is full.
        """
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            self._save(file, header, arrays)

    def pack(self, header: Mapping, arrays: Mapping[str, np.ndarray]) -> bytes:
        """The bytes of an archive."""
        buffer = io.BytesIO()
        self._save(buffer, header, arrays)
        return buffer.getvalue()

    def _save(self, file: BinaryIO, header: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
        text = json.dumps({"format": self.name, "version": self.version, **header})
        np.savez_compressed(file, header=np.frombuffer(text.encode("utf-8"), dtype=np.uint8), **arrays)

    def read(self, path: PathLike) -> tuple[dict, dict[str, np.ndarray]]:
        """The header and the arrays of an archive.

        Raises:
            InputError: it cannot be read, is of another kind, truncated or damaged, or of a newer version.
        """
        try:
            _check_room(Path(path).stat().st_size, path)
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
        return self.unpack(data, str(path))

    def unpack(self, data: Bytes, name: str) -> tuple[dict, dict[str, np.ndarray]]:
        """As :meth:`read`, from the bytes of an archive.

        Args:
            name: for messages.
        """
        try:
            header, arrays = _unpacked(data, name)
        except InputError:
            raise
        except _UNREADABLE as error:
            raise InputError(f"{name} is not {self.content} or is truncated ({len(data)} bytes); {self.remedy}."
                             ) from error
        if not isinstance(header, dict) or header.get("format") != self.name:
            raise InputError(f"{name} is not {self.content}; {self.remedy}.")
        if not isinstance(header.get("version"), int) or header["version"] > self.version:
            raise InputError(f"{name} has format version {header.get('version')}, newer than {self.version}, which is "
                             "the newest known here; update NePhi registration.")
        return header, arrays


def _unpacked(data: Bytes, name: str) -> tuple[dict, dict[str, np.ndarray]]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        _check_room(sum(entry.file_size for entry in packed.infolist()), name)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("header").tobytes().decode("utf-8")), arrays


def _check_room(size: int, name: PathLike) -> None:
    """Refuse what does not fit into memory before any of it is read."""
    room = free_memory()
    if size > room:
        raise InputError(f"{name} takes {size / 1e9:.1f} GB and {room / 1e9:.1f} GB of memory are free; close other "
                         "programs, or give a smaller file.")
