"""Curves as SVG, for the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nephi.report.charts import ticks

LEFT, RIGHT, TOP, BOTTOM = 62, 24, 44, 76
COLOURS = ("#c9622b", "#3b6ea8", "#4d8f57")


@dataclass(frozen=True)
class Axes:
    """What is drawn along the axes, and where.

    Attributes:
        title, below: words above the curves and beneath them.
        x, y: the lowest and the highest value.
        left: where the drawing begins in the picture, pixels.
    """

    title: str
    below: str
    x: tuple[float, float]
    y: tuple[float, float]
    left: float = 0.0
    width: float = 420.0
    height: float = 330.0

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a value."""
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return (self.left + LEFT + (self.width - LEFT - RIGHT) * across,
                self.height - BOTTOM - (self.height - BOTTOM - TOP) * up)

    def draw(self, series: Mapping[str, Sequence[tuple[float, float]]], decimals: int = 2) -> list[str]:
        """The axes and one curve for each name, every point with its value."""
        start, end = self.left + LEFT, self.left + self.width - RIGHT
        parts = [text(start, 22, self.title, "start", "#222", 14)]
        for value in ticks(*self.y, 5):
            y = self.place(0, value)[1]
            parts += [f'<path d="M{start} {y:.1f}H{end}" stroke="#ddd"/>', text(start - 8, y + 4, f"{value:g}", "end")]
        parts += [text(self.place(x, 0)[0], self.height - BOTTOM + 19, f"{x:g}") for x in ticks(*self.x, 6)]
        parts.append(text((start + end) / 2, self.height - BOTTOM + 38, self.below))
        for number, (name, points) in enumerate(series.items()):
            colour = COLOURS[number]
            spots = [self.place(*point) for point in points]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
            side = 1 if number == 0 else -1  # values beside the curve: of the first to the right, of others to the left
            down = side if points[0][1] < points[-1][1] else -side
            for (x, y), (_x, value) in zip(spots, points):
                parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
                          text(x + 14 * side, y + (19 if down > 0 else -9), f"{value:.{decimals}f}", colour=colour)]
            x = start + 190 * number
            parts += [f'<path d="M{x} {self.height - 13}h22" stroke="{colour}" stroke-width="2.5"/>',
                      text(x + 28, self.height - 9, name, "start")]
        return parts


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = "#555", size: int = 12) -> str:
    """Words in the picture."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{words}</text>'


def svg(parts: Sequence[str], width: float, height: float) -> str:
    """A whole picture on white."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" font-family="Helvetica, Arial, sans-serif"><rect width="100%" height="100%" fill="white"/>'
            f'{"".join(parts)}</svg>')
