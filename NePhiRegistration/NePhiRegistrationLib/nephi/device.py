"""Where to compute, and how much memory there is."""

from __future__ import annotations

import math
import os

import torch

from .errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """The torch device of an option's name; "auto" takes CUDA where there is one, else the CPU.

    MPS is used only when asked for: its torch lacks some of the kernels used here.

    Raises:
        InputError: a device that this machine does not have.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[name]:
        raise InputError(f"The device {name!r} was asked for, but this machine or its torch has none; "
                         "use 'auto' or 'cpu'.")
    return torch.device(name)


def free_memory() -> float:
    """Bytes of main memory that can still be taken; on systems that do not tell, all of it, or infinity."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pages = getattr(os, "sysconf_names", {})
        known = "SC_PHYS_PAGES" in pages and "SC_PAGE_SIZE" in pages
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if known else math.inf
