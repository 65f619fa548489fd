"""The tables of ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from .page import flat, number, shown, table, text


def metric_tables(report: Mapping) -> str:
    """All figures of a report, in tables."""
    metrics = report["metrics"]
    tables = [_landmark_table(metrics.get("tre_mm")), _overlap_table(metrics), _similarity_table(metrics["similarity"]),
              _fold_table(metrics), _consistency_table(metrics["inverse_consistency_mm"]),
              _jacobian_table(metrics.get("jacobian")), _file_table(report.get("transforms")),
              _runtime_table(report["runtime"])]
    return f'<h2>Numbers</h2><div class="tables">{"".join(t for t in tables if t)}</div>'


def _landmark_table(tre: Optional[Mapping]) -> str:
    if not tre:
        return ""
    rows = [("Mean before", tre["before"])]
    if tre.get("affine") is not None:
        rows.append(("Mean after the linear part", tre["affine"]))
    rows += [("Mean", tre["mean"]), ("Median", tre["median"]), ("95th percentile", tre["p95"]), ("Largest", tre["max"])]
    count = f", {tre['count']} points" if tre.get("count") else ""
    return table(f"Landmark error{count}", ("", "mm"), [(name, number(value, 2)) for name, value in rows])


def _overlap_table(metrics: Mapping) -> str:
    overlap, surface = metrics.get("dice"), metrics.get("surface_distance_mm")
    if not overlap:
        return ""
    rows = [("Mean Dice before", number(overlap["before"], 3)), ("Mean Dice", number(overlap["mean"], 3))]
    if surface:
        rows += [("Mean surface distance, mm", number(surface["mean"], 2)),
                 ("Mean 95th percentile of it, mm", number(surface["hd95"], 2))]
    return table(f"Labels, {len(overlap['per_label'])} of them", ("", ""), rows)


def _similarity_table(similarity: Mapping) -> str:
    names = {"ncc": "Correlation (NCC)", "nmi": "Normalised mutual information",
             "mean_absolute_difference": "Mean absolute difference"}
    before, after = similarity["before"], similarity["after"]
    rows = [(names.get(key, key), number(before.get(key), 3), number(value, 3)) for key, value in after.items()]
    return table("Similarity of the images", ("", "before", "after"), rows)


def _fold_table(metrics: Mapping) -> str:
    rows = []
    for place, key in (("inside the mask", "folds_percent"), ("whole image", "folds_percent_whole")):
        for how, name in (("analytic", "analytic"), ("finite_difference", "finite differences")):
            if metrics.get(key):
                rows.append((f"{place[:1].upper()}{place[1:]}, {name}",
                             *[number(metrics[key][side][how], 4) for side in ("forward", "inverse")]))
    return table("Folds, % of voxels", ("", "forward", "inverse"), rows)


def _consistency_table(consistency: Mapping) -> str:
    rows = [("Mean", consistency["mean"]), ("95th percentile", consistency["p95"]), ("Largest", consistency["max"])]
    return table("Inverse consistency", ("", "mm"), [(name, number(value, 3)) for name, value in rows])


def _jacobian_table(jacobian: Optional[Mapping]) -> str:
    if not jacobian:
        return ""
    names = {"min": "Smallest", "p01": "1st percentile", "median": "Median", "p99": "99th percentile", "max": "Largest"}
    sides = [side for side in ("forward", "inverse") if jacobian.get(side)]
    rows = [(name, *[number(jacobian[side].get(key), 3) for side in sides]) for key, name in names.items()]
    return table("Jacobian determinant", ("", *sides), rows)


def _file_table(transforms: Optional[Sequence[Mapping]]) -> str:
    if not transforms:
        return ""
    rows = [(t["file"], number(t["spacing_mm"], 2), number(t["error_mm"]["mean"], 3), number(t["error_mm"]["max"], 3))
            for t in transforms]
    return table("Transform files against the map, mm", ("", "spacing", "mean error", "largest"), rows)


def _runtime_table(runtime: Mapping) -> str:
    rows = [("Time, s", number(runtime["seconds"], 1)), ("Peak memory, GB", number(runtime["peak_memory_gb"], 2)),
            ("Device", text(runtime["device"])), ("Iterations", text(runtime["iterations"]))]
    rows += [(f"{str(name)[:1].upper()}{str(name)[1:]}, s", number(seconds, 1))
             for name, seconds in (runtime.get("phases") or {}).items()]
    return table("Run", ("", ""), rows)


def label_tables(metrics: Mapping) -> str:
    """Dice and surface distance of each label, with bars; nothing without labels."""
    overlap = metrics.get("dice")
    if not overlap:
        return ""
    surfaces = (metrics.get("surface_distance_mm") or {}).get("per_label") or {}
    rows = []
    for label, value in overlap["per_label"].items():
        bar = f'<span class="bars"><span class="meter" style="width:{100 * (value or 0):.0f}%"></span></span>'
        distance = number((surfaces.get(label) or {}).get("hd95"), 1)
        rows.append(f"<tr><th>{text(label)}</th><td>{bar} {number(value, 3)}</td>"
                    f"{f'<td>{distance}</td>' if surfaces else ''}</tr>")
    note = "Dice after registration" + (", and the 95th percentile of the surface distance in mm." if surfaces else ".")
    length = -(-len(rows) // 3)
    columns = "".join(f"<table>{''.join(rows[i:i + length])}</table>" for i in range(0, len(rows), length))
    return f'<section><h2>Labels</h2><p class="note">{note}</p><div class="labels">{columns}</div></section>'


def provenance_table(provenance: Mapping) -> str:
    """What made the result, nested values under their group."""
    rows = []
    for key, value in provenance.items():
        if isinstance(value, Mapping) and value:
            rows.append(f'<tr class="group"><th colspan="2">{text(key)}</th></tr>')
            rows += [f"<tr><th>{text(name)}</th><td>{text(item)}</td></tr>" for name, item in flat(value)]
        else:
            rows.append(f"<tr><th>{text(key)}</th><td>{text(shown(value))}</td></tr>")
    return f'<h2>Provenance</h2><table class="provenance">{"".join(rows)}</table>'
