"""Train weights for learned registration from a TOML configuration, in one process or in many with torchrun."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

HELP = "train weights that predict deformations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi train``."""
    parser.add_argument("config", metavar="CONFIG.toml", help="the configuration, or the name of a shipped one")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder for checkpoints, weights, log")
    parser.add_argument("--data", default=".", metavar="DIR", help="what the configuration's folders are relative to "
                        "(default: the current folder)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    parser.add_argument("--strict", action="store_true", help="an image that cannot be read ends the training")
    parser.add_argument("--steps", type=int, metavar="N", help="another number of steps than the configuration's")
    parser.add_argument("--start", metavar="WEIGHTS", help="train weights further: a file, or the name of shipped ones")


def run(args: argparse.Namespace) -> None:
    """Train, show the progress, say where the weights are."""
    from ..training.config import read_config
    from ..training.loop import BEST, changed, run

    config = changed(read_config(args.config), steps=args.steps, start=args.start)
    quiet = args.quiet or os.environ.get("RANK", "0") != "0"
    steps = run(config, Path(args.output), Path(args.data), args.resume, args.strict)
    with contextlib.closing(steps), _Shown(quiet) as shown:
        for progress in steps:
            shown.progress(progress)
    if not quiet:
        Console(highlight=False, soft_wrap=True).print(f"best weights: {Path(args.output) / BEST}", markup=False)


class _Shown:
    """A bar on a terminal, a line for each entry of the log elsewhere, or nothing."""

    def __init__(self, quiet: bool) -> None:
        console = Console(stderr=True)
        self._quiet, self._bar = quiet, None
        if not quiet and console.is_terminal:
            self._bar = Bar(TextColumn("training"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}"),
                            console=console)
            self._task = self._bar.add_task("training", note="")

    def __enter__(self) -> _Shown:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def progress(self, progress) -> None:
        """Show a :class:`nephi.training.loop.TrainingProgress`."""
        if self._quiet or not (progress.terms or progress.scores):
            return
        parts = [f"{progress.step}/{progress.steps}"]
        parts += [f"{name} {value:.4g}" for name, value in progress.terms.items()]
        if progress.scores is not None:
            parts += [f"| {name} {value:.4g}" for name, value in progress.scores.known().items()]
        minutes = round(progress.seconds_left / 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02d} h left")
        note = "  ".join(parts)
        if self._bar is None:
            print(f"nephi: {note}", file=sys.stderr, flush=True)
        else:
            self._bar.update(self._task, completed=progress.step, total=progress.steps, note=note)
