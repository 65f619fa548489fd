"""NumPy archives with a JSON header: the form of transforms and of weights. Nothing in them is executed."""

from __future__ import annotations

import io
import json
import zipfile
import zlib

import numpy as np

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, RuntimeError, zipfile.BadZipFile,
               zlib.error)


def pack_header(header: dict) -> np.ndarray:
    """A header of plain values as the array named "header" of an archive: uint8."""
    return np.frombuffer(json.dumps(header).encode("utf-8"), dtype=np.uint8)


def unpack(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """The header and the other arrays of an archive's bytes.

    Raises:
        ValueError: the bytes are no such archive, or not all of one.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes().decode("utf-8"))
    except _UNREADABLE as error:
        raise ValueError(str(error)) from error
    return header, arrays
