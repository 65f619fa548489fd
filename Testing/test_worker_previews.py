"""Previews are timely and cheap: as fine as the time allows and no finer."""

from __future__ import annotations

import numpy as np
import pytest
from nephi.align.registration import Progress
from nephi.geometry import Grid
from nephi.maps.transform import Transform
from NePhiRegistrationLib.worker import previews
from NePhiRegistrationLib.worker.previews import Previews

GRID = Grid((64, 64, 64), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
TRANSFORM = Transform(GRID, GRID, np.eye(4))


class Clock:
    """Time that passes only where it is spent: a preview costs so much for each of its nodes."""

    def __init__(self, monkeypatch, seconds_per_node: float) -> None:
        self.now, self.spent, self.shown, self._per_node = 100.0, 0.0, [], seconds_per_node
        monkeypatch.setattr(previews.time, "perf_counter", lambda: self.now)

    def send(self, kind: str, fields: dict, arrays: dict) -> None:
        cost = self._per_node * arrays["log_jacobian"].size
        self.shown.append((self.now, arrays["log_jacobian"].shape))
        self.now, self.spent = self.now + cost, self.spent + cost

    def run(self, shower: Previews, steps: int, seconds: float) -> None:
        for step in range(steps):
            self.now += seconds
            shower.show(Progress("level 1/1", step + 1, 10**6, TRANSFORM))


@pytest.mark.parametrize("per_node", [1e-8, 1e-6, 5e-6])
@pytest.mark.parametrize("step", [0.02, 0.3])
def test_on_any_machine_there_is_a_preview_each_second_for_a_tenth_of_the_time(monkeypatch, per_node, step):
    clock = Clock(monkeypatch, per_node)
    clock.run(Previews(clock.send, GRID), int(20 / step), step)
    times = np.asarray([moment for moment, _ in clock.shown])[1:]  # the first one finds out how fast the machine is
    assert np.diff(times).max() <= 1.0
    spent = per_node * sum(np.prod(shape) for _, shape in clock.shown[1:])
    assert spent <= 0.1 * (clock.now - times[0])
    sizes = [shape for _, shape in clock.shown]
    assert len(set(sizes[2:])) == 1  # a viewer wants one grid


def test_slow_machines_get_coarser_previews(monkeypatch):
    sizes = []
    for per_node in (1e-8, 5e-6):
        clock = Clock(monkeypatch, per_node)
        clock.run(Previews(clock.send, GRID), 200, 0.05)
        sizes.append(np.prod(clock.shown[-1][1]))
    assert sizes[0] > 2 * sizes[1]


def test_the_end_of_a_phase_is_always_shown(monkeypatch):
    clock = Clock(monkeypatch, 1e-8)
    shower = Previews(clock.send, GRID)
    for phase, step, steps in (("affine", 0, 1), ("affine", 1, 1), ("level 1/2", 1, 9), ("level 1/2", 9, 9)):
        clock.now += 0.01
        shower.show(Progress(phase, step, steps, TRANSFORM))
    assert len(clock.shown) == 4
