"""Training as a generator of steps: the loss of instance optimisation, on the codes of an encoder.

Only one pair's graph is alive at a time. The encoder's codes are detached, each pair's loss is propagated back to
them, and their gradients then go through the encoder in one pass: memory does not grow with the batch's sample points.

Every random draw of a pair comes from a generator seeded by the seed, the step and the pair's number in the batch.
A resumed training therefore equals an uninterrupted one, and two processes equal one with twice the batch.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Union

import torch
from torch import Tensor

from ..align.objective import accumulate
from ..errors import InputError, NePhiError
from ..maps.neural import NePhi
from ..predict.predictor import Predictor, carried_on, resized
from .config import Config
from .datasets import Source
from .examples import Example, level_of
from .parallel import Group

FINAL_RATE = 0.01  # of the learning rate, at the end


class TrainingError(NePhiError, RuntimeError):
    """A training that cannot continue; its last good checkpoint is kept."""


@dataclass
class State:
    """All that a checkpoint holds besides the configuration.

    Attributes:
        predictor: the weights being trained.
        average: their running average, which is validated and saved; the weights themselves if there is none.
        optimizer: Adam.
        step: how many are done.
        best: the best validation score so far.
        history: one record for every logged step and validation.
    """

    predictor: Predictor
    average: Predictor
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -math.inf
    history: list[dict] = field(default_factory=list)


def new_state(config: Config, device: torch.device) -> State:
    """The start of a training.

    Raises:
        InputError: the weights to start from are missing, damaged or of another design.
    """
    predictor = Predictor(config.model.design, config.training.seed, config.name).to(device)
    if config.training.start:
        trained, size = Predictor.load(config.training.start, "cpu"), predictor.design.sizes.size
        design = asdict(trained.design)
        design["sizes"]["size"], design["passes"] = size, predictor.design.passes  # the weights do not depend on these
        if design != asdict(predictor.design):
            raise InputError(f"The weights {config.training.start} are of another design than [model] describes; copy "
                             "theirs into the configuration, or start from none.")
        predictor.load_state_dict(resized(trained, size).state_dict())
    predictor.provenance = {"config": config.to_dict()}
    average = copy.deepcopy(predictor).requires_grad_(False) if config.training.average else predictor
    fields = [*predictor.forward_field.parameters(), *predictor.inverse_field.parameters()]
    optimizer = torch.optim.Adam([{"params": list(predictor.encoder.parameters())}, {"params": fields}], lr=0.0,
                                 betas=(0.9, 0.99))
    return State(predictor, average, optimizer)


def train(state: State, config: Config, source: Source, group: Group) -> Iterator[dict[str, float]]:
    """Train a state in place up to the configuration's number of steps; closing the generator stops.

    Yields:
        The weighted loss terms of each step, means over all its pairs.

    Raises:
        TrainingError: the loss is not a finite number; the message names the pairs.
    """
    training, pairs = config.training, _Prefetch(config, source, group)
    try:
        while state.step < training.steps:
            factor = schedule(state.step, training.steps, training.warm_up)
            for options, rate in zip(state.optimizer.param_groups,
                                     (training.learning_rate, training.field_learning_rate)):
                options["lr"] = factor * rate
            examples = pairs.of_step(state.step)
            terms = _backward(state.predictor, examples, config, group, state.step)
            terms = group.means(terms, len(examples))
            _check_finite(math.fsum(terms.values()), "loss", examples, state.step)
            group.mean_gradients(state.predictor, len(examples))
            norm = torch.nn.utils.clip_grad_norm_(state.predictor.parameters(), training.clip)
            _check_finite(norm, "gradient", examples, state.step)
            state.optimizer.step()
            group.average_statistics(state.predictor)
            state.step += 1
            _update_average(state, training.average)
            yield terms
    finally:
        pairs.close()


def schedule(step: int, steps: int, warm_up: int) -> float:
    """The learning rate's factor: linear warm-up, then half a cosine down to FINAL_RATE."""
    warm = min(1.0, (step + 1) / warm_up)
    return warm * (FINAL_RATE + (1 - FINAL_RATE) * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def generator_of(*key: object) -> torch.Generator:
    """A random generator that depends on the key alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def _backward(predictor: Predictor, examples: list[Example], config: Config, group: Group, step: int
              ) -> dict[str, float]:
    """Add up the gradients of the loss over this process's pairs; the sums of its weighted terms."""
    predictor.train()
    predictor.zero_grad(set_to_none=True)
    numbers = _numbers(config, group)
    mixed = config.training.mixed_precision and group.device.type == "cuda"
    # Nothing but numbers may reach the sampling of images: torch reads outside of them otherwise.
    _check_finite(sum(example.images.sum() for example in examples), "sum of the images", examples, step)
    examples = [_at_random_pass(predictor, example, generator_of(config.training.seed, step, number, "pass"))
                for number, example in zip(numbers, examples)]
    with torch.autocast("cuda", torch.bfloat16, enabled=mixed):  # whose range needs no scaling of the loss
        local, shared = predictor.encoder(torch.stack([example.images for example in examples]))
    local, shared = local.float(), shared.float()
    _check_finite(local.detach().sum() + shared.detach().sum(), "code", examples, step)
    slopes: list[tuple[Tensor, Tensor]] = []
    total: dict[str, float] = {}
    for i, (number, example) in enumerate(zip(numbers, examples)):
        model = predictor.model(local[i].detach(), shared[i].detach())
        level = level_of(example, predictor.design.sizes.grid, config.loss)
        terms = accumulate(model, level, config.loss, 1.0, generator_of(config.training.seed, step, number, "points"))
        for name, value in terms.items():
            total[name] = total.get(name, 0.0) + value
        slopes.append((_gradient(model.code.local.coefficients), _gradient(model.code.shared)))
    torch.autograd.backward([local, shared], [torch.stack(part) for part in zip(*slopes)])
    return total


def _at_random_pass(predictor: Predictor, example: Example, generator: torch.Generator) -> Example:
    """The pair as a random pass of the predictor sees it: carried by all passes before."""
    passes = int(torch.randint(predictor.design.passes, (1,), generator=generator))
    predictor.eval()
    models: tuple[NePhi, ...] = ()
    remaining, carried = example, None
    with torch.no_grad():
        for _ in range(passes):
            local, shared = predictor.encoder(remaining.images[None])
            models = (*models, predictor.model(local[0], shared[0]))
            carried = carried_on(models[-1], carried, predictor.design.sizes)
            remaining = example.carried(models, carried)
    predictor.train()
    return remaining


def _gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _numbers(config: Config, group: Group) -> list[int]:
    """The numbers of this process's pairs in the batch of all processes."""
    batch = config.training.batch
    return list(range(group.rank * batch, (group.rank + 1) * batch))


def _check_finite(value: Union[float, Tensor], what: str, examples: list[Example], step: int) -> None:
    if not math.isfinite(float(value)):
        names = "; ".join(example.name for example in examples)
        raise TrainingError(f"The {what} is not a finite number at step {step + 1}, with the pairs {names}; the last "
                            "checkpoint is kept. Look at these images, or lower the learning rate, and resume.")


def _update_average(state: State, decay: float) -> None:
    if state.average is state.predictor:
        return
    decay = min(decay, state.step / (state.step + 10))  # the first steps are soon forgotten
    with torch.no_grad():
        for (name, mean), value in zip(state.average.state_dict().items(), state.predictor.state_dict().values()):
            if mean.is_floating_point() and "running" not in name:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


class _Prefetch:
    """Pairs prepared by threads while earlier steps are computed."""

    def __init__(self, config: Config, source: Source, group: Group) -> None:
        self._seed, self._steps = config.training.seed, config.training.steps
        self._source, self._device, self._numbers = source, group.device, _numbers(config, group)
        self._steps_ahead = math.ceil(config.training.workers / len(self._numbers))
        self._pool = ThreadPoolExecutor(max(1, config.training.workers))
        self._coming: dict[tuple[int, int], Future] = {}

    def of_step(self, step: int) -> list[Example]:
        """This process's pairs of a step."""
        for key in ((s, n) for s in range(step, min(step + 1 + self._steps_ahead, self._steps)) for n in self._numbers):
            if key not in self._coming:
                self._coming[key] = self._pool.submit(self._draw, *key)
        return [self._coming.pop((step, number)).result().to(self._device) for number in self._numbers]

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _draw(self, step: int, number: int) -> Example:
        return self._source.draw(generator_of(self._seed, step, number, "pair"))
