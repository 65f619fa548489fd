"""Where to compute."""

from __future__ import annotations

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
