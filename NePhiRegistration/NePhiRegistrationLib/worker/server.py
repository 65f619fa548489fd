"""The worker's loop: one thread reads requests, the main thread works on them one after the other."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any, Optional

from .interruption import Cancelled, Interruption
from .messages import LONG, Decoder, Message, ProtocolError, encode

logger = logging.getLogger(__name__)

_PIECE = 1 << 20


def serve() -> None:
    """Serve until standard input ends; runs in the main thread."""
    Server(os.dup(0), _reserve_standard_output()).run()


def _reserve_standard_output() -> int:
    """Descriptor of the real standard output; whatever else is printed, by Python or by a library, goes to stderr."""
    wire = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return wire


class Server:
    """Reads requests from one descriptor and writes replies to another (docs/worker.md)."""

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = requests, replies
        self._writing = threading.Lock()
        self._interruption = Interruption()
        self._waiting: queue.Queue[Message] = queue.Queue()
        self._open: dict[str, str] = {}  # task -> kind, of what runs or waits
        self._running: Optional[str] = None
        self._changing = threading.Lock()  # of the two above
        self._handlers: Any = None
        self._missing: Optional[str] = None

    def run(self) -> None:
        """The main thread's part."""
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        self._load()
        while True:
            request = self._waiting.get()
            if self._begins(request.fields["task"]):
                self._answer(request)

    def send(self, kind: str, fields: Optional[Mapping[str, Any]] = None,
             arrays: Optional[Mapping[str, Any]] = None) -> None:
        """Write one reply, whole; for both threads."""
        pieces = encode(kind, fields, arrays)
        with self._writing:
            for piece in pieces:
                view = memoryview(piece)
                while view.nbytes:
                    view = view[os.write(self._replies, view[:_PIECE]):]

    # ------------------------------------------------------------------------------------------ main thread

    def _load(self) -> None:
        """Import the engine, which takes seconds, and say hello."""
        devices, versions = [], {"version": None, "torch": None}
        try:
            importlib.import_module("nephi")  # before torch, which reads once how its threads wait
            self._handlers = importlib.import_module(".request_handlers", __package__).RequestHandlers(self._reply)
            devices, versions = self._handlers.devices(), self._handlers.versions()
        except Exception as error:  # broken installations fail in many ways, and each must reach the user
            name = {"torch": "PyTorch", None: "The engine"}.get(getattr(error, "name", None), str(error))
            self._missing = f"{name} cannot be loaded ({error}); install or repair it and try again."
            logger.exception("The engine cannot be loaded.")
        self.send("hello", {**versions, "python": platform.python_version(), "pid": os.getpid(), "devices": devices,
                            "missing": self._missing})
        if self._missing is None:
            self._handlers.warm_up()
            for package in {__package__.partition(".")[0], "nephi"}:  # installed with pip, the worker is the engine's
                logging.getLogger(package).addHandler(_Forward(self))
                logging.getLogger(package).setLevel(logging.INFO)

    def _reply(self, task: str, kind: str, fields: Optional[Mapping[str, Any]] = None,
               arrays: Optional[Mapping[str, Any]] = None) -> None:
        """A running task's message; a cancel that arrives meanwhile waits until the frame is complete."""
        with self._interruption.shielded():
            self.send(kind, {**(fields or {}), "task": task}, arrays)

    def log(self, level: str, message: str) -> None:
        """A line for the application's log."""
        with self._interruption.shielded():
            self.send("log", {"level": level, "message": message})

    def _begins(self, task: str) -> bool:
        """Whether a task is still wanted; it runs from now on."""
        with self._changing:
            self._running = task if task in self._open else None
        return self._running is not None

    def _answer(self, request: Message) -> None:
        task = request.fields["task"]
        try:
            with self._interruption.running(task):
                outcome = self._outcome(request)
        except Cancelled:
            outcome = ("cancelled", {}, {})
        with self._changing:
            del self._open[task]
            self._running = None
        kind, fields, arrays = outcome
        try:
            self.send(kind, {**fields, "task": task}, arrays)
        except ProtocolError as error:
            self.send("failed", {"task": task, "kind": "internal", "message": str(error), "details": ""})

    def _outcome(self, request: Message) -> tuple[str, dict, dict]:
        if self._missing is not None:
            return "failed", {"kind": "missing", "message": self._missing, "details": ""}, {}
        try:
            return self._handlers.answer(request, self._interruption.check)
        except Exception as error:
            kind, message = self._handlers.explain(error)
            return "failed", {"kind": kind, "message": message, "details": traceback.format_exc()}, {}

    # --------------------------------------------------------------------------------------- reading thread

    def _read(self) -> None:
        decoder = Decoder()
        try:
            while data := os.read(self._requests, _PIECE):
                for message in decoder.feed(data):
                    self._arrived(message)
        except ProtocolError as error:
            self.send("failed", {"task": None, "kind": "internal", "message": str(error), "details": ""})
        except OSError:
            logger.exception("The requests cannot be read any more.")
        os._exit(0)  # the application is gone or does not make sense: whatever runs is of no use to anybody

    def _arrived(self, message: Message) -> None:
        task = message.fields.get("task")
        if not isinstance(task, str):
            self._refuse(task, f"The request {message.kind} names no task.")
        elif message.kind == "ping":
            self.send("pong", {"task": task})
        elif message.kind == "cancel":
            self._cancel(task, bool(message.fields.get("keep", False)))
        else:
            self._enqueue(task, message)

    def _enqueue(self, task: str, message: Message) -> None:
        with self._changing:
            busy = next((kind for kind in self._open.values() if kind in LONG or message.kind in LONG), None)
            if busy is None:
                self._open[task] = message.kind
                self._waiting.put(message)
        if busy is not None:
            self._refuse(task, f"The worker is busy ({busy}); wait until it has finished, or cancel it.")

    def _cancel(self, task: str, keep: bool) -> None:
        with self._changing:
            waits = task in self._open and task != self._running
            if waits:
                del self._open[task]
        if waits:
            self.send("cancelled", {"task": task})
        else:
            self._interruption.request(task, keep)

    def _refuse(self, task: Any, message: str) -> None:
        self.send("failed", {"task": task, "kind": "input", "message": message, "details": ""})


class _Forward(logging.Handler):
    """The engine's log, for the application's."""

    def __init__(self, server: Server) -> None:
        super().__init__(logging.INFO)
        self._server = server

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        self._server.log(record.levelname.lower(), self.format(record))
