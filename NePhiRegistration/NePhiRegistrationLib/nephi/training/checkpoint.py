"""Checkpoints: everything a training needs to resume as if it had never stopped.

There is no random state in them: every draw depends on the seed and the step alone (trainer.py).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ..archive import ArchiveFormat
from ..errors import InputError
from .config import Config
from .trainer import State

FORMAT = ArchiveFormat("nephi-checkpoint", 1, "a checkpoint of a training",
                       "train anew without --resume, into another folder", compressed=False)


def save(state: State, config: Config, path: Path) -> None:
    """Write a checkpoint, completely or not at all.

    Raises:
        InputError: it cannot be written.
    """
    parts = ("predictor",) if state.average is state.predictor else ("predictor", "average")
    tensors = {f"{part}/{name}": tensor for part in parts
               for name, tensor in getattr(state, part).state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer/{number}/{name}": torch.as_tensor(value) for name, value in moments.items()})
    best = state.best if math.isfinite(state.best) else None
    FORMAT.write(path, {"fingerprint": fingerprint(config), "step": state.step, "best": best,
                        "history": state.history}, {name: tensor.cpu().numpy() for name, tensor in tensors.items()})


def load(state: State, config: Config, path: Path) -> None:
    """Restore a new state from a checkpoint; nothing in the file is executed.

    Raises:
        InputError: not a checkpoint, damaged, or one made with another configuration.
    """
    header, arrays = FORMAT.read(path)
    if header.get("fingerprint") != fingerprint(config):
        raise InputError(f"The checkpoint {path} is of another model, loss or data than this configuration; train "
                         "into a new folder, or resume with the configuration it was made with.")
    try:
        state.predictor.load_state_dict(_part(arrays, "predictor"))
        if state.average is not state.predictor:
            state.average.load_state_dict(_part(arrays, "average"))
        _load_moments(state.optimizer, _part(arrays, "optimizer"))
        state.step = int(header["step"])
        state.best = -math.inf if header["best"] is None else float(header["best"])
        state.history[:] = [dict(entry) for entry in header["history"]]
    except (RuntimeError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise InputError(f"{path} is {FORMAT.content} and is damaged ({' '.join(str(error).split())[:150]}); "
                         f"{FORMAT.remedy}.") from error


def _part(arrays: Mapping[str, np.ndarray], part: str) -> dict[str, torch.Tensor]:
    return {name[len(part) + 1:]: torch.from_numpy(array) for name, array in arrays.items()
            if name.startswith(f"{part}/")}


def _load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an optimizer the moments of its parameters; its rates are set anew in every step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, kind = name.split("/")
        if tensor.dim() and tensor.shape != parameters[int(number)].shape:
            raise ValueError(f"the moment {name} has the shape {tuple(tensor.shape)}")
        moments.setdefault(int(number), {})[kind] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def fingerprint(config: Config) -> str:
    """A hash of what must not change when a training is resumed: all but its name, duration, speed and validation."""
    values = config.to_dict()
    free = ("steps", "checkpoint_every", "validate_every", "log_every", "workers", "device", "mixed_precision",
            "start")
    values["training"] = {name: value for name, value in values["training"].items() if name not in free}
    del values["validation"], values["name"]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
