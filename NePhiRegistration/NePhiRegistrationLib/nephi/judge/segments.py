"""What a map does to each label: its volume, its volume change, and where its centre goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

import torch
from torch import Tensor

from ..geometry import Grid, some_of
from ..images.image import Image
from ..maps.determinant import determinant_at
from ..maps.map import Map

MOST = 5000  # voxels of a label at which the determinant is read


def segments(fixed: Image, moving: Image, after: Tensor, forward: Map, labels: Iterable[int]) -> dict[int, dict]:
    """Measure labels one by one.

    Args:
        fixed, moving: the label images.
        after: the moving labels carried onto the fixed ones' grid.
        forward: fixed to moving LPS mm.

    Returns:
        label -> ``volume_ml`` {"fixed", "moving", "warped"}; ``jacobian`` {"mean", "p05", "median", "p95"} of the
        forward map's determinants inside the fixed label; ``centroid_mm`` {"before", "after"}, how far the moving
        label's centre is from the fixed one's, or None where one of the images does not have it.
    """
    result = {}
    for label in labels:
        parts = {"fixed": (fixed.values == label, fixed.grid), "moving": (moving.values == label, moving.grid),
                 "warped": (after == label, fixed.grid)}
        centers = {name: _center(*part) for name, part in parts.items()}
        result[label] = {
            "volume_ml": {name: int(mask.sum()) * grid.voxel**grid.dim / 1000 for name, (mask, grid) in parts.items()},
            "jacobian": _jacobian(*parts["fixed"], forward),
            "centroid_mm": {"before": _apart(centers["moving"], centers["fixed"]),
                            "after": _apart(centers["warped"], centers["fixed"])}}
    return result


def _jacobian(mask: Tensor, grid: Grid, forward: Map) -> dict[str, Optional[float]]:
    at = mask.nonzero().flip(-1)
    if not len(at):
        return dict.fromkeys(("mean", "p05", "median", "p95"))
    points = grid.to_world(at[some_of(len(at), MOST)].double())
    values = determinant_at(forward, points.to(forward.device)).cpu()
    low, middle, high = values.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=values.dtype)).tolist()
    return {"mean": float(values.mean()), "p05": low, "median": middle, "p95": high}


def _center(mask: Tensor, grid: Grid) -> Optional[Tensor]:
    at = mask.nonzero().flip(-1).double()
    return grid.to_world(at.mean(0, keepdim=True))[0] if len(at) else None


def _apart(one: Optional[Tensor], other: Optional[Tensor]) -> Optional[float]:
    return None if one is None or other is None else float((one - other).norm())
