"""How the levels that are done move the points of a finer level: one lattice of displacements, brought up to date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ..geometry import Grid
from ..maps.neural import FORWARD, INVERSE, NePhi
from ..maps.spline import LatentBox, LatentCode
from .volume import Volume

MAP_STRIDE = 2  # samples between the lattice's points
_POINTS_AT_ONCE = 1 << 13  # keeps a layer's values within the processor's cache


@dataclass(frozen=True)
class Carried:
    """The levels so far as displacements in frame units: splines through their values on a lattice.

    Attributes:
        displacement: phi(x) - x, where phi is their forward map.
        error: psi(phi(x)) - x, where psi is their inverse map: what a finer level can still make good.
        error_values: (d, k, j, i) the same at the lattice's points, to be read linearly.
    """

    displacement: LatentCode
    error: LatentCode
    error_values: Volume


class Carrier:
    """The maps of the levels so far, without the affine, on a lattice that follows the resolution.

    At each finer level only the models that came since the last one are evaluated, at every second sample along each
    axis; the earlier ones are read from their splines. The final transform is never read from here.
    """

    def __init__(self) -> None:
        self._carried: Optional[Carried] = None
        self._count = 0

    @torch.no_grad()
    def onto(self, models: tuple[NePhi, ...], grid: Grid) -> Optional[Carried]:
        """Where the levels so far take the points of a level's grid, or None without models.

        Args:
            models: coarse to fine, those of the last call and perhaps more.
            grid: of frame coordinates, isotropic, with an odd size along each axis.
        """
        if not models:
            return None
        lattice = Grid(tuple((n + 1) // MAP_STRIDE for n in grid.size), tuple(MAP_STRIDE * s for s in grid.spacing),
                       grid.origin, grid.direction)
        self._carried = _on_lattice(models[self._count:], self._carried, lattice, models[0].code.local.device)
        self._count = len(models)
        return self._carried


@torch.no_grad()
def shifts(carried: Carried, grid: Grid) -> Tensor:
    """The displacements at the points of the grid the lattice was made for: (n, d)."""
    device = carried.displacement.local.device
    axes = [origin + spacing * torch.arange(n, device=device)
            for n, spacing, origin in zip(grid.size, grid.spacing, grid.origin)]
    return carried.displacement.on_lattice(axes).flatten(0, -2)


def _on_lattice(models: tuple[NePhi, ...], before: Optional[Carried], lattice: Grid, device: torch.device) -> Carried:
    """The finest model acts first and what was there before last; on the way back the finest acts last."""
    parts, finest = [], models[-1]
    codes = finest.code.on_lattice(_axes(lattice, finest.code.box, device)).flatten(0, -2)
    for (start, stop), local in zip(lattice.chunks(_POINTS_AT_ONCE), codes.split(_POINTS_AT_ONCE)):
        points = lattice.points(start, stop, device)
        inside = finest.code.box.nearest(points)
        moved = points + finest.forward_field(inside, local, finest.code.shared)
        for model in reversed(models[:-1]):
            moved = model.map(moved, FORWARD)
        back = moved if before is None else moved + before.error.at(before.error.box.nearest(moved))
        if before is not None:
            moved = moved + before.displacement.at(before.displacement.box.nearest(moved))
        for model in models:
            back = model.map(back, INVERSE)
        parts.append(torch.cat([moved - points, back - points], dim=-1))
    values = torch.cat(parts).view(*lattice.shape, 2 * lattice.dim).split(lattice.dim, dim=-1)
    displacement, error = (LatentCode.through(part, lattice.origin, lattice.spacing[0]).requires_grad_(False)
                           for part in values)
    return Carried(displacement, error, Volume(values[1].movedim(-1, 0).contiguous(), lattice))


def _axes(lattice: Grid, box: LatentBox, device: torch.device) -> list[Tensor]:
    """The coordinates of a lattice's points along (x, y, z), those outside a box at its border."""
    axes = zip(lattice.size, lattice.spacing, lattice.origin, box.low, box.cells)
    return [(origin + spacing * torch.arange(n, device=device)).clamp(low, low + cells * box.cell)
            for n, spacing, origin, low, cells in axes]
