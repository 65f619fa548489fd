"""What makes a Dask worker take pairs; the one module that imports Dask at its head, itself imported where Dask is."""

from __future__ import annotations

import logging
import signal

from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.system import MEMORY_LIMIT

from .. import __version__

log = logging.getLogger(__name__)

PAIR, MEMORY = "nephi-pair", "nephi-memory"
"""What a worker has for us, in Dask's terms: room for one pair, and bytes."""


class TakesPairs(WorkerPlugin):
    """A worker with it, also one that joins later, takes one pair at a time, and only one that fits into its memory.

    Attributes:
        share: bytes, for a worker that the sender has started; 0 for another one, which has its own limit.
        version: of the program that sends the pairs; a worker of another takes none.
    """

    name = "nephi-cohort"

    def __init__(self, share: float, version: str) -> None:
        self.share, self.version = share, version

    async def setup(self, worker: Worker) -> None:
        if self.version != __version__:
            log.error("This worker has version %s of the program and gets no pairs of version %s; install the same.",
                      __version__, self.version)
            return
        if self.share:  # Ctrl-C is for the one who has started it, who ends it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        limit = self.share or worker.memory_manager.memory_limit or MEMORY_LIMIT
        await worker.set_resources(**{PAIR: 1, MEMORY: float(limit)})


def memory_for_pairs(dask_worker: Worker) -> float:
    """Bytes that a worker has for a pair; 0 if it takes none."""
    return float(dask_worker.state.total_resources.get(MEMORY, 0.0))
