"""Files and folders written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Union

from .errors import InputError

PathLike = Union[str, os.PathLike]

LARGEST_TEXT = 1 << 28  # bytes of a file of text, such as a list of points

_PIECE = 1 << 20


def read_bytes(path: PathLike, most: int) -> bytearray:
    """A whole file, of any kind of file, if it is not too large.

    Raises:
        InputError: it has more than ``most`` bytes.
        OSError: it cannot be read.
    """
    data = bytearray()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            data += piece
            if len(data) > most:
                raise InputError(f"{path} has more than {most / 1e6:.0f} MB, too much for a file of this kind; choose "
                                 "another.")
    return data


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Write a file completely or not at all.

    Yields a path of the same name in a temporary folder beside ``path``; when the block ends well everything
    in that folder (formats such as .mhd write two files) is renamed into place, otherwise it is removed.

    Raises:
        InputError: the folder is missing, cannot be written or is full.
    """
    path = Path(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".nephi-", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            companions = [file for file in Path(folder).iterdir() if file != temporary]
            for file in [*companions, temporary]:  # the file that refers to the others comes last
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise InputError(f"Cannot write {path} ({error.strerror or error}); "
                         "choose an existing folder with write permission and free space.") from error


@contextlib.contextmanager
def staged_folder(path: PathLike) -> Iterator[Path]:
    """Fill a folder completely or not at all.

    Yields an empty hidden folder on the same file system. When the block ends well its files move into ``path``, which
    is made if it is not there and keeps its other files; otherwise they are removed and ``path`` is as it was.

    Raises:
        InputError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        hidden = tempfile.TemporaryDirectory(prefix=".nephi-", dir=_existing(path))
        staging = Path(hidden.name) / "outputs"
        staging.mkdir()
    except OSError as error:
        raise _unwritable(path, error) from error
    with hidden:
        try:
            yield staging
        except InputError as error:  # a file in it could not be written: name where it would have come to lie
            if str(staging) not in str(error):
                raise
            raise InputError(str(error).replace(str(staging), str(path))) from error
        try:
            _move_files(staging, path)
        except OSError as error:
            raise _unwritable(path, error) from error


def made_folder(path: PathLike) -> Path:
    """A folder, made with those above it if it is not there.

    Raises:
        InputError: it cannot be made, or is a file.
    """
    path = Path(path)
    _existing(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


@contextlib.contextmanager
def locked(folder: PathLike) -> Iterator[None]:
    """Keep others that ask for the same out of a folder, which is made if it is not there; a process that dies lets go.

    Raises:
        InputError: another one is at it, or the folder cannot be written.
    """
    path = Path(folder) / ".nephi.lock"
    made = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115 - it stays open as long as the lock
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    with file:
        try:
            _take(file.fileno())
        except OSError as error:
            raise InputError(f"Another nephi is at work in {folder}; wait for it to end, or choose another folder."
                             ) from error
        try:
            yield
        finally:
            if made and os.listdir(path.parent) == [path.name]:
                path.unlink()
                path.parent.rmdir()


def _take(descriptor: int) -> None:
    """Lock an open file, or raise OSError at once."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = path.absolute()
    while not path.is_dir():
        if path.exists():
            raise InputError(f"{path} is a file, not a folder; choose another output folder.")
        path = path.parent
    return path


def _move_files(source: Path, target: Path) -> None:
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        return
    for file in source.iterdir():
        os.replace(file, target / file.name)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"Cannot write the output folder {path} ({error.strerror or error}); "
                      "choose one with write permission and free space.")
