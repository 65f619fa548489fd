"""The two directions of a registration side by side.

Forward and back do the same work on different arrays. With a thread each, the many small steps that torch does not
share out among its own threads run at the same time too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
Both = Callable[[Callable[[int], T]], Sequence[T]]
"""Calls something for 0, the way forward, and for 1, the way back; the first error is raised."""


def in_turn(work: Callable[[int], T]) -> Sequence[T]:
    """First forward, then back."""
    return [work(way) for way in range(2)]


@contextmanager
def side_by_side(device: torch.device) -> Iterator[Both]:
    """A thread for each way where the work is on the CPU and there are cores for both, or else one after the other."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads < 2:
        yield in_turn
        return
    started = threading.Barrier(2)

    def begin(_: int) -> None:
        torch.set_num_threads((threads + 1) // 2)
        started.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(begin, range(2)))
        torch.set_num_threads(threads)  # the last number that is set is that of all threads to come
        yield lambda work: list(pool.map(work, range(2)))
