"""The table of a cohort: one row a pair, as CSV or TSV."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import Faults, InputError
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
     "preset": "multimodal", "iterations": "60,60,80"},
)
EXAMPLE_COLUMNS = (*NEEDED, *PATHS[2:], "preset", "iterations")


def read_table(path: PathLike, known: Iterable[str], faults: list[str]) -> list[Row]:
    """Read the table; what is wrong with single rows is added to the faults, and those rows are left out.

    Args:
        known: the columns that there may be, beside ``id``.

    Raises:
        InputError: it cannot be read as a table.
    """
    path = Path(path)
    lines = _lines(path)
    heads = _heads(path, lines[0][1], known)
    rows: list[Row] = []
    first: dict[str, int] = {}
    for number, cells in lines[1:]:
        values = {head: cell.strip() for head, cell in zip(heads, cells) if cell.strip()}
        found = _faults_of(values, len(cells) - len(heads))
        id = values.pop("id", "")
        if id and (before := first.setdefault(id.casefold(), number)) != number:
            found.append(f"the id is that of row {before} too; give each pair its own")
        if found:
            faults += [f"row {number}{f' ({id})' if id else ''}: {fault}" for fault in found]
        else:
            rows.append(Row(id, _absolute(values, path.absolute().parent), number, folder_of(id)))
    if len(lines) == 1:
        raise InputError(f"The table {path} has a head but no rows; add one for each pair.")
    return rows


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
    tabs = "\t" in text.lstrip().partition("\n")[0]
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


def _heads(path: Path, cells: Sequence[str], known: Iterable[str]) -> list[str]:
    """The columns in this program's words."""
    heads = [cell.strip().lower().lstrip("-").replace("-", "_").replace(" ", "_") for cell in cells]
    other = next((mark for mark in ";|:" if len(heads) == 1 and mark in heads[0]), None)
    if other:
        raise InputError(f"The columns of the table {path} are separated by {other!r}; separate them by commas (CSV) "
                         "or tabs (TSV).")
    faults = [f"the column {head} is missing" for head in NEEDED if head not in heads]
    faults += [f"there are {heads.count(head)} columns {head!r}" for head in dict.fromkeys(heads)
               if head and heads.count(head) > 1]
    allowed = {*NEEDED, *known, ""}
    faults += [f"there is no option {head!r} for the column of that name" for head in heads if head not in allowed]
    if faults:
        raise Faults(f"The columns of the table {path} cannot be used", faults, f"they may be id, "
                     f"{', '.join(sorted({*known} - {'id'}))}")
    return heads


def _faults_of(values: Mapping[str, str], surplus: int) -> list[str]:
    found = [f"the {name} is missing" for name in NEEDED if name not in values]
    if surplus > 0:
        found.append(f"it has {surplus} cells more than the head has columns; put text with commas "
                     "into quotation marks")
    if (wrong := wrong_id(values.get("id", "x"))) is not None:
        found.append(wrong)
    return found


def _absolute(values: Mapping[str, str], beside: Path) -> dict[str, str]:
    """The cells with paths that do not depend on where the program runs."""
    def place(name: str, cell: str) -> str:
        path = os.path.normpath(beside / os.path.expanduser(cell))
        return path if name in PATHS or (name == "weights" and os.path.isfile(path)) else cell

    return {name: place(name, cell) for name, cell in values.items() if name}
