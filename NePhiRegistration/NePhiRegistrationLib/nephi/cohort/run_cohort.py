"""Runs the pairs of a cohort in workers and tells of each as it ends."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ..device import free_memory
from ..errors import InputError
from .one_pair import MOST_DEATHS, Register, died, run_pair, sweep
from .peak_memory import rounds
from .pool import Place, connected, largest_worker, strangers
from .rows import Job

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds after which the number of workers is looked at again."""


@dataclass(frozen=True)
class State:
    """How far a cohort is.

    Attributes:
        ended: the result of the pair that has just ended, or None: what marks it as finished, or its ``id`` and a
            sentence as ``error``.
        running: pairs that are in workers.
        workers: that there are.
        dashboard: the address of Dask's own view, or "".
    """

    ended: Optional[Mapping]
    running: int
    workers: int
    dashboard: str = ""


def run_cohort(jobs: Sequence[Job], place: Place, register: Register) -> Iterator[State]:
    """Run the pairs; closing the generator cancels those that run.

    Args:
        register: as :func:`nephi.cohort.one_pair.run_pair` has it, a function that workers can import.

    Yields:
        State whenever a pair ends, and about every second.

    Raises:
        InputError: workers cannot be reached, or went away.
    """
    planned = [(place.workers, list(range(len(jobs))))] if jobs else []
    if place.here:
        planned = rounds([job.peak for job in jobs], place.workers, free_memory())
    for workers, numbers in planned:
        there = Place(workers, place.threads) if place.here else place
        try:
            with connected(there) as client:
                yield from run_in(client, [jobs[number] for number in numbers], register)
        finally:
            if place.here:  # the workers are gone now, whatever they were at
                for number in numbers:
                    sweep(Path(jobs[number].folder))


def run_in(client: Client, jobs: Sequence[Job], register: Register) -> Iterator[State]:
    """As :func:`run_cohort`, by the workers of a client.

    Never more pairs are with the scheduler than it has workers: its memory does not grow with the cohort, and the
    death of a worker is held against no pair that only waited.
    """
    from distributed import CancelledError, TimeoutError

    waiting, running, largest, address = deque(jobs), {}, 0.0, client.scheduler.addr
    crew = _Crew(client)
    try:
        dashboard = client.dashboard_link
        while waiting or running:
            workers = crew.size()
            while waiting and len(running) < workers:
                job = waiting.popleft()
                if job.peak > largest:
                    largest = largest_worker(client)
                if job.peak > largest > 0:
                    yield State(_too_large(job, largest), len(running), workers, dashboard)
                else:
                    running[_submit(client, job, register)] = job
            yield State(None, len(running), workers, dashboard)
            for future in _ended(client, running):
                job = running.pop(future)
                yield State(_outcome(job, future), len(running), workers, dashboard)
    except (OSError, TimeoutError, CancelledError, RuntimeError) as error:
        raise InputError(f"The scheduler {address} went away; start it, and the same command again goes on where this "
                         "one stopped.") from error
    finally:
        with contextlib.suppress(OSError, TimeoutError, CancelledError, RuntimeError):
            client.cancel(list(running))


class _Crew:
    """The workers that take pairs."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._refused: dict[str, str] = {}  # the address of each worker seen so far -> a sentence, or "" if it may

    def size(self) -> int:
        """How many there are now.

        Raises:
            InputError: there are only such as have another version of the program.
        """
        there = set(self._client.nthreads())
        new = there - set(self._refused)
        found = strangers(self._client, new) if new else {}
        self._refused.update({worker: found.get(worker, "") for worker in new})
        fit = [worker for worker in there if not self._refused[worker]]
        if there and not fit:
            raise InputError(self._refused[min(there)])
        for sentence in found.values():
            log.warning("%s Until then it gets no pairs.", sentence)
        return len(fit)


def _submit(client: Client, job: Job, register: Register) -> Future:
    from .worker_plugin import MEMORY, PAIR

    sweep(Path(job.folder))  # what an earlier run left counts for no death in this one
    return client.submit(run_pair, job, register, key=f"nephi-{job.id}-{uuid.uuid4().hex}", pure=False,
                         resources={PAIR: 1, MEMORY: job.peak})


def _ended(client: Client, running: Mapping[Future, Job]) -> list[Future]:
    """The pairs that have ended, soon after the first of them has."""
    from distributed import TimeoutError, wait

    if not running:
        time.sleep(_LOOK)
        return []
    try:
        with client.as_current():
            return list(wait(list(running), _LOOK, "FIRST_COMPLETED").done)
    except TimeoutError:
        return []


def _outcome(job: Job, future: Future) -> Mapping:
    from distributed import KilledWorker

    error = future.exception()  # or raises it, where the scheduler has gone
    if error is None:
        return future.result()
    sweep(Path(job.folder))
    if isinstance(error, KilledWorker):
        return {"id": job.id, "error": died(MOST_DEATHS + 1)}
    return {"id": job.id, "error": f"The pair failed inside the program ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); register it alone with -v and report it."}


def _too_large(job: Job, largest: float) -> dict:
    return {"id": job.id, "error": f"The pair may need {job.peak / 1e9:.1f} GB of memory, and no worker has more than "
            f"{largest / 1e9:.1f} GB; give one more, or register downsampled images."}
