"""Enums as PythonQt shows them: integers that know the name of their kind, found on the class itself."""

from __future__ import annotations

import enum
from functools import cache
from typing import Any, Optional


class EnumValue(int):
    """One value of a Qt enum; ``native`` is what PySide6 wants in its place."""

    native: Any = None

    def __or__(self, other: int) -> int:
        return wrap_enum(self.native | other.native) if isinstance(other, EnumValue) else int(self) | other

    def __and__(self, other: int) -> int:
        return int(self) & int(other)


@cache
def _kind(native: type) -> type:
    return type(native.__name__, (EnumValue,), {})


def is_enum(value: Any) -> bool:
    return isinstance(value, enum.Enum)


def wrap_enum(value: enum.Enum) -> EnumValue:
    wrapped = _kind(type(value))(value.value)
    wrapped.native = value
    return wrapped


def enum_member(native: type, name: str) -> Optional[EnumValue]:
    """The value that a class's enums call ``name``, as PythonQt finds it without naming the enum."""
    for holder in native.__mro__:
        for item in vars(holder).values():
            if isinstance(item, type) and issubclass(item, enum.Enum) and name in item.__members__:
                return wrap_enum(item[name])
    return None
