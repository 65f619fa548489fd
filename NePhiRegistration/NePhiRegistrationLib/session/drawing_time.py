"""How long the window takes to draw the views after a change of the scene. Drawing happens on the thread that all of
Slicer's window uses, and none of it in Python: it shows as a timer that comes late."""

from __future__ import annotations

import time

import qt

TICK = 20  # ms
WATCHED = 0.5  # s after a change in which the views are drawn
SHARE = 0.1  # of the time, at most, that may be spent in drawing


class DrawingTime:
    """Says when the next change may come so that drawing takes no more than a share of the time."""

    def __init__(self) -> None:
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK)
        self._timer.connect("timeout()", self._tick)
        self._changed = self._last = self._longest = 0.0
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether the next change may come."""
        return time.monotonic() >= self._due

    def changed(self) -> None:
        """The scene has been changed just now: from here on the timer comes late while it is drawn."""
        self._changed = self._last = time.monotonic()
        self._longest, self._due = 0.0, self._changed
        self._timer.start()

    def close(self) -> None:
        """Nothing more is watched."""
        self._timer.stop()
        self._timer.disconnect("timeout()", self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        late, self._last = now - self._last - TICK / 1000, now
        self._longest = max(self._longest, late)
        self._due = self._changed + self._longest / SHARE
        if now - self._changed > WATCHED:
            self._timer.stop()
