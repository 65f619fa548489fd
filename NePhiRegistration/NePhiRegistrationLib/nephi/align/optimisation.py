"""Instance optimisation: the codes and fields of one level are fitted to one pair, as a generator of steps."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..errors import DeviceMemoryError
from ..maps.neural import NePhi
from ..options import Options
from .adam import Adam
from .objective import Level, accumulate

logger = logging.getLogger(__name__)

WARM_UP = 5  # iterations until the full learning rate
FINAL_RATE = 0.02  # of the learning rate, at the end
WINDOW = 12  # iterations that the monitor averages
SMALL_LOSS = 0.01  # below this a share of the loss is no measure: images that agree would be improved for ever
ANNEAL_FROM = 0.6  # where on the schedule a converged level goes on
FLOOR = 0.1  # of the codes' gradients: where the images hardly see, codes hardly move and the map stays calm
SMALLEST_SHARE = 1 / 64  # of the points, before giving up for lack of memory


@dataclass(frozen=True)
class Iteration:
    """What one iteration did: its number from 1, how many there will be at most, and the weighted loss terms."""

    iteration: int
    iterations: int
    terms: dict[str, float]


def optimise(model: NePhi, level: Level, iterations: int, options: Options, generator: torch.Generator
             ) -> Iterator[Iteration]:
    """Fit a model to a level in place; a step is yielded after each iteration, closing the generator stops.

    Adam with a warm-up and a cosine decay. When the loss no longer falls, the decay is entered at once, so that easy
    pairs are cheap. Out of memory, half as many points are used from then on.

    Raises:
        DeviceMemoryError: even few points do not fit.
    """
    fields = [parameter for field in model.fields for parameter in field.parameters()]
    adam = Adam([(model.code.parameters(), options.code_learning_rate, FLOOR), (fields, options.learning_rate, 0.0)],
                betas=(0.9, 0.99))
    monitor = Convergence(options.convergence)
    position, share = 0, 1.0
    while position < iterations:
        adam.zero_grad()
        try:
            values = accumulate(model, level, options, share, generator)
        except RuntimeError as error:
            share = _smaller_share(error, share, level)
            continue
        adam.step(schedule(position, iterations))
        position += 1
        if monitor.converged(sum(values.values())):
            position = max(position, int(ANNEAL_FROM * iterations))
        yield Iteration(position, iterations, values)


def schedule(position: int, iterations: int) -> float:
    """The learning rate's factor at an iteration: linear warm-up, then half a cosine down to FINAL_RATE."""
    warm = min(1.0, (position + 1) / WARM_UP)
    return warm * (FINAL_RATE + (1 - FINAL_RATE) * (0.5 + 0.5 * math.cos(math.pi * position / iterations)))


class Convergence:
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
        return before - last < self._share * max(abs(before), WINDOW * SMALL_LOSS)


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
