"""The numbers of ``report.html`` as rows of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..judge.verdict import length

_SIDES = ("forward", "inverse")
_SIMILARITIES = {"ncc": "Correlation (NCC)", "nmi": "Normalised mutual information",
                 "mean_absolute_difference": "Mean absolute difference"}
_STATISTICS = {"before": "Mean before", "affine": "Mean after the linear part", "mean": "Mean", "min": "Smallest",
               "p01": "1st percentile", "median": "Median", "p95": "95th percentile", "p99": "99th percentile",
               "max": "Largest"}


@dataclass(frozen=True)
class Table:
    """A titled table.

    Attributes:
        heads: of the columns, names first; all empty for a table without a head row.
        rows: (name, cell, cell...).
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def key_figures(report: Mapping) -> list[tuple[str, str, str]]:
    """(name, number, unit) of the most important results."""
    metrics, runtime = report["metrics"], report["runtime"]
    figures = []
    if metrics.get("tre_mm"):
        figures.append(("Landmark error", *length(metrics["tre_mm"]["mean"]).split()))
    if metrics.get("dice"):
        figures.append(("Mean Dice", number(metrics["dice"]["mean"], 3), ""))
    if metrics.get("residual_mm"):
        figures.append(("Estimated error", *length(metrics["residual_mm"]["estimate"]).split()))
    else:
        figures.append(("Correlation", number((metrics["similarity"]["after"] or {}).get("ncc"), 3), ""))
    worst = max(v for side in metrics["folds_percent"].values() for v in side.values())
    figures.append(("Folds", number(worst, 3), "%") if worst else ("Folds", "none", ""))
    figures.append(("Inverse consistency", *length(metrics["inverse_consistency_mm"]["mean"]).split()))
    figures.append(("Time", number(runtime["seconds"], 0 if (runtime["seconds"] or 0) >= 10 else 1), "s"))
    if runtime["peak_memory_gb"] and len(figures) < 6:
        figures.append(("Peak memory", number(runtime["peak_memory_gb"], 2), "GB"))
    return figures


def number_tables(report: Mapping) -> list[Table]:
    """All numbers of a report except those of each label."""
    metrics = report["metrics"]
    return [*_landmarks(metrics.get("tre_mm")), *_residual(metrics.get("residual_mm")), *_overlap(metrics),
            *_segments(metrics.get("segments")),
            _similarity(metrics["similarity"]), _folds(metrics),
            _consistency(metrics["inverse_consistency_mm"]), *_jacobian(metrics.get("jacobian")),
            *_files(report.get("transforms")), _runtime(report["runtime"])]


def label_rows(metrics: Mapping) -> list[tuple[str, float, str, Optional[str]]]:
    """(label, Dice, Dice as text, 95th percentile of the surface distance in mm or None) of each label."""
    surfaces = (metrics.get("surface_distance_mm") or {}).get("per_label") or {}
    return [(label, value or 0.0, number(value, 3),
             number((surfaces.get(label) or {}).get("hd95"), 1) if surfaces else None)
            for label, value in (metrics.get("dice") or {}).get("per_label", {}).items()]


def provenance_groups(provenance: Mapping) -> list[tuple[str, list[tuple[str, str]]]]:
    """(heading, (name, value) rows) of the provenance; single values have an empty heading."""
    return [(key, list(flattened(value))) if isinstance(value, Mapping) and value else ("", [(key, _shown(value))])
            for key, value in provenance.items()]


def flattened(values: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as (dotted name, text)."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


def number(value: Optional[float], digits: int) -> str:
    """A number with this many decimals; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    rounded = f"{value:.{digits}f}"
    return f"< {10.0 ** -digits:.{digits}f}" if value > 0 and float(rounded) == 0 else rounded


def _landmarks(tre: Optional[Mapping]) -> Iterator[Table]:
    if tre:
        points = f", {tre['count']} points" if tre.get("count") else ""
        yield Table(f"Landmark error{points}", ("", ""), _lengths(tre))


def _residual(residual: Optional[Mapping]) -> Iterator[Table]:
    if residual:
        yield Table(f"Estimated error, {residual['count']} points", ("", ""), [
            ("Mean", length(residual["estimate"])), ("Median of the points found", _length(residual["median"])),
            ("90th percentile of the points found", _length(residual["p90"])),
            ("Points found again", f"{100 * residual['found']:.0f} %")])


def _overlap(metrics: Mapping) -> Iterator[Table]:
    overlap, surface = metrics.get("dice"), metrics.get("surface_distance_mm")
    if overlap:
        rows = [("Mean Dice before", number(overlap["before"], 3)), ("Mean Dice", number(overlap["mean"], 3))]
        if surface:
            rows += [("Mean surface distance", _length(surface["mean"])),
                     ("95th percentile of the surface distance", _length(surface["hd95"]))]
        yield Table(f"Labels ({len(overlap['per_label'])})", ("", ""), rows)


def _segments(segments: Optional[Mapping]) -> Iterator[Table]:
    if segments:
        rows = [(label, *(number(one["volume_ml"][name], 2) for name in ("fixed", "moving", "warped")),
                 number(one["jacobian"]["mean"], 3), number(one["jacobian"]["p05"], 3),
                 number(one["jacobian"]["p95"], 3),
                 *(_length(one["centroid_mm"][when]) for when in ("before", "after")))
                for label, one in segments.items()]
        yield Table("Labels one by one", ("", "Volume fixed (ml)", "moving", "warped", "Jacobian, mean", "5 %", "95 %",
                                          "Centre off before", "after"), rows)


def _similarity(similarity: Mapping) -> Table:
    stages = [similarity.get(when) or {} for when in ("before", "linear", "after")]
    rows = [(title, *(number(stage.get(key), 3) for stage in stages)) for key, title in _SIMILARITIES.items()
            if any(key in stage for stage in stages)]
    return Table("Image similarity", ("", "before", "linear", "after"), rows)


def _folds(metrics: Mapping) -> Table:
    rows = [(f"{place}, {name}", *(number(metrics[key][side][how], 4) for side in _SIDES))
            for place, key in (("Inside the mask", "folds_percent"), ("Whole image", "folds_percent_whole"))
            for how, name in (("analytic", "analytic"), ("finite_difference", "finite differences"))
            if metrics.get(key)]
    return Table("Folds, % of voxels", ("", *_SIDES), rows)


def _consistency(consistency: Mapping) -> Table:
    return Table("Inverse-consistency error", ("", ""), _lengths(consistency))


def _jacobian(jacobian: Optional[Mapping]) -> Iterator[Table]:
    if jacobian:
        sides = [side for side in _SIDES if jacobian.get(side)]
        yield Table("Jacobian determinant", ("", *sides), _statistics(3, *(jacobian[side] for side in sides)))


def _files(transforms: Optional[Sequence[Mapping]]) -> Iterator[Table]:
    if transforms:
        rows = [(t["file"], *map(_length, (t["spacing_mm"], t["error_mm"]["mean"], t["error_mm"]["max"])))
                for t in transforms]
        yield Table("Exported transform files", ("", "spacing", "mean error", "largest error"), rows)


def _runtime(runtime: Mapping) -> Table:
    rows = [("Time, s", number(runtime["seconds"], 1)), ("Peak memory, GB", number(runtime["peak_memory_gb"], 2)),
            ("Device", str(runtime["device"])), ("Iterations", str(runtime["iterations"]))]
    rows += [(f"{str(name)[:1].upper()}{str(name)[1:]}, s", number(seconds, 1))
             for name, seconds in (runtime.get("phases") or {}).items()]
    return Table("Run", ("", ""), rows)


def _statistics(digits: int, *columns: Mapping) -> list[tuple[str, ...]]:
    return [(name, *(number(column[key], digits) for column in columns))
            for key, name in _STATISTICS.items() if all(column.get(key) is not None for column in columns)]


def _lengths(column: Mapping) -> list[tuple[str, str]]:
    return [(name, length(column[key])) for key, name in _STATISTICS.items() if column.get(key) is not None]


def _length(mm: Optional[float]) -> str:
    return "–" if mm is None else length(mm)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(item) for item in value)
    return "none" if value is None else str(value)
