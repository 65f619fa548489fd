"""What the tests of the logic share: a scene with a small made-up pair, a worker for all of them, an event loop."""

from __future__ import annotations

import atexit
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import pythonqt

pythonqt.install()

import qt  # noqa: E402
import slicer  # noqa: E402
from mrml_scene import add_points, add_segmentation, add_volume, new_scene  # noqa: E402
from nephi.images.phantom import lung_phantom  # noqa: E402  # noqa: E402
from NePhiRegistrationLib.mrml.node_geometry import FLIP, ijk_to_ras  # noqa: E402
from NePhiRegistrationLib.session.logic import RegistrationLogic  # noqa: E402
from NePhiRegistrationLib.session.warm_worker import WarmWorker  # noqa: E402

QUICK = {"iterations": [3], "resolution": [20], "points": 20000, "device": "cpu"}
BARE = {**QUICK, "affine": "none", "search": "never"}  # where that it registers is enough
ENDLESS = {"iterations": [100000], "resolution": [24], "convergence": 0, "device": "cpu"}
AT_ONCE = {**ENDLESS, "affine": "none", "search": "never"}  # without what comes before the first level
PATIENCE = 90.0  # s; a busy machine is no failure
PHANTOM = lung_phantom(32)


@functools.cache
def engine() -> WarmWorker:
    """One worker for all tests of this process."""
    made = WarmWorker()
    atexit.register(made.process.stop)
    return made


@dataclass
class Pair:
    """The phantom in the scene. The moving volume lies on the fixed one's lattice, so that what Slicer hardens can be
    compared voxel by voxel."""

    fixed: Any
    moving: Any
    fixedMask: Any
    movingMask: Any
    landmarksFixed: Any
    landmarksMoving: Any

    @property
    def judges(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("fixedMask", "movingMask", "landmarksFixed", "landmarksMoving")}


def add_pair() -> Pair:
    fixed = ijk_to_ras(PHANTOM.fixed.grid.to_dict())
    moving = fixed @ np.array([[1, 0, 0, -1], [0, 1, 0, 1], [0, 0, 1, -1], [0, 0, 0, 1.0]])
    shift = moving[:3, 3] - ijk_to_ras(PHANTOM.moving.grid.to_dict())[:3, 3]
    return Pair(
        add_volume(PHANTOM.fixed.values.numpy(), fixed, "in"), add_volume(PHANTOM.moving.values.numpy(), moving, "out"),
        add_segmentation({"lung": PHANTOM.fixed_mask.numpy()}, fixed, "lungs in"),
        add_segmentation({"lung": PHANTOM.moving_mask.numpy()}, moving, "lungs out"),
        add_points(PHANTOM.landmarks_fixed.numpy() * FLIP, "forks in"),
        add_points(PHANTOM.landmarks_moving.numpy() * FLIP + shift, "forks out"))


@dataclass
class Told:
    """What a task has said."""

    progress: list[dict] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @classmethod
    def by(cls, task: Any) -> Told:
        """What this task says from now on."""
        told = cls()
        task.progress.connect(told.progress.append)
        task.log.connect(lambda level, line: told.lines.append(line))
        for end in (task.finished, task.failed):
            end.connect(lambda task: told.ends.append(task.state))
        return told

    def reached(self, phase: str) -> bool:
        return any(phase in fields["phase"] for fields in self.progress)


def spin(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Run the event loop until a condition holds; whether it does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        qt.QCoreApplication.processEvents()
        time.sleep(0.001)
    return condition()


def content(scene: Any = None) -> set[str]:
    """The names of all nodes that a user sees."""
    scene = scene or slicer.mrmlScene
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    return {node.GetName() for node in nodes if not node.GetHideFromEditors()}


@pytest.fixture
def logic() -> Iterator[RegistrationLogic]:
    """A logic with an empty scene; nothing that a slot raises goes unseen."""
    pythonqt.slot_errors.clear()
    new_scene()
    made = RegistrationLogic(engine())
    yield made
    if made._task is not None and not made._task.done:
        made._task.cancel()
        assert made._task.wait(PATIENCE)
    assert not pythonqt.slot_errors
