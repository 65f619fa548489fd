"""Every engine option as a command line flag, made from the fields of the options dataclass."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from typing import Any, Callable

from ..options import Options

_PREFIX = "option_"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--some-option`` for each field; the preset sets the others."""
    group = parser.add_argument_group("engine options", "The preset sets all options that are not given. Lists hold "
                                      "one value per level, coarse to fine.")
    hints = typing.get_type_hints(Options)
    for item in dataclasses.fields(Options):
        convert, metavar = _reader(hints[item.name])
        if "choices" in item.metadata:
            metavar = "|".join(item.metadata["choices"])
        group.add_argument("--" + item.name.replace("_", "-"), dest=_PREFIX + item.name, default=argparse.SUPPRESS,
                           type=convert, metavar=metavar, help=item.metadata["help"].replace("%", "%%"))
    for name in Options.REPLACED:  # hidden, and refused with a sentence that names what to use
        group.add_argument("--" + name.replace("_", "-"), dest=_PREFIX + name, default=argparse.SUPPRESS,
                           help=argparse.SUPPRESS)


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were on the command line, by field name."""
    return {name[len(_PREFIX):]: value for name, value in vars(args).items() if name.startswith(_PREFIX)}


def _reader(kind: Any) -> tuple[Callable[[str], Any], str]:
    """How to read a field of this type from text, and what the help calls it."""
    if typing.get_origin(kind) is not tuple:
        return kind, {int: "N", float: "X", str: "NAME"}[kind]
    item, metavar = _reader(typing.get_args(kind)[0])

    def read(text: str) -> tuple:
        try:
            return tuple(item(word) for word in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 1,2,3") from error

    return read, f"{metavar},..."
