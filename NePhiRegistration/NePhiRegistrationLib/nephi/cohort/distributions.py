"""The measures of a cohort: what each is, how it is distributed, and which pairs lie far from the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..report.axes import ticks
from .cohort_csv import Result

FEWEST = 8
"""Fewer values have no outliers."""
FENCE = 1.5
"""Outliers are so many widths of the middle half away from it, as in a box plot."""

_BINS, _WIDTH, _HEIGHT, _SIDE = 30, 300.0, 64.0, 10.0


@dataclass(frozen=True)
class Measure:
    """A number that every report has.

    Attributes:
        key: its dotted name in cohort.csv; of several, the largest counts.
        title, unit: what the page calls it.
        digits: decimals.
        factor: from the report's unit to that of the page.
    """

    key: tuple[str, ...]
    title: str
    unit: str = ""
    digits: int = 2
    factor: float = 1.0

    def of(self, result: Result) -> Optional[float]:
        """Its value for a pair, or None."""
        found = [float(value) for key in self.key
                 if isinstance(value := result.numbers.get(key), (int, float)) and math.isfinite(value)]
        return self.factor * max(found) if found else None


MEASURES = (
    Measure(("metrics.residual_mm.estimate",), "Estimated error", "mm"),
    Measure(("metrics.tre_mm.mean",), "Landmark error", "mm"),
    Measure(("metrics.dice.mean",), "Dice", digits=3),
    Measure(("metrics.surface_distance_mm.hd95",), "Surface distance, 95 %", "mm"),
    Measure(("metrics.similarity.after.nmi",), "Shared information", digits=3),
    Measure(("metrics.similarity.after.ncc",), "Correlation", digits=3),
    Measure(("metrics.overlap.forward", "metrics.overlap.inverse"), "Overlap", "%", 0, 100.0),
    Measure(tuple(f"metrics.folds_percent.{way}.{how}" for way in ("forward", "inverse")
                  for how in ("analytic", "finite_difference")), "Folds", "%", 3),
    Measure(("metrics.volume_change.extreme_percent",), "Extreme volume change", "%"),
    Measure(("metrics.inverse_consistency_mm.mean",), "Inverse consistency", "mm", 3),
    Measure(("runtime.seconds",), "Time", "s", 1),
    Measure(("runtime.peak_memory_gb",), "Peak memory", "GB"),
)
"""What the page shows, the most telling first."""


@dataclass(frozen=True)
class Distribution:
    """One measure over the cohort.

    Attributes:
        measure: which.
        median: of the values.
        fences: beyond them lie the outliers.
        bars: (x, width, height) of a histogram, picture units.
        marks: (x, text) below it.
        outliers: (x, number of the pair) of each.
    """

    measure: Measure
    median: float
    fences: tuple[float, float]
    bars: Sequence[tuple[float, float, float]]
    marks: Sequence[tuple[float, str]]
    outliers: Sequence[tuple[float, int]]


def distributions(results: Sequence[Result]) -> list[Distribution]:
    """Of each measure that at least one pair has."""
    found = []
    for measure in MEASURES:
        values = {number: value for number, result in enumerate(results) if (value := measure.of(result)) is not None}
        if values:
            found.append(_distribution(measure, values))
    return found


def fences(values: np.ndarray) -> tuple[float, float]:
    """Beyond what values are outliers: none where they are few."""
    if len(values) < FEWEST:
        return -math.inf, math.inf
    low, high = np.percentile(values, (25, 75))
    return float(low - FENCE * (high - low)), float(high + FENCE * (high - low))


def _distribution(measure: Measure, values: Mapping[int, float]) -> Distribution:
    numbers = np.array(list(values.values()))
    low, high = float(numbers.min()), float(numbers.max())
    margin = 0.5 * 10.0 ** -measure.digits if high == low else 0.0
    low, high = low - margin, high + margin
    scale = (_WIDTH - 2 * _SIDE) / (high - low)
    counts, edges = np.histogram(numbers, _BINS, (low, high))
    tall = _HEIGHT / counts.max()
    bars = [(_SIDE + (edge - low) * scale, scale * (high - low) / _BINS - 1, count * tall)
            for edge, count in zip(edges, counts) if count]
    limits = fences(numbers)
    outliers = [(_SIDE + (value - low) * scale, number) for number, value in values.items()
                if not limits[0] <= value <= limits[1]]
    marks = [(_SIDE + (value - low) * scale, f"{value:.4g}") for value in ticks(low, high, 4)]
    return Distribution(measure, float(np.median(numbers)), limits, bars, marks, outliers)
