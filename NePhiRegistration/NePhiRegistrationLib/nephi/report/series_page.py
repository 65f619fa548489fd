"""``report.html`` of a series: its film, its curves and the numbers of each frame."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import numpy as np
from torch import Tensor

from ..storage import PathLike, atomic_path
from .axes import COLOURS, Axes, svg, text, ticks
from .number_tables import number, provenance_groups

MOST_CURVES = len(COLOURS)
_COLUMNS = {"mean_mm": ("mean motion, mm", 2), "p95_mm": ("95 % of motion, mm", 2), "volume_ratio": ("volume", 3),
            "folds_percent": ("folds, %", 3), "ncc_before": ("correlation before", 3), "ncc_after": ("after", 3),
            "lungs_ml": ("lungs, ml", 0), "air_ml": ("air, ml", 0),
            "ventilation_correlation": ("ventilation, density to Jacobian", 2)}
"""Of each frame's numbers: what the page calls them, and their decimals."""
_ERRORS = {"closure_mm": "error of the cycle", "drift_mm": "drift of the steps"}


def write_series_page(path: PathLike, report: Mapping, film: bytes, paths: Optional[Tensor] = None,
                      labels: Sequence[str] = ()) -> None:
    """Write the page, completely or not at all.

    Args:
        report: of :func:`nephi.series.series_outputs.write_series_outputs`.
        film: an animated PNG.
        paths: followed points, (frames, n, d) LPS mm.
        labels: of each of them.

    Raises:
        InputError: the folder is missing, cannot be written or is full.
    """
    import jinja2  # only for this page: the other commands start faster without it

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
                                     autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    rows = report["metrics"]["frames"]
    errors = {what: report["metrics"][key] for key, what in _ERRORS.items()}
    shown = {key: head for key, head in _COLUMNS.items() if key in rows[0]}
    page = environment.get_template("series.html.j2").render(
        verdict=report["verdict"], errors=[(what, error) for what, error in errors.items() if error],
        voxel=report["metrics"]["voxel_mm"],
        film="data:image/png;base64," + base64.b64encode(film).decode("ascii"), charts=_charts(report, paths, labels),
        heads=[head for head, _ in shown.values()], count=len(rows), plan=_plan(report["plan"], rows),
        rows=[(row["frame"], row["name"], [number(row[key], digits) for key, (_, digits) in shown.items()])
              for row in rows],
        provenance=provenance_groups(report["provenance"]), schema=report["schema"])
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _plan(plan: Mapping, rows: Sequence[Mapping]) -> str:
    """How the frames were aligned, in words."""
    reference = plan["reference"]
    how = {"mean": "each aligned with the mean of all", "previous": "each aligned with the one before"}.get(
        reference) or f"each aligned with frame {reference}, {rows[reference - 1]['name']}"
    smooth = f", smoothness in time {plan['time_smoothness']:g}" if plan["time_smoothness"] else ""
    return f"{how}{', a cycle' if plan['cycle'] else ''}{smooth}"


def curves(values: Mapping[str, Sequence[Optional[float]]], unit: str, title: str) -> str:
    """Values of each frame as curves with a legend: SVG, empty where nothing is finite.

    Args:
        values: name -> one value for each frame; None or NaN is left out.
        unit: written above the axis.
    """
    arrays = {name: np.array([math.nan if v is None else float(v) for v in row]) for name, row in values.items()}
    known = np.concatenate(list(arrays.values()))
    known = known[np.isfinite(known)]
    if not known.size:
        return ""
    margin = 0.06 * max(float(known.max() - known.min()), 1e-6 * max(1.0, float(abs(known).max())))
    count = len(next(iter(arrays.values())))
    axes = Axes((1, max(count, 2)), (float(known.min()) - margin, float(known.max()) + margin))
    whole = sorted({round(tick) for tick in ticks(1, count)} | {1})
    parts = [axes.rules(), axes.marks(whole, "frame"), text(14, axes.box[2] - 12, unit, "start")]
    names: list[str] = []
    for place, ((name, row), colour) in enumerate(zip(arrays.items(), COLOURS)):
        here = np.isfinite(row)
        parts.append(axes.curve(np.arange(1, count + 1)[here], row[here], colour))
        if len(arrays) > 1:
            names.append(text(axes.box[1] - 4, axes.box[2] + 6 + 15 * place, name, "end", colour))
    parts += [f'<g paint-order="stroke" stroke="#fff" stroke-width="3">{"".join(names)}</g>']  # readable on a curve
    return svg(parts, axes.width, axes.height, title)


def _charts(report: Mapping, paths: Optional[Tensor], labels: Sequence[str]) -> list[tuple[str, str]]:
    rows, volumes = report["metrics"]["frames"], report["metrics"]["volumes_ml"]

    def column(key: str) -> list[Optional[float]]:
        return [row[key] for row in rows]

    found = [("Motion from the reference", curves({"mean": column("mean_mm"), "95 % of points": column("p95_mm")},
                                                  "mm", "Motion")),
             ("Correlation with the reference", curves({"before": column("ncc_before"), "after": column("ncc_after")},
                                                       "", "Correlation")),
             ("Volume", curves({"": column("volume_ratio")}, "times that of the reference", "Volume"))]
    if "lungs_ml" in rows[0]:
        first = {key: column(key) for key in ("lungs_ml", "air_ml")}
        change = {name: [v - row[0] for v in row] for name, row in zip(("volume, by Jacobian", "air, by density"),
                                                                       first.values())}
        found.append(("Change of the lungs since the first frame", curves(change, "ml", "Change of the lungs")))
        found.append(("Ventilation, mean over the lungs", curves(
            {"by Jacobian": column("ventilation_jacobian"), "by density": column("ventilation_density")},
            "share of the volume", "Ventilation")))
    if volumes:
        some = dict(list(volumes.items())[:MOST_CURVES])
        found.append(("Volumes of regions", curves({f"label {label}": row for label, row in some.items()}, "ml",
                                                   "Volumes of regions")))
    if paths is not None:
        lengths = (paths - paths[:1]).norm(dim=2).T[:MOST_CURVES]
        named = {label if labels.count(label) == 1 and not label.isdecimal() else f"point {number}": row
                 for number, (label, row) in enumerate(zip(labels, lengths.tolist()), start=1)}
        found.append(("Followed points, from their first place", curves(named, "mm", "Followed points")))
    return [(title, chart) for title, chart in found if chart]
