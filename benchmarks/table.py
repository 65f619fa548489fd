"""The measures of the benchmark and the one table they go into."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

COLUMNS = {"nephi": "NePhi", "ants": "ANTs SyN", "elastix": "elastix"}


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Attributes:
        text: what it is called, with its unit.
        digits: after the point.
        worst: the worst of several cases of a pair, not the median.
        most: whether large values are good.
    """

    text: str
    digits: int
    worst: bool = False
    most: bool = False


MEASURES = {
    "tre_mean": Measure("landmark error, mean, mm", 2),
    "tre_median": Measure("landmark error, median, mm", 2),
    "tre_max": Measure("landmark error, largest, mm", 2),
    "truth_mean": Measure("error against the truth, mean, mm", 2),
    "truth_p95": Measure("error against the truth, 95th percentile, mm", 2),
    "truth_max": Measure("error against the truth, largest, mm", 2),
    "dice": Measure("Dice, mean of the labels", 3, most=True),
    "seconds": Measure("wall time, s", 1),
    "fraction": Measure("wall time as a fraction of SyN's", 2),
    "seconds_warped": Measure("wall time with the moving image warped, s", 1),
    "folds_forward_analytic": Measure("folds inside the mask, forward, analytic, %", 4, worst=True),
    "folds_forward_finite_difference": Measure("folds inside the mask, forward, finite differences, %", 4, worst=True),
    "folds_inverse_analytic": Measure("folds inside the mask, inverse, analytic, %", 4, worst=True),
    "folds_inverse_finite_difference": Measure("folds inside the mask, inverse, finite differences, %", 4, worst=True),
    "consistency": Measure("inverse-consistency error, mean, mm", 2),
    "memory": Measure("peak memory of the process, GB", 2),
    "memory_files": Measure("peak memory with every output file written, GB", 2),
}
_NO_FOLDS = {name: 0.0 for name in MEASURES if name.startswith("folds")}
MUST = {
    "lung": {"tre_mean": 1.40, "tre_median": 0.90, "fraction": 0.33, "consistency": 0.3, "memory": 1.0, **_NO_FOLDS},
    "brain": {"dice": 0.755, "fraction": 0.75, "consistency": 0.3, "memory": 1.0, **_NO_FOLDS},
    "2D shapes": {"dice": 0.99, **_NO_FOLDS},
}
WORST_OF_CASES = {"2D shapes": "dice"}
"""Pairs of several cases, and what must be reached by each of them rather than by the median."""


def rows(runs: Sequence[dict]) -> list[dict]:
    """One row for each pair and measure that any run has.

    Args:
        runs: with "pair", "method" and the values of measures, in the order they were run.

    Returns:
        Rows with "pair", "measure", "must", "reached" (None where nothing must be) and "values", method -> the
        values summed up as {"value", "low", "high", "count"}.
    """
    result = []
    for pair in dict.fromkeys(run["pair"] for run in runs):
        by_method = {method: [r for r in runs if r["pair"] == pair and r["method"] == method] for method in COLUMNS}
        for name in MEASURES:
            must = MUST.get(pair, {}).get(name)
            values = {method: summed for method, own in by_method.items()
                      if (summed := _fraction(by_method, method) if name == "fraction" else _sum_up(pair, name, own))}
            if values:
                result.append({"pair": pair, "measure": name, "must": must, "values": values,
                               "reached": _reached(name, must, values.get("nephi"))})
    return result


def markdown(table: Sequence[dict], methods: Sequence[str]) -> str:
    """The rows as one Markdown table, columns aligned for reading as text."""
    cells = [["pair", "measure", "must reach", *[COLUMNS[method] for method in methods]]]
    for row in table:
        measure = MEASURES[row["measure"]]
        mark = {True: "", False: " (missed)", None: ""}[row["reached"]]
        shown = [_cell(row["values"].get(method), measure) for method in methods]
        shown = [text + mark if method == "nephi" else text for method, text in zip(methods, shown)]
        cells.append([row["pair"], measure.text, _limit(row["must"], measure), *shown])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(line, widths)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _sum_up(pair: str, name: str, runs: Sequence[dict]) -> Optional[dict]:
    values = [run[name] for run in runs if run.get(name) is not None]
    if not values:
        return None
    measure = MEASURES[name]
    worst = measure.worst or WORST_OF_CASES.get(pair) == name
    pick: Callable = (min if measure.most else max) if worst else statistics.median
    return {"value": pick(values), "low": min(values), "high": max(values), "count": len(values)}


def _fraction(by_method: dict[str, list[dict]], method: str) -> Optional[dict]:
    """Median time over the median time of SyN."""
    times = {name: [run["seconds"] for run in by_method[name] if run.get("seconds")] for name in (method, "ants")}
    if not all(times.values()):
        return None
    own, reference = times[method], statistics.median(times["ants"])
    return {"value": statistics.median(own) / reference, "low": min(own) / reference, "high": max(own) / reference,
            "count": len(own)}


def _reached(name: str, must: Optional[float], summed: Optional[dict]) -> Optional[bool]:
    if must is None or summed is None:
        return None
    return summed["value"] >= must if MEASURES[name].most else summed["value"] <= must


def _cell(summed: Optional[dict], measure: Measure) -> str:
    if summed is None:
        return "-"
    text = _number(summed["value"], measure.digits)
    if summed["count"] == 1 or summed["low"] == summed["high"]:
        return text
    return f"{text} [{_number(summed['low'], measure.digits)} to {_number(summed['high'], measure.digits)}]"


def _number(value: float, digits: int) -> str:
    return "0" if value == 0 else f"{value:.{digits}f}"


def _limit(must: Optional[float], measure: Measure) -> str:
    if must is None:
        return ""
    return "0" if must == 0 else f"{'>=' if measure.most else '<='} {must:.{measure.digits}f}"
