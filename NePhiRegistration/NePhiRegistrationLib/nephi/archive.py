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

import numpy as np

from .errors import InputError
from .storage import PathLike, atomic_path

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, RuntimeError, zipfile.BadZipFile,
               zlib.error, SyntaxError, tokenize.TokenError)  # NumPy reads the header of an array as Python text


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
        text = json.dumps({"format": self.name, "version": self.version, **header})
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, header=np.frombuffer(text.encode("utf-8"), dtype=np.uint8), **arrays)

    def read(self, path: PathLike) -> tuple[dict, dict[str, np.ndarray]]:
        """The header and the arrays of an archive.

        Raises:
            InputError: it cannot be read, is of another kind, truncated or damaged, or of a newer version.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
        try:
            header, arrays = _unpacked(data)
        except _UNREADABLE as error:
            raise InputError(f"{path} is not {self.content} or is truncated ({len(data)} bytes); {self.remedy}."
                             ) from error
        if not isinstance(header, dict) or header.get("format") != self.name:
            raise InputError(f"{path} is not {self.content}; {self.remedy}.")
        if not isinstance(header.get("version"), int) or header["version"] > self.version:
            raise InputError(f"{path} has format version {header.get('version')}, newer than {self.version}, which is "
                             "the newest known here; update NePhi registration.")
        return header, arrays


def _unpacked(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("header").tobytes().decode("utf-8")), arrays
