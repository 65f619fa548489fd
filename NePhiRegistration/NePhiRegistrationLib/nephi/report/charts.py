"""Small charts as inline SVG: they stay sharp in print and need no drawing library."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np
import torch

from .planes import FOLD_COLOUR, Plane, diverging

_WIDTH, _HEIGHT = 560, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 38
_LEVELS = ("#3b6ea8", "#c9622b", "#4d8f57", "#8a5aa5", "#a8473b", "#5b6670")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers from low to high."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / count
    power = 10 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def loss_chart(history: Sequence[Mapping]) -> str:
    """The loss over all iterations, one colour for each level; the raw values faint, their running mean strong.

    Args:
        history: one mapping for each record, with ``loss`` and, if there are several levels, ``level``; records
            whose ``iteration`` counts up within a level may skip iterations.
    """
    records = [(str(r.get("level", "")), r.get("iteration"), float(r["loss"])) for r in history
               if r.get("loss") is not None and math.isfinite(float(r["loss"]))]
    if len(records) < 2:
        return _empty("No loss was recorded.")
    steps, levels = _steps(records)
    losses = np.array([r[2] for r in records])
    x_scale = _Scale(0, steps[-1], _LEFT, _WIDTH - _RIGHT)
    low, high = np.percentile(losses, 0.5), np.percentile(losses, 99.5)
    margin = 0.06 * max(high - low, 1e-9)
    y_scale = _Scale(low - margin, high + margin, _HEIGHT - _BOTTOM, _TOP)
    parts = [_y_axis(y_scale), _x_axis(x_scale, ticks(0, steps[-1]), "iteration")]
    for number, (name, start, stop) in enumerate(levels):
        colour = _LEVELS[number % len(_LEVELS)]
        part = slice(start, stop)
        parts.append(_polyline(x_scale(steps[part]), y_scale(losses[part]), colour, 1.0, 0.3))
        parts.append(_polyline(x_scale(steps[part]), y_scale(_running_mean(losses[part])), colour, 2.0, 1.0))
        left, right = x_scale(steps[start]), x_scale(steps[stop - 1])
        if number:
            parts.append(f'<line class="split" x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        if name and right - left > 6.5 * len(name):
            parts.append(f'<text x="{(left + right) / 2:.1f}" y="{_TOP - 10}" text-anchor="middle" '
                         f'style="fill:{colour}">{html.escape(name)}</text>')
    return _svg(parts, "Loss by iteration")


def jacobian_histogram(log_values: np.ndarray, limit: float) -> str:
    """How the volume change is spread: a histogram of log-Jacobian values over +-limit, labelled as factors.

    Args:
        log_values: (n,) natural logarithms of determinants.
        limit: the ends of the axis; what is beyond counts in the outermost bars.
    """
    bins = 60
    counts, edges = np.histogram(np.clip(log_values, -limit, limit), bins=bins, range=(-limit, limit))
    if counts.sum() == 0:
        return _empty("No voxels to count.")
    percent = 100 * counts / counts.sum()
    x_scale = _Scale(-limit, limit, _LEFT, _WIDTH - _RIGHT)
    y_scale = _Scale(0, float(percent.max()) * 1.08, _HEIGHT - _BOTTOM, _TOP)
    # The palest colours would vanish on white, so the bars are coloured from further out.
    middles = (edges[:-1] + edges[1:]) / 2
    colours = diverging(np.sign(middles) * (0.3 + 0.7 * np.abs(middles) / limit), 1.0) * 255
    marks = factor_ticks(limit)
    parts = [_y_axis(y_scale, "% of voxels"), _x_axis(x_scale, marks, "volume after / before", factor_label)]
    for value, left, right, (r, g, b) in zip(percent, edges[:-1], edges[1:], colours):
        x0, x1, y = x_scale(left), x_scale(right), y_scale(value)
        parts.append(f'<rect x="{x0 + 0.4:.1f}" y="{y:.1f}" width="{x1 - x0 - 0.8:.1f}" '
                     f'height="{_HEIGHT - _BOTTOM - y:.1f}" fill="rgb({r:.0f},{g:.0f},{b:.0f})"/>')
    parts.append(f'<line class="split" x1="{x_scale(0):.1f}" x2="{x_scale(0):.1f}" y1="{_TOP}" '
                 f'y2="{_HEIGHT - _BOTTOM}"/>')
    return _svg(parts, "Histogram of the Jacobian determinant")


def factor_ticks(limit: float) -> list[float]:
    """Logarithms of round volume factors within +-limit."""
    step = max([1.02, *[s for s in (1.05, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0, 3.0) if 2 * math.log(s) <= limit]])
    return [n * math.log(step) for n in range(-2, 3) if abs(n) * math.log(step) <= limit]


def factor_label(log_value: float) -> str:
    """The volume factor of a logarithm, such as 1.5×."""
    return f"{math.exp(log_value):.2f}".rstrip("0").rstrip(".") + "×"


def deformation_grid(plane: Plane, deform: Callable[[torch.Tensor], torch.Tensor], step: float) -> str:
    """A regular grid in the plane as the map moves it, seen along the plane's normal: an SVG in mm for the picture.

    Args:
        deform: world points (n, d) LPS mm of the grid's space -> where they go in the same space.
        step: mm between lines.
    """
    width, height = plane.size_mm
    strokes = []
    for length, other, horizontal in ((width, height, True), (height, width, False)):
        along = torch.linspace(0, length, max(40, int(140 * length / max(width, height))))
        for position in np.arange(step / 2, other, step):
            across = torch.full_like(along, float(position))
            x, y = (along, across) if horizontal else (across, along)
            moved = deform(plane.to_world(x, y).to(torch.float32))
            strokes.append(_path(*plane.to_picture(moved)))
    stroke = max(width, height) / 420
    return (f'<svg class="lines" viewBox="0 0 {width:.2f} {height:.2f}" preserveAspectRatio="none" aria-hidden="true">'
            f'<g fill="none" stroke="#1d4f86" stroke-width="{stroke:.2f}">{"".join(strokes)}</g></svg>')


def fold_colour() -> str:
    """The colour of folds, for CSS."""
    return "rgb({},{},{})".format(*FOLD_COLOUR)


class _Scale:
    """A linear map from values to picture units."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self._start = float(low), float(high), start
        self._slope = (end - start) / max(float(high) - float(low), 1e-12)

    def __call__(self, value):
        return self._start + (value - self.low) * self._slope


def _steps(records: list) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Iterations counted over all levels, and the levels as (name, first record, last record + 1)."""
    levels: list[tuple[str, int, int]] = []
    steps = np.zeros(len(records))
    base = 0.0
    for i, (name, iteration, _) in enumerate(records):
        previous = records[i - 1] if i else None
        if previous is None or previous[0] != name:
            base = steps[i - 1] if i else 0.0
            levels.append((name, i, i + 1))
        levels[-1] = (levels[-1][0], levels[-1][1], i + 1)
        within = iteration if iteration is not None else i - levels[-1][1]
        steps[i] = max(base + float(within), steps[i - 1] if i else 0.0)
    if steps[-1] <= 0:
        steps = np.arange(len(records), dtype=float)
    return steps, levels


def _running_mean(values: np.ndarray) -> np.ndarray:
    """A centred mean over about a twelfth of the values, shrinking towards the ends."""
    half = max(1, len(values) // 24)
    total = np.concatenate([[0.0], np.cumsum(values)])
    reach = np.minimum(half, np.minimum(np.arange(len(values)), np.arange(len(values))[::-1]))
    low, high = np.arange(len(values)) - reach, np.arange(len(values)) + reach + 1
    return (total[high] - total[low]) / (high - low)


def _polyline(x: np.ndarray, y: np.ndarray, colour: str, width: float, opacity: float) -> str:
    stride = max(1, len(x) // 600)
    chosen = np.unique(np.append(np.arange(0, len(x), stride), len(x) - 1))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[chosen], np.clip(y[chosen], _TOP - 4, _HEIGHT - _BOTTOM)))
    return (f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}" '
            f'stroke-linejoin="round"/>')


def _path(x: torch.Tensor, y: torch.Tensor) -> str:
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist())]
    return f'<path d="M{"L".join(points)}"/>'


def _y_axis(scale: _Scale, title: str = "") -> str:
    parts = []
    for value in ticks(scale.low, scale.high, 4):
        y = scale(value)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                     f'<text x="{_LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{value:.4g}</text>')
    if title:
        parts.append(f'<text x="{_LEFT - 7}" y="{_TOP - 12}" text-anchor="start" dx="-38">{html.escape(title)}</text>')
    return "".join(parts)


def _x_axis(scale: _Scale, values: Sequence[float], title: str, label=lambda v: f"{v:.4g}") -> str:
    base = _HEIGHT - _BOTTOM
    parts = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>']
    for value in values:
        x = scale(value)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
                     f'<text x="{x:.1f}" y="{base + 17}" text-anchor="middle">{html.escape(label(value))}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{html.escape(title)}</text>')
    return "".join(parts)


def _svg(parts: Sequence[str], title: str) -> str:
    return (f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">'
            f'{"".join(parts)}</svg>')


def _empty(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'
