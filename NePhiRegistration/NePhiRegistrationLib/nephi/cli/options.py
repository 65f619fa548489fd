"""Every engine option as a command line flag, made from the fields of the options dataclass."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from typing import Any, Callable

from ..options import Options

_PREFIX = "option_"
_NONE = type(None)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--some-option`` for each field; those that are not given are left to the preset."""
    group = parser.add_argument_group("engine options", "what is not given comes from the preset")
    hints = typing.get_type_hints(Options)
    for item in dataclasses.fields(Options):
        flag, text = "--" + item.name.replace("_", "-"), item.metadata.get("help", "").replace("%", "%%")
        target = {"dest": _PREFIX + item.name, "default": argparse.SUPPRESS, "help": text}
        if hints[item.name] is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **target)
        else:
            group.add_argument(flag, type=_converter(hints[item.name]), metavar=_metavar(hints[item.name]), **target)


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were on the command line, by field name."""
    return {name[len(_PREFIX):]: value for name, value in vars(args).items() if name.startswith(_PREFIX)}


def _converter(kind: Any) -> Callable[[str], Any]:
    """From text to the type of a field: a number, a word, ``none`` where None is allowed, a list with commas."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        others = [_converter(k) for k in inner if k is not _NONE]
        return _named(lambda text: None if _NONE in inner and text.lower() == "none" else _first(others, text), kind)
    if origin in (tuple, list):
        return _named(lambda text: tuple(_converter(inner[0])(word) for word in text.split(",")), kind)
    return kind if kind in (int, float) else str


def _first(converters: list, text: str) -> Any:
    for convert in converters[:-1]:
        try:
            return convert(text)
        except ValueError:
            continue
    return converters[-1](text)


def _named(convert: Callable[[str], Any], kind: Any) -> Callable[[str], Any]:
    """argparse names the function when a value does not fit: let that be what is wanted."""
    convert.__name__ = _metavar(kind)
    return convert


def _metavar(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        return "|".join(_metavar(k) for k in inner)
    if origin in (tuple, list):
        return f"{_metavar(inner[0])},..."
    return {int: "N", float: "X", str: "NAME", _NONE: "none"}.get(kind, "VALUE")
