"""Options as fields of frozen dataclasses: help and limits stand with the field, and one class checks them all."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, field, fields, replace
from typing import Any, ClassVar, TypeVar

from .errors import InputError

_Self = TypeVar("_Self", bound="Checked")
_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def option(default: Any, text: str, **limits: Any) -> Any:
    """A field with its help and its limits: ``low`` and ``high`` (inclusive) or ``choices``."""
    return field(default=default, metadata={"help": text, **limits})


def option_of(owner: type, name: str) -> Any:
    """A field with the default, help and limits of another class's field."""
    item = next(item for item in fields(owner) if item.name == name)
    return field(default=item.default, metadata=item.metadata)


class Checked:
    """Base of frozen dataclasses whose fields are options.

    Raises:
        InputError: a value outside its limits.
    """

    REPLACED: ClassVar[Mapping[str, str]] = {}
    """What to say of options that there once were, by name."""

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)

    def changed(self: _Self, /, **changes: Any) -> _Self:
        """These options with some replaced; see :meth:`converted`.

        Raises:
            InputError: an unknown option, or a value of the wrong type or outside its limits.
        """
        return replace(self, **self.converted(changes))

    def converted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values, as JSON, TOML and the command line hold them, in the types of their fields.

        Lists become tuples, a single value in the place of a list a list of one, and whole floats integers.

        Raises:
            InputError: an unknown option, or a value of the wrong type.
        """
        kinds = typing.get_type_hints(type(self))
        for name in values:
            if name in self.REPLACED:
                raise InputError(f"The option {name} {self.REPLACED[name]}.")
            if name not in kinds or name == "REPLACED":
                raise InputError(f"Unknown option {name!r}; the options are {', '.join(kinds)}.")
        return {name: _converted(name, value, kinds[name]) for name, value in values.items()}

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)


def _converted(name: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return tuple(_converted(name, v, item) for v in (value if isinstance(value, (list, tuple)) else [value]))
    if type(value) is kind:
        return value
    if type(value) in (int, float) and (kind is float or (kind is int and value % 1 == 0)):
        return kind(value)
    raise InputError(f"The option {name} is {value!r}; it must be {_KINDS[kind]}.")


def _check(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    if "choices" in limits and value not in limits["choices"]:
        raise InputError(f"The option {name} is {value!r}; choose one of {', '.join(map(str, limits['choices']))}.")
    for number in value if isinstance(value, tuple) else (value,):
        if "low" in limits and not limits["low"] <= number <= limits["high"]:
            raise InputError(f"The option {name} is {number}; it must be from {limits['low']} to {limits['high']}.")
    if isinstance(value, tuple) and not value:
        raise InputError(f"The option {name} is empty; give at least one value.")
