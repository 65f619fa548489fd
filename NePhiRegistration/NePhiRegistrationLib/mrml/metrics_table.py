"""The numbers of a report (docs/report-schema.md) as a table node and as a CSV file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import vtk

COLUMNS = ("Measure", "Direction", "Value", "Unit")
HISTOGRAM = "NePhi.Histogram"
"""The attribute of a table node with the histogram of the Jacobian determinant, as JSON."""


class Row(NamedTuple):
    """One number of a report."""

    measure: str
    direction: str
    value: float
    unit: str


def rows(report: dict) -> list[Row]:
    """All measured numbers of a report, in the order a person reads them; what was not measured has no row."""
    metrics = report.get("metrics") or {}
    found = [*_residual(metrics), *_similarity(metrics), *_landmarks(metrics), *_labels(metrics),
             *_regularity(metrics), *_run(report)]
    return [row for row in found if row is not None]


def write_metrics(node: Any, report: dict, histogram: Optional[dict] = None) -> None:
    """Fill a vtkMRMLTableNode with the rows of a report; a table that was there is replaced.

    Args:
        histogram: {"edges", "counts", "folds"} of the Jacobian determinant, kept with the node.
    """
    table, lines = vtk.vtkTable(), rows(report)
    for position, title in enumerate(COLUMNS):
        column = vtk.vtkDoubleArray() if title == "Value" else vtk.vtkStringArray()
        column.SetName(title)
        for row in lines:
            column.InsertNextValue(row[position])
        table.AddColumn(column)
    node.SetAttribute(HISTOGRAM, None if histogram is None else json.dumps(histogram))
    node.SetAndObserveTable(table)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)


def read_metrics(node: Any) -> tuple[list[Row], Optional[dict]]:
    """The rows and the histogram that :func:`write_metrics` wrote, in this session or before the scene was saved.

    Returns:
        No rows for a table of another kind.
    """
    table = node.GetTable()
    if table is None or [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())] != list(COLUMNS):
        return [], None
    found = []
    for line in range(table.GetNumberOfRows()):
        measure, direction, value, unit = (table.GetValue(line, column) for column in range(len(COLUMNS)))
        found.append(Row(measure.ToString(), direction.ToString(), value.ToDouble(), unit.ToString()))
    return found, _histogram(node.GetAttribute(HISTOGRAM))


def metrics_csv(lines: Sequence[Row]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(lines)
    return text.getvalue()


def _histogram(text: Optional[str]) -> Optional[dict]:
    """A histogram that can be drawn, or None; a scene may have been edited."""
    try:
        found = json.loads(text) if text else None
        return {"edges": [float(edge) for edge in found["edges"]], "counts": [int(count) for count in found["counts"]],
                "folds": int(found["folds"])} if found else None
    except (ValueError, KeyError, TypeError):
        return None


def _row(measure: str, direction: str, value: Any, unit: str) -> Optional[Row]:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return Row(measure, direction, float(value), unit)


def _residual(metrics: dict) -> list[Optional[Row]]:
    residual, overlap = metrics.get("residual_mm") or {}, metrics.get("overlap") or {}
    found = [_row(f"Estimated error, {title}", "forward", residual.get(key), "mm")
             for key, title in (("estimate", "mean"), ("median", "median of points found"),
                                ("p90", "90th percentile of points found"))]
    share = residual.get("found")
    found.append(_row("Distinctive points found again", "forward", None if share is None else 100 * share, "%"))
    return found + [_row("Overlap", direction, 100 * value, "%") for direction, value in overlap.items()]


def _similarity(metrics: dict) -> list[Optional[Row]]:
    similarity, result = metrics.get("similarity") or {}, []
    names = (("ncc", "Normalised cross-correlation", ""), ("nmi", "Normalised mutual information", ""),
             ("mean_absolute_difference", "Mean absolute difference", "intensity"))
    for key, title, unit in names:
        for when in ("before", "linear", "after"):
            result.append(_row(f"{title}, {when}", "forward", (similarity.get(when) or {}).get(key), unit))
    return result


def _landmarks(metrics: dict) -> list[Optional[Row]]:
    tre = metrics.get("tre_mm") or {}
    titles = {"before": "before", "affine": "linear part only", "mean": "mean", "median": "median",
              "p95": "95th percentile", "max": "largest"}
    found = [_row(f"Landmark error, {title}", "forward", tre.get(key), "mm") for key, title in titles.items()]
    return [*found, _row("Landmarks", "forward", tre.get("count"), "")]


def _labels(metrics: dict) -> list[Optional[Row]]:
    dice, distance = metrics.get("dice") or {}, metrics.get("surface_distance_mm") or {}
    names = metrics.get("label_names") or {}
    found = [_row(f"Dice, {when}", "forward", dice.get(when), "") for when in ("before", "mean")]
    found += [_row(f"Dice, {names.get(str(label), label)}", "forward", value, "")
              for label, value in (dice.get("per_label") or {}).items()]
    found += [_row("Surface distance, mean", "forward", distance.get("mean"), "mm"),
              _row("Surface distance, 95 % Hausdorff", "forward", distance.get("hd95"), "mm")]
    for label, segment in (metrics.get("segments") or {}).items():
        surface = (distance.get("per_label") or {}).get(label) or {}
        found += _segment(names.get(str(label), label), segment, surface)
    return found


def _segment(name: str, segment: dict, surface: dict) -> list[Optional[Row]]:
    """All that is known of one segment beside its Dice."""
    volume, change, center = segment["volume_ml"], segment["jacobian"], segment["centroid_mm"]
    titles = {"mean": "mean", "p05": "5th percentile", "median": "median", "p95": "95th percentile"}
    return [*(_row(f"{name}: surface distance, {title}", "forward", surface.get(key), "mm")
              for key, title in (("mean", "mean"), ("hd95", "95 % Hausdorff"))),
            *(_row(f"{name}: volume, {key}", "", volume.get(key), "ml") for key in ("fixed", "moving", "warped")),
            *(_row(f"{name}: Jacobian, {title}", "forward", change.get(key), "") for key, title in titles.items()),
            *(_row(f"{name}: centroid shift, {key}", "forward", center.get(key), "mm") for key in ("before", "after"))]


def _regularity(metrics: dict) -> list[Optional[Row]]:
    found = []
    kinds = (("analytic", "exact derivative"), ("finite_difference", "finite differences"))
    for direction in ("forward", "inverse"):
        folds = (metrics.get("folds_percent") or {}).get(direction) or {}
        found += [_row(f"Folds, {title}", direction, folds.get(kind), "% of voxels") for kind, title in kinds]
        jacobian = (metrics.get("jacobian") or {}).get(direction) or {}
        titles = {"min": "smallest", "p01": "1st percentile", "median": "median", "p99": "99th percentile",
                  "max": "largest"}
        found += [_row(f"Jacobian, {title}", direction, jacobian.get(key), "") for key, title in titles.items()]
    change = metrics.get("volume_change") or {}
    found.append(_row("Volume changed more than threefold", "forward", change.get("extreme_percent"), "%"))
    consistency = metrics.get("inverse_consistency_mm") or {}
    titles = {"mean": "mean", "p95": "95th percentile", "max": "largest"}
    return found + [_row(f"Inverse-consistency error, {title}", "both", consistency.get(key), "mm")
                    for key, title in titles.items()]


def _run(report: dict) -> list[Optional[Row]]:
    runtime, found = report.get("runtime") or {}, []
    for export in report.get("transforms") or []:
        error = export.get("error_mm") or {}
        found.append(_row("Displacement field error, largest", export.get("direction", ""), error.get("max"), "mm"))
    titles = (("iterations", "Iterations", ""), ("seconds", "Time", "s"), ("peak_memory_gb", "Peak memory", "GB"))
    return found + [_row(title, "", runtime.get(key), unit) for key, title, unit in titles]
