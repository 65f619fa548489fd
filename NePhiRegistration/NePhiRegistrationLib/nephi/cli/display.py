"""What a command prints: a registration as it runs (a bar, lines, JSON lines or nothing), and tables of facts."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Union

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichBar
from rich.table import Column, Table

from ..align.registration import Progress
from ..report import plain


class Silent:
    """Shows nothing; the base of the others."""

    def progress(self, state: Progress) -> None:
        """Show the progress of a registration."""

    def step(self, name: str) -> None:
        """Show which output is being written."""

    def done(self, report: dict, folder: str) -> None:
        """Show the report and the folder of the outputs."""


class JsonLines(Silent):
    """One JSON object per line on stdout: ``event`` is "progress", "output" or "done"."""

    def progress(self, state: Progress) -> None:
        self._line(event="progress", phase=state.phase, step=state.step, steps=state.steps, terms=state.terms,
                   iterations_per_second=state.iterations_per_second, seconds_left=state.seconds_left)

    def step(self, name: str) -> None:
        self._line(event="output", name=name)

    def done(self, report: dict, folder: str) -> None:
        self._line(event="done", folder=folder,
                   **{key: report[key] for key in ("files", "verdict", "metrics", "runtime")})

    def _line(self, **values: object) -> None:
        print(json.dumps(plain(values), allow_nan=False), flush=True)


class _Readable(Silent):
    """Prints the result on stdout for a person to read."""

    def done(self, report: dict, folder: str) -> None:
        console, judged = Console(highlight=False, soft_wrap=True), report["verdict"]
        if judged is None:
            console.print(f"Not measured, as --outputs asks.\n{folder}: {', '.join(report['files'].values())}",
                          markup=False)
            return
        colour = {"good": "green", "check": "yellow", "failed": "red"}[judged["level"]]
        console.print(f"[bold {colour}]{judged['headline']}.[/] {judged['text']}")
        for concern in judged["concerns"]:
            console.print(f"  - {concern}", markup=False)
        console.print(f"{folder}: {', '.join(report['files'].values())}", markup=False)


class LogLines(_Readable):
    """A line per phase on stderr, for logs of batch systems."""

    def __init__(self) -> None:
        self._phase = ""

    def progress(self, state: Progress) -> None:
        if state.phase != self._phase:
            self._phase = state.phase
            print(f"nephi: {state.phase}", file=sys.stderr, flush=True)

    def step(self, name: str) -> None:
        print(f"nephi: writing: {name}", file=sys.stderr, flush=True)


class Bar(_Readable):
    """A live bar on stderr: phase, loss terms, iterations per second, time left."""

    def __init__(self, bar: RichBar) -> None:
        self._bar, self._task = bar, bar.add_task("reading", total=None, note="")

    def progress(self, state: Progress) -> None:
        self._bar.update(self._task, description=state.phase, completed=state.step, total=state.steps or None,
                         note=_note(state))

    def step(self, name: str) -> None:
        self._bar.update(self._task, description=f"writing: {name}", total=None, note="")


@contextlib.contextmanager
def reporter(quiet: bool, as_json: bool) -> Iterator[Silent]:
    """The display for the options and the terminal, shown until the block ends."""
    console = Console(stderr=True)
    if as_json or quiet or not console.is_terminal:
        yield JsonLines() if as_json else Silent() if quiet else LogLines()
    else:
        with rich_bar(console) as bar:
            yield Bar(bar)


def print_table(rows: Iterable[tuple[str, str]], *heads: Union[str, Column]) -> None:
    """Print (name, value) rows below the heads, if there are any."""
    table = Table(*heads, show_header=bool(heads), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def rich_bar(console: Console) -> RichBar:
    """A bar with a description before it and a note behind it; it vanishes when it stops."""
    return RichBar(TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}"),
                   console=console, transient=True)


def _note(state: Progress) -> str:
    parts = [f"{name} {value:.4g}" for name, value in state.terms.items()]
    if state.iterations_per_second:
        parts.append(f"{state.iterations_per_second:.1f} it/s")
    if state.seconds_left is not None and math.isfinite(state.seconds_left):
        minutes, seconds = divmod(round(state.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return "  ".join(parts)
