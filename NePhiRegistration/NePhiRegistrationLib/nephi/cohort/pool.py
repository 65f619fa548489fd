"""Where pairs run: Dask's workers on this machine, at a scheduler that is there, or as jobs of a cluster."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from .. import __version__
from ..device import free_memory
from ..errors import InputError
from ..storage import LARGEST_TEXT, read_bytes
from .one_pair import MOST_DEATHS

if TYPE_CHECKING:  # Dask is imported where it is used: all else works without it
    from distributed import Client

    from .worker_plugin import TakesPairs

JOB_SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster",
               "oar": "OARCluster", "moab": "MoabCluster", "htcondor": "HTCondorCluster"}
"""Sections of a configuration of dask-jobqueue -> the class that it configures; see :func:`_job_cluster`."""

INSTALL = "pip install nephi-registration[batch]"
_PATIENCE = "10s"


@dataclass(frozen=True)
class Place:
    """Where pairs shall run; without scheduler, file and jobqueue on this machine.

    Attributes:
        workers: how many are started, here or as jobs.
        threads: of each worker.
        scheduler: the address of one that is there.
        scheduler_file: the file that one has written.
        jobqueue: a configuration of dask-jobqueue.
    """

    workers: int = 1
    threads: int = 1
    scheduler: str = ""
    scheduler_file: str = ""
    jobqueue: str = ""

    @property
    def here(self) -> bool:
        """Whether the workers are started on this machine."""
        return not (self.scheduler or self.scheduler_file or self.jobqueue)


def check_installed(place: Place) -> None:
    """Refuse what cannot be reached, before anything is read.

    Raises:
        InputError: Dask, or what a job system needs, is not installed.
    """
    try:
        import distributed  # noqa: F401

        if place.jobqueue:
            import dask_jobqueue  # noqa: F401
    except ImportError as error:
        raise InputError(f"Many pairs need Dask, which is not installed here ({error}); install it with "
                         f"'{INSTALL}'.") from error


@contextlib.contextmanager
def connected(place: Place) -> Iterator[Client]:
    """A client of workers that are ready to take pairs, one at a time each.

    Raises:
        InputError: the scheduler cannot be reached, a configuration cannot be used, or workers have another version.
    """
    import dask
    from distributed import Client

    from .worker_plugin import TakesPairs

    # In place of Dask's own, which also let every worker give memory back at once: that costs a fifth of the time.
    environment = {f"{name}_NUM_THREADS": place.threads for name in ("OMP", "MKL", "OPENBLAS")}
    with contextlib.ExitStack() as stack:
        for name in ("distributed", "distributed.client"):  # what matters of what they tell is raised as a sentence
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL + 1)
        stack.enter_context(dask.config.set({
            "distributed.scheduler.allowed-failures": MOST_DEATHS, "distributed.worker.profile.enabled": False,
            "distributed.nanny.pre-spawn-environ": environment}))
        where = _target(place, stack)
        try:
            client = stack.enter_context(Client(**where, timeout=_PATIENCE, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"The scheduler {place.scheduler or place.scheduler_file} cannot be reached "
                             f"({error}); start it, or correct its address.") from error
        _check_versions(client)
        _register(client, TakesPairs(free_memory() / place.workers if place.here else 0.0, __version__))
        yield client


def _register(client: Client, plugin: TakesPairs) -> None:
    """Give the plugin to all workers, those that come later too; one that dies meanwhile is no reason to end."""
    for last in (False, False, True):
        try:
            client.register_plugin(plugin)
            return
        except OSError as error:
            if last:
                raise InputError(f"The workers do not answer ({error}); look at their logs, and start them again."
                                 ) from error


def largest_worker(client: Client) -> float:
    """Bytes of memory that the largest worker has for a pair; 0 if there is none yet."""
    from .worker_plugin import memory_for_pairs

    return max(client.run(memory_for_pairs, on_error="ignore").values(), default=0.0)


def _target(place: Place, stack: contextlib.ExitStack) -> dict[str, Any]:
    """What a client is told of where to connect; clusters of our own end with the stack."""
    if place.scheduler:
        return {"address": place.scheduler}
    if place.scheduler_file:
        return {"address": _address_in(Path(place.scheduler_file))}
    if place.jobqueue:
        return {"address": stack.enter_context(_job_cluster(place))}
    from distributed import LocalCluster

    with _undisturbed():
        return {"address": stack.enter_context(LocalCluster(
            n_workers=place.workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
            memory_limit=None, silence_logs=logging.CRITICAL))}


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: workers that are half started cannot be ended. They do not hear it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if sys.platform != "win32":
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # where it begins later, it lets signals through again
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if sys.platform != "win32" else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if held:
            signal.raise_signal(signal.SIGINT)


def _address_in(path: Path) -> str:
    try:
        return str(json.loads(read_bytes(path, LARGEST_TEXT))["address"])
    except OSError as error:
        raise InputError(f"The scheduler file {path} cannot be read ({error.strerror or error}); start the scheduler "
                         f"with 'dask scheduler --scheduler-file {path}'.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"The scheduler file {path} is not one that 'dask scheduler' has written; give its own."
                         ) from error


def _job_cluster(place: Place) -> Any:
    """A cluster of dask-jobqueue whose jobs are the workers."""
    import dask_jobqueue
    from dask_jobqueue.local import LocalCluster as ProcessesAsJobs

    system, settings = _job_settings(Path(place.jobqueue))
    kind = ProcessesAsJobs if system == "local" else getattr(dask_jobqueue, JOB_SYSTEMS[system])
    submit = kind.job_cls.submit_command  # without it Dask would wait for ever
    if submit and shutil.which(submit) is None:
        raise InputError(f"There is no command {submit!r} here, which gives jobs to {system}; start this on a machine "
                         "that has it, such as a login node of the cluster.")
    try:
        cluster = kind(**settings)
        cluster.scale(place.workers)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
        raise InputError(f"The configuration {place.jobqueue} cannot be used for {system} ({error}); see the "
                         "documentation of dask-jobqueue.") from error
    return cluster


def _job_settings(path: Path) -> tuple[str, dict[str, Any]]:
    """The job system that a configuration is for, and its settings."""
    import yaml

    try:
        found = yaml.safe_load(bytes(read_bytes(path, LARGEST_TEXT)))
    except OSError as error:
        raise InputError(f"The configuration {path} cannot be read ({error.strerror or error}); check the path."
                         ) from error
    except yaml.YAMLError as error:
        raise InputError(f"The configuration {path} is not YAML ({' '.join(str(error).split())}); correct it."
                         ) from error
    sections = found.get("jobqueue", found) if isinstance(found, Mapping) else {}
    known = [name for name in (*JOB_SYSTEMS, "local") if isinstance(sections, Mapping) and name in sections]
    if len(known) != 1 or not isinstance(sections[known[0]], Mapping):
        raise InputError(f"The configuration {path} must have one section of settings named "
                         f"{', '.join(JOB_SYSTEMS)} or local, below jobqueue; it has {', '.join(known) or 'none'}.")
    return known[0], dict(sections[known[0]])


def _check_versions(client: Client) -> None:
    refused = strangers(client, None)
    if refused:
        raise InputError(next(iter(refused.values())))


def strangers(client: Client, workers: Optional[Collection[str]]) -> dict[str, str]:
    """The address of each worker that takes no pairs, as it has another version of this program -> a sentence.

    Args:
        workers: the addresses of those that are asked; None asks all.
    """
    def version() -> str:  # defined here, so that Dask sends it whole: the workers may not have this module
        try:
            import nephi
        except ImportError:
            return "none"
        return nephi.__version__

    refused = {}
    for worker, found in client.run(version, workers=None if workers is None else list(workers),
                                    on_error="return").items():
        if found != __version__ and not isinstance(found, OSError):  # that one has just died
            what = f"version {found} of this program" if found != "none" else "no nephi-registration"
            refused[worker] = (f"The worker {worker} has {what}, and this is version {__version__}; install the same "
                               "version there and start it again.")
    return refused
