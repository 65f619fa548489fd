"""A whole training as a generator: steps, checkpoints, validation, the best weights; it can be killed and resumed."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import InputError
from . import checkpoint
from .config import Config
from .datasets import Source
from .log import TrainingLog
from .parallel import Group
from .sources import make_source
from .trainer import State, new_state, train
from .validation import Case, Scores, cases_of, validate

CHECKPOINT, BEST, LAST = "checkpoint.npz", "best.npz", "last.npz"
_FORMER = "checkpoint.pt"  # until version 0.1, which could not be read without trusting it


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training.

    Attributes:
        step, steps: how many steps are done, and their total.
        terms: means of the loss terms since the last entry of the log, or empty when this is not a logged step.
        scores: of the validation after this step, if there was one.
        best: the best score so far.
        seconds_left: estimated from the mean time of the steps so far.
    """

    step: int
    steps: int
    terms: dict[str, float]
    scores: Optional[Scores]
    best: float
    seconds_left: float


def run(config: Config, folder: Path, root: Path, resume: bool = False, strict: bool = False
        ) -> Iterator[TrainingProgress]:
    """Train, with checkpoint.npz, best.npz, last.npz and log.jsonl in a folder; closing the generator stops.

    Args:
        folder: created if it is missing.
        root: the configuration's folders are relative to it.
        resume: continue from the folder's checkpoint.
        strict: an image that cannot be read is fatal.

    Raises:
        InputError: data, folders or a checkpoint that cannot be used.
        TrainingError: a loss that is not a number.
    """
    group = Group.join(config.training.device)
    try:
        source = make_source(config, root, strict)
        state = new_state(config, group.device)
        _open(folder, state, config, resume, group)
        cases = cases_of(config, source, root, strict) if group.rank == 0 else []
        log = TrainingLog(folder) if group.rank == 0 else None
        if log is not None:
            log.rewrite(state.history)
        try:
            yield from _train(config, state, source, cases, folder, group, log)
        finally:
            if log is not None:
                log.close()
    finally:
        group.leave()


def _open(folder: Path, state: State, config: Config, resume: bool, group: Group) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder {folder} ({error.strerror or error}); choose another.") from error
    file = folder / CHECKPOINT
    if resume:
        if not file.is_file() and (folder / _FORMER).exists():
            raise InputError(f"The checkpoint {folder / _FORMER} is of an earlier version, which cannot be resumed; "
                             "train anew, into another folder, from the weights beside it (start in [training]).")
        if not file.is_file():
            raise InputError(f"There is no checkpoint {file} to resume; leave --resume out.")
        checkpoint.load(state, config, file)
    elif (file.exists() or (folder / _FORMER).exists()) and group.rank == 0:
        raise InputError(f"The folder {folder} already holds a training; continue it with --resume, or choose another.")


def _train(config: Config, state: State, source: Source, cases: list[Case], folder: Path, group: Group,
           log: Optional[TrainingLog]) -> Iterator[TrainingProgress]:
    training = config.training
    recent: list[dict[str, float]] = []
    started, first = time.perf_counter(), state.step
    for weighted in train(state, config, source, group):
        recent.append(weighted)
        last, terms, scores = state.step == training.steps, {}, None
        if state.step % training.log_every == 0 or last:
            terms = _means(recent)
            recent.clear()
            _note(state, log, "training", {**terms, "loss": math.fsum(terms.values())})
        if log is not None and (state.step % training.validate_every == 0 or last):
            scores = validate(state.average, cases)
            _note(state, log, "validation", scores.known())
            log.picture(state.average, cases[0], state.step)
            if scores.score > state.best:
                state.best = scores.score
                _save_weights(state, config, scores, folder / BEST)
        if log is not None and (state.step % training.checkpoint_every == 0 or last):
            checkpoint.save(state, config, folder / CHECKPOINT)
        if log is not None and last:
            _save_weights(state, config, scores, folder / LAST)
        rate = (time.perf_counter() - started) / (state.step - first)
        left = rate * (training.steps - state.step)
        yield TrainingProgress(state.step, training.steps, terms, scores, state.best, left)


def _means(steps: list[dict[str, float]]) -> dict[str, float]:
    return {name: math.fsum(terms.get(name, 0.0) for terms in steps) / len(steps)
            for name in dict.fromkeys(itertools.chain(*steps))}


def _note(state: State, log: Optional[TrainingLog], kind: str, values: dict[str, float]) -> None:
    state.history.append({"kind": kind, "step": state.step, **values})
    if log is not None:
        log.entry(kind, state.step, values)


def _save_weights(state: State, config: Config, scores: Scores, path: Path) -> None:
    state.average.provenance = {"config": config.to_dict(), "steps": state.step, "scores": scores.known(),
                                "seed": config.training.seed, "made": time.strftime("%Y-%m-%d")}
    state.average.save(path)


def changed(config: Config, **training: object) -> Config:
    """The configuration with some fields of [training] replaced; None leaves a field as it is."""
    given = {name: value for name, value in training.items() if value is not None}
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **given))
