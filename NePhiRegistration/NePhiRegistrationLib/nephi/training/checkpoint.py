"""Checkpoints: everything a training needs to resume as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from pathlib import Path

import torch

from ..errors import InputError
from ..storage import atomic_path
from .config import Config
from .trainer import State

FORMAT = "nephi-checkpoint"


def save(state: State, config: Config, path: Path) -> None:
    """Write a checkpoint, completely or not at all.

    Raises:
        InputError: it cannot be written.
    """
    values = {"format": FORMAT, "fingerprint": fingerprint(config), "step": state.step, "best": state.best,
              "history": json.dumps(state.history), "predictor": state.predictor.state_dict(),
              "average": state.average.state_dict(), "optimizer": state.optimizer.state_dict()}
    with atomic_path(path) as temporary:
        try:
            torch.save(values, temporary)
        except RuntimeError as error:  # torch's own writer does not raise OSError when the disk is full
            raise InputError(f"Cannot write the checkpoint {path} ({_first_line(error)}); make space.") from error


def load(state: State, config: Config, path: Path) -> None:
    """Restore a new state from a checkpoint; nothing in the file is executed.

    Raises:
        InputError: not a checkpoint, or one made with another configuration.
    """
    device = next(state.predictor.parameters()).device
    try:
        values = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError("it is another kind of file")
        if values["fingerprint"] != fingerprint(config):
            raise InputError(f"The checkpoint {path} is of another model, loss or data than this configuration; train "
                             "into a new folder, or resume with the configuration it was made with.")
        state.predictor.load_state_dict(values["predictor"])
        if state.average is not state.predictor:
            state.average.load_state_dict(values["average"])
        state.optimizer.load_state_dict(values["optimizer"])
        state.step, state.best = int(values["step"]), float(values["best"])
        state.history[:] = json.loads(values["history"])
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError,
            zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a checkpoint of a training or is damaged ({_first_line(error)}); train anew "
                         "without --resume, into another folder.") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]


def fingerprint(config: Config) -> str:
    """A hash of what must not change when a training is resumed: all but its name, duration, speed and validation."""
    values = config.to_dict()
    free = ("steps", "checkpoint_every", "validate_every", "log_every", "workers", "device", "mixed_precision",
            "start")
    values["training"] = {name: value for name, value in values["training"].items() if name not in free}
    del values["validation"], values["name"]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
