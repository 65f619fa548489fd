"""Stopping the working thread from another one: what Ctrl-C does to a command, aimed at one task.

A cancel request is read by the reading thread while the main thread is somewhere inside the engine. ``interrupt_main``
makes Python call the handler of SIGINT in the main thread before its next instruction, and the handler raises.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
from collections.abc import Iterator
from typing import Optional


class Cancelled(KeyboardInterrupt):
    """The running task was cancelled.

    Attributes:
        keep: whether the map so far is wanted as the result.
    """

    def __init__(self, keep: bool) -> None:
        super().__init__("cancelled")
        self.keep = keep


class Interruption:
    """Made in the main thread; it takes over SIGINT, so that Ctrl-C in the application's terminal does not reach it."""

    def __init__(self) -> None:
        self._task: Optional[str] = None
        self._wanted: Optional[tuple[str, bool]] = None
        self._shields = 0
        signal.signal(signal.SIGINT, lambda number, frame: self.check())

    def request(self, task: str, keep: bool) -> None:
        """From any thread: cancel this task, if it is the one that runs."""
        self._wanted = (task, keep)
        _thread.interrupt_main()

    def check(self) -> None:
        """In the main thread: raise what was requested. The handler does so by itself; this is for what swallowed it.

        Raises:
            Cancelled: the running task was to be cancelled.
        """
        if self._wanted is None or self._task is None or self._wanted[0] != self._task or self._shields:
            return
        keep, self._wanted = self._wanted[1], None
        raise Cancelled(keep)

    @contextlib.contextmanager
    def running(self, task: str) -> Iterator[None]:
        """The block is this task and can be cancelled."""
        self._task = task
        try:
            self.check()
            yield
        finally:
            self._task = None

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """The block is not interrupted; what was requested meanwhile is raised at its end."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        self.check()
