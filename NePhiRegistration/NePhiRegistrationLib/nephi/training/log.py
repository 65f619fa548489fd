"""The log of a training: a line of JSON for every entry, and TensorBoard's files if that package is installed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from ..maps.transform import Transform
from ..maps.warp import warp
from ..predict.predictor import Predictor
from .validation import Case

logger = logging.getLogger(__name__)


class TrainingLog:
    """Writes to a folder: log.jsonl, and TensorBoard's scalars and pictures if the package is installed."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log.jsonl"
        self._board = _tensorboard(folder)

    def rewrite(self, history: list[dict]) -> None:
        """Start over with the entries up to a checkpoint; those after it will be logged again."""
        self._log.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")

    def entry(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Add numbers of a step; ``kind`` is "training" or "validation"."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def picture(self, predictor: Predictor, case: Case, step: int) -> None:
        """Add the middle slices of a pair: fixed, moving, warped."""
        if self._board is None:
            return
        device = next(predictor.parameters()).device
        models = predictor.predict(case.fixed.to(device), case.moving.to(device), case.affine)
        grid = case.fixed.grid
        shown = [case.fixed] + [warp(case.moving, Transform(grid, case.moving.grid, case.affine, used).forward, grid,
                                     fill=0.0) for used in ((), models)]
        beside = torch.cat([_middle(image.values) for image in shown], dim=1)
        self._board.add_image("fixed, moving, warped", beside[None], step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._board is not None:
            self._board.close()


def _middle(values: Tensor) -> Tensor:
    return values if values.dim() == 2 else values[len(values) // 2]


def _tensorboard(folder: Path) -> Optional[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("TensorBoard is not installed; the log is %s only.", folder / "log.jsonl")
        return None
    return SummaryWriter(str(folder / "tensorboard"))
