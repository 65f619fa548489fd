"""A start as one smooth pair of maps, from which levels go on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..geometry import POINTS_IN_CACHE, Grid
from ..maps.map import Composition, Map, MapPair
from ..maps.spline import SplineMap
from ..maps.transform import Stage

FINER = 2  # times closer than the nodes that stay are those that are averaged; the weights of _averaged are for 2


@torch.no_grad()
def smoothed(stages: Sequence[Stage], corners: tuple[Sequence[float], Sequence[float]], cell: float) -> MapPair:
    """Both maps of stages, averaged over about ``cell`` (frame units), as splines through a lattice of that spacing.

    A level that follows adds to the deformation and does not replace it, so the fine-scale errors of a start would
    persist. What it has right at a fine scale, the levels find again.

    Args:
        corners: of the box that the lattice covers, frame units.
    """
    low, high = corners
    cells = [math.ceil((b - a) / cell) for a, b in zip(low, high)]
    lattice = Grid.aligned([n + 1 for n in cells], cell, [(a + b - n * cell) / 2 for a, b, n in zip(low, high, cells)])
    there = Composition([stage.forward for stage in reversed(stages)])
    back = Composition([stage.inverse for stage in stages])
    return MapPair(*(SplineMap.through(_averaged(_displacements(way, lattice)), lattice) for way in (there, back)))


def _displacements(way: Map, lattice: Grid) -> Tensor:
    """(k, j, i, d) of a map at nodes FINER times closer than those of a lattice, frame units."""
    fine = Grid.aligned([FINER * (n - 1) + 1 for n in lattice.size], lattice.spacing[0] / FINER, lattice.origin)
    parts = []
    for chunk in fine.chunks(POINTS_IN_CACHE):
        points = fine.points(way.device, *chunk)
        parts.append(way.map(points) - points)
    return torch.cat(parts).view(*fine.shape, fine.dim)


def _averaged(values: Tensor) -> Tensor:
    """Every second value along each axis, averaged with its neighbours by 1/4, 1/2, 1/4; those at the border stay."""
    for axis in range(values.dim() - 1):
        rows = values.movedim(axis, 0)
        nodes, between = rows[::FINER].clone(), rows[1::FINER]
        nodes[1:-1] = nodes[1:-1] / 2 + (between[:-1] + between[1:]) / 4
        values = nodes.movedim(0, axis)
    return values.contiguous()
