"""The inverse of a map that was given in one direction only, by Newton's method with the map's exact Jacobian."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from ..geometry import POINTS_IN_CACHE
from .map import Map
from .spline import SplineMap

STEPS = 40
CLOSE = 1e-3  # of a step between nodes: where a search ends


@torch.no_grad()
def inverted(map_: SplineMap, guess: Optional[Map] = None) -> SplineMap:
    """The inverse of a spline map, through a natural spline on the same lattice, in the coefficients' own precision.

    Where the map folds there is no inverse and what comes back is wrong; between the nodes it is close. Measure it.

    Args:
        guess: something near the inverse, which spares most of the search.
    """
    lattice, parts = map_.lattice, []
    near = None if guess is None else guess.displacement_on(lattice).view(-1, lattice.dim)
    for start, stop in lattice.chunks(POINTS_IN_CACHE):
        points = lattice.points(map_.device, start, stop)
        first = -map_.displacement(points) if near is None else near[start:stop].to(points)
        parts.append(preimages(map_, points, points + first, CLOSE * min(lattice.spacing)) - points)
    return SplineMap.through(torch.cat(parts).view(*lattice.shape, lattice.dim), lattice)


def preimages(map_: Map, points: Tensor, found: Tensor, close: float) -> Tensor:
    """x with map(x) = points, (n, d); a step that does not come closer is halved until it does.

    Args:
        found: where to begin, (n, d).
        close: the distance from the points at which the search ends.
    """
    step = torch.zeros_like(points)
    found, best = found.clone(), found.clone()
    distance = torch.full_like(points[:, 0], torch.inf)
    open_ = torch.arange(len(points), device=points.device)
    for _ in range(STEPS):
        moved, jacobian = map_.with_jacobian(found[open_])
        error = moved - points[open_]
        length = error.norm(dim=-1)
        closer = length < distance[open_]
        better = open_[closer]
        best[better], distance[better] = found[better], length[closer]
        step[better] = torch.linalg.solve_ex(jacobian[closer], error[closer, :, None])[0][..., 0]
        step[open_[~closer]] /= 2
        open_ = open_[distance[open_] > close]
        if not len(open_):
            break
        found[open_] = best[open_] - step[open_]
    return best
