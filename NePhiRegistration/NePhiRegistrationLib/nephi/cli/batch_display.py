"""What ``nephi batch`` prints: a live bar, lines, JSON lines or nothing."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Optional

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichBar

from ..cohort.cohort_csv import Result
from ..cohort.run_cohort import State
from ..judge.verdict import LEVELS
from ..report import plain

LEFT = "cohort.csv, cohort.html, and a folder for each pair"


class Shown:
    """Counts, and shows nothing; the base of the others."""

    def start(self, pairs: int, known: int, name: str = "pairs") -> None:
        """Begin with so many pairs, of which some were finished before, or with something else that is done with
        each of them."""
        self.pairs, self.known, self.name, self.began = pairs, known, name, time.monotonic()
        self.counts: Counter = Counter(done=known)

    def progress(self, state: State) -> None:
        """Take note of a state, and show it."""
        if state.ended is not None:
            self.counts["failed" if "error" in state.ended else "done"] += 1
        self.show(state)

    def show(self, state: State) -> None:
        """Show a state."""

    def done(self, results: Sequence[Result], folder: str, left: str = LEFT) -> None:
        """Show what came of all of it, and what is left in the folder."""

    @property
    def ended(self) -> int:
        """Pairs that are done or failed."""
        return sum(self.counts.values())

    @property
    def seconds_left(self) -> Optional[float]:
        """By the pace up to now; None before any pair has ended."""
        here = self.ended - self.known
        return (time.monotonic() - self.began) / here * (self.pairs - self.ended) if here else None


class _Lines(Shown):
    """One JSON object per line on stdout: ``event`` is "start", "pair" or "done"."""

    def start(self, pairs: int, known: int, name: str = "pairs") -> None:
        super().start(pairs, known, name)
        self._line(event="start", pairs=pairs, finished_before=known, **self._name)

    def show(self, state: State) -> None:
        ended = state.ended
        if ended is not None:
            self._line(event="pair", **self._name, id=ended["id"], status="failed" if "error" in ended else "done",
                       verdict=(ended.get("verdict") or {}).get("level"), error=ended.get("error"),
                       done=self.counts["done"], failed=self.counts["failed"], running=state.running, pairs=self.pairs,
                       workers=state.workers, seconds_left=self.seconds_left, dashboard=state.dashboard)

    def done(self, results: Sequence[Result], folder: str, left: str = LEFT) -> None:
        self._line(event="done", folder=folder, **_verdicts(results))

    @property
    def _name(self) -> dict:
        return {} if self.name == "pairs" else {"step": self.name}

    def _line(self, **values: object) -> None:
        print(json.dumps(plain(values), allow_nan=False), flush=True)


class _Readable(Shown):
    """Prints the result on stdout for a person to read."""

    def done(self, results: Sequence[Result], folder: str, left: str = LEFT) -> None:
        counts = _verdicts(results)
        console = Console(highlight=False, soft_wrap=True, markup=False)
        console.print(", ".join(f"{number} {name}" for name, number in counts["verdicts"].items()) or "no verdicts",
                      f"({counts['done']} of {len(results)} pairs done)")
        for result in [result for result in results if result.error][:10]:
            console.print(f"  - {result.row.id}: {result.error}")
        if counts["failed"] > 10:
            console.print(f"  - and {counts['failed'] - 10} more, all in cohort.csv")
        console.print(f"{folder}: {left}")


class _LogLines(_Readable):
    """A line per pair on stderr, for logs of batch systems."""

    def __init__(self) -> None:
        self._dashboard, self._waits = "", False

    def start(self, pairs: int, known: int, name: str = "pairs") -> None:
        super().start(pairs, known, name)
        if name != "pairs":
            print(f"nephi: {name}", file=sys.stderr, flush=True)

    def show(self, state: State) -> None:
        if state.dashboard != self._dashboard:
            self._dashboard = state.dashboard
            print(f"nephi: Dask's dashboard is at {state.dashboard}", file=sys.stderr, flush=True)
        if not state.workers and not self._waits:
            print("nephi: waiting for workers", file=sys.stderr, flush=True)
        self._waits = not state.workers
        if state.ended is not None:
            what = state.ended.get("error") or (state.ended["verdict"] or {}).get("level") or "done"
            print(f"nephi: {self.ended}/{self.pairs} {state.ended['id']}: {what}", file=sys.stderr, flush=True)


class _Bar(_Readable):
    """A live bar on stderr: done, running, failed, time left, and the dashboard."""

    def __init__(self, bar: RichBar) -> None:
        self._bar, self._task = bar, bar.add_task("checking what is finished", total=None, note="")

    def show(self, state: State) -> None:
        parts = [f"{self.counts['done']} done", f"{state.running} running", f"{self.counts['failed']} failed"]
        if self.seconds_left is not None:
            parts.append(f"{_clock(self.seconds_left)} left")
        if not state.workers:
            parts.append("waiting for workers")
        self._bar.update(self._task, description=self.name, completed=self.ended, total=self.pairs,
                         note="  ".join([*parts, state.dashboard]))


@contextlib.contextmanager
def batch_reporter(quiet: bool, as_json: bool) -> Iterator[Shown]:
    """The display for the options and the terminal, shown until the block ends."""
    console = Console(stderr=True)
    if as_json or quiet or not console.is_terminal:
        yield _Lines() if as_json else Shown() if quiet else _LogLines()
        return
    with RichBar(TextColumn("{task.description}"), BarColumn(bar_width=24), TaskProgressColumn(),
                 TextColumn("{task.fields[note]}"), console=console, transient=True) as bar:
        yield _Bar(bar)


def _verdicts(results: Sequence[Result]) -> dict:
    levels = Counter(result.verdict for result in results)
    statuses = Counter(result.status for result in results)
    return {"done": statuses["done"], "failed": statuses["failed"],
            "verdicts": {level: levels[level] for level in LEVELS if levels[level]}}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
