"""A pair to train on, and the level of instance optimisation that gives its loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..align.objective import Level, Side
from ..align.patches import PatchLattice
from ..align.volume import Volume
from ..geometry import Grid
from ..images.resampling import sample
from ..images.similarity import similarity_named
from ..maps.displacement_map import DisplacementMap
from ..maps.neural import NePhi
from ..options import Options


@dataclass(frozen=True)
class Example:
    """A pair on the encoder's cube.

    Attributes:
        fixed, moving: (1 + C, k, j, i): the intensity in [0, 1], then what the loss compares instead, if anything.
        fixed_masks, moving_masks: (2, k, j, i) bool: where to compare, and the field of view.
        mm: millimetres per frame unit.
        name: for messages.
        truth: corresponding points of the fixed and the moving image, (m, d) frame coordinates each, or None.
        labels: (k, j, i) of the fixed and the moving image, for validation, or None.
    """

    fixed: Tensor
    moving: Tensor
    fixed_masks: Tensor
    moving_masks: Tensor
    mm: float
    name: str
    truth: Optional[tuple[Tensor, Tensor]] = None
    labels: Optional[tuple[Tensor, Tensor]] = None

    @property
    def images(self) -> Tensor:
        """The input of the encoder, (2, k, j, i)."""
        return torch.stack([self.fixed[0], self.moving[0]])

    def to(self, device: torch.device) -> Example:
        """The same pair on a device."""
        truth = None if self.truth is None else tuple(points.to(device) for points in self.truth)
        return replace(self, fixed=self.fixed.to(device), moving=self.moving.to(device), truth=truth,
                       fixed_masks=self.fixed_masks.to(device), moving_masks=self.moving_masks.to(device))

    @torch.no_grad()
    def carried(self, models: tuple[NePhi, ...], carried: DisplacementMap) -> Example:
        """The pair that remains to be registered after some models: its moving image carried by them.

        Args:
            carried: the displacements of all of them on the cube, from :func:`nephi.predict.predictor.carried_on`.
        """
        grid = carried.grid
        values = torch.cat([self.moving, self.moving_masks.to(self.moving.dtype)])
        read = sample(values, grid, carried.map(grid.points(carried.device))).view(values.shape)
        truth = self.truth
        if truth is not None:
            end = truth[1]
            for model in models:
                end = model.inverse.map(end)
            truth = truth[0], end
        return replace(self, moving=read[:-2], moving_masks=read[-2:] > 0.5, truth=truth)


def level_of(example: Example, grid: Grid, options: Options) -> Level:
    """The pair as a level, sampled at the voxels of the encoder's cube.

    Args:
        grid: the cube.
        options: of the loss.
    """
    step, wanted = grid.spacing[0], int(example.fixed_masks[0].sum())
    lattice = PatchLattice((-1.0,) * grid.dim, (1.0,) * grid.dim, step, options.patch, options.node_cells)
    fixed, moving = (_side(values, masks, grid, options) for values, masks in (
        (example.fixed, example.fixed_masks), (example.moving, example.moving_masks)))
    return Level(fixed=fixed, moving=moving, lattice=lattice, fraction=min(1.0, options.points / max(1, wanted)),
                 unit=1 / step, error=None, landmarks=example.truth)


def _side(values: Tensor, masks: Tensor, grid: Grid, options: Options) -> Side:
    """One image, padded because patches may cross the faces of the cube."""
    margin = options.patch + 1
    prepare = similarity_named(options.similarity).prepare
    if prepare is not None and len(values) == 1:
        values = torch.cat([values, prepare(values)])
    around = (margin,) * 2 * grid.dim
    values = F.pad(values[None], around, mode="replicate")[0]
    wanted, view = F.pad(masks.to(values.dtype), around)
    larger = grid.window([-margin] * grid.dim, [n + 2 * margin for n in grid.size])
    return Side(Volume(torch.cat([values, wanted[None]]), larger), Volume(view[None], larger))
