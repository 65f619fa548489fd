"""The quality of predictions on pairs held out of the training: Dice, error at known points, similarity, folds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Optional

import numpy as np
from torch import Tensor

from ..align.linear import align
from ..errors import InputError
from ..geometry import Grid
from ..images.image import Image
from ..images.masks import foreground
from ..images.reading import read_labels
from ..judge.folds import fold_percent
from ..judge.labels import overlap
from ..judge.likeness import similarity
from ..maps.determinant import finite_difference_determinant
from ..maps.resampled import through_splines
from ..maps.transform import Transform
from ..maps.warp import warp
from ..predict.encoder import EncoderSizes
from ..predict.predictor import Predictor
from .config import Config, Validation
from .datasets import Folder, Source, read_pairs
from .examples import Example
from .trainer import generator_of

MM_PER_DICE = 20.0  # of error at known points lower the score as much as no overlap at all

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """A pair to validate on, with its known labels or points.

    Attributes:
        fixed, moving: intensities in [0, 1].
        affine: (d + 1, d + 1) fixed to moving LPS mm, before the prediction.
        labels: of both images, or None.
        truth: corresponding points, (m, d) LPS mm each, or None.
    """

    fixed: Image
    moving: Image
    affine: np.ndarray
    labels: Optional[tuple[Image, Image]] = None
    truth: Optional[tuple[Tensor, Tensor]] = None


@dataclass(frozen=True)
class Scores:
    """Means over pairs; NaN where the truth is not known.

    Attributes:
        dice: over the labels of the fixed image.
        error: distance from the true points, mm.
        similarity: normalised cross-correlation within the foreground.
        folds: percent of the voxels of the fixed image whose determinant by finite differences is not positive,
            the larger of both directions.
        seconds: for a prediction.
    """

    dice: float = math.nan
    error: float = math.nan
    similarity: float = math.nan
    folds: float = math.nan
    seconds: float = math.nan

    @property
    def score(self) -> float:
        """Larger is better: Dice, less a share of the error; the similarity if neither is known."""
        known = [value for value in (self.dice, -self.error / MM_PER_DICE) if math.isfinite(value)]
        return math.fsum(known) if known else self.similarity if math.isfinite(self.similarity) else -math.inf

    def known(self) -> dict[str, float]:
        """The scores that are not NaN, by name."""
        return {item.name: value for item in fields(self) if math.isfinite(value := getattr(self, item.name))}


def validate(predictor: Predictor, cases: Sequence[Case]) -> Scores:
    """The mean scores of a predictor."""
    return mean([score(predictor, case) for case in cases])


def mean(scores: Sequence[Scores]) -> Scores:
    """The means of scores, each over the pairs for which it is known."""
    values = {}
    for item in fields(Scores):
        known = [value for one in scores if math.isfinite(value := getattr(one, item.name))]
        values[item.name] = math.fsum(known) / len(known) if known else math.nan
    return Scores(**values)


def score(predictor: Predictor, case: Case) -> Scores:
    """The scores of one pair."""
    device = next(predictor.parameters()).device
    started = time.perf_counter()
    models = predictor.predict(case.fixed.to(device), case.moving.to(device), case.affine)
    seconds = time.perf_counter() - started
    grid, transform = case.fixed.grid, Transform(case.fixed.grid, case.moving.grid, case.affine, models)
    maps = [through_splines(way, grid) for way in (transform.forward, transform.inverse)]
    warped = warp(case.moving, maps[0], grid, fill=0.0)
    sign = np.sign(np.linalg.det(transform.affine))
    found = {"similarity": similarity(case.fixed.values, warped.values, foreground(case.fixed))["ncc"],
             "folds": max(fold_percent(sign * finite_difference_determinant(each, grid))
                          for each in maps),
             "seconds": seconds}
    if case.labels is not None:
        fixed, moving = case.labels
        carried = warp(moving, maps[0] if fixed.grid == grid else transform.forward, fixed.grid, mode="nearest")
        found["dice"] = overlap(fixed.values, carried.values, carried.values)["mean"]
    if case.truth is not None:
        start, end = case.truth
        found["error"] = float((transform.forward.map(start) - end).norm(dim=1).mean())
    return Scores(**found)


def cases_of(config: Config, source: Source, root: Path, strict: bool) -> list[Case]:
    """The pairs that a configuration validates on: of a folder, or synthetic ones.

    Raises:
        InputError: a folder, an image or a label image that cannot be read.
    """
    wanted, sizes = config.validation, config.model.design.sizes
    if not wanted.images:
        examples = [source.draw(generator_of(config.training.seed, "validation", i)) for i in range(wanted.count)]
        return [case_of(example, sizes) for example in examples]
    folder = Folder(root / wanted.images, wanted.first, wanted.last, sizes.dim, strict)
    if wanted.pairs:
        pairs = read_pairs(root / wanted.pairs, folder.files)
    else:
        pairs = list(zip(range(len(folder)), range(1, len(folder))))
    count = min(wanted.count, len(pairs))
    cases = [_case(folder, pairs[i * len(pairs) // count], wanted, root) for i in range(count)]
    return [case for case in cases if case is not None]


def case_of(example: Example, sizes: EncoderSizes) -> Case:
    """A synthetic pair as a case: the cube in millimetres."""
    spacing = 2 * example.mm / sizes.size
    grid = Grid.aligned(sizes.grid.size, spacing, (spacing / 2 - example.mm,) * sizes.dim)
    labels = truth = None
    if example.labels is not None:
        labels = tuple(Image(values, grid, f"labels of {example.name}") for values in example.labels)
    if example.truth is not None:
        truth = tuple(points.double() * example.mm for points in example.truth)
    return Case(Image(example.fixed[0], grid, example.name), Image(example.moving[0], grid, example.name),
                np.eye(sizes.dim + 1), labels, truth)


def _case(folder: Folder, numbers: tuple[int, int], wanted: Validation, root: Path) -> Optional[Case]:
    fixed, moving = (folder.read(number) for number in numbers)
    if fixed is None or moving is None:
        return None
    affine = np.eye(fixed.grid.dim + 1) if wanted.affine == "none" else align(fixed, moving, kind=wanted.affine).matrix
    labels = None
    if wanted.labels:
        files = [root / wanted.labels / folder.files[number].name for number in numbers]
        for file in files:
            if not file.is_file():
                raise InputError(f"There are no labels {file}; every image of the validation needs them, or leave "
                                 "validation.labels out.")
        labels = tuple(read_labels(file, "validation") for file in files)
    return Case(fixed, moving, affine, labels)
