"""Options as dataclass fields: their help and their limits, declared with the field and checked in one place."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from .errors import InputError


def option(default: Any, text: str, **limits: Any) -> Any:
    """A field with its help and its limits: ``low`` and ``high`` (inclusive) or ``choices``."""
    return field(default=default, metadata={"help": text, **limits})


def converted(name: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return tuple(converted(name, v, item) for v in (value if isinstance(value, (list, tuple)) else [value]))
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0:
        return int(value)
    if kind is str and isinstance(value, str):
        return value
    raise InputError(f"The option {name} is {value!r}, which is not of type {kind.__name__}.")


def check(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    if "choices" in limits and value not in limits["choices"]:
        raise InputError(f"The option {name} is {value!r}; choose one of {', '.join(limits['choices'])}.")
    for number in value if isinstance(value, tuple) else (value,):
        if "low" in limits and not limits["low"] <= number <= limits["high"]:
            raise InputError(f"The option {name} is {number}; it must be from {limits['low']} to {limits['high']}.")
    if isinstance(value, tuple) and not value:
        raise InputError(f"The option {name} is empty; give one value per level.")
