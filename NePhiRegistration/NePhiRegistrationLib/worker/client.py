"""The application's end of the pipe: requests out, replies in, no input or output of its own, no Qt."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Optional

import numpy as np

from .messages import Bytes, Decoder, Message, ProtocolError, encode

logger = logging.getLogger(__name__)

LONG = ("register", "continue")
"""Requests beside which no other is possible."""

_ENDS = {"result": "finished", "points": "finished", "values": "finished", "metrics": "finished", "pong": "finished",
         "failed": "failed", "cancelled": "cancelled"}


class Request:
    """A request on its way, and its outcome.

    Attributes:
        task: its name on the wire.
        kind: "register", ...
        state: "running", "finished", "failed" or "cancelled".
        reply: the message that finished it, or None.
        message: when it failed, one sentence for the user.
        failure: when it failed, "input", "memory", "disk", "missing", "internal" or "died".
        details: when it failed, for the log.
    """

    def __init__(self, task: str, kind: str, on_progress: Optional[Callable[[dict], None]],
                 on_preview: Optional[Callable[[Message], None]], on_done: Optional[Callable[[Request], None]]) -> None:
        self.task, self.kind, self.state = task, kind, "running"
        self.reply: Optional[Message] = None
        self.message = self.failure = self.details = ""
        self._on_progress, self._on_preview, self._on_done = on_progress, on_preview, on_done

    @property
    def done(self) -> bool:
        """Whether there is an outcome."""
        return self.state != "running"

    def _shown(self, message: Message) -> None:
        if message.kind == "progress":
            _call(self._on_progress, message.fields)
        elif message.kind == "preview":
            _call(self._on_preview, message)

    def _ended(self, message: Message) -> None:
        self.state = _ENDS[message.kind]
        if self.state == "finished":
            self.reply = message
        elif self.state == "failed":
            self.failure, self.message, self.details = (str(message.fields.get(name, ""))
                                                        for name in ("kind", "message", "details"))
        _call(self._on_done, self)


class Client:
    """Sends requests and gives each reply to the request it belongs to.

    The transport calls :meth:`opened` when a worker has been started, :meth:`feed` with what it writes and :meth:`died`
    when it has ended. Callbacks run within these calls; one that raises is logged and disturbs nothing else.

    Args:
        write: takes the pieces of a message, in order.

    Attributes:
        hello: what the worker said of itself once it was ready ({"version", "torch", "python", "pid", "devices",
            "missing"}), or None.
        connected: whether there is a worker, ready or not.
        on_hello: called with ``hello``.
        on_log: called with a level ("info", "warning", ...) and a line.
        on_died: called with a sentence, after every open request has failed with it.
    """

    def __init__(self, write: Callable[[Bytes], None]) -> None:
        self._write = write
        self._decoder = Decoder()
        self._names = itertools.count(1)
        self._open: dict[str, Request] = {}
        self.hello: Optional[dict] = None
        self.connected = False
        self.on_hello: Optional[Callable[[dict], None]] = None
        self.on_log: Optional[Callable[[str, str], None]] = None
        self.on_died: Optional[Callable[[str], None]] = None

    @property
    def busy(self) -> Optional[Request]:
        """The registration that is running, or None."""
        return next((request for request in self._open.values() if request.kind in LONG), None)

    @property
    def open_requests(self) -> list[Request]:
        """All that have no outcome yet."""
        return list(self._open.values())

    def request(self, kind: str, fields: Optional[Mapping[str, Any]] = None,
                arrays: Optional[Mapping[str, np.ndarray]] = None, on_progress: Optional[Callable[[dict], None]] = None,
                on_preview: Optional[Callable[[Message], None]] = None,
                on_done: Optional[Callable[[Request], None]] = None) -> Request:
        """Send a request; one that cannot be sent comes back failed, and its ``on_done`` has been called.

        Args:
            kind, fields, arrays: docs/worker.md.
            on_progress: called with the fields of each progress message.
            on_preview: called with each preview message.
            on_done: called once, with the request, when it has its outcome.
        """
        made = Request(str(next(self._names)), kind, on_progress, on_preview, on_done)
        refusal = self._refusal(kind)
        try:
            pieces = encode(kind, {**(fields or {}), "task": made.task}, arrays)
        except ProtocolError as error:
            refusal = refusal or ("input", str(error))
        if refusal is not None:
            made._ended(_failure(*refusal))
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
            request._ended(_failure("died", reason))
        _call(self.on_died, reason)

    def _refusal(self, kind: str) -> Optional[tuple[str, str]]:
        """The kind of failure and the sentence with which a request is not even sent."""
        if not self.connected:
            return "died", "The worker is not running; start it first."
        if self.hello is not None and self.hello.get("missing"):
            return "missing", str(self.hello["missing"])
        if self.busy is not None and kind != "ping":
            return "input", "A registration is running; wait until it has finished, or cancel it."
        if kind in LONG and self._open:
            return "input", "The worker is busy; wait until it has finished."
        return None

    def _route(self, message: Message) -> None:
        task = message.fields.get("task")
        if message.kind == "hello":
            self.hello = message.fields
            _call(self.on_hello, self.hello)
        elif message.kind == "log":
            _call(self.on_log, str(message.fields.get("level")), str(message.fields.get("message")))
        elif task not in self._open:
            logger.warning("The worker answered a request that nobody waits for (%s).", message.kind)
        elif message.kind in _ENDS:
            self._open.pop(task)._ended(message)
        else:
            self._open[task]._shown(message)


def _failure(kind: str, message: str) -> Message:
    return Message("failed", {"kind": kind, "message": message, "details": ""})


def _call(callback: Optional[Callable], *arguments: Any) -> None:
    """A callback's failure is its owner's: replies to others must go on arriving."""
    if callback is None:
        return
    try:
        callback(*arguments)
    except Exception:
        logger.exception("A callback of the worker's client failed.")
