"""A task ends well whatever happens on the way: the scene holds the result or what it held before."""

from __future__ import annotations

import gc
import os
import signal
import time
import weakref

import numpy as np
import pytest
import slicer
from logic_case import AT_ONCE, BARE, ENDLESS, PATIENCE, QUICK, Told, add_pair, content, engine, logic, spin  # noqa: F401
from mrml_scene import add_linear, add_node, new_scene, turn_matrix
from NePhiRegistrationLib.mrml import snapshot
from NePhiRegistrationLib.mrml.deformation_nodes import deformation
from NePhiRegistrationLib.session.logic import Inputs, Outputs, RegistrationError, RegistrationLogic
from NePhiRegistrationLib.session.warm_worker import WarmWorker
from NePhiRegistrationLib.worker.worker_process import WorkerProcess

UNIX = pytest.mark.skipif(os.name != "posix", reason="signals of Unix")


def started(logic: RegistrationLogic, pair, outputs: Outputs | None = None, options: dict = AT_ONCE):  # noqa: F811
    """A task that has reached the first level, with its previews coming, and what it said."""
    task = logic.start(Inputs(pair.fixed, pair.moving), outputs, "lung-ct", options)
    told = Told.by(task)
    assert spin(lambda: task.done or told.reached("level")), task.message
    forward = task.outputs.forward
    if forward is not None:
        assert spin(lambda: task.done or deformation(forward) is not None)
    assert task.state == "running", task.message + task.details
    return task, told


# ----------------------------------------------------------------------------------------------------- cancelling


def test_previews_move_the_forward_node_at_least_once_a_second(logic, stopwatch):  # noqa: F811
    task, _ = started(logic, add_pair())
    point, seen, times = [20.0, -30.0, -60.0], set(), []

    def moved() -> bool:
        now = tuple(task.outputs.forward.GetTransformFromParent().TransformPoint(point))
        if now not in seen:
            seen.add(now)
            times.append(time.monotonic())
        return len(times) >= 6

    assert spin(moved)
    assert not stopwatch or np.median(np.diff(times)) < 1.0, "less than once a second"
    assert task.outputs.warped.GetImageData() is None


def test_cancel_takes_away_what_the_task_made_within_a_second(logic, stopwatch):  # noqa: F811
    pair = add_pair()
    before = content()
    task, told = started(logic, pair)
    began = time.monotonic()
    task.cancel()
    assert task.state == "cancelling"
    assert spin(lambda: task.done)
    assert not stopwatch or time.monotonic() - began < 1.0
    assert (task.state, told.ends, task.message) == ("cancelled", ["cancelled"], "")
    assert content() == before


def test_cancel_gives_the_users_nodes_their_content_back(logic):  # noqa: F811
    pair = add_pair()
    forward = add_linear(turn_matrix(10, (1, 2, 3)))
    log_jacobian = add_node("ScalarVolume", "mine")
    slicer.util.updateVolumeFromArray(log_jacobian, np.full((9, 10, 11), 7, np.int16))
    log_jacobian.SetSpacing(2, 3, 4)
    task, _ = started(logic, pair, Outputs(forward, logJacobian=log_jacobian, createMissing=False))
    assert deformation(forward) is not None
    assert spin(lambda: log_jacobian.GetImageData().GetDimensions() != (11, 10, 9))
    task.cancel()
    assert spin(lambda: task.done)
    matrix = turn_matrix(10, (1, 2, 3))
    assert deformation(forward) is None
    assert np.allclose(forward.GetTransformToParent().TransformPoint([5, 6, 7]), (matrix @ [5, 6, 7, 1])[:3])
    assert np.array_equal(slicer.util.arrayFromVolume(log_jacobian), np.full((9, 10, 11), 7))
    assert log_jacobian.GetSpacing() == (2, 3, 4)


@pytest.mark.parametrize("made", [False, True])
def test_a_node_that_cannot_be_put_back_is_named_and_all_others_are(logic, monkeypatch, made):  # noqa: F811
    pair, forward, table = add_pair(), add_linear(turn_matrix(10, (1, 2, 3))), add_node("Table", "numbers")
    inverse, log_jacobian = add_node("Transform", "back"), add_node("ScalarVolume", "mine")
    slicer.util.updateVolumeFromArray(log_jacobian, np.full((9, 10, 11), 7, np.int16))
    before, restore, remove = content(), snapshot.Snapshot.restore, snapshot.remove

    def failing(kept):
        if kept.node is inverse:
            raise RuntimeError("no")
        restore(kept)

    def not_removing(node):
        if node.GetName().endswith("warped"):
            raise RuntimeError("no")
        remove(node)

    monkeypatch.setattr(snapshot.Snapshot, "restore", failing)
    if made:
        monkeypatch.setattr(snapshot, "remove", not_removing)
    task, told = started(logic, pair, Outputs(forward, inverse, None, log_jacobian, table, createMissing=True))
    assert spin(lambda: log_jacobian.GetImageData().GetDimensions() != (11, 10, 9))
    task.cancel()
    assert spin(lambda: task.done) and told.ends == ["cancelled"]
    assert deformation(forward) is None
    assert np.array_equal(slicer.util.arrayFromVolume(log_jacobian), np.full((9, 10, 11), 7))
    assert content() - before == ({"out warped"} if made else set())
    names = "out warped, back" if made else "back"
    assert task.message == (f"The registration was cancelled. {names} could not be put back and must be corrected by "
                            "hand; see the log for details.")
    assert task.result.error == task.message


def test_stop_and_keep_finishes_with_the_map_so_far(logic):  # noqa: F811
    task, told = started(logic, add_pair())
    task.cancel(keep=True)
    assert task.state == "cancelling"
    assert spin(lambda: task.done)
    assert (task.state, told.ends) == ("finished", ["finished"])
    assert task.report["runtime"]["iterations"] < 100000
    assert task.outputs.warped.GetImageData() is not None


def test_stop_and_keep_can_still_be_cancelled(logic):  # noqa: F811
    pair = add_pair()
    before = content()
    task, _ = started(logic, pair)
    task.cancel(keep=True)
    task.cancel()
    assert spin(lambda: task.done)
    assert task.state == "cancelled" and content() == before


def test_a_task_that_has_not_been_sent_is_cancelled_too(logic):  # noqa: F811
    pair = add_pair()
    before = content()
    for keep in (False, True):
        task = logic.start(Inputs(pair.fixed, pair.moving))
        task.cancel(keep)
        assert task.wait(5.0)
        assert task.state == "cancelled" and content() == before


def test_linear_alignment_can_be_cancelled(logic, stopwatch):  # noqa: F811
    pair = add_pair()
    task = logic.start(Inputs(pair.fixed, pair.moving), None, "lung-ct", QUICK)
    told = Told.by(task)
    assert spin(lambda: told.reached("affine"))
    began = time.monotonic()
    task.cancel()
    assert spin(lambda: task.done) and (not stopwatch or time.monotonic() - began < 1.0)
    assert task.state == "cancelled"


def test_a_cancel_from_a_slot_works_without_an_event_loop(logic):  # noqa: F811
    pair = add_pair()
    task = logic.start(Inputs(pair.fixed, pair.moving), None, "lung-ct", ENDLESS)
    task.progress.connect(lambda fields: task.cancel())
    assert task.wait(PATIENCE)
    assert task.state == "cancelled"


def test_slots_that_raise_disturb_nothing(logic):  # noqa: F811
    pair = add_pair()
    task = logic.start(Inputs(pair.fixed, pair.moving), None, "lung-ct", BARE)
    task.progress.connect(lambda fields: 1 / 0)
    task.finished.connect(lambda task: 1 / 0)
    assert spin(lambda: task.done) and task.state == "finished"


def test_signals_are_connected_and_disconnected_while_the_task_runs(logic):  # noqa: F811
    pair, heard, once = add_pair(), [], []
    task = logic.start(Inputs(pair.fixed, pair.moving), None, "lung-ct", BARE)

    def first(fields: dict) -> None:
        once.append(fields["phase"])
        task.progress.disconnect(first)

    task.progress.connect(first)
    task.finished.connect(heard.append)
    task.failed.connect(heard.append)
    assert spin(lambda: task.done)
    assert heard == [task] and task.state == "finished" and len(once) == 1
    with pytest.raises(ValueError, match="is not connected"):
        task.progress.disconnect(first)
    task = logic.start(Inputs(pair.fixed, pair.moving), None, "lung-ct", AT_ONCE)
    task.failed.connect(heard.append)
    task.cancel()
    assert spin(lambda: task.done) and heard[1:] == [task]


@UNIX
def test_a_worker_that_does_not_answer_a_cancel_is_replaced(logic, stopwatch):  # noqa: F811
    pair = add_pair()
    task, _ = started(logic, pair)
    process = engine().process
    pid = process.client.hello["pid"]
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    task.cancel()
    assert spin(lambda: task.done)
    assert not stopwatch or time.monotonic() - began < 1.0
    assert task.state == "cancelled"
    assert spin(lambda: process.client.hello is not None) and process.client.hello["pid"] != pid


# ------------------------------------------------------------------------------------------- accidents in the scene


def test_a_second_registration_beside_a_running_one_is_refused_by_every_logic(logic):  # noqa: F811
    pair = add_pair()
    task, _ = started(logic, pair)
    before = content()
    for other in (logic, RegistrationLogic(engine())):
        with pytest.raises(RegistrationError, match="A registration is running"):
            other.start(Inputs(pair.fixed, pair.moving))
    with pytest.raises(ValueError, match="A registration is running"):
        engine().ask("map_points", {}, {"points": np.zeros((1, 3))})
    assert content() == before and task.state == "running"


def test_closing_the_scene_stops_the_task(logic):  # noqa: F811
    task, told = started(logic, add_pair())
    slicer.mrmlScene.Clear(0)
    assert spin(lambda: task.done)
    assert (task.state, told.ends) == ("cancelled", ["cancelled"])
    assert task.message == "The scene was closed; the task was stopped."
    assert content() == set()
    again = add_pair()
    assert logic.register(again.fixed, again.moving, "lung-ct", **BARE).metrics


def test_closing_the_scene_while_inputs_are_read_or_a_cancel_is_under_way_is_safe(logic):  # noqa: F811
    pair = add_pair()
    task = logic.start(Inputs(pair.fixed, pair.moving))
    slicer.mrmlScene.Clear(0)
    assert spin(lambda: task.done) and task.state == "cancelled"
    task, told = started(logic, add_pair())
    task.cancel()
    slicer.mrmlScene.Clear(0)
    assert spin(lambda: task.done) and told.ends == ["cancelled"] and content() == set()


def test_inputs_and_outputs_can_be_deleted_while_the_task_runs(logic):  # noqa: F811
    pair = add_pair()
    warped = add_node("ScalarVolume", "kept")
    task, _ = started(logic, pair, Outputs(warped=warped))
    for node in (pair.moving, task.outputs.forward, task.outputs.table):
        slicer.mrmlScene.RemoveNode(node)
    task.cancel(keep=True)
    assert spin(lambda: task.done) and task.state == "finished", task.message + task.details
    assert warped.GetImageData() is not None and deformation(task.outputs.inverse) is not None
    assert "out to in" not in content()


def test_deleted_nodes_do_not_come_back_on_cancel(logic):  # noqa: F811
    pair = add_pair()
    mine = add_node("Transform", "mine")
    task, _ = started(logic, pair, Outputs(mine))
    for node in (pair.fixed, mine, task.outputs.warped):
        slicer.mrmlScene.RemoveNode(node)
    before = content() - {"in to out", "out log-Jacobian", "out metrics"}
    task.cancel()
    assert spin(lambda: task.done) and task.state == "cancelled"
    assert content() == before


# ------------------------------------------------------------------------------------------ accidents of the worker


@UNIX
def test_a_killed_worker_is_told_in_a_sentence_and_the_next_registration_works(logic):  # noqa: F811
    pair = add_pair()
    before = content()
    task, told = started(logic, pair)
    os.kill(engine().process.client.hello["pid"], signal.SIGKILL)
    assert spin(lambda: task.done)
    assert (task.state, task.failure, told.ends) == ("failed", "died", ["failed"])
    assert "The worker was killed, most likely because memory ran out" in task.message
    assert content() == before
    assert logic.register(pair.fixed, pair.moving, "lung-ct", **BARE).metrics


def test_a_python_that_is_not_there_is_told(logic):  # noqa: F811
    lost = RegistrationLogic(WarmWorker(WorkerProcess("/nowhere/PythonSlicer")))
    pair = add_pair()
    before = content()
    task = lost.start(Inputs(pair.fixed, pair.moving))
    assert spin(lambda: task.done) and "The worker cannot be started" in task.message
    with pytest.raises(RegistrationError, match="The worker cannot be started"):
        lost.register(pair.fixed, pair.moving)
    assert content() == before


def test_a_library_that_was_missing_and_has_come_needs_no_restart_of_the_application(logic, tmp_path, monkeypatch):  # noqa: F811
    shadow = tmp_path / "torch.py"
    shadow.write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    mended = RegistrationLogic(WarmWorker(WorkerProcess()))
    pair = add_pair()
    before = content()
    mended.warmUp()
    client = mended._worker.process.client
    assert spin(lambda: client.hello is not None)
    for _ in range(2):
        with pytest.raises(RegistrationError, match="PyTorch cannot be loaded .*; install or repair it and try again"):
            mended.register(pair.fixed, pair.moving, "lung-ct", **BARE)
        assert mended._task.failure == "missing" and content() == before
    shadow.unlink()
    assert mended.register(pair.fixed, pair.moving, "lung-ct", **BARE).metrics
    mended.close()


def test_too_little_memory_is_told(logic):  # noqa: F811
    pair = add_pair()
    with pytest.raises(RegistrationError, match="memory"):
        logic.register(pair.fixed, pair.moving, "lung-ct", Outputs(gridSpacing=0.01), **BARE)
    assert logic._task.failure == "memory"


@UNIX
def test_no_task_writes_a_file(logic):  # noqa: F811
    resource = pytest.importorskip("resource")
    pair = add_pair()
    logic.warmUp()
    assert spin(lambda: engine().process.client.hello is not None)
    worker, limit = engine().process.client.hello["pid"], resource.RLIMIT_FSIZE
    limits = resource.prlimit(worker, limit)
    resource.prlimit(worker, limit, (0, limits[1]))  # stands for a full disk
    try:
        result = logic.register(pair.fixed, pair.moving, "lung-ct", **BARE)
        assert logic.evaluate(pair.fixed, pair.moving, **pair.judges)["folds_percent"]
        assert np.isfinite(logic.applyToPoints(np.zeros((1, 3)), transform=result.nodes.forward)).all()
    finally:
        resource.prlimit(worker, limit, limits)


def test_nodes_of_a_closed_scene_are_let_go(logic):  # noqa: F811
    pair = add_pair()
    logic.register(pair.fixed, pair.moving, "lung-ct", **BARE)
    gone = weakref.ref(pair.moving)
    del pair
    logic._task = None
    slicer.mrmlScene.Clear(0)
    gc.collect()
    assert gone() is None
    with pytest.raises(RegistrationError, match="register first"):
        logic.resume(1)


def test_closing_the_logic_stops_its_task_and_the_worker_with_the_last_user():
    new_scene()
    first, second = (RegistrationLogic(WarmWorker()) for _ in range(2))
    second._worker = first._worker
    first.warmUp()
    second.warmUp()
    process = first._worker.process
    pair = add_pair()
    task = first.start(Inputs(pair.fixed, pair.moving))
    first.close()
    assert task.state == "cancelled" and process.running
    second.close()
    assert not process.running
