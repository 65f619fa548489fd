"""The worker that all logics of the application share, started when it is needed."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from typing import Any, Callable, Optional

import numpy as np

from ..mrml.node_error import NodeError
from ..worker.client import Request
from ..worker.messages import Message
from ..worker.worker_process import WorkerProcess
from .values import RegistrationError

logger = logging.getLogger(__name__)


class Engine:
    """A worker for several users; it ends with the last of them.

    Args:
        worker: the process to use; by default one on the application's own Python.

    Attributes:
        worker: for what this class does not do.
        on_line: called with a level and a line of the worker's log, or None.
    """

    def __init__(self, worker: Optional[WorkerProcess] = None) -> None:
        self.worker = worker or WorkerProcess()
        self.worker.client.on_log = self._log
        self.on_line: Optional[Callable[[str, str], None]] = None
        self._users: weakref.WeakSet = weakref.WeakSet()

    @property
    def busy(self) -> bool:
        """Whether a registration is running, whoever started it."""
        return self.worker.client.busy is not None

    def start(self, user: Any) -> None:
        """Have a worker, for a user; returns at once."""
        self._users.add(user)
        self._ready()

    def leave(self, user: Any) -> None:
        """A user needs the worker no more."""
        self._users.discard(user)
        if not self._users:
            self.worker.stop()

    def request(self, kind: str, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray], **told: Callable
                ) -> Request:
        """Send a request to a worker, a new one where the last has ended or lacks a library that may have come since.

        Args:
            kind, fields, arrays: docs/worker.md.
            told: the callbacks of :meth:`worker.client.Client.request`.
        """
        self._ready()
        return self.worker.client.request(kind, fields, arrays, **told)

    def ask(self, kind: str, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Message:
        """Send a request and block until it is answered; no event loop is needed.

        Raises:
            NodeError: the engine refused what it was given.
            RegistrationError: the worker could not do it.
        """
        request = self.request(kind, fields, arrays)
        self.worker.waitForReply(request)
        if request.state != "finished":
            raise failure(request.failure, request.message)
        return request.reply

    def _ready(self) -> None:
        missing = (self.worker.client.hello or {}).get("missing")
        if missing:
            self.worker.restart(missing)
        self.worker.start()

    @staticmethod
    def _level(name: str) -> int:
        return getattr(logging, name.upper(), logging.INFO)

    def _log(self, level: str, line: str) -> None:
        logger.log(self._level(level), "%s", line)
        if self.on_line is not None:
            self.on_line(level, line)


def failure(kind: str, message: str) -> Exception:
    """The exception for a failure of a request."""
    return NodeError(message) if kind == "input" else RegistrationError(message)


def shared() -> Engine:
    """The one engine of the application."""
    if not _engines:
        _engines.append(Engine())
    return _engines[0]


_engines: list[Engine] = []
