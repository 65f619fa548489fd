"""The worker that all logics of the application share, started when it is needed."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from ..mrml.node_error import NodeError
from ..worker.client import Request
from ..worker.messages import Message
from ..worker.worker_process import WorkerProcess
from .values import RegistrationError

logger = logging.getLogger(__name__)


class WarmWorker:
    """A worker for several users; it ends with the last of them.

    Args:
        process: the process to use; by default one on the application's own Python.

    Attributes:
        process: see above.
        log: signal with a level and a line of the worker's log.
    """

    def __init__(self, process: Optional[WorkerProcess] = None) -> None:
        self.process = process or WorkerProcess()
        self.log = self.process.client.log
        self.log.connect(_log)
        self._users: weakref.WeakSet = weakref.WeakSet()

    @property
    def busy(self) -> bool:
        """Whether a registration is running, whoever started it."""
        return self.process.client.busy is not None

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


def failure(kind: str, message: str) -> Exception:
    """The exception for a failure of a request."""
    return NodeError(message) if kind == "input" else RegistrationError(message)


def shared() -> WarmWorker:
    """The one worker of the application."""
    if not _shared:
        _shared.append(WarmWorker())
    return _shared[0]


def _log(level: str, line: str) -> None:
    logger.log(getattr(logging, level.upper(), logging.INFO), "%s", line)


_shared: list[WarmWorker] = []
