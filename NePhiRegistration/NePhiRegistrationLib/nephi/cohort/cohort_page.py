"""``cohort.html``: all pairs in one table that sorts and filters by itself, and how every measure is distributed."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from urllib.parse import quote

from .. import __version__
from ..judge.verdict import HEADLINES
from ..report.number_tables import number
from ..report.page import page_template
from ..storage import PathLike, atomic_path
from .cohort_csv import Result
from .distributions import FENCE, Distribution, distributions

MOST_SHOWN = 5_000
"""So many pairs a browser sorts and filters without lag; of more the page shows those that need a look first."""

_ORDER = ("error", "failed", "check", "unmeasured", "good", "not run")
_WORDS = {"error": "Not registered", **HEADLINES, "unmeasured": "Not measured", "not run": "Not run"}


@dataclass(frozen=True)
class Line:
    """A row of the page's table.

    Attributes:
        number: of the pair in the cohort, from 0.
        state: one of _ORDER.
        rank: of the state, the worst first.
        href: its report, or its folder where there is none, or "".
        pictures: before and after, or nothing.
        words: the reason of the verdict, or the error.
        cells: (value, text, whether it is an outlier) of each measure.
    """

    number: int
    id: str
    state: str
    rank: int
    href: str
    pictures: Sequence[str]
    words: str
    cells: Sequence[tuple[Optional[float], str, bool]]


def write_cohort_page(path: PathLike, results: Sequence[Result], title: str) -> None:
    """Write the page, completely or not at all.

    Raises:
        InputError: the folder cannot be written or is full.
    """
    page = render_cohort_page(results, title)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_cohort_page(results: Sequence[Result], title: str) -> str:
    """The page as text.

    Args:
        title: what the cohort is called.
    """
    spread = distributions(results)
    lines = sorted((_line(number, result, spread) for number, result in enumerate(results)),
                   key=lambda line: (line.rank, line.number))
    states = Counter(line.state for line in lines)
    return page_template("cohort.html.j2", Path(__file__).parent / "templates").render(
        title=title, lines=lines[:MOST_SHOWN], count=len(lines), distributions=spread, fence=FENCE, words=_WORDS,
        states=[(state, states[state]) for state in _ORDER if states[state]], ids=[result.row.id for result in results],
        medians=[(part.measure, number(part.median, part.measure.digits)) for part in spread],
        version=__version__, today=datetime.date.today().isoformat())


def _line(index: int, result: Result, spread: Sequence[Distribution]) -> Line:
    state = {"failed": "error", "not run": "not run"}.get(result.status, result.verdict or "unmeasured")
    folder = quote(result.row.folder)
    href = f"{folder}/{quote(result.files.get('page', ''))}" if result.status == "done" else ""
    pictures = [f"{folder}/{quote(result.files[role])}" for role in ("before", "after") if role in result.files]
    return Line(index, result.row.id, state, _ORDER.index(state), href, pictures, result.error or result.reason,
                [_cell(result, part) for part in spread])


def _cell(result: Result, part: Distribution) -> tuple[Optional[float], str, bool]:
    value = part.measure.of(result)
    return value, number(value, part.measure.digits), value is not None and not (
        part.fences[0] <= value <= part.fences[1])
