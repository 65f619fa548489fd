"""Previews wait for views that are slow to draw."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from logic_case import spin  # which installs the double
from NePhiRegistrationLib.session import drawing_time


def test_the_next_change_waits_ten_times_as_long_as_the_last_one_took_to_draw(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(drawing_time.time, "monotonic", lambda: clock[0])
    watched = drawing_time.DrawingTime()
    assert watched.due
    watched.changed()
    for now in (0.02, 0.64, 0.66):  # a turn of the event loop that took 0.6 s longer than the timer's interval
        clock[0] = now
        watched._tick()
    assert not watched.due
    clock[0] = 5.9
    assert not watched.due
    clock[0] = 6.1
    assert watched.due
    watched.close()


def test_a_timer_that_comes_late_is_noticed_in_a_real_event_loop():
    watched = drawing_time.DrawingTime()
    watched.changed()
    time.sleep(0.2)  # as drawing does
    spin(lambda: watched._longest > 0)
    assert watched._longest > 0.1 and not watched.due
    watched.close()
