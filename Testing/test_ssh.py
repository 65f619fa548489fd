"""The worker behind a real sshd on this computer's loopback, with a key of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
if SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
    pytest.skip("OpenSSH's server is not installed", allow_module_level=True)

from logic_case import AT_ONCE, BARE, add_pair, content, spin  # noqa: E402

import nephi  # isort: skip  # noqa: E402
from mrml_scene import new_scene  # noqa: E402
from NePhiRegistrationLib.session.logic import Inputs, RegistrationError, RegistrationLogic  # noqa: E402
from NePhiRegistrationLib.session.warm_worker import WarmWorker  # noqa: E402
from test_worker_process import alive  # noqa: E402

SERVER = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/user.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
"""


@dataclass(frozen=True)
class Server:
    """A running sshd; ``ssh`` is the command that logs in to it, without what is to be run."""

    port: int
    folder: Path

    @property
    def ssh(self) -> str:
        known = f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={shlex.quote(str(self.folder / 'known_hosts'))}"
        return (f"ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -i {shlex.quote(str(self.folder / 'user'))} "
                f"-p {self.port} {known} {getpass.getuser()}@127.0.0.1")

    def worker(self, before: str = "") -> str:
        """The command of a worker there, of this source tree; the other side's shell reads what comes after ssh."""
        run = (f"{before}env OMP_NUM_THREADS=1 PYTHONPATH={shlex.quote(str(Path(nephi.__file__).parents[1]))} "
               f"{shlex.quote(sys.executable)} -m nephi worker")
        return f"{self.ssh} {shlex.quote(run)}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(SERVER.format(port=port, folder=folder))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it confines itself; Debian's service makes it
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.PIPE)
    made = Server(port, folder)
    try:
        if not _answers(made, process):
            process.kill()
            pytest.skip(f"sshd cannot run here: {process.stderr.read().decode(errors='replace')}")
        yield made
    finally:
        process.terminate()
        process.wait(10)


def _answers(server: Server, process: subprocess.Popen) -> bool:
    """Whether one can log in, within 20 s."""
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        if subprocess.run([*shlex.split(server.ssh), "true"], capture_output=True, timeout=20).returncode == 0:
            return True
        time.sleep(0.2)
    return False


@pytest.fixture
def logic() -> Iterator[RegistrationLogic]:
    new_scene()
    made = RegistrationLogic(WarmWorker())
    yield made
    made.close()


def _connection(logic: RegistrationLogic) -> int:
    """The number of the ssh process on this side."""
    return logic._worker.process._process.processId()


def test_a_registration_over_ssh_gives_the_nodes_and_the_numbers_that_one_here_gives(server, logic):
    pair = add_pair()
    here = logic.register(pair.fixed, pair.moving, "lung-ct", **pair.judges, **BARE)
    logic.setComputeOn(server.worker("echo Welcome to the GPU box; "))
    there = logic.register(pair.fixed, pair.moving, "lung-ct", **pair.judges, **BARE)
    assert there.metrics["tre_mm"] == here.metrics["tre_mm"]
    assert there.nodes.warped is not None and there.nodes.forward is not here.nodes.forward
    assert "out" in here.report["provenance"]["moving"]["name"]
    assert there.report["provenance"]["moving"]["name"] == "moving image"  # a volume's name may be a patient's
    points = logic.applyToPoints([[0.0, 0.0, 0.0]], to="moving")
    assert points.shape == (1, 3)


def test_previews_progress_and_cancel_work_over_ssh(server, logic):
    pair = add_pair()
    before = content()
    logic.setComputeOn(server.worker())
    task = logic.start(Inputs(pair.fixed, pair.moving), preset="lung-ct", options=AT_ONCE)
    steps = []
    task.progress.connect(lambda fields: steps.append(fields["step"]))
    assert spin(lambda: len(steps) > 5 and task.outputs.forward is not None)
    connection = _connection(logic)
    task.cancel()
    assert spin(lambda: task.done) and task.state == "cancelled" and content() == before
    assert logic.register(pair.fixed, pair.moving, "lung-ct", **BARE).metrics
    assert _connection(logic) == connection  # the same worker went on


def test_a_connection_that_is_cut_is_a_sentence_ends_the_worker_there_and_the_next_try_works(server, logic):
    pair = add_pair()
    before = content()
    logic.setComputeOn(server.worker())
    task = logic.start(Inputs(pair.fixed, pair.moving), preset="lung-ct", options=AT_ONCE)
    assert spin(lambda: task.state == "running")
    there = logic._worker.process.client.hello["pid"]
    assert alive(there)
    os.kill(_connection(logic), signal.SIGKILL)
    assert spin(lambda: task.done)
    assert (task.state, task.failure) == ("failed", "died") and content() == before
    assert task.message.startswith("The connection to the worker was lost")
    assert spin(lambda: not alive(there), 20)
    assert logic.register(pair.fixed, pair.moving, "lung-ct", **BARE).metrics


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda command: command.replace("-m nephi worker", "-m nephi.no_worker"), "No module named nephi.no_worker"),
    (lambda command: command.replace("UserKnownHostsFile=", "UserKnownHostsFile=/nowhere/"),
     "Host key verification failed.")])
def test_a_login_or_a_command_that_fails_there_is_a_sentence(server, logic, change, sentence):
    pair = add_pair()
    logic.setComputeOn(change(server.worker()))
    with pytest.raises(RegistrationError, match="ended and started no worker .*" + sentence):
        logic.register(pair.fixed, pair.moving)


def test_a_program_there_that_is_no_worker_gets_nothing_that_it_could_execute(server, logic, monkeypatch):
    monkeypatch.setattr("NePhiRegistrationLib.worker.elsewhere.PATIENCE", 3.0)
    pair, sent = add_pair(), server.folder / "sent"
    logic.setComputeOn(f"{server.ssh} {shlex.quote(f'cat > {shlex.quote(str(sent))}')}")
    with pytest.raises(RegistrationError, match="has started no worker in 3 s"):
        logic.register(pair.fixed, pair.moving)
    assert sent.read_bytes() == b""
