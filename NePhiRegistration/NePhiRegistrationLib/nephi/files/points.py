"""Point lists: CSV and Slicer markups (.mrk.json, and .fcsv of older versions), and pairs of landmarks.

Points are LPS mm in memory. Slicer's files say which of LPS or RAS they use; CSV files are LPS.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid
from ..storage import LARGEST_TEXT, PathLike, atomic_path, read_bytes

_AXES = ("x", "y", "z")
_RAS_TO_LPS = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
_MARKUPS_SCHEMA = ("https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
                   "markups-schema-v1.0.3.json#")


@dataclass(frozen=True)
class PointList:
    """Named points.

    Attributes:
        points: (n, d) float64 LPS mm.
        labels: n names; empty strings where the file has none.
        document: the markups file the points came from, kept so that colours and descriptions survive a round trip.
    """

    points: Tensor
    labels: tuple[str, ...]
    document: Optional[dict] = None

    def __len__(self) -> int:
        return len(self.labels)

    def moved_to(self, points: Tensor) -> PointList:
        """The same list at other positions, (n, d) LPS mm."""
        if points.shape != self.points.shape:
            raise InputError(f"{len(points)} positions were given for {len(self)} points; give one for each.")
        return replace(self, points=points.detach().to("cpu", torch.float64))


def read_points(path: PathLike) -> PointList:
    """Read a point list.

    Args:
        path: a .csv with columns x, y (and z) in LPS mm, with or without a header and an optional label column; or a
            Slicer markups .mrk.json or .fcsv, LPS or RAS.

    Raises:
        InputError: missing or unreadable file, unknown type, no points, a coordinate that is not a finite number.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return _read_markups(path)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _read_csv(path)
    if path.suffix.lower() == ".fcsv":
        return _read_fcsv(path)
    raise InputError(f"{path.name} is not a point list this program reads; use .csv or Slicer's .mrk.json or .fcsv.")


def write_points(points: PointList, path: PathLike) -> None:
    """Write a point list as .csv or .mrk.json, by the name's ending; always LPS mm, under a temporary name first.

    Raises:
        InputError: another ending, 2D points as markups, an unwritable folder.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        text = json.dumps(_markups_document(points, path), indent=2) + "\n"
    elif path.suffix.lower() == ".csv":
        text = _csv_text(points)
    else:
        raise InputError(f"{path.name} is not a point list this program writes; end it in .csv or .mrk.json.")
    with atomic_path(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")


def read_landmark_pairs(path: PathLike, fixed_grid: Optional[Grid] = None,
                        moving_grid: Optional[Grid] = None) -> tuple[Tensor, Tensor]:
    """Read corresponding points from a CSV of fixed_x, fixed_y, fixed_z, moving_x, moving_y, moving_z (LPS mm).

    Without a header the columns are in this order. In 2D there is no z.

    Args:
        fixed_grid, moving_grid: when given, points outside them are refused.

    Returns:
        (fixed, moving), each (n, d) float64 LPS mm.

    Raises:
        InputError: missing or unreadable file, missing columns, a row with a missing or non-finite coordinate, points
            outside an image, no rows.
    """
    path = Path(path)
    rows = _csv_rows(path)
    columns, first = _pair_columns(path, rows)
    numbers = [_row_numbers(path, line, row, columns) for line, row in rows[first:]]
    table = torch.tensor(numbers, dtype=torch.float64)
    if len(table) == 0:
        raise InputError(f"{path.name} has no landmark pairs; give one row for each pair.")
    fixed, moving = table.chunk(2, dim=1)
    check_landmark_pairs(fixed, moving, fixed_grid, moving_grid, path.name)
    return fixed.contiguous(), moving.contiguous()


def check_landmark_pairs(fixed: Tensor, moving: Tensor, fixed_grid: Optional[Grid] = None,
                         moving_grid: Optional[Grid] = None, name: str = "The landmark list") -> None:
    """Refuse landmarks of unequal number, of another dimension than the images, or outside them.

    Raises:
        InputError: naming the first point that is outside and how many are.
    """
    if len(fixed) != len(moving):
        raise InputError(f"{name} has {len(fixed)} fixed landmarks and {len(moving)} moving ones; "
                         "give as many of each, in the same order.")
    for role, points, grid in (("fixed", fixed, fixed_grid), ("moving", moving, moving_grid)):
        if grid is not None:
            _check_inside(name, role, points, grid)


def _check_inside(name: str, role: str, points: Tensor, grid: Grid) -> None:
    if points.shape[1] != grid.dim:
        raise InputError(f"{name} has {points.shape[1]}D points and the {role} image is {grid.dim}D; "
                         f"give {grid.dim} coordinates for each point.")
    outside = (~grid.contains(points)).nonzero().flatten().tolist()
    if outside:
        where = ", ".join(f"{c:.6g}" for c in points[outside[0]].tolist())
        raise InputError(f"{name}: {len(outside)} of {len(points)} {role} landmarks lie outside the {role} image, the "
                         f"first is number {outside[0] + 1} at ({where}); coordinates must be LPS mm "
                         f"(negate x and y of RAS points).")


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"There is no file {path}; check the name.")
    try:
        return read_bytes(path, LARGEST_TEXT).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"{path.name} cannot be read as text; give a .csv or Slicer's .mrk.json.") from problem


def _csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The non-empty, non-comment rows with their line numbers, cells stripped; commas, semicolons or tabs."""
    text = _read_text(path)
    if "\0" in text:
        raise InputError(f"{path.name} is not a text file; give a .csv with one point a row.")
    head = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    rows = [(number, row) for number, row in rows if any(row) and not row[0].startswith("#")]
    if not rows:
        raise InputError(f"{path.name} is empty; give one point, or one pair of landmarks, a row.")
    return rows


def _number(cell: str) -> Optional[float]:
    try:
        return float(cell)
    except ValueError:
        return None


def _row_numbers(path: Path, line: int, row: Sequence[str], columns: Sequence[int]) -> list[float]:
    values = []
    for column in columns:
        cell = row[column] if column < len(row) else ""
        value = _number(cell)
        if value is None or not math.isfinite(value):
            shown = f"'{cell}'" if cell else "nothing"
            raise InputError(f"{path.name}, line {line}: column {column + 1} holds {shown} where a coordinate in mm is "
                             f"needed; every point needs {len(columns)} numbers.")
        values.append(value)
    return values


def _pair_columns(path: Path, rows: list[tuple[int, list[str]]]) -> tuple[list[int], int]:
    """The columns of the coordinates, fixed then moving, and the number of rows above the first pair."""
    header = [cell.lower() for cell in rows[0][1]]
    if "fixed_x" in header or "moving_x" in header:
        axes = [a for a in _AXES if f"fixed_{a}" in header or f"moving_{a}" in header]
        names = [f"{side}_{a}" for side in ("fixed", "moving") for a in axes]
        missing = [name for name in names if name not in header]
        if missing or len(axes) < 2:
            raise InputError(f"{path.name} lacks the column {(missing or ['fixed_y'])[0]}; the columns are fixed_x, "
                             f"fixed_y, fixed_z, moving_x, moving_y, moving_z.")
        return [header.index(name) for name in names], 1
    if all(_number(cell) is not None for cell in header) and len(header) in (4, 6):
        return list(range(len(header))), 0
    raise InputError(f"{path.name} does not look like landmark pairs; the columns are fixed_x, fixed_y, fixed_z, "
                     f"moving_x, moving_y, moving_z.")


def _read_csv(path: Path) -> PointList:
    rows = _csv_rows(path)
    header = [cell.lower() for cell in rows[0][1]]
    if "x" in header and "y" in header:
        columns = [header.index(a) for a in _AXES if a in header]
        label = next((header.index(name) for name in ("label", "name", "id") if name in header), None)
        body = rows[1:]
    else:
        columns, label = _columns_without_header(path, rows[0][1])
        body = rows
    if not body:
        raise InputError(f"{path.name} has a header and no points; give one point a row.")
    points = [_row_numbers(path, number, row, columns) for number, row in body]
    labels = [row[label] if label is not None and label < len(row) else "" for _, row in body]
    return PointList(torch.tensor(points, dtype=torch.float64), tuple(labels))


def _read_fcsv(path: Path) -> PointList:
    """Slicer's older file of points: comments that name the coordinate system and the columns, then rows."""
    comments = [line.lstrip("# ").partition("=") for line in _read_text(path).splitlines() if line.startswith("#")]
    header = {key.strip().lower(): value.strip() for key, _, value in comments}
    system = header.get("coordinatesystem", "RAS").upper()
    if system not in ("LPS", "RAS", "0", "1"):  # numbers until version 4.10
        raise InputError(f"{path.name} uses the coordinate system {system!r}; save it as LPS or RAS.")
    columns = [word.strip() for word in header.get("columns", "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label").split(",")]
    missing = [axis for axis in _AXES if axis not in columns]
    if missing:
        raise InputError(f"{path.name} lacks the column {missing[0]}; save the list from Slicer's Markups module again."
                         )
    rows, label = _csv_rows(path), columns.index("label") if "label" in columns else len(columns)
    at = [columns.index(axis) for axis in _AXES]
    points = torch.tensor([_row_numbers(path, line, row, at) for line, row in rows], dtype=torch.float64)
    return PointList(points if system in ("LPS", "1") else points * _RAS_TO_LPS,
                     tuple(row[label] if label < len(row) else "" for _, row in rows))


def _columns_without_header(path: Path, row: Sequence[str]) -> tuple[list[int], Optional[int]]:
    """The first two or three numeric columns in a row, and the first other column as the label."""
    numeric = [i for i, cell in enumerate(row) if _number(cell) is not None]
    words = [i for i, cell in enumerate(row) if cell and _number(cell) is None]
    if len(numeric) not in (2, 3) or len(words) > 1:
        raise InputError(f"{path.name} needs columns x, y, z (LPS mm), with a header if there are others; its first "
                         f"row is '{','.join(row)[:60]}'.")
    return numeric, words[0] if words else None


def _csv_text(points: PointList) -> str:
    named, text = any(points.labels), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_AXES[:points.points.shape[1]], *["label"] * named])
    for position, label in zip(points.points.tolist(), points.labels):
        writer.writerow([*(f"{value:.12g}" for value in position), *[label] * named])
    return text.getvalue()


def _read_markups(path: Path) -> PointList:
    try:
        document = json.loads(_read_text(path))
        markup = document["markups"][0]
        controls = [c for c in markup["controlPoints"] if c.get("positionStatus", "defined") == "defined"]
        positions = [[float(value) for value in c["position"]] for c in controls]
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as problem:
        raise InputError(f"{path.name} is not a Slicer markups file with control points; save the list from Slicer's "
                         f"Markups module again.") from problem
    if not positions:
        raise InputError(f"{path.name} has no placed control points; place some in Slicer first.")
    if any(len(p) != 3 or not all(math.isfinite(v) for v in p) for p in positions):
        raise InputError(f"{path.name} has a control point whose position is not three finite numbers; correct it.")
    points = torch.tensor(positions, dtype=torch.float64)
    system = str(markup.get("coordinateSystem", "LPS")).upper()
    if system not in ("LPS", "RAS"):
        raise InputError(f"{path.name} uses the coordinate system {system!r}; save it as LPS or RAS.")
    if system == "RAS":
        points = points * _RAS_TO_LPS
    document = {**document, "markups": [{**markup, "controlPoints": controls}]}
    return PointList(points, tuple(str(c.get("label", "")) for c in controls), document)


def _markups_document(points: PointList, path: Path) -> dict:
    if points.points.shape[1] != 3:
        raise InputError(f"{path.name}: Slicer's markups are 3D and the points are {points.points.shape[1]}D; "
                         f"write a .csv.")
    if points.document is not None:
        document = copy.deepcopy(points.document)
    else:
        controls = [{"id": str(i + 1), "label": label or f"P-{i + 1}", "selected": True, "locked": False,
                     "visibility": True, "positionStatus": "defined"} for i, label in enumerate(points.labels)]
        document = {"@schema": _MARKUPS_SCHEMA, "markups": [{"type": "Fiducial", "controlPoints": controls}]}
    markup = document["markups"][0]
    markup["coordinateSystem"] = "LPS"
    markup["coordinateUnits"] = "mm"
    for control, position in zip(markup["controlPoints"], points.points.tolist()):
        control["position"] = position
        # Orientations and measurements belong to the old place.
        control.pop("orientation", None)
    markup.pop("measurements", None)
    return document
