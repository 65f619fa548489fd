"""Compute for a 3D Slicer on another computer, which starts this command itself, for instance by ssh.

Requests come on standard input and replies go to standard output. It ends with its input.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from ..errors import InputError

HELP = "compute for a 3D Slicer on another computer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``nephi worker`` has none."""


def run(args: argparse.Namespace) -> None:
    """Serve until standard input ends."""
    if sys.stdin.isatty():
        raise InputError("'nephi worker' waits for 3D Slicer, not for a terminal; give it to the module as the command "
                         "under 'Compute on', for instance 'ssh HOST nephi worker'")
    package = __package__.rpartition(".")[0]
    engine = sys.modules[package]
    engine.__path__.append(str(Path(engine.__file__).resolve().parents[1]))  # in the source tree it lies beside it
    importlib.import_module(f"{package}.worker.server").serve()
