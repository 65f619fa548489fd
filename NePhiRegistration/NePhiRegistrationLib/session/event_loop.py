"""Work on the main thread in small pieces, so that the window goes on answering."""

from __future__ import annotations

import collections
from typing import Callable

import qt

from ..mrml.slabs import Gradual


class EventLoopQueue:
    """Runs generators one after the other, one step in each turn of the event loop; :meth:`run_all` needs none.

    Args:
        failed: called with what a step raised; the generator it came from is dropped.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._waiting: collections.deque[Gradual[None]] = collections.deque()
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._turn)

    def __bool__(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._waiting)

    def add(self, steps: Gradual[None]) -> None:
        """Do this after all that waits."""
        self._waiting.append(steps)
        self._timer.start()

    def begin(self, steps: Gradual[None]) -> None:
        """As :meth:`add`, but where nothing waits the first step is done now."""
        self.add(steps)
        if len(self._waiting) == 1:
            self._turn()

    def clear(self) -> None:
        """Drop what waits."""
        self._waiting.clear()
        self._timer.stop()

    def run_all(self) -> None:
        """Do all that waits, now."""
        while self._waiting:
            self._turn()

    def close(self) -> None:
        """Drop what waits and let go of the owner, which the timer's connection keeps alive."""
        self.clear()
        self._timer.disconnect("timeout()", self._turn)
        _closed_timers.append(self._timer)

    def _turn(self) -> None:
        if not self._waiting:
            self._timer.stop()
            return
        steps = self._waiting[0]
        try:
            next(steps)
        except StopIteration:
            self._drop(steps)
        except Exception as error:  # whatever it was must reach the user instead of only being printed
            self._drop(steps)
            self._failed(error)

    def _drop(self, steps: Gradual[None]) -> None:
        """A step may have cleared the queue and filled it anew."""
        if self._waiting and self._waiting[0] is steps:
            self._waiting.popleft()


# A Qt object must outlive the signal in which its owner may end; a few generations are more than enough.
_closed_timers: collections.deque = collections.deque(maxlen=8)
