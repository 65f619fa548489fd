"""Generators of steps that come to a result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


def followed(work: Generator[Step, None, Result], act: Callable[[Step], None]) -> Result:
    """Do something with each step; what the work returns. It is closed if that raises."""
    with contextlib.closing(work):
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                return end.value
            act(step)
