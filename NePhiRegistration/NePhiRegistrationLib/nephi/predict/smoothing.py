"""A prediction as one smooth model, from which levels go on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..geometry import Grid
from ..maps.neural import DIRECTIONS, FORWARD, NePhi

FINER = 2  # times closer than the nodes that stay are those that are averaged; the weights of _averaged are for 2
_POINTS_AT_ONCE = 1 << 13  # keeps a layer's values within the processor's cache


@torch.no_grad()
def smoothed(models: tuple[NePhi, ...], cell: float) -> NePhi:
    """Both maps of models, averaged over about ``cell`` (frame units), as splines through a lattice of that spacing.

    A level that follows adds to the deformation and does not replace it, so what a prediction has wrong in the small
    would stay. What it has right there, the levels find again.
    """
    box = models[0].code.box
    cells = [math.ceil((high - low) / cell) for low, high in zip(box.low, box.high)]
    low = [(a + b - n * cell) / 2 for a, b, n in zip(box.low, box.high, cells)]
    lattice = Grid(tuple(FINER * n + 1 for n in cells), (cell / FINER,) * len(cells), tuple(low),
                   tuple(torch.eye(len(cells)).flatten().tolist()))
    forward, inverse = (_averaged(_displacements(models, lattice, direction)) for direction in DIRECTIONS)
    return NePhi.spline(forward, inverse, low, cell).requires_grad_(False)


def _displacements(models: tuple[NePhi, ...], lattice: Grid, direction: str) -> Tensor:
    """(k, j, i, d) of all models, frame units."""
    parts = []
    for start, stop in lattice.chunks(_POINTS_AT_ONCE):
        points = lattice.points(start, stop, models[0].code.local.device)
        moved = points
        for model in reversed(models) if direction == FORWARD else models:
            moved = model.map(moved, direction)
        parts.append(moved - points)
    return torch.cat(parts).view(*lattice.shape, lattice.dim)


def _averaged(values: Tensor) -> Tensor:
    """Every second value along each axis, averaged with its neighbours by 1/4, 1/2, 1/4; those at the border stay."""
    for axis in range(values.dim() - 1):
        rows = values.movedim(axis, 0)
        kept, between = rows[::FINER].clone(), rows[1::FINER]
        kept[1:-1] = kept[1:-1] / 2 + (between[:-1] + between[1:]) / 4
        values = kept.movedim(0, axis)
    return values.contiguous()
