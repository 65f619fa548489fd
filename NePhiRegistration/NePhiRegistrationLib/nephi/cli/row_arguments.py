"""A row of a cohort's table as the arguments of ``nephi register``: each column is one of its flags."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Callable, NoReturn

from ..cohort.peak_memory import estimated_peak
from ..cohort.rows import Job, Row, as_folder
from ..errors import InputError
from ..options import Options
from ..predict.weights import find
from .display import Silent
from .register import SOURCES, add_pair, add_run_arguments, read_options, register_files

_ELSEWHERE = {"json", "no_affine", "stems", "thumbnails"}
_DECIDING = ("grid_spacing", "format", "pixel_type", "outputs", "labels", "stems")


def known_columns() -> list[str]:
    """The columns that a table may have beside ``id``."""
    arguments = set(vars(_parser().parse_args(["fixed", "moving"]))) - _ELSEWHERE
    return sorted(arguments | {item.name for item in fields(Options)} | set(Options.REPLACED))


def jobs_of(rows: Sequence[Row], given: argparse.Namespace, folder: Path, threads: int
            ) -> tuple[list[Job], list[tuple[int, str]]]:
    """The rows as they travel to workers, and all that is wrong with them: (line, clause).

    Args:
        given: the arguments of :func:`nephi.cli.register.add_run_arguments` that hold where a row has none of its own.
        folder: of the cohort.
    """
    if all(row.cells.keys() <= {*SOURCES} for row in rows):
        _usable_options(given)  # what is wrong with the flags of all rows is said once
    parser, jobs, faults = _parser(), [], []
    first: dict[str, Row] = {}
    known: dict[tuple, Options] = {}  # rows with the same options are the rule
    for row in rows:
        before = first.setdefault(as_folder(row.id), row) if row.id else row
        found = [] if before is row else [f"the id is that of {before.place} too; give each pair its own"]
        found += [f"the {_words(role)} {path} does not exist" for role in SOURCES
                  if (path := row.cells.get(role)) and not os.path.exists(path)]
        try:
            args = _parsed(parser, row.cells, given)
            chosen = tuple(sorted((name, cell) for name, cell in row.cells.items() if name not in SOURCES))
            options = known[chosen] = known.get(chosen) or _usable_options(args)
            if args.labels and not args.fixed_labels:
                raise InputError("labels chooses among the labels of label maps; give fixed_labels and moving_labels.")
        except InputError as error:
            found += _each_fault(parser, row.cells, given) or [_clause(error)]
        faults += [(row.line, f"{row.place}: {fault}") for fault in found]
        if not faults:
            jobs.append(_job(row, args, options, folder / row.folder, threads))
    return jobs, faults


def register_row(arguments: Mapping[str, Any], check: Callable[[], None]) -> dict:
    """Register the pair of a job, in a worker; as :data:`nephi.cohort.one_pair.Register` has it."""
    return register_files(argparse.Namespace(**arguments), _Checking(check))


def _words(role: str) -> str:
    """What a message calls an input."""
    words = role.replace("_", " ").replace("exclude", "exclusion mask")
    return f"{words} image" if role in ("fixed", "moving") else words


class _Checking(Silent):
    """Shows nothing, and calls a function that may end the registration."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def progress(self, state: object) -> None:
        self._check()

    def step(self, name: str) -> None:
        self._check()


class _RowParser(argparse.ArgumentParser):
    """Reads a row; what is wrong is a clause."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message.replace("argument --", ""))


def _parser() -> argparse.ArgumentParser:
    parser = _RowParser(add_help=False, allow_abbrev=False)
    add_pair(parser)
    add_run_arguments(parser)
    return parser


def _parsed(parser: argparse.ArgumentParser, cells: Mapping[str, str], given: argparse.Namespace) -> argparse.Namespace:
    flags = [f"--{name.replace('_', '-')}={cell}" for name, cell in cells.items() if name not in ("fixed", "moving")]
    return parser.parse_args([*flags, "--", cells["fixed"], cells["moving"]], argparse.Namespace(**vars(given)))


def _usable_options(args: argparse.Namespace) -> Options:
    """As :func:`read_options`, with weights that are there."""
    options = read_options(args)
    if options.weights not in ("auto", "none"):
        find(options.weights)
    return options


def _each_fault(parser: argparse.ArgumentParser, cells: Mapping[str, str], given: argparse.Namespace) -> list[str]:
    """What is wrong with each cell by itself."""
    pair, found = {role: cells[role] for role in ("fixed", "moving")}, []
    for name in (name for name in cells if name not in pair):
        try:
            _usable_options(_parsed(parser, {**pair, name: cells[name]}, given))
        except InputError as error:
            found.append(_clause(error))
    return list(dict.fromkeys(found))  # a flag that is wrong is so with each cell


def _clause(error: InputError) -> str:
    text = str(error).rstrip(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _job(row: Row, args: argparse.Namespace, options: Options, folder: Path, threads: int) -> Job:
    args.output, args.stems, args.thumbnails = str(folder), dict(row.stems), True
    args.quiet = args.json = False
    arguments = vars(args)
    files = {role: row.cells[role] for role in SOURCES if role in row.cells}
    if Path(options.weights).is_file():
        files["weights"] = options.weights
    deciding = {name: value for name, value in arguments.items() if name in _DECIDING or name.endswith("_series")}
    settings = json.dumps({**options.to_dict(), **deciding}, sort_keys=True, default=str)
    record = f"{row.stems['pair']}.json" if "pair" in row.stems else "pair.json"
    return Job(row.id, str(folder), arguments, files, settings, estimated_peak(files), threads, record)
