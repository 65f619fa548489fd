"""The ``nephi`` command: one module per sub-command, one line per error, exit codes 0, 2 (bad input), 130 (Ctrl-C)."""

from __future__ import annotations

import _thread
import argparse
import contextlib
import logging
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Optional

import SimpleITK as sitk
from rich.console import Console
from rich.logging import RichHandler

from ..errors import Faults, InputError, NePhiError
from . import apply, batch, demo, evaluate, info, jacobian_image, register, series, template, train, worker

BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143
_UNWINDING = 20.0
"""Seconds that a command has to end after Ctrl-C before another one is heard."""
_AGAIN = 0.05
"""Seconds after which an interrupt that was lost comes again."""
_COMMANDS = {"register": register, "batch": batch, "series": series, "template": template, "apply": apply,
             "jacobian": jacobian_image, "evaluate": evaluate, "info": info, "demo": demo, "train": train,
             "worker": worker}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    try:
        args = build_parser().parse_args(argv)
        with _logging(args.quiet, args.verbose):
            args.run(args)
    except NePhiError as error:
        lines = (error.head, *error.faults) if isinstance(error, Faults) else (str(error),)
        print("nephi: error: " + "\n  ".join(" ".join(line.split()) for line in lines), file=sys.stderr)
        return BAD_INPUT
    except OSError as error:  # such as a name that is too long, or a folder that may not be looked into
        if error.filename is None:
            raise
        print(f"nephi: error: {error.filename}: {error.strerror or error}; check the path.", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as stopped:
        print(f"nephi: interrupted; {str(stopped) or 'nothing was written'}", file=sys.stderr)
        return INTERRUPTED
    return 0


def program() -> NoReturn:
    """Run the command line and exit."""
    _hear_once()
    try:
        sys.exit(main())
    finally:  # what remains takes no time, and the exit code is known
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands; each puts its function into ``run``."""
    parser = _Parser(prog="nephi", description="Deformable image registration with neural deformation fields.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-q", "--quiet", action="store_true", help="print only errors")
    common.add_argument("-v", "--verbose", action="store_true", help="also print the engine's log messages")
    for name, command in _COMMANDS.items():
        sub = commands.add_parser(name, help=command.HELP, description=command.__doc__, parents=[common],
                                  allow_abbrev=False)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


class _Parser(argparse.ArgumentParser):
    """Usage errors are bad input like any other: one line that says where the help is."""

    def parse_known_args(self, args: Optional[Sequence[str]] = None, namespace: Optional[argparse.Namespace] = None
                         ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse what is unknown where it was given: left to the outer parser, it would name the wrong help."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see '{self.prog} --help'")


@contextlib.contextmanager
def _logging(quiet: bool, verbose: bool) -> Iterator[None]:
    """Show the engine's log on stderr while a command runs."""
    sitk.ProcessObject.GlobalWarningDisplayOff()  # ITK's own warnings; what matters is raised
    logger = logging.getLogger("nephi")
    before = logger.level
    handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False, markup=False)
    handler.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    logger.addHandler(handler)
    logger.setLevel(handler.level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def _hear_once() -> None:
    """Unwind on Ctrl-C and on a scheduler's SIGTERM, so that temporary files are removed and workers end.

    Further ones do not cut that short. They are heard again after a while, should the first one have been lost. One
    that falls into a finalizer, where Python drops what is raised, comes again by itself.
    """
    last, dropped = -math.inf, sys.unraisablehook

    def stop(number: int, frame: object) -> None:
        nonlocal last
        if time.monotonic() - last < _UNWINDING:
            return
        last = time.monotonic()
        if number == signal.SIGTERM:
            sys.exit(TERMINATED)
        raise KeyboardInterrupt

    def lost(what: Any) -> None:
        nonlocal last
        number = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(what.exc_type)
        if number is None:
            dropped(what)
            return
        last = -math.inf
        _thread.start_new_thread(_later, (number,))  # threading's own takes a lock, which a finalizer may find taken

    sys.unraisablehook = lost
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, stop)


def _later(number: int) -> None:
    """Let a signal come again when the finalizer has ended."""
    time.sleep(_AGAIN)
    signal.raise_signal(number)
