"""Transform files, read and written whole; only the engine knows what is in them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Union

import numpy as np

from ..i18n import tr as _
from ..mrml.node_error import NodeError

LARGEST = 1 << 32  # bytes; what is larger is no transform, and would take the memory for nothing


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
        raise OSError(_("Cannot write {path} ({reason}); choose a folder with write permission and free space.").format(
            path=path, reason=error.strerror or error)) from error


def read_bytes(path: Union[str, os.PathLike]) -> np.ndarray:
    """The bytes of a file, (n,) uint8.

    Raises:
        NodeError: it cannot be read.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise NodeError(_("{path} is too large for a NePhi transform; choose the .nephi file of a registration."
                              ).format(path=path))
        return np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise NodeError(_("Cannot read {path} ({reason}); choose another file.").format(
            path=path, reason=error.strerror or error)) from error
