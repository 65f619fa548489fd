"""Distances between points, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import numpy as np
import torch
from torch import Tensor


def distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.to("cpu", torch.float64) - b.to("cpu", torch.float64)).norm(dim=-1)


def summary(values: Union[Tensor, np.ndarray], names: Sequence[str]) -> dict[str, float]:
    numbers = np.asarray(values, dtype=np.float64)
    every = {"mean": numbers.mean(), "median": np.median(numbers), "p95": np.percentile(numbers, 95),
             "max": numbers.max()}
    return {name: float(every[name]) for name in names}
