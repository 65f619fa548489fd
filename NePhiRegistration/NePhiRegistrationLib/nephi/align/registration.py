"""register(): linear pre-alignment, then NePhi from coarse to fine, as a generator of progress."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..device import pick_device
from ..errors import InputError
from ..images.image import Image, normalise
from ..images.masks import carried_mask, region
from ..images.pair import check_overlap, check_pair, check_sizes
from ..maps.neural import NePhi
from ..maps.transform import Stage, Transform
from ..options import Options
from ..predict.predictor import Predictor, widened
from ..predict.smoothing import smoothed
from ..predict.weights import shipped_for
from .carry import Carrier
from .contrasts import contrasts
from .levels import AlignedPair, level_spacings, make_level, new_model, reduced
from .linear import align
from .objective import Level, misfit
from .optimisation import Iteration, memory_errors, optimise
from .search import level_options, searchable, searched
from .step_back import harmless

logger = logging.getLogger(__name__)

FEWEST_VOXELS = 64  # of a mask; fewer tell no similarity
SAMPLES_PER_CELL = 4  # along the side of a predicted latent cell
EAGERNESS = 3.0  # learning rates of a prediction's refinement against those of a level


@dataclass(frozen=True)
class Progress:
    """Where a registration stands.

    Attributes:
        phase: "affine", "prediction" or "search", "refinement", "level 1/3", ..., "done".
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
             landmarks: Optional[tuple[Tensor, Tensor]] = None, start: tuple[Stage, ...] = ()) -> Iterator[Progress]:
    """Align a moving image with a fixed one; closing the generator cancels.

    Args:
        fixed, moving: images of the same dimension.
        options: by default those of the preset "generic".
        fixed_mask, moving_mask: bool on the images' grids; what to align.
        initial: (d + 1, d + 1) fixed to moving LPS mm; where the linear alignment starts, or all there is of it
            with the option affine="none".
        landmarks: corresponding fixed and moving points, (m, d) LPS mm each; a soft term of the loss.
        start: stages that already align the images before ``initial`` is applied; they stay, and all levels go on
            from there. With them there is no linear alignment, which would not fit them; without them the option
            ``weights`` predicts some.

    Yields:
        Progress; the last one has ``done`` and the resulting transform.

    Raises:
        InputError: images that cannot be registered.
        DeviceMemoryError: the device is too small.
    """
    options = options or Options.from_preset("generic")
    clock = _Clock()
    _check_inputs(fixed, moving, fixed_mask, moving_mask, initial, landmarks)
    device = pick_device(options.device)
    predictor = None if start else _predictor(fixed, options, device)
    matrix = np.eye(fixed.grid.dim + 1) if initial is None else initial
    transform = Transform(fixed.grid, moving.grid, matrix, (), _provenance(fixed, moving, options, device))
    yield clock.passed("affine", 0, transform)
    affine, evidence = _linear(fixed, moving, fixed_mask, moving_mask, initial,
                               replace(options, affine="none") if start else options)
    pair = _prepare(fixed, moving, fixed_mask, moving_mask, affine, landmarks, device)
    transform = replace(transform, affine=affine, stages=start,
                        provenance={**transform.provenance, "linear": evidence})
    options, transform = _for_contrasts(options, pair, transform)
    pair = reduced(pair, options)
    yield clock.passed("affine", 1, transform)
    if predictor is not None:
        transform = _predicted(predictor, pair, transform, options)
        yield clock.passed("prediction", 1, transform)
    predicted = predictor is not None and bool(transform.stages)
    predictor = None  # the finest level wants its memory
    if predicted:
        options = options.predicted
    elif options.search == "auto" and searchable(pair, options) and not start:
        options = level_options(pair, options)
        transform = replace(transform, stages=(searched(pair, transform, options),))
        yield clock.passed("search", 1, transform)
    fitting = _Fitting(pair, transform, options, clock)
    if predicted and options.refinement:
        yield from fitting.refine()
    yield from fitting.levels()
    transform = fitting.transform
    if options.step_back == "auto" and landmarks is None and len(transform.stages) > len(start):
        transform = harmless(pair, transform, matrix, start)
    yield clock.passed("done", 1, transform)


def follow(fixed: Image, moving: Image, before: Transform, options: Optional[Options] = None,
           fixed_mask: Optional[Tensor] = None, moving_mask: Optional[Tensor] = None,
           landmarks: Optional[tuple[Tensor, Tensor]] = None) -> Iterator[Progress]:
    """Align the next image of a series with a fixed one, from the result for its neighbour: its codes and fields are
    fitted further to this image, level by level. Closing the generator cancels.

    Where the neighbour's result aligns this image no better than its linear part alone, or where the images do not bear
    the new one out, the image is registered as :func:`register` does it.

    Args:
        fixed: on the grid of the fixed image of ``before``.
        before: a registration with the same options, on the device that they choose.
        options, fixed_mask, moving_mask, landmarks: as :func:`register` takes them.

    Yields:
        As :func:`register`.

    Raises:
        InputError, DeviceMemoryError: as :func:`register`.
    """
    options = options or Options.from_preset("generic")
    clock, anew = _Clock(), register(fixed, moving, options, fixed_mask, moving_mask, landmarks=landmarks)
    _check_inputs(fixed, moving, fixed_mask, moving_mask, None, landmarks)
    device = pick_device(options.device)
    pair = _prepare(fixed, moving, fixed_mask, moving_mask, before.affine, landmarks, device)
    kept = {key: before.provenance.get(key) for key in ("weights", "linear")}
    transform = replace(before, moving_grid=moving.grid,
                        provenance={**_provenance(fixed, moving, options, device), **kept, "followed": True})
    yield clock.passed("following", 0, transform)
    options, transform = _for_contrasts(options, pair, transform)
    pair = reduced(pair, options)
    if kept["weights"]:
        options = options.predicted
    elif options.search == "auto" and searchable(pair, options):
        options = level_options(pair, options)
    models = [stage for stage in before.stages if isinstance(stage, NePhi)]
    begun = replace(transform, stages=before.stages[:len(before.stages) - len(models)])
    fitting = _Fitting(pair, begun, options, clock)
    if len(models) != len(fitting.spacings) or not _closer(pair, transform, fitting.spacings[0][0], options):
        yield from anew
        return
    yield from fitting.levels(models)
    transform = fitting.transform
    if options.step_back == "auto" and landmarks is None:
        transform = harmless(pair, transform, before.affine)
        if transform.provenance["stepped_back"]:
            yield from anew
            return
    yield clock.passed("done", 1, transform)


def run(fixed: Image, moving: Image, options: Optional[Options] = None, **inputs: object) -> Transform:
    """:func:`register` without the progress: the resulting transform."""
    *_, last = register(fixed, moving, options, **inputs)
    return last.transform


class _Clock:
    """Turns what happens into progress, with the history, rates and an estimate of the time left."""

    def __init__(self) -> None:
        self._started = self._phase_started = time.perf_counter()
        self._later = 0.0
        self._history: list[dict] = []

    def begin(self, iterations: list[int]) -> None:
        """A level starts with so many iterations, then others; these are taken to cost more for being finer."""
        self._phase_started = time.perf_counter()
        self._later = sum(n * 3.0**k for k, n in enumerate(iterations) if k)

    def passed(self, phase: str, step: int, transform: Transform) -> Progress:
        """The progress at the beginning (0) or the end (1) of a phase without iterations."""
        return Progress(phase, step, 1, transform, history=self._history, seconds=time.perf_counter() - self._started)

    def iterated(self, phase: str, level: int, done: Iteration, transform: Transform) -> Progress:
        """The progress after an iteration."""
        self._history.append({"level": level, "iteration": done.iteration, "loss": sum(done.terms.values()),
                              **done.terms})
        now = time.perf_counter()
        rate = done.iteration / max(now - self._phase_started, 1e-9)
        left = (done.iterations - done.iteration + self._later) / rate
        return Progress(phase, done.iteration, done.iterations, transform, done.terms, rate, left, self._history,
                        now - self._started)


class _Fitting:
    """The neural part of a registration: the refinement of a prediction, then the levels, coarse to fine.

    Attributes:
        transform: the map so far.
        spacings: sample spacing (mm) and iterations of each level.
    """

    def __init__(self, pair: AlignedPair, transform: Transform, options: Options, clock: _Clock) -> None:
        self._pair, self.transform, self._options, self._clock = pair, transform, options, clock
        self.spacings = level_spacings(pair, options)
        self._generator = torch.Generator().manual_seed(options.seed)

    def refine(self) -> Iterator[Progress]:
        """Go on from the last predicted model itself."""
        options = self._options
        level, model = _predicted_level(self._pair, self.transform, options)
        self.transform = replace(self.transform, stages=(*self.transform.stages[:-1], model))
        self._clock.begin([options.refinement, *(iterations for _, iterations in self.spacings)])
        iterations = optimise(model, level, options.refinement, _eager(options), self._generator)
        yield from self._fit(model, iterations, "refinement", 0)

    def levels(self, models: Sequence[NePhi] = ()) -> Iterator[Progress]:
        """Add a model for each level: a new one, or a copy of one of these, as many as there are levels."""
        carrier = Carrier()
        for number, (spacing, count) in enumerate(self.spacings, start=1):
            with memory_errors(spacing):
                level = make_level(self._pair, self.transform, spacing, self._options, carrier)
            model = _widened(models[number - 1], level, self._options) if models else new_model(
                level, self._options, self._generator).to(self._pair.fixed.values.device)
            self.transform = replace(self.transform, stages=(*self.transform.stages, model))
            self._clock.begin([iterations for _, iterations in self.spacings[number - 1:]])
            iterations = optimise(model, level, count, self._options, self._generator)
            del level  # so that it goes with the iterations, before the next, finer one is made
            yield from self._fit(model, iterations, f"level {number}/{len(self.spacings)}", number)

    def _fit(self, model: NePhi, iterations: Iterator[Iteration], phase: str, number: int) -> Iterator[Progress]:
        for iteration in iterations:
            yield self._clock.iterated(phase, number, iteration, self.transform)
        model.requires_grad_(False)


def _check_inputs(fixed: Image, moving: Image, fixed_mask: Optional[Tensor], moving_mask: Optional[Tensor],
                  initial: Optional[np.ndarray], landmarks: Optional[tuple[Tensor, Tensor]]) -> None:
    check_pair(fixed, moving)
    for image, mask in ((fixed, fixed_mask), (moving, moving_mask)):
        if mask is not None and tuple(mask.shape) != image.grid.shape:
            raise InputError(f"The mask of the {image.name} has shape {tuple(mask.shape)} and the image "
                             f"{image.grid.shape}; give a mask on the image's grid.")
        if mask is not None and not bool(mask.any()):
            raise InputError(f"The mask of the {image.name} is empty; give one with voxels inside, or none.")
        count = FEWEST_VOXELS if mask is None else int(region(image, mask).count_nonzero())
        if count < FEWEST_VOXELS:
            raise InputError(f"The mask of the {image.name} has only {count} voxels that count, which tell nothing; "
                             f"give one with at least {FEWEST_VOXELS}, or none.")
    dim = fixed.grid.dim
    if initial is not None and (np.shape(initial) != (dim + 1, dim + 1) or not np.isfinite(initial).all()
                                or np.linalg.cond(initial[:-1, :-1]) > 1e9):
        raise InputError(f"The initial transform must be an invertible {dim + 1} x {dim + 1} matrix, fixed to moving "
                         f"LPS mm; it has shape {np.shape(initial)}.")
    check_sizes(fixed, moving, initial)
    if landmarks is not None:
        shapes = tuple(tuple(points.shape) for points in landmarks)
        if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] < 1 or shapes[0][1] != dim:
            raise InputError(f"The landmarks have shapes {shapes[0]} and {shapes[1]}; give as many moving points as "
                             f"fixed ones, at least one, with {dim} coordinates each.")


def _linear(fixed: Image, moving: Image, fixed_mask: Optional[Tensor], moving_mask: Optional[Tensor],
            initial: Optional[np.ndarray], options: Options) -> tuple[np.ndarray, Optional[dict]]:
    """The linear map and the evidence for it, None where it was not searched for."""
    if options.affine == "none":
        matrix = np.eye(fixed.grid.dim + 1) if initial is None else np.asarray(initial, dtype=np.float64)
        check_overlap(fixed, moving, matrix)
        return matrix, None
    found = align(fixed, moving, fixed_mask, moving_mask, options.affine, initial, options.seed)
    return found.matrix, found.to_dict()


def _for_contrasts(options: Options, pair: AlignedPair, transform: Transform) -> tuple[Options, Transform]:
    """The options for what the aligned images show, and the transform with them and with what was found in its
    provenance; None where the options say it."""
    found = contrasts(pair, transform) if options.similarity == "auto" else None
    if found is not None and found.differ:
        logger.warning("The images show different contrasts, so shapes are compared instead of intensities; choose the "
                       "similarity lncc if they do not.")
    resolved = options.for_images(found is not None and found.differ, pair.fixed.grid.dim)
    provenance = {**transform.provenance, "options": resolved.to_dict(), "contrasts": found and found.to_dict()}
    return resolved, replace(transform, provenance=provenance)


def _predictor(fixed: Image, options: Options, device: torch.device) -> Optional[Predictor]:
    name = shipped_for(fixed.grid.dim) if options.weights == "auto" else options.weights
    if name is None or name == "none":
        return None
    predictor = Predictor.load(name, device)
    predictor.check_dimension(fixed)
    return predictor


def _predicted(predictor: Predictor, pair: AlignedPair, transform: Transform, options: Options) -> Transform:
    """The transform with the predicted stages, or without if the images look no more alike with them; levels go on from
    a smooth pair of maps.

    Weights chosen by name are not put to this test where no level follows.
    """
    models = predictor.predict(pair.fixed, pair.moving, transform.affine)
    provenance = {**transform.provenance, "weights": {"name": predictor.name, "sha256": predictor.hash}}
    with_models = replace(transform, stages=models, provenance=provenance)
    if options.weights != "auto" and not any(options.iterations):
        return with_models
    spacing = max(predictor.design.sizes.grid.spacing[0] * pair.frame.scale, *pair.fixed.grid.spacing)
    if any(options.predicted.iterations) and not options.refinement:
        spacing = level_spacings(pair, options)[0][0]
        smooth = smoothed(models, models[0].code.corners, options.latent_ratio * spacing / pair.frame.scale)
        with_models = replace(with_models, stages=(smooth,))
    before, after = (_misfit(pair, tried, spacing, options) for tried in (transform, with_models))
    if after < before:
        return with_models
    level = logging.INFO if options.weights == "auto" else logging.WARNING  # who named none misses nothing
    logger.log(level, "The prediction of the weights %s is not used: the images look less alike with it (%.3g) than "
               "without (%.3g).", predictor.name, after, before)
    return transform


def _prepare(fixed: Image, moving: Image, fixed_mask: Optional[Tensor], moving_mask: Optional[Tensor],
             affine: np.ndarray, landmarks: Optional[tuple[Tensor, Tensor]], device: torch.device) -> AlignedPair:
    masks = [region(fixed, fixed_mask), region(moving, moving_mask)]
    if (fixed_mask is None) != (moving_mask is None):  # what to align is what the one mask shows, in both images
        grids, matrices = (fixed.grid, moving.grid), (affine, np.linalg.inv(affine))
        bare = int(fixed_mask is not None)
        masks[bare] = carried_mask(masks[1 - bare], grids[1 - bare], grids[bare], matrices[bare], masks[bare])
    images = [replace(image, values=normalise(image.values, mask, image.name)).to(device)
              for image, mask in zip((fixed, moving), masks)]
    return AlignedPair(*images, *masks, affine, landmarks)


def _predicted_level(pair: AlignedPair, transform: Transform, options: Options) -> tuple[Level, NePhi]:
    """What the last predicted model was made for, and a copy of it that can be optimised."""
    *before, model = transform.stages
    # Samples as fine as predicted codes can tell: a share of a latent cell, or a voxel.
    spacing = max(model.code.grid.spacing[0] * pair.frame.scale / SAMPLES_PER_CELL, *pair.fixed.grid.spacing)
    with memory_errors(spacing):
        level = make_level(pair, replace(transform, stages=tuple(before)), spacing, options)
    return level, _widened(model, level, options)


def _widened(model: NePhi, level: Level, options: Options) -> NePhi:
    """A copy of a model, to be optimised, whose latent grid covers what a level samples."""
    edge = (options.patch + 1) * level.lattice.spacing
    return widened(model, [a - edge for a in level.lattice.low], [b + edge for b in level.lattice.high])


def _closer(pair: AlignedPair, transform: Transform, spacing: float, options: Options) -> bool:
    """Whether the images are more alike with the stages of a transform than without, at a sample spacing (mm)."""
    return _misfit(pair, transform, spacing, options) < _misfit(pair, replace(transform, stages=()), spacing, options)


def _misfit(pair: AlignedPair, transform: Transform, spacing: float, options: Options) -> float:
    """How unlike the images are with a transform, at a sample spacing (mm)."""
    return misfit(make_level(pair, transform, spacing, options), options,
                  torch.Generator().manual_seed(options.seed))


def _eager(options: Options) -> Options:
    """Options for a model that knows what its codes mean already, and can be moved faster than a random one."""
    return replace(options, learning_rate=EAGERNESS * options.learning_rate,
                   code_learning_rate=EAGERNESS * options.code_learning_rate)


def _provenance(fixed: Image, moving: Image, options: Options, device: torch.device) -> dict:
    return {
        "program": "nephi-registration", "version": __version__, "torch": torch.__version__,
        "python": platform.python_version(), "system": platform.platform(), "device": str(device),
        "options": options.to_dict(), "seed": options.seed, "weights": None,
        "fixed": {"name": fixed.name, **fixed.grid.to_dict()}, "moving": {"name": moving.name, **moving.grid.to_dict()},
    }
