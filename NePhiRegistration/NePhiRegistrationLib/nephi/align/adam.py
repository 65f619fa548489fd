"""Adam (Kingma and Ba 2015, algorithm 1).

The step is torch's own. The optimisers of torch.optim import torch's compiler when the first one is made, which takes
seconds and a hundred megabytes: a large part of a whole registration.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

EPSILON = 1e-8


class Adam:
    """Moments of gradients, and steps along them.

    Args:
        groups: parameters and their learning rate.
        betas: decay of the two moments.
    """

    def __init__(self, groups: Sequence[tuple[Iterable[Tensor], float]], betas: tuple[float, float]) -> None:
        self._parameters = [(p, rate, torch.zeros_like(p), torch.zeros_like(p)) for ps, rate in groups for p in ps]
        self._betas = betas
        self._steps = 0

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter, *_ in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Move every parameter that has a gradient.

        Args:
            factor: of the learning rates.
        """
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in self._betas)
        for parameter, rate, mean, square in self._parameters:
            if parameter.grad is None:
                continue
            mean.lerp_(parameter.grad, 1 - self._betas[0])
            square.mul_(self._betas[1]).addcmul_(parameter.grad, parameter.grad, value=1 - self._betas[1])
            spread = (square.sqrt() / math.sqrt(second)).add_(EPSILON)
            parameter.addcdiv_(mean, spread, value=-factor * rate / first)
