"""The charts of ``report.html``: loss, volume change, and the grid that the map bends."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Callable, Optional

import numpy as np
import torch

from .axes import COLOURS, Axes, svg, text, ticks
from .planes import Plane, diverging

_BINS = 60


def loss_chart(history: Sequence[Mapping]) -> str:
    """The loss over all iterations, one colour for each level; the raw values faint, their running mean strong.

    Args:
        history: one mapping for each record, with ``loss`` and, if there are several levels, ``level``; records
            whose ``iteration`` counts up within a level may skip iterations.

    Returns:
        SVG, empty if fewer than two losses are finite.
    """
    records = [(str(r.get("level", "")), r.get("iteration"), float(r["loss"])) for r in history
               if r.get("loss") is not None and math.isfinite(float(r["loss"]))]
    if len(records) < 2:
        return ""
    steps, levels = _steps(records)
    losses = np.array([r[2] for r in records])
    low, high = np.percentile(losses, (0.5, 99.5))
    margin = 0.06 * max(high - low, 1e-9)
    axes = Axes((0, steps[-1]), (low - margin, high + margin))
    parts = [axes.rules(), axes.marks(ticks(0, steps[-1]), "iteration")]
    for number, (name, start, stop) in enumerate(levels):
        colour, part = COLOURS[number % len(COLOURS)], slice(start, stop)
        parts.append(axes.curve(steps[part], losses[part], colour, 1.0, 0.3))
        parts.append(axes.curve(steps[part], _running_mean(losses[part]), colour))
        left, right = (axes.place(steps[i], low)[0] for i in (start, stop - 1))
        if number:
            parts.append(axes.split(steps[start]))
        if name and right - left > 6.5 * len(name):
            parts.append(text((left + right) / 2, axes.box[2] - 10, name, colour=colour))
    return svg(parts, axes.width, axes.height, "Loss by iteration")


def jacobian_histogram(log_values: np.ndarray, limit: float) -> str:
    """The distribution of the volume change: a histogram of log-Jacobian values over +-limit, labelled as factors.

    Args:
        log_values: (n,) natural logarithms of determinants.
        limit: the ends of the axis; values beyond count in the outermost bars.

    Returns:
        SVG, empty if there are no values.
    """
    counts, edges = np.histogram(np.clip(log_values, -limit, limit), bins=_BINS, range=(-limit, limit))
    if counts.sum() == 0:
        return ""
    percent = 100 * counts / counts.sum()
    axes = Axes((-limit, limit), (0, 1.08 * float(percent.max())))
    # The palest colours would vanish on white, so the bars are coloured from further out.
    middles = (edges[:-1] + edges[1:]) / 2
    colours = diverging(np.sign(middles) * (0.3 + 0.7 * np.abs(middles) / limit), 1.0) * 255
    parts = [axes.rules(), text(14, axes.box[2] - 12, "% of voxels", "start"),
             axes.marks(factor_ticks(limit), "volume after / before", factor_label)]
    parts += [axes.bar(left, right, value, f"rgb({r:.0f},{g:.0f},{b:.0f})")
              for value, left, right, (r, g, b) in zip(percent, edges[:-1], edges[1:], colours)]
    return svg([*parts, axes.split(0)], axes.width, axes.height, "Histogram of the Jacobian determinant")


def factor_ticks(limit: float) -> list[float]:
    """Logarithms of round volume factors within +-limit."""
    step = max([1.02, *[s for s in (1.05, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0, 3.0) if 2 * math.log(s) <= limit]])
    return [n * math.log(step) for n in range(-2, 3) if abs(n) * math.log(step) <= limit]


def factor_label(log_value: float) -> str:
    """The volume factor of a logarithm, such as 1.5×."""
    return f"{math.exp(log_value):.2f}".rstrip("0").rstrip(".") + "×"


def deformation_grid(plane: Plane, deform: Callable[[torch.Tensor], torch.Tensor], step: float) -> str:
    """A regular grid in the plane, deformed by the map and projected back: an SVG in mm to lay over the picture.

    Args:
        deform: world points (n, d) LPS mm -> where they go, in the same space.
        step: mm between lines.
    """
    width, height = plane.size_mm
    lines = []
    for length, other, horizontal in ((width, height, True), (height, width, False)):
        along = torch.linspace(0, length, max(40, int(140 * length / max(width, height))))
        for position in np.arange(step / 2, other, step):
            across = torch.full_like(along, float(position))
            lines.append(plane.to_world(*((along, across) if horizontal else (across, along))))
    moved = deform(torch.cat(lines).to(torch.float32)).split([len(line) for line in lines])
    strokes = []
    for x, y in map(plane.to_picture, moved):
        strokes.append("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist())))
    return (f'<svg class="lines" viewBox="0 0 {width:.2f} {height:.2f}" preserveAspectRatio="none" aria-hidden="true">'
            f'<g fill="none" stroke="#1d4f86" stroke-width="{max(width, height) / 420:.2f}">'
            + "".join(f'<path d="{stroke}"/>' for stroke in strokes) + "</g></svg>")


ERRORS = ((1.0, "#2b7bba", "within a voxel"), (3.0, "#e69f00", "1 to 3 voxels"), (math.inf, "#d03b2b", "more"))
"""(up to so many voxels, colour, words) of an error."""
NOT_FOUND_COLOUR = "#8a949e"


def error_points(plane: Plane, points: torch.Tensor, errors: Sequence[Optional[float]]) -> str:
    """Points near a plane, coloured by their error: an SVG in mm to lay over the picture.

    Args:
        points: (n, d) LPS mm.
        errors: voxels; None for a ring.
    """
    width, height = plane.size_mm
    radius = max(width, height) / 90
    x, y = plane.to_picture(points)
    near = torch.ones(len(points), dtype=torch.bool)
    if plane.normal is not None:
        index = plane.grid.to_index(points.double())[:, plane.normal]
        near = (index - plane.index).abs() <= plane.grid.size[plane.normal] / 12
    marks = []
    for a, b, error, shown in zip(x.tolist(), y.tolist(), errors, near.tolist()):
        if shown:
            style = f'fill="none" stroke="{NOT_FOUND_COLOUR}" stroke-width="{radius / 3:.2f}"' if error is None else \
                f'fill="{next(colour for limit, colour, _ in ERRORS if error <= limit)}"'
            marks.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius:.2f}" {style}/>')
    return (f'<svg class="lines" viewBox="0 0 {width:.2f} {height:.2f}" preserveAspectRatio="none" aria-hidden="true">'
            + "".join(marks) + "</svg>")


def _steps(records: list) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Iterations counted over all levels, and the levels as (name, first record, last record + 1)."""
    steps: list[float] = []
    levels = []
    for name, level in itertools.groupby(records, key=operator.itemgetter(0)):
        base, start = steps[-1] if steps else 0.0, len(steps)
        for number, (_, iteration, _) in enumerate(level):
            within = number if iteration is None else iteration
            steps.append(max(base + float(within), steps[-1] if steps else 0.0))
        levels.append((name, start, len(steps)))
    return np.array(steps) if steps[-1] > 0 else np.arange(len(steps), dtype=float), levels


def _running_mean(values: np.ndarray) -> np.ndarray:
    """A centred mean over about a twelfth of the values, shrinking towards the ends."""
    half = max(1, len(values) // 24)
    total = np.concatenate([[0.0], np.cumsum(values)])
    reach = np.minimum(half, np.minimum(np.arange(len(values)), np.arange(len(values))[::-1]))
    low, high = np.arange(len(values)) - reach, np.arange(len(values)) + reach + 1
    return (total[high] - total[low]) / (high - low)
