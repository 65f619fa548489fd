"""register(): linear pre-alignment, then NePhi from coarse to fine, as a generator of progress."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..device import pick_device
from ..errors import InputError
from ..images.image import Image, normalise
from ..images.masks import foreground
from ..images.pair import check_overlap, check_pair
from ..maps.neural import NePhi
from ..maps.transform import Transform
from ..options import Options
from ..predict.predictor import Predictor, widened
from ..predict.smoothing import smoothed
from ..predict.weights import shipped_for
from .carry import Carrier
from .levels import AlignedPair, level_spacings, make_level, new_model
from .linear import align
from .objective import Level, misfit
from .optimisation import Iteration, memory_errors, optimise

logger = logging.getLogger(__name__)

SAMPLES_PER_CELL = 4  # along the side of a predicted latent cell
EAGERNESS = 3.0  # learning rates of a prediction's refinement against those of a level


@dataclass(frozen=True)
class Progress:
    """Where a registration stands.

    Attributes:
        phase: "affine", "prediction", "refinement", "level 1/3", ..., "done".
        step, steps: within the phase; a level may end before its last step.
        terms: weighted loss terms of the last iteration.
        iterations_per_second: in this phase.
        seconds_left: an estimate for all that remains, or None before there is one.
        transform: the map so far. Its fields go on changing until the registration is done.
        history: one record per iteration so far: {"level", "iteration", "loss", and the terms}.
        seconds: since the start.
    """

    phase: str
    step: int
    steps: int
    transform: Transform
    terms: dict[str, float] = field(default_factory=dict)
    iterations_per_second: float = 0.0
    seconds_left: Optional[float] = None
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether ``transform`` is the result."""
        return self.phase == "done"


def register(fixed: Image, moving: Image, options: Optional[Options] = None, fixed_mask: Optional[Tensor] = None,
             moving_mask: Optional[Tensor] = None, initial: Optional[np.ndarray] = None,
             landmarks: Optional[tuple[Tensor, Tensor]] = None, prediction: tuple[NePhi, ...] = ()
             ) -> Iterator[Progress]:
    """Align a moving image with a fixed one; closing the generator cancels.

    Args:
        fixed, moving: images of the same dimension.
        options: by default those of the preset "generic".
        fixed_mask, moving_mask: bool on the images' grids; what to align.
        initial: (d + 1, d + 1) fixed to moving LPS mm; where the linear alignment starts, or all there is of it
            with the option affine="none".
        landmarks: corresponding fixed and moving points, (m, d) LPS mm each; a soft term of the loss.
        prediction: models that already align the images after the linear alignment; they are kept, and all levels
            start from there. Without them the option ``weights`` predicts some.

    Yields:
        Progress; the last one has ``done`` and the resulting transform.

    Raises:
        InputError: images that cannot be registered.
        DeviceMemoryError: the device is too small.
    """
    options = options or Options.from_preset("generic")
    started = time.perf_counter()
    _check_inputs(fixed, moving, fixed_mask, moving_mask, initial, landmarks)
    device = pick_device(options.device)
    predictor = None if prediction else _predictor(fixed, options, device)
    provenance = _provenance(fixed, moving, options, device)
    start = np.eye(fixed.grid.dim + 1) if initial is None else initial
    yield Progress("affine", 0, 1, Transform(fixed.grid, moving.grid, start, (), provenance))
    affine = _linear(fixed, moving, fixed_mask, moving_mask, initial, options)
    pair = _prepare(fixed, moving, fixed_mask, moving_mask, affine, landmarks, device)
    transform = Transform(fixed.grid, moving.grid, affine, prediction, provenance)
    yield Progress("affine", 1, 1, transform, seconds=time.perf_counter() - started)
    predicted: tuple[NePhi, ...] = ()
    if predictor is not None:
        predicted = _predict(predictor, pair, transform, options)
        if predicted:
            provenance = {**provenance, "weights": {"name": predictor.name, "sha256": predictor.hash}}
        predictor = None  # its memory is wanted by the finest level
        transform = Transform(fixed.grid, moving.grid, affine, predicted, provenance)
        yield Progress("prediction", 1, 1, transform, seconds=time.perf_counter() - started)
    history: list[dict] = []
    clock = _Clock(started)
    spacings, carrier = level_spacings(pair, options.predicted if predicted else options), Carrier()
    generator = torch.Generator().manual_seed(options.seed)
    if predicted and options.refinement:
        level, model = _predicted_level(pair, transform, options)
        transform = replace(transform, models=(*predicted[:-1], model))
        clock.begin(0, [options.refinement, *(i for _, i in spacings)])
        for step in optimise(model, level, options.refinement, _eager(options), generator, in_turn=True):
            history.append({"level": 0, "iteration": step.iteration, "loss": sum(step.terms.values()), **step.terms})
            yield clock.progress("refinement", step, transform, history)
        model.requires_grad_(False)
        del level
    for number, (spacing, iterations) in enumerate(spacings, start=1):
        with memory_errors(spacing):
            level = make_level(pair, transform, spacing, options, carrier)
        model = new_model(level, options, generator).to(device)
        carried = Transform(fixed.grid, moving.grid, affine, (*transform.models, model), provenance)
        clock.begin(number - 1, [i for _, i in spacings])
        for step in optimise(model, level, iterations, options, generator):
            loss = sum(step.terms.values())
            history.append({"level": number, "iteration": step.iteration, "loss": loss, **step.terms})
            yield clock.progress(f"level {number}/{len(spacings)}", step, carried, history)
        model.requires_grad_(False)
        transform = carried
        del level  # before the next, finer one is made
    yield Progress("done", 1, 1, transform, history=history, seconds=time.perf_counter() - started)


def run(fixed: Image, moving: Image, options: Optional[Options] = None, **inputs: object) -> Transform:
    """:func:`register` without the progress: the resulting transform."""
    *_, last = register(fixed, moving, options, **inputs)
    return last.transform


def _check_inputs(fixed: Image, moving: Image, fixed_mask: Optional[Tensor], moving_mask: Optional[Tensor],
                  initial: Optional[np.ndarray], landmarks: Optional[tuple[Tensor, Tensor]]) -> None:
    check_pair(fixed, moving)
    for image, mask in ((fixed, fixed_mask), (moving, moving_mask)):
        if mask is not None and tuple(mask.shape) != image.grid.shape:
            raise InputError(f"The mask of the {image.name} has shape {tuple(mask.shape)} and the image "
                             f"{image.grid.shape}; give a mask on the image's grid.")
        if mask is not None and not bool(mask.any()):
            raise InputError(f"The mask of the {image.name} is empty; give one with voxels inside, or none.")
    dim = fixed.grid.dim
    if initial is not None and (np.shape(initial) != (dim + 1, dim + 1) or not np.isfinite(initial).all()
                                or abs(np.linalg.det(initial)) < 1e-9):
        raise InputError(f"The initial transform must be an invertible {dim + 1} x {dim + 1} matrix, fixed to moving "
                         f"LPS mm; it has shape {np.shape(initial)}.")
    if landmarks is not None:
        shapes = tuple(tuple(points.shape) for points in landmarks)
        if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] < 1 or shapes[0][1] != dim:
            raise InputError(f"The landmarks have shapes {shapes[0]} and {shapes[1]}; give as many moving points as "
                             f"fixed ones, at least one, with {dim} coordinates each.")


def _linear(fixed: Image, moving: Image, fixed_mask: Optional[Tensor], moving_mask: Optional[Tensor],
            initial: Optional[np.ndarray], options: Options) -> np.ndarray:
    if options.affine == "none":
        matrix = np.eye(fixed.grid.dim + 1) if initial is None else np.asarray(initial, dtype=np.float64)
        check_overlap(fixed, moving, matrix)
        return matrix
    return align(fixed, moving, fixed_mask, moving_mask, options.affine, initial, options.seed)


def _predictor(fixed: Image, options: Options, device: torch.device) -> Optional[Predictor]:
    name = shipped_for(fixed.grid.dim) if options.weights == "auto" else options.weights
    if name is None or name == "none":
        return None
    predictor = Predictor.load(name, device)
    predictor.check_dimension(fixed)
    return predictor


def _predict(predictor: Predictor, pair: AlignedPair, transform: Transform, options: Options) -> tuple[NePhi, ...]:
    """The predicted models, or none if the images look no more alike with them; levels go on from a smooth one.

    Weights that are named are taken at their word where no level follows that would do without.
    """
    models = predictor.predict(pair.fixed, pair.moving, transform.affine)
    if options.weights != "auto" and not any(options.iterations):
        return models
    spacing = max(predictor.design.sizes.grid.spacing[0] * pair.frame.scale, *pair.fixed.grid.spacing)
    if any(options.predicted.iterations) and not options.refinement:
        spacing = level_spacings(pair, options)[0][0]
        models = (smoothed(models, options.latent_ratio * spacing / pair.frame.scale),)
    found = []
    for used in ((), models):
        sides = make_level(pair, replace(transform, models=used), spacing, options)
        found.append(misfit(sides, options, torch.Generator().manual_seed(options.seed)))
    if found[1] < found[0]:
        return models
    level = logging.INFO if options.weights == "auto" else logging.WARNING  # who named none misses nothing
    logger.log(level, "The prediction of the weights %s is left out: the images look less alike with it (%.3g) than "
               "without (%.3g).", predictor.name, found[1], found[0])
    return ()


def _predicted_spacing(pair: AlignedPair, models: tuple[NePhi, ...]) -> float:
    """The spacing (mm) of samples as fine as predicted codes can tell: a share of a latent cell, or a voxel."""
    return max(models[-1].code.box.cell * pair.frame.scale / SAMPLES_PER_CELL, *pair.fixed.grid.spacing)


def _prepare(fixed: Image, moving: Image, fixed_mask: Optional[Tensor], moving_mask: Optional[Tensor],
             affine: np.ndarray, landmarks: Optional[tuple[Tensor, Tensor]], device: torch.device) -> AlignedPair:
    def ready(image: Image, mask: Optional[Tensor]) -> tuple[Image, Optional[Tensor]]:
        mask = foreground(image) if mask is None else mask
        return Image(normalise(image.values, mask, image.name), image.grid, image.name).to(device), mask

    images, masks = zip(ready(fixed, fixed_mask), ready(moving, moving_mask))
    return AlignedPair(images[0], images[1], masks[0], masks[1], affine, landmarks)


def _predicted_level(pair: AlignedPair, transform: Transform, options: Options) -> tuple[Level, NePhi]:
    """What the last predicted model was made for, and a copy of it that can be optimised."""
    *before, model = transform.models
    spacing = _predicted_spacing(pair, transform.models)
    with memory_errors(spacing):
        level = make_level(pair, replace(transform, models=tuple(before)), spacing, options)
    edge = (options.patch + 1) * level.lattice.spacing
    return level, widened(model, [a - edge for a in level.lattice.low], [b + edge for b in level.lattice.high])


def _eager(options: Options) -> Options:
    """Options for a model that knows what its codes mean already, and can be moved faster than a random one."""
    return replace(options, learning_rate=EAGERNESS * options.learning_rate,
                   code_learning_rate=EAGERNESS * options.code_learning_rate)


class _Clock:
    """Turns steps into progress with rates and an estimate of the time left."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._later = 0.0

    def begin(self, number: int, iterations: list[int]) -> None:
        """A level starts: the later ones are taken to cost as much per iteration, and more for being finer."""
        self._level_started = time.perf_counter()
        self._later = sum(n * 3.0**k for k, n in enumerate(iterations[number:]) if k)

    def progress(self, phase: str, step: Iteration, transform: Transform, history: list[dict]) -> Progress:
        """The progress after a step."""
        now = time.perf_counter()
        rate = step.iteration / max(now - self._level_started, 1e-9)
        left = (step.iterations - step.iteration + self._later) / rate
        return Progress(phase, step.iteration, step.iterations, transform, step.terms, rate, left, history,
                        now - self._started)


def _provenance(fixed: Image, moving: Image, options: Options, device: torch.device) -> dict:
    return {
        "program": "nephi-registration", "version": __version__, "torch": torch.__version__,
        "python": platform.python_version(), "system": platform.platform(), "device": str(device),
        "options": options.to_dict(), "seed": options.seed,
        "weights": None,
        "fixed": {"name": fixed.name, **fixed.grid.to_dict()}, "moving": {"name": moving.name, **moving.grid.to_dict()},
    }
