"""A worker that a command starts: what is sent to whom, what a login prints, versions, and connections that end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed")

import pythonqt

pythonqt.install()

import nephi  # noqa: E402
from NePhiRegistrationLib.worker import elsewhere, worker_process  # noqa: E402
from test_worker_process import alive, spin  # noqa: E402
from worker_pipe import AT_ONCE, BARE, Watched, pair  # noqa: E402

pytest_plugins = ["worker_fixture"]

UNIX = pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
MS = 60_000
WORKER = (sys.executable, "-m", "nephi", "worker")


@pytest.fixture(autouse=True)
def source_tree(monkeypatch):
    """``python -m nephi`` is that of this tree."""
    monkeypatch.setenv("PYTHONPATH", str(Path(nephi.__file__).parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def program(folder: Path, text: str) -> tuple[str, ...]:
    """The command that runs a Python program."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text))
    return sys.executable, str(path)


def greeting(version: object) -> str:
    """A program that says hello in a version, and keeps what it is sent, if anything, in the file ``sent``
    beside it."""
    return f"""
        import pathlib, sys
        sys.path.insert(0, {str(Path(elsewhere.__file__).parents[2])!r})
        from NePhiRegistrationLib.worker.messages import encode
        for piece in encode("hello", {{"version": {version!r}, "pid": {os.getpid()}, "missing": None}}):
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        came = sys.stdin.buffer.read()
        if came:  # the end of the input may be seen before the program is killed
            pathlib.Path(__file__).with_name("sent").write_bytes(came)
        """


@pytest.mark.parametrize(("command", "arguments"), [
    ("", ()), ("  ", ()), ("ssh gpu-box nephi worker", ("ssh", "gpu-box", "nephi", "worker")),
    ("ssh -i 'my key' box \"nephi worker\"", ("ssh", "-i", "my key", "box", "nephi worker")),
    ("echo $HOME; rm -rf * | cat # no", ("echo", "$HOME;", "rm", "-rf", "*", "|", "cat", "#", "no"))])
def test_a_command_is_a_list_of_arguments_that_no_shell_reads(command, arguments):
    assert elsewhere.command_arguments(command) == arguments


def test_backslashes_of_windows_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(os, "name", "nt")
    assert elsewhere.command_arguments(r'"C:\Program Files\ssh.exe" box') == (r"C:\Program Files\ssh.exe", "box")


def test_a_command_whose_quotation_marks_do_not_match_is_refused():
    with pytest.raises(ValueError, match="close its quotation marks"):
        elsewhere.command_arguments("ssh 'gpu-box nephi worker")


def test_the_version_of_this_side_is_known_without_the_engine():
    assert elsewhere.own_version() == nephi.__version__


def test_nephi_worker_registers_and_ends_with_its_input(worker):
    worker.use(WORKER)
    worker.start()
    request = worker.client.request("register", *pair(BARE))
    watched = Watched.of(request)
    assert worker.waitForReply(request, MS) and request.state == "finished", request.message
    assert watched.previews and watched.phases()[-1] == "outputs"
    pid = worker.client.hello["pid"]
    worker.stop()
    assert spin(lambda: not alive(pid), 5)


def test_a_banner_before_the_worker_is_passed_over(worker, tmp_path):
    worker.use(program(tmp_path, f"""
        import os, sys
        print("Welcome to gpu-box!\\nNPh: the disk is full.", flush=True)
        os.execv(sys.executable, {list(WORKER)!r})
        """))
    worker.start()
    assert worker.waitForReply(worker.client.request("ping"), MS) and worker.client.hello["missing"] is None


def test_a_banner_that_does_not_end_is_refused_with_what_it_says(worker, tmp_path):
    worker.use(program(tmp_path, "while True: print('Press a key to continue')"))
    worker.start()
    request = worker.client.request("ping")
    assert worker.waitForReply(request, MS)
    assert "starts no worker" in request.message and "Press a key to continue" in request.message
    assert not worker.running


@pytest.mark.parametrize(("version", "said"), [("0.0.1", "0.0.1"), (None, "unknown"), ([1], r"[1]")])
def test_another_version_is_one_sentence_and_gets_nothing(worker, tmp_path, version, said):
    command = program(tmp_path, greeting(version))
    worker.use(command)
    worker.start()
    request = worker.client.request("register", *pair())
    assert worker.waitForReply(request, MS)
    assert request.message == (f"The worker of '{shlex.join(command)}' is version {said} and this is version "
                               f"{nephi.__version__}; install the same version on both computers.")
    assert not worker.running and not (tmp_path / "sent").exists()


def test_a_program_that_is_no_worker_is_sent_nothing(worker, tmp_path):
    worker.use(program(tmp_path, """
        import pathlib, select, sys
        came = select.select([sys.stdin], [], [], 1)[0]
        pathlib.Path(__file__).with_name("sent").write_text(str(len(came)))
        print("This account is not available.")
        sys.exit(1)
        """))
    worker.start()
    request = worker.client.request("register", *pair())
    worker.client.cancel(request)
    assert worker.waitForReply(request, MS)
    assert (tmp_path / "sent").read_text() == "0"
    assert "ended and started no worker (code 1: This account is not available.)" in request.message


@pytest.mark.parametrize(("command", "sentence"), [
    (("/nowhere/ssh", "box"), "The command '/nowhere/ssh box' cannot be started"),
    ((sys.executable, "-m", "nephi", "wroker"), "invalid choice: 'wroker'"),
    ((sys.executable, "-c", "raise SystemExit('box: no such host')"), "(code 1: box: no such host); check it in a")])
def test_a_wrong_command_is_told_in_a_sentence_with_its_last_words(worker, command, sentence):
    worker.use(command)
    worker.start()
    request = worker.client.request("ping")
    assert spin(lambda: request.done)
    assert sentence in request.message and not worker.running


def test_a_command_that_never_says_hello_is_given_up(worker, monkeypatch):
    for module in (elsewhere, worker_process):
        monkeypatch.setattr(module, "PATIENCE", 0.2)
    worker.use((sys.executable, "-c", "import sys; sys.stdin.read()"))
    worker.start()
    request = worker.client.request("ping")
    assert spin(lambda: request.done)
    assert "asks for nothing, such as a password" in request.message and not worker.running


@UNIX
def test_a_process_here_is_never_signalled_by_the_number_of_one_elsewhere(worker, tmp_path, monkeypatch):
    signalled = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid))
    worker.use(program(tmp_path, greeting(nephi.__version__) + "\n        import time; time.sleep(60)"))
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    worker.stop(patience_ms=50)
    assert signalled == [] and not worker.running


@UNIX
def test_a_connection_that_is_cut_is_a_sentence_and_the_next_start_connects_again(worker):
    worker.use(WORKER)
    worker.start()
    assert spin(lambda: worker.client.hello is not None)
    request = worker.client.request("register", *pair(AT_ONCE))
    watched = Watched.of(request)
    assert spin(lambda: watched.previews)
    os.kill(worker._process.processId(), signal.SIGKILL)
    assert spin(lambda: request.done, 5)
    assert request.message == ("The connection to the worker was lost, or the worker was killed (code 9); the next "
                               "start connects again.")
    worker.start()
    assert worker.waitForReply(worker.client.request("ping"), MS)


def test_what_computes_here_again_is_the_own_worker(worker):
    worker.use((sys.executable, "-c", "pass"))
    worker.use(())
    worker.start()
    assert worker.waitForReply(worker.client.request("ping"), MS)
