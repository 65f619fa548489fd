"""Signals and their connections, as PythonQt has them."""

from __future__ import annotations

import inspect
import sys
import traceback
from typing import Any, Callable

import shiboken6

# What a slot raised is only printed, in Slicer as here; tests look at this list afterwards.
slot_errors: list[BaseException] = []
_connected: dict[tuple[int, str], list[tuple[Callable, Callable]]] = {}


class Signal:
    """One signal of one object."""

    def __init__(self, instance: Any, signature: str) -> None:
        self._instance, self._signature = instance, signature

    def connect(self, slot: Callable) -> bool:
        """Connect a callable, which stays alive with its owner; it gets as many arguments as it takes."""
        adapter = _adapter(slot, _count(self._signature))
        self._native().connect(adapter)
        _connected.setdefault(self._key(), []).append((slot, adapter))
        return True

    def disconnect(self, slot: Callable) -> bool:
        """Whether there was such a connection; a fresh bound method is as good as the one connected."""
        pairs = _connected.get(self._key(), [])
        for pair in pairs:
            if pair[0] == slot:
                pairs.remove(pair)
                self._native().disconnect(pair[1])
                return True
        return False

    def emit(self, *args: Any) -> None:
        from .wrapping import unwrap
        self._native().emit(*[unwrap(value) for value in args])

    def _native(self) -> Any:
        name = getattr(self._instance._q, "overloads", {}).get(self._signature, self._signature.partition("(")[0])
        return getattr(self._instance._q, name)

    def _key(self) -> tuple[int, str]:
        return shiboken6.getCppPointer(self._instance._q)[0], self._signature


def _count(signature: str) -> int:
    inside = signature.partition("(")[2].rstrip(")")
    return len(inside.split(",")) if inside else 0


def _adapter(slot: Callable, sent: int) -> Callable:
    """A slot of exactly the arguments that will be used, since PySide6 chooses the overload by their number."""
    from .wrapping import wrap

    def call(*args: Any) -> None:
        try:
            slot(*[wrap(value) for value in args])
        except Exception as error:
            slot_errors.append(error)
            traceback.print_exc(file=sys.stderr)

    return (lambda: call(), lambda a: call(a), lambda a, b: call(a, b), lambda a, b, c: call(a, b, c)
            )[min(sent, _accepted(slot))]


def _accepted(slot: Callable) -> int:
    """How many positional arguments a callable takes."""
    try:
        parameters = inspect.signature(slot).parameters.values()
    except (TypeError, ValueError):
        return sys.maxsize
    if any(item.kind is item.VAR_POSITIONAL for item in parameters):
        return sys.maxsize
    return sum(item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD) for item in parameters)
