"""How the levels that are done move the points of a finer level: one lattice of displacements, brought up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ..geometry import POINTS_IN_CACHE, Grid
from ..maps.displacement_map import DisplacementMap
from ..maps.map import Composition
from ..maps.neural import NePhi
from ..maps.spline import SplineMap
from ..maps.transform import Stage

MAP_STRIDE = 2  # samples between the lattice's points


@dataclass(frozen=True)
class Carried:
    """The stages so far, in frame coordinates, as splines through their values on a lattice.

    Attributes:
        forward: phi, their forward map.
        round_trip: psi(phi(x)), psi their inverse map: its displacements are what a finer level can still make good.
        error: the same displacements, to be read linearly.
    """

    forward: SplineMap
    round_trip: SplineMap
    error: DisplacementMap


class Carrier:
    """The maps of the stages so far, without the affine, on a lattice that follows the resolution.

    At each finer level only the stages that came since the last one are evaluated, at every second sample along each
    axis; the earlier ones are read from their splines. The final transform is never read from here.
    """

    def __init__(self) -> None:
        self._carried: Optional[Carried] = None
        self._count = 0

    @torch.no_grad()
    def onto(self, stages: tuple[Stage, ...], grid: Grid) -> Optional[Carried]:
        """Where the stages so far take the points of a level's grid, or None without stages.

        Args:
            stages: coarse to fine, those of the last call and perhaps more.
            grid: of frame coordinates, isotropic, with an odd size along each axis.
        """
        if not stages:
            return None
        lattice = Grid.aligned([(n + 1) // MAP_STRIDE for n in grid.size], MAP_STRIDE * grid.spacing[0], grid.origin)
        self._carried = _on_lattice(stages[self._count:], self._carried, lattice)
        self._count = len(stages)
        return self._carried


def _on_lattice(stages: tuple[Stage, ...], before: Optional[Carried], lattice: Grid) -> Carried:
    """The finest stage acts first and what was there before last; on the way back the finest acts last."""
    later = Composition([stage.forward for stage in reversed(stages[:-1])])
    back = Composition([stage.inverse for stage in stages])
    parts = []
    for points, moved in _first(stages[-1], lattice):
        moved = later.map(moved)
        returned = back.map(moved if before is None else before.round_trip.map(moved))
        moved = moved if before is None else before.forward.map(moved)
        parts.append(torch.cat([moved - points, returned - points], dim=-1))
    forward, error = torch.cat(parts).view(*lattice.shape, 2 * lattice.dim).split(lattice.dim, dim=-1)
    return Carried(SplineMap.through(forward, lattice), SplineMap.through(error, lattice),
                   DisplacementMap(error, lattice))


def _first(stage: Stage, lattice: Grid) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of a lattice: its points and where a stage takes them."""
    if isinstance(stage, NePhi):
        axes = [origin + step * torch.arange(n, device=stage.forward.device)
                for n, step, origin in zip(lattice.size, lattice.spacing, lattice.origin)]
        yield from stage.forward.on_lattice(axes, POINTS_IN_CACHE)
    else:
        for chunk in lattice.chunks(POINTS_IN_CACHE):
            points = lattice.points(stage.forward.device, *chunk)
            yield points, stage.forward.map(points)
