"""Where pairs run: the arguments that all commands for many pairs share."""

from __future__ import annotations

import argparse
import os

import torch

from ..cohort.pool import Place
from ..errors import InputError

PLACE = ("workers", "threads", "scheduler", "scheduler_file", "jobqueue")
"""The arguments of :func:`add_place`, by name."""


def add_place(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where pairs run."""
    place = parser.add_argument_group("where the pairs run", "Without any of these on all cores of this machine.")
    place.add_argument("--workers", type=_count, metavar="N", help="pairs side by side on this machine, or jobs of "
                       "--jobqueue (default: cores divided by --threads; 1 on a GPU); fewer where their memory does "
                       "not suffice")
    place.add_argument("--threads", type=_count, default=1, metavar="M", help="threads of each pair (default: 1)")
    place.add_argument("--scheduler", default="", metavar="ADDRESS", help="a Dask scheduler that is there, such as "
                       "tcp://host:8786")
    place.add_argument("--scheduler-file", default="", metavar="FILE", help="the file that 'dask scheduler "
                       "--scheduler-file' has written")
    place.add_argument("--jobqueue", default="", metavar="CONFIG.yaml", help="a configuration of dask-jobqueue for "
                       "SLURM, PBS, LSF and others; its jobs are the workers")


def read_place(args: argparse.Namespace) -> Place:
    """The place that the arguments of :func:`add_place` name.

    Raises:
        InputError: they exclude each other.
    """
    given = [f"--{name.replace('_', '-')}" for name in ("scheduler", "scheduler_file", "jobqueue")
             if getattr(args, name)]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are mutually exclusive; give one of them.")
    if args.workers and given and not args.jobqueue:
        raise InputError(f"--workers has no meaning with {given[0]}, whose workers are there already; leave it out.")
    return Place(args.workers or _side_by_side(args), args.threads, args.scheduler, args.scheduler_file, args.jobqueue)


def _side_by_side(args: argparse.Namespace) -> int:
    """As many pairs as this machine has cores for; one where they would share a GPU."""
    if torch.cuda.is_available() and getattr(args, "option_device", "auto") != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // args.threads)


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
