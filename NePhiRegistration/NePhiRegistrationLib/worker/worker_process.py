"""The worker as a child process of a Qt application: its start, its pipes and its end."""

from __future__ import annotations

import collections
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Optional

import qt

from .client import Client, Request
from .elsewhere import PATIENCE, Elsewhere
from .messages import Bytes, ProtocolError

logger = logging.getLogger(__name__)

PROGRAM = str(Path(__file__).with_name("__main__.py"))
PIECE = 1 << 20  # bytes given to Qt at once; it copies them
STDERR_LINES = 50
LAUNCHER_MESSAGE = "exit abnormally"  # Slicer's launcher, when what it launched was killed or crashed


class WorkerProcess:
    """One worker after another, and the :class:`Client` that talks to whichever runs.

    Args:
        python: the interpreter; by default the application's own (in Slicer PythonSlicer, a launcher, whose child
            gets its pipes).

    Attributes:
        client: for requests; the same for the life of this object.
    """

    def __init__(self, python: Optional[str] = None) -> None:
        self.client = Client(self._enqueue)
        self._python = python or sys.executable
        self._command: tuple[str, ...] = ()
        self._environment: Any = None
        self._elsewhere: Optional[Elsewhere] = None  # of the command that runs
        self._process = None
        # Qt objects must outlive the signal in which we learn of their end; a few generations are more than enough.
        self._ended_processes: collections.deque = collections.deque(maxlen=4)
        self._outgoing: collections.deque[memoryview] = collections.deque()
        self._stderr_lines: collections.deque[str] = collections.deque(maxlen=STDERR_LINES)

    @property
    def running(self) -> bool:
        """Whether a worker has been started and has not ended."""
        return self._process is not None

    def use(self, command: tuple[str, ...], environment: Any = None) -> None:
        """Let a command start the worker from now on; what runs is stopped.

        Args:
            command: its arguments, the program first; none for the application's own Python.
            environment: a QProcessEnvironment for it; None for the application's.
        """
        self.stop("The worker was stopped; another place computes from now on.")
        self._command, self._environment = command, environment

    def start(self) -> None:
        """Start a worker if none is running; returns at once, and requests may follow at once."""
        if self.running:
            return
        self._stderr_lines.clear()
        self._outgoing.clear()
        process = self._process = qt.QProcess()
        process.readyReadStandardOutput.connect(self._read)
        process.readyReadStandardError.connect(self._read_stderr)
        process.bytesWritten.connect(self._write_more)
        process.connect("finished(int,QProcess::ExitStatus)", self._finished)  # there is another, without the status
        process.errorOccurred.connect(self._error)
        self.client.opened()
        program, *arguments = self._command or (self._python, PROGRAM)
        self._elsewhere = Elsewhere(self._command) if self._command else None
        if self._elsewhere is not None:
            if self._environment is not None:
                process.setProcessEnvironment(self._environment)
            qt.QTimer.singleShot(int(1100 * PATIENCE) + 20, self._check_patience)  # it may come a twentieth too soon
        process.start(program, arguments)

    def stop(self, reason: str = "The worker was stopped.", patience_ms: int = 1000) -> None:
        """End the worker, at the latest after about twice ``patience_ms``; open requests fail with the reason."""
        pid, process = self._pid(), self._release()  # what it still says and how it ends is not news any more
        if process is None:
            return
        self.client.died(reason)
        process.blockSignals(True)
        process.closeWriteChannel()  # the end of its input is the end of the worker, whatever it is doing
        if not process.waitForFinished(patience_ms):
            _kill(pid)  # not the launcher alone; while what was started runs, the number is still the worker's own
            if pid is None or not process.waitForFinished(patience_ms):
                process.kill()
                process.waitForFinished(1000)

    def restart(self, reason: str) -> None:
        """A fresh worker at once, for one that does not answer."""
        self.stop(reason, 0)
        self.start()

    def waitForReply(self, request: Request, ms: int = -1) -> bool:
        """Block until a request has its outcome, without an event loop; its signals are emitted.

        Args:
            ms: how long at most; negative waits for ever.

        Returns:
            Whether it has.
        """
        end = time.monotonic() + ms / 1000
        while not request.done and self._process is not None and (ms < 0 or time.monotonic() < end):
            self._process.waitForReadyRead(20)
            self._write_more()
            self._read()
            self._check_patience()
        return request.done

    # -------------------------------------------------------------------------------------------- writing

    def _enqueue(self, data: Bytes) -> None:
        self._outgoing.append(memoryview(data).cast("B"))
        self._write_more()

    def _write_more(self, written: int = 0) -> None:
        """Keep Qt's buffer filled with a few pieces, so that a large image is neither copied whole nor blocks."""
        if self._elsewhere is not None and not self._elsewhere.trusted:
            return
        while self._outgoing and self._process is not None and self._process.bytesToWrite() < 4 * PIECE:
            view = self._outgoing.popleft()
            if len(view) > PIECE:
                self._outgoing.appendleft(view[PIECE:])
            self._process.write(bytes(view[:PIECE]))

    # -------------------------------------------------------------------------------------------- reading

    def _read(self) -> None:
        if self._process is None:
            return
        data = self._process.readAllStandardOutput().data()
        try:
            self.client.feed(data if self._elsewhere is None else self._elsewhere.messages(data))
        except ProtocolError as error:
            logger.error("%s", error)
            self.stop(str(error), 0)
        self._check_hello()

    def _check_hello(self) -> None:
        """Send what waits once a worker of a command has said who it is, or have nothing to do with it."""
        if self._elsewhere is None or self._elsewhere.trusted or self.client.hello is None:
            return
        objection = self._elsewhere.objection(self.client.hello)
        if objection is not None:
            self.stop(objection, 0)
        self._write_more()

    def _check_patience(self) -> None:
        overdue = self._elsewhere.overdue() if self._process is not None and self._elsewhere is not None else None
        if overdue is not None:
            self.stop(overdue, 0)

    def _read_stderr(self) -> None:
        if self._process is not None:
            text = self._process.readAllStandardError().data().decode("utf-8", "replace")
            self._stderr_lines.extend(line for line in text.splitlines() if line.strip())

    # --------------------------------------------------------------------------------------------- ending

    def _pid(self) -> Optional[int]:
        """Of the worker itself, which need not be the process that was started; None where it is of another computer:
        here that number is another program's."""
        return None if self._command else (self.client.hello or {}).get("pid")

    def _release(self) -> object:
        """The process, which from now on is no longer ours; None if there is none."""
        process, self._process = self._process, None
        self._outgoing.clear()
        if process is not None:
            self._ended_processes.append(process)
        return process

    def _finished(self, code: int, status: int) -> None:
        if self._process is None:
            return
        self._read()
        self._read_stderr()
        if self._elsewhere is not None:
            self._ended(self._elsewhere.end(code, self._stderr_lines[-1].strip() if self._stderr_lines else ""))
        else:
            self._ended(_reason(code, int(getattr(status, "value", status)) != 0, self._stderr_lines))

    def _error(self, error: int) -> None:
        """Only one that never started: all others are followed by ``finished``."""
        if self._process is not None and int(getattr(error, "value", error)) == 0:
            reason = self._process.errorString()
            self._ended(f"The worker cannot be started ({reason}); check that {self._python} is there."
                        if self._elsewhere is None else self._elsewhere.failed_start(reason))

    def _ended(self, reason: str) -> None:
        # A worker whose launcher was killed ends with its input, which the end of the launcher closes. It is not
        # signalled: where it has ended, its number may be another program's.
        self._release()
        logger.warning("%s\n%s", reason, "\n".join(self._stderr_lines))
        self.client.died(reason)


def _reason(code: int, crashed: bool, stderr: collections.deque) -> str:
    """A sentence for the user from how a process ended; for a crash Qt gives the signal on Unix as the code."""
    last = stderr[-1].strip() if stderr else ""
    if crashed and code == 9:
        return "The worker was killed, most likely because memory ran out; free some or lower the resolution."
    if LAUNCHER_MESSAGE in last:  # which of the two, the launcher does not say
        return ("The worker was killed or crashed, perhaps because memory ran out; free some or lower the resolution, "
                "and try again.")
    if crashed:
        return f"The worker crashed (signal or code {code}{last and ': ' + last}); try again, the log has the details."
    return f"The worker ended unexpectedly (code {code}{last and ': ' + last}); try again, the log has the details."


def _kill(pid: Optional[int]) -> None:
    """End the worker, which a launcher may have started; only while what was started has not ended."""
    if not pid:
        return
    try:
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except OSError:
        logger.debug("The worker %d had ended already.", pid)
