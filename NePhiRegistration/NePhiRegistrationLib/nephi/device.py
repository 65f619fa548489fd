"""Where to compute, and how much memory there is."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from .errors import InputError

try:
    torch.from_numpy(np.zeros(1))
except RuntimeError as error:  # built for NumPy 1, as torch was until version 2.2
    raise ImportError(f"torch {torch.__version__} cannot work with NumPy {np.__version__}; install torch 2.3 or newer, "
                      "or NumPy 1") from error

DEVICES = ("auto", "cpu", "cuda")
"""Apple's MPS is not among them: it has no double precision, and torch lacks some of the kernels used here."""


def pick_device(name: str) -> torch.device:
    """The torch device of an option's name; "auto" takes CUDA where there is one, else the CPU.

    Raises:
        InputError: a device that this machine does not have.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(f"The device {name!r} was asked for, but this machine or its torch has none; "
                         "use 'auto' or 'cpu'.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def free_memory() -> float:
    """Bytes of main memory that can still be taken; on macOS, which does not tell, all of it. On Linux not more than
    the process may take, as ``ulimit -v`` or a cluster's job says."""
    if sys.platform == "win32":
        status = _WindowsMemory(ctypes.sizeof(_WindowsMemory))
        told = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return float(status.free) if told else math.inf
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        return min(free, _allowed() - _taken())
    except (OSError, StopIteration, ValueError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


@contextmanager
def within_free_memory() -> Iterator[None]:
    """Whatever asks for more memory than is free meanwhile is told that there is none, as Windows does by itself.

    For a library that believes the sizes in a file: Linux would promise it all and end the process when it is taken.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    before, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(min(_taken() + free_memory(), _allowed()))
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


def _taken() -> int:
    """Bytes of addresses that this process has on Linux."""
    import resource

    with open("/proc/self/statm", encoding="ascii") as line:
        return int(line.read().split()[0]) * resource.getpagesize()


def _allowed() -> float:
    """Bytes of addresses that this process may have on Linux."""
    import resource

    limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    return float(min(limits, default=math.inf))


class _WindowsMemory(ctypes.Structure):
    """MEMORYSTATUSEX; sizes in bytes."""

    _fields_ = (("length", ctypes.c_uint32), ("load", ctypes.c_uint32), *((name, ctypes.c_uint64) for name in (
        "all", "free", "all_with_pages", "free_with_pages", "all_addresses", "free_addresses", "extended")))
