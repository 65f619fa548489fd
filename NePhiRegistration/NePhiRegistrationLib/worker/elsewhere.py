"""A worker that a command of the user's starts, on another computer for instance; no input or output of its own.

Nothing is sent before the worker has said hello in the right version: another program, a shell for instance, would take
what it is sent for something else.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path
from typing import Any, Optional

from .messages import MAGIC, Bytes, ProtocolError

PATIENCE = 120.0  # s until the hello; PyTorch can take a minute to load over a network
LONGEST_BANNER = 1 << 16  # bytes before it
LONGEST_QUOTE = 200  # characters of what a program said, in a sentence


def command_arguments(command: str) -> tuple[str, ...]:
    """A command line as the list of its arguments, for a start without a shell; empty for an empty one.

    Raises:
        ValueError: its quotation marks do not match, one sentence.
    """
    lexer = shlex.shlex(command, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.name == "nt":  # where a backslash separates folders
        lexer.escape = ""
    try:
        return tuple(lexer)
    except ValueError as error:
        raise ValueError(f"The command {command!r} cannot be read ({error}); close its quotation marks.") from error


def own_version() -> str:
    """The version of the engine beside this file, which is not imported."""
    text = (Path(__file__).parents[1] / "nephi" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)[1]


class Elsewhere:
    """What is known of one start of a command.

    Args:
        command: its arguments.

    Attributes:
        trusted: whether the worker has said hello, in the right version.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = shlex.join(command)
        self._banner = b""
        self._began = False
        self._latest = time.monotonic() + PATIENCE
        self.trusted = False

    def messages(self, data: Bytes) -> Bytes:
        """What of the command's output belongs to messages: all after the banner that a login may print.

        Raises:
            ProtocolError: the banner does not end.
        """
        if self._began:
            return data
        self._banner += bytes(data)
        start = self._banner.find(MAGIC)
        if start < 0:
            if len(self._banner) > LONGEST_BANNER:
                raise ProtocolError(f"The command '{self._command}' starts no worker (it says {self._said()!r}); check "
                                    "it in a terminal.")
            return b""
        self._began = True
        rest, self._banner = self._banner[start:], self._banner[:start]
        return rest

    def objection(self, hello: dict) -> Optional[str]:
        """Why a worker that says hello cannot be used, one sentence; None trusts it."""
        here, there = own_version(), hello.get("version")
        if there != here and not (there is None and hello.get("missing")):  # an engine that cannot be loaded has none
            version = str(there or "unknown")[:20]
            return (f"The worker of '{self._command}' is version {version} and this is version {here}; install the "
                    "same version on both computers.")
        self.trusted = True
        return None

    def overdue(self) -> Optional[str]:
        """That there is no hello, once it has taken too long; one sentence, or None."""
        if self.trusted or time.monotonic() < self._latest:
            return None
        return (f"The command '{self._command}' has started no worker in {PATIENCE:g} s; check in a terminal that it "
                "asks for nothing, such as a password.")

    def end(self, code: int, last: str) -> str:
        """A sentence for the user from how the command ended: its exit code or signal, and its last words."""
        reason = f"code {code}{self._quoted(last) or self._quoted('' if self.trusted else self._said())}"
        if self.trusted:
            return (f"The connection to the worker was lost, or the worker was killed ({reason}); the next start "
                    "connects again.")
        return f"The command '{self._command}' ended and started no worker ({reason}); check it in a terminal."

    def failed_start(self, reason: str) -> str:
        """A sentence for a command that cannot be started at all."""
        return f"The command '{self._command}' cannot be started ({reason}); correct it under 'Compute on'."

    def _said(self) -> str:
        """The last line of the banner."""
        lines = self._banner.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:LONGEST_QUOTE] if lines else ""

    @staticmethod
    def _quoted(words: Any) -> str:
        return f": {words[:LONGEST_QUOTE]}" if words else ""
