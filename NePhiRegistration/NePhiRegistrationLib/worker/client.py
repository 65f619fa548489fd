"""The application's end of the pipe: requests out, replies in, no input or output of its own, no Qt."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Optional

import numpy as np

from .messages import LONG, Bytes, Decoder, Message, ProtocolError, encode
from .signals import Signal

logger = logging.getLogger(__name__)

_ENDS = {"result": "finished", "points": "finished", "values": "finished", "metrics": "finished", "pong": "finished",
         "failed": "failed", "cancelled": "cancelled"}


class Request:
    """A request on its way, and its outcome.

    Attributes:
        task: its name on the wire.
        kind: "register", ...
        progress: signal with the fields of each progress message.
        preview: signal with each preview message.
        shown: signal with the message "shown", while the numbers of a result are still on their way.
        seen: that message, or None.
        ended: signal with the request, once it has its outcome; a request that could not be sent has it at once.
        state: "running", "finished", "failed" or "cancelled".
        reply: the message that finished it, or None.
        message: when it failed, one sentence for the user.
        failure: when it failed, "input", "gone", "memory", "missing", "internal" or "died".
        details: when it failed, for the log.
    """

    def __init__(self, task: str, kind: str) -> None:
        self.task, self.kind, self.state = task, kind, "running"
        self.progress, self.preview, self.shown, self.ended = Signal(), Signal(), Signal(), Signal()
        self.seen: Optional[Message] = None
        self.reply: Optional[Message] = None
        self.message = self.failure = self.details = ""

    @property
    def done(self) -> bool:
        """Whether there is an outcome."""
        return self.state != "running"

    def _continue(self, message: Message) -> None:
        if message.kind == "progress":
            self.progress.emit(message.fields)
        elif message.kind == "preview":
            self.preview.emit(message)
        elif message.kind == "shown":
            self.seen = message
            self.shown.emit(message)

    def _end(self, message: Message) -> None:
        self.state = _ENDS[message.kind]
        if self.state == "finished":
            self.reply = message
        elif self.state == "failed":
            self.failure, self.message, self.details = (str(message.fields.get(name, ""))
                                                        for name in ("kind", "message", "details"))
        self.ended.emit(self)


class Client:
    """Sends requests and gives each reply to the request it belongs to.

    The transport calls :meth:`opened` when a worker has been started, :meth:`feed` with what it writes and :meth:`died`
    when it has ended. Signals are emitted within these calls.

    Args:
        write: takes the pieces of a message, in order.

    Attributes:
        hello: what the worker said of itself once it was ready ({"version", "torch", "python", "pid", "devices",
            "missing"}), or None.
        connected: whether there is a worker, ready or not.
        log: signal with a level ("info", "warning", ...) and a line.
    """

    def __init__(self, write: Callable[[Bytes], None]) -> None:
        self._write = write
        self._decoder = Decoder()
        self._names = itertools.count(1)
        self._open: dict[str, Request] = {}
        self.hello: Optional[dict] = None
        self.connected = False
        self.log = Signal()

    @property
    def busy(self) -> Optional[Request]:
        """The registration that is running, or None."""
        return next((request for request in self._open.values() if request.kind in LONG), None)

    def request(self, kind: str, fields: Optional[Mapping[str, Any]] = None,
                arrays: Optional[Mapping[str, np.ndarray]] = None) -> Request:
        """Send a request (docs/worker.md); one that cannot be sent comes back failed."""
        made = Request(str(next(self._names)), kind)
        refusal = self._refusal(kind)
        try:
            pieces = encode(kind, {**(fields or {}), "task": made.task}, arrays)
        except ProtocolError as error:
            refusal = refusal or ("input", str(error))
        if refusal is not None:
            made._end(_failure(*refusal))
            return made
        self._open[made.task] = made
        for piece in pieces:
            self._write(piece)
        return made

    def cancel(self, request: Request, keep: bool = False) -> None:
        """Ask for the end of a running request; its outcome comes as always.

        Args:
            keep: finish with the map so far instead of being cancelled.
        """
        if not request.done and self.connected:
            for piece in encode("cancel", {"task": request.task, "keep": keep}):
                self._write(piece)

    def opened(self) -> None:
        """A worker has been started."""
        self._decoder, self.hello, self.connected = Decoder(), None, True

    def feed(self, data: Bytes) -> None:
        """What the worker has written.

        Raises:
            ProtocolError: it makes no sense; every open request has failed, and the worker should be stopped.
        """
        try:
            messages = self._decoder.feed(data)
        except ProtocolError as error:
            self.died(f"The worker sent something unreadable and is started anew ({error})")
            raise
        for message in messages:
            self._route(message)

    def died(self, reason: str) -> None:
        """The worker has ended.

        Args:
            reason: a sentence for the user.
        """
        if not self.connected:
            return
        self.connected, self.hello = False, None
        requests, self._open = list(self._open.values()), {}
        for request in requests:
            request._end(_failure("died", reason))

    def _refusal(self, kind: str) -> Optional[tuple[str, str]]:
        """The kind of failure and the sentence with which a request is not even sent."""
        if not self.connected:
            return "died", "The worker is not running; start it first."
        if self.hello is not None and self.hello.get("missing"):
            return "missing", str(self.hello["missing"])
        if self.busy is not None and kind != "ping":
            return "input", "A registration is running; wait until it has finished, or cancel it."
        if kind in LONG and self._open:
            return "input", "The worker still carries nodes or loads a file; wait a moment and press the button again."
        return None

    def _route(self, message: Message) -> None:
        task = message.fields.get("task")
        if message.kind == "hello":
            self.hello = message.fields
        elif message.kind == "log":
            self.log.emit(str(message.fields.get("level")), str(message.fields.get("message")))
        elif task not in self._open:
            logger.warning("The worker answered a request that nobody waits for (%s).", message.kind)
        elif message.kind in _ENDS:
            self._open.pop(task)._end(message)
        else:
            self._open[task]._continue(message)


def _failure(kind: str, message: str) -> Message:
    return Message("failed", {"kind": kind, "message": message, "details": ""})
