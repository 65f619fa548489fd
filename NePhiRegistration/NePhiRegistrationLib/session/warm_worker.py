"""The worker that all logics of the application share, started when it is needed."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from ..i18n import tr as _
from ..mrml.node_error import NodeError
from ..worker.client import Request
from ..worker.elsewhere import command_arguments
from ..worker.messages import Message
from ..worker.worker_process import WorkerProcess
from . import compute_place
from .values import RegistrationError

logger = logging.getLogger(__name__)


class WarmWorker:
    """A worker for several users; it ends with the last of them.

    Args:
        process: the process to use; by default one on the application's own Python.

    Attributes:
        process: see above.
        command: what starts the worker, elsewhere; empty for the application's own Python.
        log: signal with a level and a line of the worker's log.
    """

    def __init__(self, process: Optional[WorkerProcess] = None) -> None:
        self.process = process or WorkerProcess()
        self.command = ""
        self.log = self.process.client.log
        self.log.connect(_log)
        self._users: weakref.WeakSet = weakref.WeakSet()

    @property
    def busy(self) -> bool:
        """Whether a registration is running, whoever started it."""
        return self.process.client.busy is not None

    def use(self, command: str) -> None:
        """Compute with a worker that a command starts from now on, or here if it is empty; none is started yet.

        Raises:
            NodeError: the command cannot be read.
            RegistrationError: a registration is running.
        """
        if self.busy:
            raise RegistrationError(_("A registration is running; wait until it has finished, or cancel it."))
        try:
            arguments = command_arguments(command)
        except ValueError as error:
            raise NodeError(str(error)) from error
        self.command = command.strip()
        self.process.use(arguments, compute_place.environment())

    def start(self, user: Any) -> None:
        """Have a worker, for a user; returns at once."""
        self._users.add(user)
        self._ready()

    def leave(self, user: Any) -> None:
        """A user needs the worker no more."""
        self._users.discard(user)
        if not self._users:
            self.process.stop()

    def restart(self, reason: str) -> None:
        """A fresh worker at once; open requests fail with the reason."""
        self.process.restart(reason)

    def request(self, kind: str, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Request:
        """Send a request (docs/worker.md) to a worker, a new one where the last has ended or lacks a library that may
        have come since."""
        self._ready()
        if self.command and "names" in fields:  # which may tell who the patient is
            fields = {**fields, "names": {}}
        return self.process.client.request(kind, fields, arrays)

    def cancel(self, request: Request, keep: bool = False) -> None:
        """See :meth:`worker.client.Client.cancel`."""
        self.process.client.cancel(request, keep)

    def wait(self, request: Request, ms: int = -1) -> bool:
        """See :meth:`worker.worker_process.WorkerProcess.waitForReply`."""
        return self.process.waitForReply(request, ms)

    def ask(self, kind: str, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Message:
        """Send a request and block until it is answered; no event loop is needed.

        Raises:
            NodeError: the engine refused what it was given.
            RegistrationError: the worker could not do it.
        """
        request = self.request(kind, fields, arrays)
        self.wait(request)
        if request.state != "finished":
            raise failure(request.failure, request.message)
        return request.reply

    def _ready(self) -> None:
        missing = (self.process.client.hello or {}).get("missing")
        if missing:
            self.process.restart(missing)
        self.process.start()


class ComputesAnywhere:
    """A logic whose worker may be on another computer."""

    _worker: WarmWorker

    def computeOn(self) -> str:
        """The command that starts the worker on another computer; empty for this one."""
        return self._worker.command

    def setComputeOn(self, command: str = "") -> None:
        """Compute with a worker that a command starts from now on, for instance "ssh HOST nephi worker", or again on
        this computer. All logics share the worker. The last result cannot be continued there.

        Raises:
            NodeError: (a ValueError) the command cannot be read.
            RegistrationError: (a RuntimeError) a registration is running.
        """
        self._worker.use(command)


def failure(kind: str, message: str) -> Exception:
    """The exception for a failure of a request."""
    return NodeError(message) if kind == "input" else RegistrationError(message)


def shared() -> WarmWorker:
    """The one worker of the application, in the place that its settings name."""
    if not _shared:
        _shared.append(WarmWorker())
        try:
            _shared[0].use(compute_place.remembered())
        except NodeError as error:
            logger.warning("%s", error)
    return _shared[0]


def _log(level: str, line: str) -> None:
    logger.log(getattr(logging, level.upper(), logging.INFO), "%s", line)


_shared: list[WarmWorker] = []
