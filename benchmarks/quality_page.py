"""Figure and tables of docs/quality.md from the trials of benchmarks/quality.py.

    python benchmarks/quality_page.py FOLDER/trials.json docs/images/quality.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from chart import INK, MARGINS, svg_file
from nephi.judge.verdict import LEVELS
from nephi.report.axes import Axes, text

SET_ON = tuple(f"-{turn}" for turn in range(8))
"""The ends of the names of the trials that the limits were set on."""

LIMIT = 3.0
"""Voxels of true mean error beyond which a result should not be called good."""
COLOURS = {"good": "#2f7d4f", "check": "#c98a1b", "failed": "#b3261e"}
WIDTH, HEIGHT = 760, 470
SMALLEST, LARGEST = 0.1, 100.0


def main() -> None:
    """Print the tables, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trials", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    rows = json.loads(args.trials.read_text(encoding="utf-8"))
    print("\n".join([*_verdicts(rows), "", *_estimates(rows)]))
    args.picture.write_text(_picture(rows), encoding="utf-8")


def _groups(rows: Sequence[dict]) -> dict[str, list[dict]]:
    """Trials by what was done to them; those that set the limits apart from those that tried them."""
    pairs = [row for row in rows if row["kind"] == "pair"]
    moved = [row for row in rows if row["kind"].startswith("displaced")]
    return {"limits set on: registered": [row for row in pairs if row["name"][-2:] in SET_ON],
            "limits set on: displaced": [row for row in moved if row["name"][-2:] in SET_ON],
            "limits tried on: registered": [row for row in pairs if row["name"][-2:] not in SET_ON],
            "limits tried on: displaced": [row for row in moved if row["name"][-2:] not in SET_ON],
            "unrelated images": [row for row in rows if row["kind"] == "unrelated"]}


def _verdicts(rows: Sequence[dict]) -> list[str]:
    lines = ["| trials | true mean error | good | check | failed |", "|---|---|---|---|---|"]
    for name, group in _groups(rows).items():
        parts = {"–": [row for row in group if row["error"] is None],
                 f"≤ {LIMIT:g} voxels": [row for row in group if row["error"] is not None and row["error"] <= LIMIT],
                 f"> {LIMIT:g} voxels": [row for row in group if row["error"] is not None and row["error"] > LIMIT]}
        lines += [f"| {name} | {error} | " + " | ".join(str(sum(row["verdict"] == level for row in part))
                                                        for level in LEVELS) + " |"
                  for error, part in parts.items() if part]
    return lines


def _estimates(rows: Sequence[dict]) -> list[str]:
    lines = ["| trials | n | r, both up to the reach | r | rank correlation |", "|---|---|---|---|---|"]
    for name, group in {**_groups(rows), "all": rows}.items():
        known = [row for row in group if row["error"] is not None and row["metrics"]["residual_mm"]]
        if len(known) < 3:
            continue
        error, estimate, reach = (np.array(values) for values in zip(*(_numbers(row) for row in known)))
        ranks = [np.argsort(np.argsort(values)) for values in (error, estimate)]
        r = [np.corrcoef(a, b)[0, 1] for a, b in ((np.minimum(error, reach), estimate), (error, estimate), ranks)]
        lines.append(f"| {name} | {len(known)} | " + " | ".join(f"{value:.2f}" for value in r) + " |")
    return lines


def _numbers(row: dict) -> tuple[float, float, float]:
    """True error, estimate and reach, in voxels."""
    found, voxel = row["metrics"]["residual_mm"], row["metrics"]["voxel_mm"]
    return row["error"], found["estimate"] / voxel, found["reach"] / voxel


def _picture(rows: Sequence[dict]) -> str:
    axes = Axes((np.log10(SMALLEST), np.log10(LARGEST)), (np.log10(SMALLEST), np.log10(20.0)), 0.0, WIDTH, HEIGHT,
                MARGINS)
    left, right, _, bottom = axes.box
    named = (0.1, 0.3, 1, 3, 10, 30, 100)
    parts = [text(left, 22, "Estimated against true error, voxels of the fixed image", "start", INK, 14),
             axes.marks(np.log10(named), "true mean error", lambda value: f"{10**value:.3g}"),
             axes.split(np.log10(LIMIT))]
    for value in named[:-2]:
        height = axes.place(axes.x[0], np.log10(value))[1]
        parts.append(text(left - 7, height + 3.5, f"{value:g}", "end"))
    for row in rows:
        if row["error"] is not None and row["metrics"]["residual_mm"]:
            error, estimate, _ = _numbers(row)
            x, y = axes.place(*np.log10(np.clip([error, estimate], SMALLEST, LARGEST)))
            shape = "" if row["kind"] == "pair" else ' fill-opacity="0.35"'
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[row["verdict"]]}"{shape}/>')
    for number, (level, colour) in enumerate(COLOURS.items()):
        across = left + 110 * number
        parts += [f'<circle cx="{across + 5:.1f}" cy="{bottom + 59:.1f}" r="5" fill="{colour}"/>',
                  text(across + 16, bottom + 63, level, "start")]
    parts.append(text(right, bottom + 63, "pale: displaced on purpose", "end"))
    return svg_file(parts, WIDTH, HEIGHT)


if __name__ == "__main__":
    main()
