"""Curves with their values, as SVG files for the documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from nephi.report.axes import COLOURS, Axes, line, text, ticks

MARGINS = (62, 24, 44, 76)
INK = "#222222"


@dataclass(frozen=True)
class Chart:
    """One set of axes.

    Attributes:
        title, below: words above the curves and beneath them.
        marks: values of x that are named.
        label: what names them.
    """

    axes: Axes
    title: str
    below: str
    marks: Sequence[float] = ()
    label: Callable[[float], str] = "{:g}".format

    def draw(self, series: Mapping[str, Sequence[tuple[float, float]]], decimals: int = 2) -> list[str]:
        """The axes and one curve for each name, every point with its value."""
        start, _, _, bottom = self.axes.box
        parts = [text(start, 22, self.title, "start", INK, 14), self.axes.rules(5),
                 self.axes.marks(self.marks or ticks(*self.axes.x, 6), self.below, self.label)]
        for number, (name, points) in enumerate(series.items()):
            colour, (x, y) = COLOURS[number], np.array(points, dtype=float).T
            parts.append(self.axes.curve(x, y, colour, 2.5))
            side = 1 if number == 0 else -1  # values beside the curve: of the first to the right, of others to the left
            down = side if y[0] < y[-1] else -side
            for across, up, value in zip(*self.axes.place(x, y), y):
                parts += [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="{colour}"/>',
                          text(across + 14 * side, up + (19 if down > 0 else -9), f"{value:.{decimals}f}", "middle",
                               colour)]
            left, low = start + 190 * number, bottom + 63
            parts += [line(left, low, left + 22, low, colour, 2.5), text(left + 28, low + 4, name, "start")]
        return parts


def svg_file(parts: Sequence[str], width: float, height: float) -> str:
    """A whole picture on white."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" font-family="Helvetica, Arial, sans-serif"><rect width="100%" height="100%" fill="white"/>'
            f'{"".join(parts)}</svg>')
