"""The window goes on answering while a registration runs: no turn of the event loop takes long on the main thread."""

from __future__ import annotations

import time

import numpy as np
import slicer
from logic_case import AT_ONCE, PATIENCE, engine, logic, qt, spin  # noqa: F401
from mrml_scene import add_node, add_segmentation, add_volume, oblique_matrix
from NePhiRegistrationLib.mrml import (
    comparison_volumes,
    deformation_display,
    log_jacobian_display,
    node_geometry,
    slab_writing,
    transform_nodes,
    volume_nodes,
)
from NePhiRegistrationLib.mrml.deformation_nodes import deformation
from NePhiRegistrationLib.mrml.slabs import run_now
from NePhiRegistrationLib.mrml.vtk_images import volume_matrix
from NePhiRegistrationLib.session import event_loop as session
from NePhiRegistrationLib.session.logic import Inputs, Outputs
from written_nodes import fold_count

LIMIT = 0.05  # s; of processor time, which other processes do not change
SIZE = 128
OPTIONS = {"iterations": [2], "resolution": [24], "points": 5000, "affine": "none", "device": "cpu"}


def blob(shift: float, size: int = SIZE) -> np.ndarray:
    k, j, i = (np.arange(size) - size / 2 for _ in range(3))
    r = np.sqrt((k[:, None, None] - shift)**2 + (1.3 * j[None, :, None])**2 + (i[None, None, :] + shift)**2)
    return (1000 / (1 + np.exp((r - 30) / 3)) + 100 * np.cos(r / 9)).astype(np.float32)


class Turns:
    """Runs the event loop turn by turn and remembers the longest by processor time."""

    def __init__(self) -> None:
        self.longest = 0.0

    def until(self, condition) -> bool:
        end = time.monotonic() + PATIENCE
        while not condition() and time.monotonic() < end:
            before = time.thread_time()
            qt.QCoreApplication.processEvents()
            self.longest = max(self.longest, time.thread_time() - before)
            time.sleep(0.001)
        return condition()


def test_no_turn_takes_long_from_the_click_to_the_result_nor_when_all_is_put_back(logic, stopwatch):  # noqa: F811
    size = SIZE if stopwatch else SIZE // 2
    fixed, moving = (add_volume(blob(shift, size), name=name) for shift, name in ((0, "fixed"), (3, "moving")))
    mask = add_segmentation({"inside": blob(0, size) > 300}, np.eye(4))
    logic.warmUp()
    assert spin(lambda: engine().process.client.hello is not None)
    turns, before = Turns(), time.thread_time()
    judged = Inputs(fixed, moving, fixedMask=mask, fixedLabels=mask, movingLabels=mask)
    task = logic.start(judged, Outputs(), "generic", OPTIONS)
    assert not stopwatch or time.thread_time() - before < LIMIT
    assert turns.until(lambda: task.done) and task.state == "finished", task.message + task.details
    assert deformation(task.outputs.forward) is not None
    assert slicer.util.arrayFromVolume(task.outputs.warped).shape == (size,) * 3
    assert not stopwatch or turns.longest < LIMIT

    turns, again = Turns(), logic.start(Inputs(fixed, moving), task.outputs, "generic", AT_ONCE)
    seen = deformation(task.outputs.forward).image.GetDimensions()
    forward = again.outputs.forward
    assert turns.until(
        lambda: deformation(forward).image.GetDimensions() != seen)
    again.cancel()
    assert turns.until(lambda: again.done) and again.state == "cancelled"
    assert deformation(again.outputs.forward).image.GetDimensions() == seen
    assert not stopwatch or turns.longest < LIMIT


def test_what_is_written_slab_by_slab_is_what_is_written_at_once(logic):  # noqa: F811
    generator, place = np.random.default_rng(0), node_geometry.geometry_from(oblique_matrix(), (90, 130, 97))
    field = generator.normal(scale=9, size=(97, 130, 90, 3)).astype(np.float32)
    values = generator.normal(scale=0.3, size=(97, 130, 90)).astype(np.float32)
    values[50, 60, 70] = np.nan
    nodes = [(add_node("Transform"), add_node("ScalarVolume"), add_node("ScalarVolume")) for _ in range(2)]
    volume_nodes.write_volume(nodes[0][1], field[..., 0].astype(np.int16), place)
    log_jacobian_display.write_log_jacobian(nodes[0][2], values, place)
    for steps in (slab_writing.write_volume(nodes[1][1], field[..., 0].astype(np.int16), place),
                  slab_writing.write_log_jacobian(nodes[1][2], values, place)):
        assert sum(1 for _ in steps) > 1
    for one, other in zip(nodes[0][1:], nodes[1][1:]):
        assert np.array_equal(slicer.util.arrayFromVolume(one), slicer.util.arrayFromVolume(other))
        assert np.allclose(volume_matrix(one), volume_matrix(other))
    ranges = [trio[2].GetDisplayNode().GetWindowLevelMax() for trio in nodes]
    assert ranges[0] == ranges[1] and fold_count(nodes[1][2]) == 1


def test_no_turn_takes_long_while_a_moving_volume_under_a_bent_transform_is_shown(logic, stopwatch):  # noqa: F811
    moving, parent, forward, shown = (add_volume(blob(3), name="moving"), add_node("Transform"), add_node("Transform"),
                                      add_node("ScalarVolume"))
    place, ramp = volume_nodes.read_volume(moving, "moving").geometry, np.linspace(0, 6, SIZE, dtype=np.float32)
    transform_nodes.write_displacement(forward, np.zeros((SIZE, SIZE, SIZE, 3), np.float32), place)
    bend = np.broadcast_to(ramp[:, None, None, None] ** 2 / 6, (SIZE,) * 3 + (3,))
    transform_nodes.write_displacement(parent, bend, place)
    moving.SetAndObserveTransformNodeID(parent.GetID())
    failures: list[Exception] = []
    turns, queue = Turns(), session.EventLoopQueue(failures.append)
    queue.add(deformation_display.show_moving(shown, moving, forward))
    assert turns.until(lambda: not queue) and not failures
    assert not stopwatch or turns.longest < LIMIT
    assert np.array_equal(slicer.util.arrayFromVolume(shown), volume_nodes.read_volume(moving, "moving").array)
    queue.close()


def test_no_turn_takes_long_while_a_checkerboard_or_a_difference_is_made(logic, stopwatch):  # noqa: F811
    fixed, warped = add_volume(blob(0), name="fixed"), add_volume(blob(3), name="warped")
    forward, carried, node = add_node("Transform"), add_node("ScalarVolume"), add_node("ScalarVolume")
    place = volume_nodes.read_volume(fixed, "fixed").geometry
    transform_nodes.write_displacement(forward, np.full((SIZE, SIZE, SIZE, 3), 3.5, np.float32), place)
    run_now(deformation_display.show_moving(carried, warped, forward))
    for volume in (fixed, warped, carried):
        volume.GetDisplayNode().SetAutoWindowLevel(False)  # looking for one is Slicer's own work
    failures: list[Exception] = []
    for write in (comparison_volumes.write_checkerboard, comparison_volumes.write_difference):
        for other in (warped, carried):
            turns, queue = Turns(), session.EventLoopQueue(failures.append)
            queue.add(write(node, fixed, other))
            assert turns.until(lambda queue=queue: not queue) and not failures
            assert slicer.util.arrayFromVolume(node).shape == (SIZE,) * 3
            assert not stopwatch or turns.longest < LIMIT, (write.__name__, other.GetName())
            queue.close()
