"""Rows from a folder of images: all pairs of them, neighbours, or all to one."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from ..storage import PathLike
from .cohort_table import MOST_ROWS
from .rows import Row, as_folder, folder_of, wrong_id

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".hdr.gz", ".mgz", ".mgh", ".tif", ".tiff",
           ".png", ".dcm", ".gipl", ".gipl.gz", ".nia", ".vtk")
"""Of the files that count as images; a folder of images counts as one in DICOM."""


def pairs_in(folder: PathLike, which: Sequence[str]) -> list[Row]:
    """The rows of a folder.

    Args:
        which: ("all",), ("neighbours",), or ("to",) with the name of one image or without, for the first.

    Raises:
        InputError: the folder cannot be read or has fewer than two images, or there is no such choice.
    """
    images = images_in(folder)
    kind, *name = which
    if kind not in ("all", "neighbours", "to") or len(name) > (kind == "to"):
        raise InputError(f"There is no way to make pairs named {' '.join(which)!r}; choose all, neighbours, "
                         "or to FIRST.")
    if len(images) < 2:
        raise InputError(f"The folder {folder} has {len(images) or 'no'} image{'s' * (len(images) != 1)}; "
                         "at least two make a pair.")
    count = len(images) * (len(images) - 1) // 2
    if kind == "all" and count > MOST_ROWS:
        raise InputError(f"The {len(images)} images make {count} pairs; give at most {MOST_ROWS} at a time.")
    if kind == "to":
        first = _named(images, name[0]) if name and name[0].lower() != "first" else images[0]
        chosen: Iterable = ((first, other) for other in images if other != first)
    else:
        chosen = itertools.combinations(images, 2) if kind == "all" else zip(images, images[1:])
    pairs = list(chosen)
    ids = [f"{stem_of(moving)}_to_{stem_of(fixed)}" for fixed, moving in pairs]
    count = Counter(map(as_folder, ids))
    return [_row(id, fixed, moving) if count[as_folder(id)] == 1 and stem_of(fixed) != stem_of(moving) else
            _row(f"{moving.name}_to_{fixed.name}", fixed, moving) for id, (fixed, moving) in zip(ids, pairs)]


def images_in(folder: PathLike) -> list[Path]:
    """Its images, in the order of their names with numbers as numbers; without any, its folders that hold files."""
    folder = Path(folder).absolute()
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        files = [entry for entry in entries if entry.is_file() and entry.name.lower().endswith(ENDINGS)]
        series = [entry for entry in entries if entry.is_dir() and any(inner.is_file() for inner in entry.iterdir())]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror or error}); check the path.") from error
    return sorted(files or series, key=lambda path: natural(path.name))


def natural(name: str) -> list:
    """A key that sorts image2 before image10."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part.casefold())
            for part in re.split(r"([0-9]+)", name) if part]


def stem_of(path: Path) -> str:
    """The name of an image without its ending."""
    name = path.name.lower()
    ending = max((end for end in ENDINGS if name.endswith(end)), key=len, default="")
    return path.name if path.is_dir() else path.name[:len(path.name) - len(ending)]


def _named(images: Sequence[Path], name: str) -> Path:
    found = [image for image in images if name in (image.name, stem_of(image))]
    if len(found) != 1:
        raise InputError(f"{len(found) or 'No'} image{'s' * (len(found) > 1)} in {images[0].parent} "
                         f"{'are' if len(found) > 1 else 'is'} named {name!r}; give the whole name of one, such as "
                         f"{images[0].name}.")
    return found[0]


def _row(id: str, fixed: Path, moving: Path) -> Row:
    if (wrong := wrong_id(id)) is not None:
        raise InputError(f"The images {moving.name} and {fixed.name} cannot name their pair ({wrong}); write a table "
                         "with ids of your own.")
    return Row(id, {"fixed": str(fixed), "moving": str(moving)}, folder=folder_of(id))
