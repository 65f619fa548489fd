"""The axes, curves and labels of a chart as SVG: sharp in print, without a drawing library."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

COLOURS = ("#3b6ea8", "#c9622b", "#4d8f57", "#8a5aa5", "#a8473b", "#5b6670")
_INK, _AXIS, _RULE = "#5d6b7a", "#9aa6b2", "#e1e6eb"
_MOST_POINTS = 600


@dataclass(frozen=True)
class Axes:
    """Where values lie in a picture; every method returns SVG elements. Values are numbers or arrays.

    Attributes:
        x, y: the lowest and the highest value.
        left: where the chart begins in the picture.
        width, height: of the chart with its labels, picture units.
        margins: left, right, top, bottom.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    left: float = 0.0
    width: float = 560.0
    height: float = 250.0
    margins: tuple[float, float, float, float] = (52.0, 14.0, 26.0, 38.0)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The left, right, top and bottom edge of the drawing."""
        left, right, top, bottom = self.margins
        return self.left + left, self.left + self.width - right, top, self.height - bottom

    def place(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Picture units of values."""
        left, right, top, bottom = self.box
        return (left + (right - left) * (x - self.x[0]) / max(self.x[1] - self.x[0], 1e-12),
                bottom - (bottom - top) * (y - self.y[0]) / max(self.y[1] - self.y[0], 1e-12))

    def rules(self, count: int = 4) -> str:
        """Horizontal lines at round values, labelled on the left."""
        left, right, _, _ = self.box
        heights = [(value, self.place(self.x[0], value)[1]) for value in ticks(*self.y, count)]
        return "".join(line(left, y, right, y, _RULE) + text(left - 7, y + 3.5, f"{value:.4g}", "end")
                       for value, y in heights)

    def marks(self, values: Iterable[float], title: str = "", label: Callable[[float], str] = "{:.4g}".format) -> str:
        """The horizontal axis with marks at values, and a title below."""
        left, right, _, bottom = self.box
        places = [(value, self.place(value, self.y[0])[0]) for value in values]
        return "".join([line(left, bottom, right, bottom, _AXIS), *(
            line(x, bottom, x, bottom + 4, _AXIS) + text(x, bottom + 17, label(value)) for value, x in places),
            text((left + right) / 2, bottom + 34, title)])

    def split(self, x: float) -> str:
        """A dashed vertical line."""
        across, (_, _, top, bottom) = self.place(x, self.y[0])[0], self.box
        return line(across, top, across, bottom, _AXIS, dashes="3 3")

    def curve(self, x: np.ndarray, y: np.ndarray, colour: str, width: float = 2.0, opacity: float = 1.0) -> str:
        """A line through points, thinned out if there are many; those far outside run along the edge."""
        _, _, top, bottom = self.box
        chosen = np.unique(np.append(np.arange(0, len(x), max(1, len(x) // _MOST_POINTS)), len(x) - 1))
        across, down = self.place(x[chosen], y[chosen])
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, np.clip(down, top - 4, bottom)))
        return (f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
                f'opacity="{opacity}" stroke-linejoin="round"/>')

    def bar(self, left: float, right: float, y: float, colour: str) -> str:
        """A bar from the bottom up to a value, with a gap on either side."""
        (x0, top), (x1, bottom) = self.place(left, y), self.place(right, self.y[0])
        return (f'<rect x="{x0 + 0.4:.1f}" y="{top:.1f}" width="{x1 - x0 - 0.8:.1f}" height="{bottom - top:.1f}" '
                f'fill="{colour}"/>')


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


def line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 1.0, dashes: str = "none") -> str:
    """A straight line in picture units."""
    return (f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" stroke-width="{width}" '
            f'stroke-dasharray="{dashes}"/>')


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = _INK, size: float = 11.5) -> str:
    """Escaped text at a place in picture units."""
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">'
            f'{html.escape(words)}</text>')


def svg(elements: Sequence[str], width: float, height: float, title: str) -> str:
    """A whole picture, for a page."""
    return (f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(title)}" '
            f'font-family="system-ui, sans-serif">{"".join(elements)}</svg>')
