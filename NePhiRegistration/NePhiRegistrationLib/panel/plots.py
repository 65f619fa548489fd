"""The loss curve and the histogram, painted into labels with QPainter: light enough for ten pictures a second."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

MARGINS = (56, 8, 8, 18)  # left, top, right, bottom, pixels


class Canvas:
    """A picture as large as a label, with axes and coordinates of the data.

    Args:
        label: a QLabel; it gets the picture when it is done.
        x, y: (lowest, highest) of the data.
    """

    def __init__(self, label: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._label, self._x, self._y = label, x, y
        self.width, self.height = max(label.width, 160), max(label.height, 60)
        self._pixmap = qt.QPixmap(self.width, self.height)
        self._pixmap.fill(label.palette.color(qt.QPalette.Base))
        self._painter = qt.QPainter()
        self._painter.begin(self._pixmap)
        self._ink = label.palette.color(qt.QPalette.Text)
        font = label.font  # a copy, as every value of a property
        font.setPointSize(8)
        self._painter.setFont(font)
        self.pen(self._ink, 1)
        left, top, right, bottom = MARGINS
        self._painter.drawLine(left, self.height - bottom, self.width - right, self.height - bottom)
        self._painter.drawLine(left, top, left, self.height - bottom)

    def pen(self, color: Any, width: int) -> None:
        pen = qt.QPen(qt.QColor(color))
        pen.setWidth(width)
        self._painter.setPen(pen)

    def at(self, x: float, y: float) -> tuple[int, int]:
        """The pixel of a point."""
        left, top, right, bottom = MARGINS
        across = (x - self._x[0]) / max(self._x[1] - self._x[0], 1e-12)
        up = (y - self._y[0]) / max(self._y[1] - self._y[0], 1e-12)
        return (round(left + across * (self.width - left - right)),
                round(self.height - bottom - up * (self.height - top - bottom)))

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self._painter.drawLine(*self.at(x0, y0), *self.at(x1, y1))

    def curve(self, points: Sequence[tuple[float, float]], color: str) -> None:
        """A line through points."""
        self._painter.setRenderHint(qt.QPainter.Antialiasing)
        self.pen(color, 2)
        pixels = [self.at(*point) for point in points]
        for before, after in zip(pixels, pixels[1:]):
            self._painter.drawLine(*before, *after)

    def bar(self, x0: float, x1: float, y: float, color: str) -> None:
        """A filled rectangle from the axis up."""
        left, top = self.at(x0, y)
        right, bottom = self.at(x1, self._y[0])
        self._painter.fillRect(left, top, max(1, right - left), bottom - top, qt.QColor(color))

    def text(self, x: int, y: int, text: str) -> None:
        """Text with its baseline at a pixel."""
        self.pen(self._ink, 1)
        self._painter.drawText(x, y, text)

    def show(self) -> None:
        """End painting and show the picture."""
        self._painter.end()
        self._label.setPixmap(self._pixmap)


def draw_losses(label: Any, losses: Sequence[tuple[Any, int, float]]) -> None:
    """The loss against the iteration, each level in its own stretch; iterations may be left out.

    Args:
        losses: (level, iteration of the level, loss) in the order of the iterations.
    """
    values = [value for _level, _iteration, value in losses if math.isfinite(value)]
    if len(values) < 2:
        label.clear()
        return
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 0.1
    levels = [list(level) for _name, level in itertools.groupby(losses, key=operator.itemgetter(0))]
    count = sum(level[-1][1] for level in levels)
    canvas = Canvas(label, (0, count), (low - pad, high + pad))
    canvas.text(2, 18, _number(high))
    canvas.text(2, canvas.height - MARGINS[3], _number(low))
    canvas.text(MARGINS[0], canvas.height - 4, _("loss, {count} iterations").format(count=count))
    start = 0
    for level in levels:
        if start:
            canvas.pen("#a0a0a0", 1)
            canvas.line(start, low - pad, start, high + pad)
        canvas.curve([(start + iteration, value) for _name, iteration, value in level if math.isfinite(value)],
                     "#1f77b4")
        start += level[-1][1]
    canvas.show()


def draw_histogram(label: Any, edges: Sequence[float], counts: Sequence[int], folds: int) -> None:
    """How many voxels have which Jacobian determinant; evenly spaced in its logarithm, a line at 1.

    Args:
        edges: (n + 1) determinants above 0, rising.
        counts: (n) voxels.
        folds: voxels at or below 0.
    """
    if not counts or max(counts) == 0:
        label.clear()
        return
    x = [math.log(edge) for edge in edges]
    canvas = Canvas(label, (x[0], x[-1]), (0, 1.1 * max(counts)))
    for index, count in enumerate(counts):
        if count:
            middle = 0.5 * (x[index] + x[index + 1])
            canvas.bar(x[index], x[index + 1], count, "#4a78c2" if middle < 0 else "#c8553d")
    canvas.pen("#808080", 1)
    canvas.line(0, 0, 0, 1.1 * max(counts))
    canvas.text(MARGINS[0], canvas.height - 4, _number(edges[0]))
    canvas.text(canvas.at(0, 0)[0] - 3, canvas.height - 4, "1")
    canvas.text(canvas.width - 40, canvas.height - 4, _number(edges[-1]))
    canvas.text(2, 18, _count(max(counts)))
    canvas.text(MARGINS[0] + 6, 18, _("no folds") if folds == 0 else _("{count} voxels fold").format(count=folds))
    canvas.show()


def _number(value: float) -> str:
    return f"{value:.3g}"


def _count(value: int) -> str:
    return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value / 1e3:.0f} k" if value >= 1e4 else str(value)
