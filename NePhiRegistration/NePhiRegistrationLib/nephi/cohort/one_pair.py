"""What a worker does with one pair."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

import SimpleITK as sitk
import torch

from ..errors import InputError, NePhiError
from ..report.memory import forget_peak
from .finished import fingerprints, finished, write_finished
from .rows import Job

Register = Callable[[Mapping[str, Any], Callable[[], None]], dict]
"""Registers the pair that the arguments name and fills their output folder; calls the function now and then, and ends
where that raises. Returns the report."""

MOST_DEATHS = 2
"""So many times a pair is run again after the worker that ran it has died."""


def run_pair(job: Job, register: Register) -> dict:
    """Register a pair where this is called; only for a process of its own, as it sets the process's threads.

    Returns:
        What marks it as finished (docs/cohorts.md), or its id and a sentence as ``error``.

    Raises:
        InputError: nobody waits for the pair any more.
    """
    before = finished(job)  # by a worker whose answer did not arrive
    if before is not None:
        return before
    folder = Path(job.folder)
    torch.set_num_threads(job.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(job.threads)
    try:
        with _folder_for(folder), _heard() as warnings:
            forget_peak()
            inputs = fingerprints(job.files)
            (folder / job.record).unlink(missing_ok=True)
            report = register(job.arguments, _ask_whether_wanted)
            return write_finished(job, inputs, report, warnings=warnings)
    except Unwanted:
        raise
    except NePhiError as error:
        return {"id": job.id, "error": " ".join(str(error).split())}


class Unwanted(InputError):
    """Nobody waits for this pair any more."""


def leftovers(folder: Path) -> list[Path]:
    """What registrations that were killed have left in a folder: one folder each."""
    return list(folder.glob(".nephi-*"))


def sweep(folder: Path) -> None:
    """Remove what killed registrations have left, and the folder if nothing else is in it."""
    for left in leftovers(folder):
        shutil.rmtree(left, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _folder_for(folder: Path) -> Iterator[None]:
    """Make a pair's folder; leave nothing half-made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder {folder} ({error.strerror or error}); choose one with write "
                         "permission and free space.") from error
    deaths = len(leftovers(folder))
    try:
        if deaths > MOST_DEATHS:
            raise InputError(died(deaths))
        yield
    finally:
        sweep(folder)


def died(times: int) -> str:
    """What to say of a pair whose worker died each time."""
    return (f"The worker that ran it died, {times} times (killed, out of memory, or its machine gone); give each "
            "worker more memory, or register this pair alone with -v to see where it stops.")


class _Listener(logging.Handler):
    """Keeps the messages."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """The warnings of the engine meanwhile."""
    logger, handler = logging.getLogger("nephi"), _Listener(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield handler.found
    finally:
        logger.removeHandler(handler)


def _ask_whether_wanted() -> None:
    """End a pair that was cancelled while it runs in a worker."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # not in a worker
        return
    task = worker.state.tasks.get(worker.get_current_task())
    if task is not None and task.state == "cancelled":
        raise Unwanted("The pair is not wanted any more.")
