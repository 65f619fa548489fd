"""Target registration error."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import apply_affine
from .distances import distances, summary


def tre(transform, fixed_points: Tensor, moving_points: Tensor) -> dict:
    """Target registration error: how far the forward map leaves fixed landmarks from their moving counterparts.

    Args:
        fixed_points: (n, d) LPS mm.
        moving_points: (n, d) LPS mm, in the same order.

    Returns:
        ``before`` (mean with no transform), ``affine`` (mean after the transform's linear part), and ``mean``,
        ``median``, ``p95``, ``max`` after the whole transform, in mm; ``points``, the n errors; ``count``.

    Raises:
        InputError: unequal numbers of points, or none.
    """
    if fixed_points.shape != moving_points.shape:
        raise InputError(f"There are {len(fixed_points)} fixed landmarks and {len(moving_points)} moving ones; "
                         f"give one for one, in the same order.")
    if len(fixed_points) == 0:
        raise InputError("The landmark error needs at least one pair of points; the list is empty.")
    mapped = transform.map_points(fixed_points.to(torch.float32), "forward")
    errors = distances(mapped, moving_points)
    linear = distances(apply_affine(np.asarray(transform.affine), fixed_points.to(torch.float64)), moving_points)
    return {"before": float(distances(fixed_points, moving_points).mean()), "affine": float(linear.mean()),
            **summary(errors, ("mean", "median", "p95", "max")), "count": len(errors),
            "points": [float(e) for e in errors]}
