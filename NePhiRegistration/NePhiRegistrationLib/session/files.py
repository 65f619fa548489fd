"""Transform files: read and written whole, and what their header says. The engine alone reads the rest."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Union

import numpy as np

from ..mrml.errors import NodeError


def write_bytes(path: Union[str, os.PathLike], data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: it cannot be written, one sentence.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise OSError(f"Cannot write {path} ({error.strerror or error}); choose a folder with write permission and "
                      "free space.") from error


def read_transform(path: Union[str, os.PathLike]) -> tuple[bytes, dict]:
    """The bytes of a .nephi file and its header ({"fixed_grid", "moving_grid", "provenance", ...}).

    Raises:
        NodeError: it cannot be read or is something else.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NodeError(f"Cannot read {path} ({error.strerror or error}); choose another file.") from error
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes().decode("utf-8"))
        if not {"fixed_grid", "moving_grid"} <= set(header):
            raise ValueError("it has no grids")
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise NodeError(f"{path} is not a NePhi transform or is damaged; choose the .nephi file of a "
                        "registration.") from error
    return data, header
