"""Places where a result is doubtful, the worst first: where to look before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid, random_points
from ..maps.determinant import determinant_at
from ..maps.map import MapPair

DISAGREE, EXTREME, FOLD, INCONSISTENT, OUTSIDE = "images disagree", "extreme volume change", "fold", \
    "inverse inconsistent", "outside the overlap"

POINTS = 20_000  # random ones at which it is looked
MOST = 40  # places
APART = 8.0  # voxels: nearer places are one
ERROR = 1.0  # voxels from which images disagree and the inverse is inconsistent
VOLUME = 3.0  # times larger or smaller than the linear part makes it: extreme


@torch.no_grad()
def doubtful_places(maps: MapPair, linear: np.ndarray, mask: Optional[Tensor], moving: Grid,
                    residual: Optional[Mapping] = None) -> list[dict]:
    """Where a result is doubtful.

    Args:
        maps: both maps; splines will do.
        linear: (d + 1, d + 1), the linear part.
        mask: (*shape) bool on the fixed grid; where to look.
        moving: the moving image's grid.
        residual: as :meth:`nephi.judge.residual.Residual.to_dict` gives it, or None.

    Returns:
        Of each place ``at`` (LPS mm in the fixed image), ``mm`` and ``reason``. The millimetres are how far the images
        are apart there, at least the reach of the search where nothing was found; how far the inverse leads back
        beside it; or how far outside the moving image the map leads. The most come first, and folds before all others.
    """
    fixed = maps.forward.domain
    limit, points = ERROR * fixed.voxel, random_points(fixed, POINTS, mask)
    there = maps.forward.map(points)
    apart = (maps.inverse.map(there) - points).norm(dim=1)
    inside = moving.contains(there)
    change = determinant_at(maps.forward, points) / abs(float(np.linalg.det(linear)))
    beyond = (moving.to_world(moving.nearest_index(there)) - there).norm(dim=1)
    found = _chosen(points, apart, change <= 0, FOLD, 1)
    found += _chosen(points, apart, inside & (change > 0) & ~((change > 1 / VOLUME) & (change < VOLUME)), EXTREME)
    found += _chosen(points, apart, inside & (apart > limit), INCONSISTENT)
    found += _chosen(points, beyond, ~inside & (beyond > limit), OUTSIDE)
    if residual is not None and residual["at"]:
        far = torch.tensor([residual["reach"] if mm is None else mm for mm in residual["distances"]])
        found += _chosen(torch.tensor(residual["at"]), far, far > max(limit, residual["voxel"]), DISAGREE)
    return _thinned(sorted(found, key=lambda place: (-place[0], -place[1])), APART * fixed.voxel)


def _chosen(points: Tensor, mm: Tensor, where: Tensor, reason: str, rank: int = 0) -> list[tuple]:
    return [(rank, float(size), place.tolist(), reason) for place, size in zip(points[where], mm[where])]


def _thinned(found: list[tuple], apart: float) -> list[dict]:
    """The first of all places that are near each other."""
    kept: list[dict] = []
    for _rank, mm, at, reason in found:
        if len(kept) == MOST:
            break
        if all(np.linalg.norm(np.subtract(at, other["at"])) > apart for other in kept):
            kept.append({"at": at, "mm": mm, "reason": reason})
    return kept
