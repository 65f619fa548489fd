"""How far there and back again ends from where it began."""

from __future__ import annotations

import torch
from torch import Tensor

from .distances import distances, summary


def inverse_consistency(transform, fixed_points: Tensor, moving_points: Tensor) -> dict:
    """How far there and back again ends from where it began, over points of both images.

    Args:
        fixed_points: (n, d) LPS mm; |inverse(forward(x)) - x| is measured.
        moving_points: (m, d) LPS mm; |forward(inverse(y)) - y| is measured.

    Returns:
        ``mean``, ``p95``, ``max`` in mm over both lists together.
    """
    errors = []
    for points, there, back in ((fixed_points, "forward", "inverse"), (moving_points, "inverse", "forward")):
        points = points.to(torch.float32)
        returned = transform.map_points(transform.map_points(points, there), back)
        errors.append(distances(returned, points))
    return summary(torch.cat(errors), ("mean", "p95", "max"))
