"""The table of a cohort: one row a pair, as CSV or TSV."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from ..storage import LARGEST_TEXT, PathLike, atomic_path, read_bytes
from .rows import Row, folder_of, wrong_id

NEEDED = ("id", "fixed", "moving")
MOST_ROWS = 200_000
"""So that none of the 256 folders of results gets more than 1,000 entries."""

PATHS = ("fixed", "moving", "fixed_mask", "moving_mask", "fixed_exclude", "moving_exclude", "fixed_labels",
         "moving_labels", "landmarks", "guide_landmarks", "initial_transform")
"""The columns that hold paths, relative to the table."""

EXAMPLE = (
    {"id": "subject-01", "fixed": "images/subject-01_baseline.nii.gz", "moving": "images/subject-01_followup.nii.gz",
     "fixed_mask": "masks/subject-01_baseline.nii.gz", "moving_mask": "masks/subject-01_followup.nii.gz"},
    {"id": "subject-02", "fixed": "images/subject-02_baseline.nii.gz", "moving": "images/subject-02_followup.nii.gz",
     "moving_exclude": "masks/subject-02_resection.nii.gz"},
    {"id": "subject-03", "fixed": "images/subject-03_t1.nii.gz", "moving": "images/subject-03_t2.nii.gz",
     "preset": "multimodal", "smoothness": "20"},
)
EXAMPLE_COLUMNS = (*NEEDED, *PATHS[2:], "preset", "smoothness")


def read_table(path: PathLike, known: Collection[str]) -> tuple[list[Row], list[tuple[int, str]]]:
    """Read the table.

    Args:
        known: the columns that there may be, beside ``id``.

    Returns:
        The rows that name two images, and all that is wrong with the table itself: (line, clause).

    Raises:
        InputError: it cannot be read as a table.
    """
    path = Path(path)
    lines = _lines(path)
    if len(lines) == 1:
        raise InputError(f"The table {path} has a head but no rows; add one for each pair.")
    number, cells = lines[0]
    heads = _heads(path, cells)
    faults = [(number, fault) for fault in _faults_of_heads(heads, known)]
    rows: list[Row] = []
    for number, cells in lines[1:]:
        values = {head: cell.strip() for head, cell in zip(heads, cells) if cell.strip() and head in known}
        id = cells[heads.index("id")].strip() if "id" in heads[:len(cells)] else ""
        row = Row(id, _absolute(values, path.absolute().parent), number, folder_of(id))
        found = [f"the {name}{' image' * (name != 'id')} is missing" for name in NEEDED
                 if name in heads and not {"id": id, **values}.get(name)]
        if len(cells) > len(heads):
            found.append(f"it has {len(cells)} cells, and the head has {len(heads)}; put text with commas into "
                         "quotation marks")
        if id and (wrong := wrong_id(id)) is not None:
            found.append(wrong)
        faults += [(number, f"{row.place}: {fault}") for fault in found]
        if {"fixed", "moving"} <= values.keys():
            rows.append(row)
    return rows, faults


def write_table(path: PathLike, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Write rows as a table, of tabs where the name ends in .tsv.

    Raises:
        InputError: it is there already, or cannot be written.
    """
    if Path(path).exists():
        raise InputError(f"{path} is there already; choose another name.")
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=_delimiter(Path(path)), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() in (".tsv", ".tab") else ","


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that hold anything, with their numbers, from 1."""
    try:
        data = bytes(read_bytes(path, LARGEST_TEXT))
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # spreadsheets' "Unicode text"
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The table {path} is not text in UTF-8 ({error.reason}); save it as CSV in UTF-8.") from error
    except OSError as error:
        raise InputError(f"The table {path} cannot be read ({error.strerror or error}); check the path.") from error
    if "\0" in text:
        raise InputError(f"The table {path} is not text; save it as CSV in UTF-8.")
    head = next(iter(text.lstrip().splitlines()), "")
    tabs = "\t" in head
    other = next((mark for mark in ";|: " if mark in head and not tabs and "," not in head), None)
    if other:
        raise InputError(f"The columns of the table {path} are separated by {other!r}; separate them by commas (CSV) "
                         "or tabs (TSV).")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",", strict=True)
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"The table {path} cannot be read as CSV ({error}); check its quotation marks.") from error
    if not lines:
        raise InputError(f"The table {path} is empty; see 'nephi batch --make-template' for an example.")
    if len(lines) > MOST_ROWS + 1:
        raise InputError(f"The table {path} has {len(lines) - 1} rows; give at most {MOST_ROWS} at a time.")
    return lines


def _heads(path: Path, cells: Sequence[str]) -> list[str]:
    """The columns in this program's words."""
    heads = [cell.strip().lower().lstrip("-").replace("-", "_").replace(" ", "_") for cell in cells]
    if not {*NEEDED} & {*heads}:
        raise InputError(f"The first row of the table {path} is {','.join(cells)[:60]!r}; it must name the "
                         "columns, id, fixed and moving among them.")
    return heads


def _faults_of_heads(heads: Sequence[str], known: Collection[str]) -> list[str]:
    found = [f"the column {head} is missing" for head in NEEDED if head not in heads]
    found += [f"there are {heads.count(head)} columns {head!r}" for head in dict.fromkeys(heads)
              if head and heads.count(head) > 1]
    for head in (head for head in dict.fromkeys(heads) if head and head not in {*NEEDED, *known}):
        near = difflib.get_close_matches(head, sorted(known), 1)
        found.append(f"there is no option for the column {head!r}" + (f"; is it {near[0]}?" if near else ""))
    return found


def _absolute(values: Mapping[str, str], beside: Path) -> dict[str, str]:
    """The cells with paths that do not depend on where the program runs."""
    def place(name: str, cell: str) -> str:
        path = os.path.normpath(beside / os.path.expanduser(cell))
        return path if name in PATHS or (name == "weights" and os.path.isfile(path)) else cell

    return {name: place(name, cell) for name, cell in values.items() if name}
