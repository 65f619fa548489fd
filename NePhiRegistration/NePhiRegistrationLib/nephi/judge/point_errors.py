"""Errors at points, in mm: landmarks, and the way there and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import apply_affine
from ..maps.map import Invertible, Map


def tre(forward: Map, fixed_points: Tensor, moving_points: Tensor) -> dict:
    """Target registration error: how far the forward map leaves fixed landmarks from their moving counterparts.

    Args:
        fixed_points: (n, d) LPS mm.
        moving_points: (n, d) LPS mm, in the same order.

    Returns:
        ``before`` (mean with no transform), ``affine`` (mean after the map's linear part), and ``mean``, ``median``,
        ``p95``, ``max`` after the whole map, in mm; ``points``, the n errors; ``count``.

    Raises:
        InputError: unequal numbers of points, or none.
    """
    if fixed_points.shape != moving_points.shape:
        raise InputError(f"There are {len(fixed_points)} fixed landmarks and {len(moving_points)} moving ones; "
                         "give as many of each, in the same order.")
    if len(fixed_points) == 0:
        raise InputError("The landmark error needs at least one pair of points; the list is empty.")
    errors = distances(forward.map(fixed_points.to(torch.float32)), moving_points)
    linear = distances(apply_affine(forward.linear, fixed_points.to(torch.float64)), moving_points)
    return {"before": float(distances(fixed_points, moving_points).mean()), "affine": float(linear.mean()),
            **_summary(errors, ("mean", "median", "p95", "max")), "count": len(errors),
            "points": [float(e) for e in errors]}


def inverse_consistency(both: Invertible, fixed_points: Tensor, moving_points: Tensor) -> dict:
    """How far there and back again ends from where it began, over points of both images.

    Args:
        fixed_points: (n, d) LPS mm; |inverse(forward(x)) - x| is measured.
        moving_points: (m, d) LPS mm; |forward(inverse(y)) - y| is measured.

    Returns:
        ``mean``, ``p95``, ``max`` in mm over both lists together.
    """
    errors = []
    for points, there, back in ((fixed_points, both.forward, both.inverse),
                                (moving_points, both.inverse, both.forward)):
        points = points.to(torch.float32)
        errors.append(distances(back.map(there.map(points)), points))
    return _summary(torch.cat(errors), ("mean", "p95", "max"))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """The distances between points (n, d), one by one: (n,) float64 on the CPU."""
    return (a.to("cpu", torch.float64) - b.to("cpu", torch.float64)).norm(dim=-1)


def _summary(values: Tensor, names: Sequence[str]) -> dict[str, float]:
    numbers = values.numpy()
    every = {"mean": numbers.mean(), "median": np.median(numbers), "p95": np.percentile(numbers, 95),
             "max": numbers.max()}
    return {name: float(every[name]) for name in names}
