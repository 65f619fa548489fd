"""Where to compute, and how much memory there is."""

from __future__ import annotations

import math
import os

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
    """Bytes of main memory that can still be taken; on systems that do not tell, all of it, or infinity."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pages = getattr(os, "sysconf_names", {})
        known = "SC_PHYS_PAGES" in pages and "SC_PAGE_SIZE" in pages
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if known else math.inf
