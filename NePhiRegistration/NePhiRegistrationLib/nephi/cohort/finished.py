"""Which pairs are finished: a file in the folder of each, with what it was made from."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from .. import __version__
from ..errors import InputError
from ..storage import LARGEST_TEXT, PathLike, atomic_path, read_bytes
from .rows import Job

_PIECE = 1 << 20
_HEADERS = (".mhd", ".nhdr", ".hdr", ".img")  # their voxels may lie in another file of the same name


def finished(job: Job) -> Optional[dict]:
    """What the file of a finished pair holds, if it was made by this version from these inputs with these settings and
    all that it left is still there; None otherwise.

    An input of the same size and time is taken to be the same; any other is compared by its hash.
    """
    folder = Path(job.folder)
    try:
        found = json.loads(read_bytes(folder / job.record, LARGEST_TEXT))
        same = (found["version"], found["settings"]) == (__version__, job.settings)
        if not same or set(found["inputs"]) != set(job.files):
            return None
        whole = all((folder / name).is_file() for name in found["files"].values())
        return found if whole and all(_unchanged(path, found["inputs"][role]) for role, path in job.files.items()) \
            else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return None  # it is not there, or is not what this program writes


def write_finished(job: Job, inputs: Mapping[str, dict], report: Mapping, **more: Any) -> dict:
    """Mark a pair as finished; returns what was written."""
    found = {"id": job.id, "version": __version__, "settings": job.settings, "inputs": inputs, "files": report["files"],
             "verdict": report["verdict"] and {name: report["verdict"][name] for name in ("level", "reason", "text")},
             "numbers": dict(numbers({"metrics": report["metrics"], "runtime": report["runtime"]})), **more}
    with atomic_path(Path(job.folder) / job.record) as temporary:
        temporary.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def fingerprints(files: Mapping[str, str]) -> dict[str, dict]:
    """role -> hash of each input, and the sizes and the latest time of its files.

    Raises:
        InputError: one cannot be read.
    """
    return {role: {"sha256": _hash(role, path), "state": _state(path)} for role, path in files.items()}


def numbers(values: Mapping, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted name -> number or text; lists are left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(numbers(value, f"{prefix}{key}."))
        elif value is not None and not isinstance(value, (list, tuple)):
            flat[f"{prefix}{key}"] = value
    return flat


def _unchanged(path: str, before: Mapping) -> bool:
    return _state(path) == before["state"] or _hash("input", path) == before["sha256"]


def _state(path: PathLike) -> list[int]:
    """Number, bytes and latest time (ns) of the files of an input."""
    found = [file.stat() for file in _files(Path(path))]
    return [len(found), sum(one.st_size for one in found), max((one.st_mtime_ns for one in found), default=0)]


def _hash(role: str, path: str) -> str:
    try:
        digest = hashlib.sha256()
        for file in _files(Path(path)):
            digest.update(os.fsencode(file.suffix) + b"\0")
            with open(file, "rb") as data:
                for piece in iter(lambda data=data: data.read(_PIECE), b""):
                    digest.update(piece)
        return digest.hexdigest()
    except OSError as error:
        what = f"{role} image" if role in ("fixed", "moving") else role.replace("_", " ")
        raise InputError(f"The {what} {path} cannot be read ({error.strerror or error}); "
                         "check the path.") from error


def _files(path: Path) -> list[Path]:
    """The files of an input: those of a folder, or a file with those that hold its voxels."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.suffix.lower() not in _HEADERS:
        return [path]
    return [path, *sorted(file for file in path.parent.glob(f"{glob.escape(path.stem)}.*") if file != path)]
