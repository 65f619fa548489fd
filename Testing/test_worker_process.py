"""The worker as a child of a Qt application (the double of PythonQt): event loop, blocking calls, accidents, end."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed")

import pythonqt

pythonqt.install()

import qt  # noqa: E402
from NePhiRegistrationLib.worker.worker_process import WorkerProcess  # noqa: E402
from worker_pipe import BARE, ENDLESS, PHANTOM, Watched, pair  # noqa: E402

pytest_plugins = ["worker_fixture"]

UNIX = pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
MS = 60_000


def spin(condition, seconds: float = 60.0) -> bool:
    """Run the event loop until a condition holds; whether it does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        qt.QCoreApplication.processEvents()
        time.sleep(0.001)
    return condition()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_registration_runs_beside_the_event_loop(worker):
    worker.start()
    request = worker.client.request("register", *pair(BARE))
    watched = Watched.of(request)
    assert spin(lambda: request.done), list(worker._stderr_lines)
    assert request.state == "finished", request.message
    assert watched.outcomes == ["finished"] and watched.previews and watched.phases()[-1] == "outputs"


def test_a_script_without_an_event_loop_can_wait_for_a_reply(worker):
    worker.start()
    request = worker.client.request("register", *pair(BARE))
    watched, shown = Watched.of(request), []
    request.shown.connect(shown.append)
    assert worker.waitForReply(request, MS) and request.state == "finished"
    assert watched.previews
    asked = worker.client.request("map_points", {}, {"points": PHANTOM.landmarks_fixed.numpy(),
                                                     "transform": shown[0].arrays["transform"]})
    assert not worker.waitForReply(worker.client.request("ping"), 0)
    assert worker.waitForReply(asked, MS) and asked.reply.arrays["points"].shape == PHANTOM.landmarks_fixed.shape


def test_large_images_go_out_in_pieces_while_the_loop_goes_on_turning(worker, stopwatch):
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    blocked, before = [], time.monotonic()
    request = worker.client.request("map_points", {}, {"points": np.zeros(50_000_000, np.uint8)})
    while not request.done:
        qt.QCoreApplication.processEvents()
        blocked.append(time.monotonic() - before)
        before = time.monotonic()
    assert request.failure == "input"
    assert not stopwatch or np.quantile(blocked, 0.99) < 0.05


@UNIX
def test_a_killed_worker_is_told_in_a_sentence_and_the_next_start_works(worker):
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    request = worker.client.request("register", *pair(ENDLESS))
    os.kill(worker.client.hello["pid"], signal.SIGKILL)
    assert spin(lambda: request.done, 5)
    assert request.message == \
        "The worker was killed, most likely because memory ran out; free some or lower the resolution."
    assert not worker.running and not worker.client.connected
    worker.start()
    assert worker.waitForReply(worker.client.request("ping"), MS)


def behind_launcher(folder, after: str = "") -> WorkerProcess:
    """A worker behind a launcher, as in Slicer, ready; what the launcher's shell does after it."""
    launcher = folder / "PythonSlicer"
    launcher.write_text(f"#!/bin/sh\n{sys.executable} \"$@\"{after}\nexit 1\n")
    launcher.chmod(0o755)
    worker = WorkerProcess(str(launcher))
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    return worker


@UNIX
def test_a_worker_that_ends_behind_a_launcher_is_told_without_a_cause_that_nobody_knows(tmp_path):
    worker = behind_launcher(tmp_path, " || echo '[python-real] exit abnormally' >&2")
    request = worker.client.request("register", *pair(ENDLESS))
    os.kill(worker.client.hello["pid"], signal.SIGKILL)
    assert spin(lambda: request.done, 5)
    assert request.message.startswith("The worker was killed or crashed, perhaps because memory ran out;")
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    pid = worker.client.hello["pid"]
    worker.stop()
    assert spin(lambda: not alive(pid), 5)  # not only the launcher


@pytest.fixture
def launched(tmp_path):
    """A worker behind a launcher, as in Slicer, ready."""
    worker = behind_launcher(tmp_path)
    yield worker
    worker.stop()


@UNIX
def test_what_has_ended_is_never_signalled_by_its_number(worker, launched, monkeypatch):
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    kill, signalled = os.kill, []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid) or kill(pid, number))
    for ending in (worker, launched):
        kill(ending.client.hello["pid"], signal.SIGKILL)
        assert spin(lambda ending=ending: not ending.running, 5)
        ending.stop()
    assert signalled == []


@UNIX
def test_a_worker_whose_launcher_was_killed_ends_by_itself(launched, monkeypatch):
    pid, launcher = launched.client.hello["pid"], launched._process.processId()
    assert pid != launcher
    request = launched.client.request("register", *pair(ENDLESS))
    kill, signalled = os.kill, []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid) or kill(pid, number))
    kill(launcher, signal.SIGKILL)
    assert spin(lambda: request.done and not alive(pid), 10)
    assert signalled == []


@UNIX
def test_a_worker_behind_a_launcher_that_does_not_answer_is_ended_too(launched):
    pid = launched.client.hello["pid"]
    os.kill(pid, signal.SIGSTOP)
    launched.stop(patience_ms=200)
    assert spin(lambda: not alive(pid), 5)


def test_an_interpreter_that_is_not_there_is_told_in_a_sentence():
    worker = WorkerProcess("/nowhere/PythonSlicer")
    worker.start()
    request = worker.client.request("ping")
    assert spin(lambda: request.done, 5)
    assert request.message.startswith("The worker cannot be started") and "/nowhere/PythonSlicer" in request.message
    assert not worker.running


def test_a_program_that_is_no_worker_is_told_with_its_last_words(tmp_path, monkeypatch):
    program = tmp_path / "broken.py"
    program.write_text(textwrap.dedent("""
        import sys
        sys.exit("the library libtorch.so is missing")
        """))
    monkeypatch.setattr("NePhiRegistrationLib.worker.worker_process.PROGRAM", str(program))
    worker = WorkerProcess()
    worker.start()
    request = worker.client.request("ping")
    assert spin(lambda: request.done, 10)
    assert request.message.startswith("The worker ended unexpectedly (code 1: the library libtorch.so is missing);")


def test_garbage_on_the_wire_fails_the_request_and_ends_the_worker(tmp_path, monkeypatch):
    program = tmp_path / "garbage.py"
    program.write_text("import time\nprint('this is not the protocol', flush=True)\ntime.sleep(60)")
    monkeypatch.setattr("NePhiRegistrationLib.worker.worker_process.PROGRAM", str(program))
    worker = WorkerProcess()
    worker.start()
    request = worker.client.request("ping")
    assert spin(lambda: request.done, 10)
    assert "unreadable" in request.message and not worker.running


@UNIX
@pytest.mark.parametrize("busy", [False, True])
def test_stop_ends_the_worker_soon_whatever_it_does_and_fails_what_is_open(worker, busy):
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    pid = worker.client.hello["pid"]
    request = worker.client.request("register", *pair(ENDLESS)) if busy else None
    if busy:
        spin(lambda: False, 1)
    started = time.monotonic()
    worker.stop("Slicer is closing.")
    assert time.monotonic() - started < 1.5 and not alive(pid) and not worker.running
    assert request is None or request.message == "Slicer is closing."
    worker.stop()


@UNIX
def test_a_worker_that_does_not_answer_is_replaced(worker):
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    pid = worker.client.hello["pid"]
    os.kill(pid, signal.SIGSTOP)
    request = worker.client.request("ping")
    worker.restart("The worker did not answer and was started anew.")
    assert request.message == "The worker did not answer and was started anew." and not alive(pid)
    assert worker.waitForReply(worker.client.request("ping"), MS)


def test_slots_that_fail_or_stop_the_worker_disturb_nobody(worker):
    worker.start()
    asked = []
    first, second, third = (worker.client.request("ping") for _ in range(3))
    first.ended.connect(lambda request: 1 / 0)
    second.ended.connect(lambda request: (asked.append(request), worker.stop()))
    assert spin(lambda: third.done)
    assert (first.state, second.state, asked) == ("finished", "finished", [second])
    assert third.state in ("finished", "failed") and not worker.running
