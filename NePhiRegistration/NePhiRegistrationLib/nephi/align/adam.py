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
        groups: parameters, their learning rate, and their floor: the share of the root mean square of a parameter's
            gradients that is added to that of each of its entries. With it, entries of small gradients make small
            steps; at 0 all entries make steps of the same size, as in the paper.
        betas: decay of the two moments.
    """

    def __init__(self, groups: Sequence[tuple[Iterable[Tensor], float, float]], betas: tuple[float, float]) -> None:
        self._groups = [(list(parameters), rate, floor) for parameters, rate, floor in groups]
        self._moments = [[(torch.zeros_like(p), torch.zeros_like(p)) for p in ps] for ps, _, _ in self._groups]
        self._betas = betas
        self._steps = 0

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameters, _, _ in self._groups:
            for parameter in parameters:
                parameter.grad = None

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        """Move every parameter that has a gradient.

        Args:
            factor: of the learning rates.
        """
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in self._betas)
        for (parameters, rate, floor), moments in zip(self._groups, self._moments):
            found = [(p, p.grad, *both) for p, both in zip(parameters, moments) if p.grad is not None]
            if not found:
                continue
            moved, gradients, means, squares = map(list, zip(*found))  # many small ones: one call for all of them
            torch._foreach_mul_(means, self._betas[0])
            torch._foreach_add_(means, gradients, alpha=1 - self._betas[0])
            torch._foreach_mul_(squares, self._betas[1])
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - self._betas[1])
            spread = torch._foreach_sqrt(squares)
            torch._foreach_div_(spread, math.sqrt(second))
            if floor:
                for one in spread:
                    one.add_(floor * one.square().mean().sqrt())
            torch._foreach_add_(spread, EPSILON)
            torch._foreach_addcdiv_(moved, means, spread, value=-factor * rate / first)
