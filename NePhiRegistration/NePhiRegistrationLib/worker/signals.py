"""Signals, connected as those of Qt are; without Qt, so that they also work where no event loop runs."""

from __future__ import annotations

import logging
from typing import Any, Callable

logger = logging.getLogger(__name__)


class Signal:
    """Calls its slots in the order of connecting. A slot that raises is logged and disturbs nothing else."""

    def __init__(self) -> None:
        self._slots: list[Callable] = []

    def connect(self, slot: Callable) -> None:
        """Call this slot from now on."""
        self._slots.append(slot)

    def disconnect(self, slot: Callable) -> None:
        """Stop calling this slot.

        Raises:
            ValueError: it was not connected.
        """
        if slot not in self._slots:
            raise ValueError(f"{slot!r} is not connected; disconnect what was connected before.")
        self._slots.remove(slot)

    def emit(self, *values: Any) -> None:
        """Call all slots."""
        for slot in tuple(self._slots):
            try:
                slot(*values)
            except Exception:
                logger.exception("A slot of a signal failed.")
