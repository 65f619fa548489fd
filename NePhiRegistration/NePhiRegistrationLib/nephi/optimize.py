"""Instance optimisation: the codes and fields of one level are fitted to one pair, as a generator of steps."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from .errors import DeviceMemoryError
from .losses import consistency, local_ncc, ncc, prior, similarity_named
from .model import DIRECTIONS, FORWARD, NePhi
from .options import Options
from .sampling import PatchLattice, uniform_points
from .volume import Volume

logger = logging.getLogger(__name__)

WARM_UP = 5  # iterations until the full learning rate
FINAL_RATE = 0.02  # of the learning rate, at the end
WINDOW = 12  # iterations that the monitor averages
ANNEAL_FROM = 0.6  # where on the schedule a converged level goes on
SMALLEST_SHARE = 1 / 64  # of the points, before giving up for lack of memory
MM_PER_LANDMARK_UNIT = 10.0


@dataclass(frozen=True)
class Side:
    """One image of a pair in the fixed image's frame.

    Attributes:
        volume: (1 + C + 1, k, j, i): the intensity in [0, 1], the C channels that the similarity compares if those
            are not the intensity, and where to sample, 1 within the dilated mask and the field of view.
        view: its field of view, (1, k, j, i), or None if that covers everything sampled.
    """

    volume: Volume
    view: Optional[Volume]


@dataclass(frozen=True)
class Level:
    """A pair at one resolution, the moving image already carried by the coarser levels.

    Attributes:
        fixed, moving: the two images.
        lattice: of the sample patches.
        fraction: of the patches within the mask that are drawn.
        mm: millimetres per frame unit.
        landmarks: fixed points and moving points carried to the fixed image's frame, each (m, d), or None.
    """

    fixed: Side
    moving: Side
    lattice: PatchLattice
    fraction: float
    mm: float
    landmarks: Optional[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Step:
    """What one iteration did: its number from 1, how many there will be at most, and the weighted loss terms."""

    iteration: int
    iterations: int
    terms: dict[str, float]


def optimise(model: NePhi, level: Level, iterations: int, options: Options, generator: torch.Generator
             ) -> Iterator[Step]:
    """Fit a model to a level in place; a step is yielded after each iteration, closing the generator stops.

    Adam with a warm-up and a cosine decay. When the loss no longer falls, the decay is entered at once, so that easy
    pairs are cheap. Out of memory, half as many points are used from then on.

    Raises:
        DeviceMemoryError: even few points do not fit.
    """
    optimizer = torch.optim.Adam([
        {"params": [model.code.local, model.code.shared], "lr": options.code_learning_rate},
        {"params": [*model.forward_field.parameters(), *model.inverse_field.parameters()],
         "lr": options.learning_rate}], betas=(0.9, 0.99))
    rates = [group["lr"] for group in optimizer.param_groups]
    monitor = Monitor(options.convergence)
    position, share = 0, 1.0
    while position < iterations:
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * schedule(position, iterations)
        optimizer.zero_grad(set_to_none=True)
        try:
            values = _backward(model, level, options, share, generator)
        except RuntimeError as error:
            share = _smaller_share(error, share, level)
            continue
        optimizer.step()
        position += 1
        if monitor.converged(sum(values.values())):
            position = max(position, int(ANNEAL_FROM * iterations))
        yield Step(position, iterations, values)


def schedule(position: int, iterations: int) -> float:
    """The learning rate's factor at an iteration: linear warm-up, then half a cosine down to FINAL_RATE."""
    warm = min(1.0, (position + 1) / WARM_UP)
    return warm * (FINAL_RATE + (1 - FINAL_RATE) * (0.5 + 0.5 * math.cos(math.pi * position / iterations)))


class Monitor:
    """Says once when a noisy loss has stopped falling: two successive windows differ by less than a share."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._losses: list[float] = []

    def converged(self, loss: float) -> bool:
        """Add a loss; whether the last window is not lower than the one before by more than the share."""
        self._losses.append(loss)
        if self._share == 0 or len(self._losses) < 2 * WINDOW:
            return False
        before, last = sum(self._losses[-2 * WINDOW:-WINDOW]), sum(self._losses[-WINDOW:])
        return before - last < self._share * abs(before)


def _backward(model: NePhi, level: Level, options: Options, share: float, generator: torch.Generator
              ) -> dict[str, float]:
    """Accumulate the gradient of the loss part by part, so that one graph is alive at a time; its added terms."""
    total: dict[str, float] = {}
    for part in loss_parts(model, level, options, share, generator):
        if part:
            sum(part.values()).backward()
        for name, term in part.items():
            total[name] = total.get(name, 0.0) + float(term.detach())
    return total


def loss_parts(model: NePhi, level: Level, options: Options, share: float, generator: torch.Generator
               ) -> Iterator[dict[str, Tensor]]:
    """The weighted loss terms at freshly drawn points, in parts that share no graph, both directions averaged."""
    for direction in DIRECTIONS:
        yield _weighted(_similarity_terms(model, level, direction, options, share, generator), 0.5)
        yield _weighted(_regularity_terms(model, level, direction, options, share, generator), 0.5)
        if level.landmarks is not None:
            start, end = level.landmarks if direction == FORWARD else reversed(level.landmarks)
            distance = (model.map(start, direction) - end).pow(2).sum(1).mean()
            unit = MM_PER_LANDMARK_UNIT / level.mm
            yield _weighted([("landmarks", distance / unit**2, options.landmark_weight)], 0.5)
    yield _weighted([("prior", prior(model), options.prior)], 1.0)


def _weighted(terms: Iterable[tuple[str, Tensor, float]], factor: float) -> dict[str, Tensor]:
    return {name: factor * weight * value for name, value, weight in terms if weight}


def _regularity_terms(model: NePhi, level: Level, direction: str, options: Options, share: float,
                      generator: torch.Generator) -> Iterator[tuple[str, Tensor, float]]:
    count = max(1, int(share * options.regularity_points))
    points = uniform_points(level.lattice.low, level.lattice.high, count, generator, model.code.local.device)
    found = consistency(model, points, direction, options.fold_margin)
    yield "regularity", found.gradient, options.regularity
    yield "inverse_consistency", found.distance * level.mm**2, options.inverse_consistency
    yield "smoothness", found.roughness, options.smoothness
    yield "folds", found.shrinkage, options.fold_weight


def _similarity_terms(model: NePhi, level: Level, direction: str, options: Options, share: float,
                      generator: torch.Generator) -> Iterator[tuple[str, Tensor, float]]:
    here, there = (level.fixed, level.moving) if direction == FORWARD else (level.moving, level.fixed)
    patches = level.lattice.draw(here.volume.covers, share * level.fraction, generator,
                                 model.code.local.device)
    if len(patches.origins) == 0:
        return
    codes = model.code.on_lattice(patches.axes).flatten(0, -2)[patches.used]
    displacement = model.field(direction)(patches.nodes, codes, model.code.shared)
    scale = here.volume.unit_scale()
    points = here.volume.to_unit(patches.origins)[:, None] + patches.offsets * scale
    moved = points + patches.spread(displacement * scale)
    with torch.no_grad():
        *channels, mask = here.volume.at(points)
        weights = (mask > 0.5).to(mask.dtype)
        if there.view is not None:
            weights = weights * (there.view.at(moved)[0] > 0.5)
    fixed, warped = torch.stack(channels), Volume(there.volume.values[:-1], there.volume.grid).at(moved)
    compared = slice(1, None) if len(channels) > 1 else slice(None)
    yield "similarity", _compare(options, fixed[compared], warped[compared], weights), 1.0
    if options.global_ncc:
        yield "global_ncc", ncc(fixed[:1], warped[:1], weights), options.global_ncc


def _compare(options: Options, fixed: Tensor, warped: Tensor, weights: Tensor) -> Tensor:
    if options.similarity == "lncc":
        return local_ncc(fixed, warped, weights, options.flat_variance)
    similarity = similarity_named(options.similarity)
    return similarity.scale * similarity.loss(fixed, warped, weights)


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory"))


@contextlib.contextmanager
def memory_errors(spacing: float) -> Iterator[None]:
    """Turn torch's out-of-memory errors into ours while a level with this sample spacing (mm) is prepared.

    Raises:
        DeviceMemoryError: there was one.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"The device ran out of memory while images were resampled to {spacing:.2g} mm "
                                f"({str(error).splitlines()[0]}); lower the resolution or use the device 'cpu'."
                                ) from error


def _smaller_share(error: RuntimeError, share: float, level: Level) -> float:
    """Half the share of points after an out-of-memory error; any other error is raised again."""
    if not _is_out_of_memory(error):
        raise error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if share / 2 < SMALLEST_SHARE:
        held = sum(side.volume.values.nbytes for side in (level.fixed, level.moving))
        raise DeviceMemoryError(
            f"The device ran out of memory with {share:.1%} of the points (the images alone take {held / 1e9:.2f} GB; "
            f"{str(error).splitlines()[0]}); lower the resolution or the width of the fields, or use the device 'cpu'."
        ) from error
    logger.warning("Out of memory: going on with %.0f %% of the points.", 50 * share)
    return share / 2
