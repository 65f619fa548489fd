"""Train weights that predict deformations, configured by a TOML file; with torchrun in several processes."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

from rich.console import Console

from .display import rich_bar

HELP = "train weights that predict deformations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi train``."""
    parser.add_argument("config", metavar="CONFIG.toml", help="configuration file, or the name of a shipped one")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for checkpoints, weights and log")
    parser.add_argument("--data", default=".", metavar="DIR", help="folder that the folders in the configuration are "
                        "relative to (default: the current folder)")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in the output folder")
    parser.add_argument("--strict", action="store_true", help="stop at the first image that cannot be read, instead of "
                        "skipping it")
    parser.add_argument("--steps", type=int, metavar="N", help="number of training steps (default: that of the "
                        "configuration)")
    parser.add_argument("--start", metavar="WEIGHTS", help="weights to train further: a file, or the name of shipped "
                        "weights")


def run(args: argparse.Namespace) -> None:
    """Train, show the progress and print where the weights are."""
    from ..training.config import read_config
    from ..training.loop import BEST, changed, run

    config = changed(read_config(args.config), steps=args.steps, start=args.start)
    quiet = args.quiet or os.environ.get("RANK", "0") != "0"
    steps = run(config, Path(args.output), Path(args.data), args.resume, args.strict)
    try:
        with contextlib.closing(steps), _display(quiet) as show:
            for progress in steps:
                if progress.terms or progress.scores:
                    show(progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command with --resume goes on from the last checkpoint") from None
    if not quiet:
        Console(highlight=False, soft_wrap=True).print(f"best weights: {Path(args.output) / BEST}", markup=False)


@contextlib.contextmanager
def _display(quiet: bool) -> Iterator[Callable[[Any], None]]:
    """Shows a :class:`nephi.training.loop.TrainingProgress`: a bar on a terminal, a line elsewhere, or nothing."""
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with rich_bar(console) as bar:
            task = bar.add_task("training", note="")
            yield lambda progress: bar.update(task, completed=progress.step, total=progress.steps, note=_note(progress))
    else:
        yield lambda progress: print(f"nephi: {_note(progress)}", file=sys.stderr, flush=True)


def _note(progress: Any) -> str:
    parts = [f"{progress.step}/{progress.steps}"]
    parts += [f"{name} {value:.4g}" for name, value in progress.terms.items()]
    if progress.scores is not None:
        parts += [f"| {name} {value:.4g}" for name, value in progress.scores.known().items()]
    minutes = round(progress.seconds_left / 60)
    return "  ".join([*parts, f"{minutes // 60}:{minutes % 60:02d} h left"])
