"""The present choice as a row of a table for 'nephi batch', which reads the nodes' files."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

from ..i18n import tr as _
from ..mrml import landmark_nodes
from ..mrml.node_error import NodeError
from . import transform_files
from .choices import check
from .values import Inputs

COLUMNS = {"fixed": "fixed", "moving": "moving", "fixedMask": "fixed_mask", "movingMask": "moving_mask",
           "fixedExclude": "fixed_exclude", "movingExclude": "moving_exclude", "fixedLabels": "fixed_labels",
           "movingLabels": "moving_labels", "initialTransform": "initial_transform"}
"""Input -> column of its file."""

POINTS = {"landmarks": ("landmarksFixed", "landmarksMoving"), "guide_landmarks": ("guideFixed", "guideMoving")}
"""Column -> the two lists of points that a file of their own is written for."""

_SEGMENTS = {"fixedSegment": "fixedMask", "movingSegment": "movingMask", "fixedExcludeSegment": "fixedExclude",
             "movingExcludeSegment": "movingExclude"}


def append_row(path: Union[str, os.PathLike], inputs: Inputs, preset: str = "generic",
               options: Optional[Mapping[str, Any]] = None) -> str:
    """Add a row to a table, which is made if it is not there; landmarks are written beside it.

    Returns:
        The id of the row.

    Raises:
        NodeError: a choice that cannot be, or a node whose file does not hold what it shows.
        OSError: the table cannot be read or written, one sentence.
    """
    check(inputs)
    path = Path(path)
    for name, mask in _SEGMENTS.items():
        if getattr(inputs, name):
            raise NodeError(_("One segment of {name} is chosen, and a table names whole files; save that segment as a "
                              "label map of its own and choose it.").format(name=getattr(inputs, mask).GetName()))
    row = {column: _file(getattr(inputs, name)) for name, column in COLUMNS.items()
           if getattr(inputs, name) is not None}
    columns, rows = _read(path)
    row["id"] = _id(inputs, {other.get("id", "").casefold() for other in rows})
    row["preset"] = preset
    row.update({name: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
                for name, value in (options or {}).items()})
    for column, names in POINTS.items():
        points = landmark_nodes.read_landmark_pairs(*(getattr(inputs, name) for name in names))
        if points is not None:
            row[column] = f"{row['id']}_{column}.csv"
            transform_files.write_bytes(path.with_name(row[column]), _points_csv(*points))
    columns += [column for column in row if column not in columns]
    transform_files.write_bytes(path, _text(columns, [*rows, row], _delimiter(path)))
    return row["id"]


def _file(node: Any) -> str:
    """The file of a node, if it holds what the node shows."""
    storage = node.GetStorageNode() if node.IsA("vtkMRMLStorableNode") else None
    file = storage.GetFullNameFromFileName() if storage is not None else ""
    if not file or not os.path.isfile(file):
        raise NodeError(_("{name} has no file, and a table names files; save it first.").format(name=node.GetName()))
    if node.GetModifiedSinceRead():
        raise NodeError(_("{name} has changed since its file was read or written; save it first.").format(
            name=node.GetName()))
    if node.GetParentTransformNode() is not None:
        raise NodeError(_("{name} is under a transform, which its file does not have; harden the transform and save "
                          "it.").format(name=node.GetName()))
    return os.path.abspath(file)


def _id(inputs: Inputs, taken: set[str]) -> str:
    """A name for the pair that can be a folder, and that no other row has."""
    words = "_to_".join(re.sub(r"[^\w.+-]+", "-", node.GetName()).strip("-.+") or "volume"
                        for node in (inputs.moving, inputs.fixed))[:140]
    number, id = 1, words
    while id.casefold() in taken:
        number += 1
        id = f"{words}-{number}"
    return id


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of the table that is there, or of an empty one."""
    if not path.exists():
        return ["id", "fixed", "moving"], []
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""),
                                delimiter=_delimiter(path), strict=True)
        rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
        columns = [column for column in reader.fieldnames or () if column]
    except OSError as error:
        raise OSError(_("Cannot read {path} ({reason}); choose another file.").format(
            path=path, reason=error.strerror or error)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise NodeError(_("{path} is not a table ({reason}); choose another file.").format(path=path, reason=error)
                        ) from error
    if not {"id", "fixed", "moving"} <= set(columns):
        raise NodeError(_("{path} has no columns id, fixed and moving; choose a table for 'nephi batch'.").format(
            path=path))
    return columns, rows


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() in (".tsv", ".tab") else ","


def _points_csv(fixed: Any, moving: Any) -> bytes:
    columns = [f"{side}_{axis}" for side in ("fixed", "moving") for axis in "xyz"]
    points = (map(repr, [*a, *b]) for a, b in zip(fixed.tolist(), moving.tolist()))
    return _text(columns, [dict(zip(columns, point)) for point in points], ",")


def _text(columns: list[str], rows: list[dict[str, str]], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")
