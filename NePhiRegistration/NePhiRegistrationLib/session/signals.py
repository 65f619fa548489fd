"""Signals of a task, connected as those of Qt are; without Qt, so that they also work where no event loop runs."""

from __future__ import annotations

import logging
from typing import Any, Callable, Optional

from ..i18n import tr as _

logger = logging.getLogger(__name__)


class Signal:
    """Calls what is connected, in the order of connecting. A slot that raises is logged and disturbs nothing else."""

    def __init__(self) -> None:
        self._slots: list[Callable] = []

    def connect(self, slot: Optional[Callable]) -> None:
        """Call this from now on; None is nobody."""
        if slot is not None:
            self._slots.append(slot)

    def disconnect(self, slot: Callable) -> None:
        """Call this no more.

        Raises:
            ValueError: it was not connected.
        """
        if slot not in self._slots:
            raise ValueError(_("{slot!r} is not connected; disconnect what was connected before.").format(slot=slot))
        self._slots.remove(slot)

    def emit(self, *values: Any) -> None:
        """Call all that are connected."""
        for slot in tuple(self._slots):
            try:
                slot(*values)
            except Exception:
                logger.exception("What was connected to a signal of a registration failed.")
