"""The two directions of a registration side by side.

Forward and back do the same work on different arrays. With a thread each, the many small steps that torch does not
share out among its own threads run at the same time too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Optional, TypeVar

import torch

T = TypeVar("T")


class BothWays:
    """Calls something for 0 and for 1, at the same time where the work is on the CPU and there are cores for both.

    A context manager: its threads end with it.
    """

    def __init__(self, device: torch.device) -> None:
        threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(2) if device.type == "cpu" and threads > 1 else None
        if self._pool is not None:
            started = threading.Barrier(2)

            def begin(_: int) -> None:
                torch.set_num_threads(threads // 2)
                started.wait()

            list(self._pool.map(begin, range(2)))
            torch.set_num_threads(threads)  # the last number set is that of all threads to come

    def __call__(self, work: Callable[[int], T]) -> Sequence[T]:
        """What ``work`` gives for 0 and for 1; the first error is raised."""
        return list((map if self._pool is None else self._pool.map)(work, range(2)))

    def __enter__(self) -> BothWays:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        if self._pool is not None:
            self._pool.shutdown()
