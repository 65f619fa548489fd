"""A start from a search: displacements found by looking, not by following a gradient.

Far motions and structures that repeat have many places to be caught in on the way down a gradient. So every cell of a
coarse lattice is first compared with all cells around it, and one smooth field is chosen among the candidates (coupled
convex optimisation: Heinrich, Papiez, Schnabel and Handels, WBIR 2014; with two ways made consistent: Siebert, Hansen
and Heinrich, IEEE TMI 2025). The images are compared by MIND-SSC, whatever their contrast.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Grid
from ..images.interpolation import linear
from ..maps.map import MapPair
from ..maps.spline import SplineMap
from ..maps.transform import Transform
from ..options import Options
from ..predict.smoothing import smoothed
from .levels import AlignedPair, level_spacings, make_level, sample_spacing
from .objective import Side

SCALES = (40.0, 3), (60.0, 2)
"""Of each search, coarse to fine: samples along the side of a cube with the mask's volume, and how many cells far to
look along each axis."""

STRIDE = 2  # samples along a cell
COUPLINGS = 0.003, 0.01, 0.03, 0.1, 0.3, 1.0  # how dearly a cell pays for leaving the smooth field, round by round
SMOOTHINGS = 2  # averages over 3 cells along each axis, after each round
CONSISTENT = 10  # rounds that make both ways each other's inverse
UNSEEN = 2.0  # times the mean cost: what a place beyond the field of view costs
CELLS_AT_ONCE = 2048  # cells whose candidates fit into the cache


def searchable(pair: AlignedPair, options: Options) -> bool:
    """Whether a search comes before the levels: if there are any, and in 3D, for in 2D it gains nothing."""
    return pair.fixed.grid.dim == 3 and any(options.iterations)


def level_options(pair: AlignedPair, options: Options) -> Options:
    """Options without the levels that a search replaces: those whose samples are coarser than its cells."""
    done = STRIDE * sample_spacing(pair, SCALES[-1][0])
    finer = tuple(count if sample_spacing(pair, resolution) <= done else 0
                  for resolution, count in zip(options.resolution, options.iterations))
    return replace(options, iterations=finer) if any(finer) else options


@torch.no_grad()
def searched(pair: AlignedPair, transform: Transform, options: Options) -> MapPair:
    """Look for the displacements that remain after a linear transform, coarse to fine.

    Args:
        options: with the levels that go on from here.

    Returns:
        The stage to begin with, in the frame of the fixed image, as smooth as the first level wants it.
    """
    stages: tuple[MapPair, ...] = ()
    for resolution, reach in SCALES:
        level = make_level(pair, replace(transform, stages=stages), sample_spacing(pair, resolution),
                           replace(options, similarity="mind"))
        sides = [_Cells.of(side) for side in (level.fixed, level.moving)]
        ways = [_displacements(here, there, reach) for here, there in (sides, reversed(sides))]
        lattice = _lattice(level.fixed.volume.grid, sides[0].shape)
        stages += (MapPair(*(SplineMap.through(lattice.spacing[0] * way, lattice) for way in _consistent(*ways))),)
    first = level_spacings(pair, options)[0][0]
    return smoothed(stages, (lattice.origin, lattice.corners()[-1]), options.latent_ratio * first / pair.frame.scale)


@dataclass(frozen=True)
class _Cells:
    """One image as cells of several samples.

    Attributes:
        features: (k, j, i, C) what is compared.
        wanted: (k, j, i) bool; the cells to find a place for.
        seen: (k, j, i) bool; cells that lie in the field of view.
    """

    features: Tensor
    wanted: Tensor
    seen: Tensor

    @classmethod
    def of(cls, side: Side) -> _Cells:
        """The samples of one side of a level, averaged."""
        pool = F.avg_pool3d if side.volume.grid.dim == 3 else F.avg_pool2d
        values = pool(side.volume.values[None, 1:], STRIDE)[0]
        view = torch.ones_like(values[0]) if side.view is None else pool(side.view.values[None], STRIDE)[0, 0]
        return cls(values[:-1].movedim(0, -1).contiguous(), values[-1] > 0.5, view > 0.5)

    @property
    def shape(self) -> tuple[int, ...]:
        """(k, j, i)"""
        return tuple(self.seen.shape)


def _lattice(samples: Grid, shape: Sequence[int]) -> Grid:
    """The cells' centres."""
    step = samples.spacing[0]
    return Grid.aligned(shape[::-1], STRIDE * step, [a + (STRIDE - 1) / 2 * step for a in samples.origin])


def _displacements(here: _Cells, there: _Cells, reach: int) -> Tensor:
    """A smooth field from the one image's cells to the other's, (k, j, i, d) in cells."""
    candidates, costs = _costs(here, there, reach)
    squares, dim = candidates.pow(2).sum(1), candidates.shape[1]
    field = candidates.new_zeros(*here.shape, dim)
    for coupling in (None, *COUPLINGS):
        chosen = []
        for cost, at in zip(costs.split(CELLS_AT_ONCE), field[here.wanted].split(CELLS_AT_ONCE)):
            if coupling is not None:  # the squared distance from the field, less what is the same for all candidates
                cost = torch.addmm(cost + coupling * squares, at, candidates.T, alpha=-2 * coupling)
            chosen.append(cost.argmin(1))
        field[here.wanted] = candidates[torch.cat(chosen)] if chosen else field[here.wanted]
        field = _smooth(field.movedim(-1, 0)).movedim(0, -1).contiguous()
    return field


def _costs(here: _Cells, there: _Cells, reach: int) -> tuple[Tensor, Tensor]:
    """Candidates (m, d) along (x, y, z) in cells, and how unlike each wanted cell is the one so far away, (n, m).

    """
    dim, device = here.seen.dim(), here.seen.device
    steps = torch.tensor(list(itertools.product(range(-reach, reach + 1), repeat=dim)), device=device)  # (z, y, x)
    padded = F.pad(there.features.movedim(-1, 0)[None], (reach,) * 2 * dim, mode="replicate")[0]
    seen = F.pad(there.seen, (reach,) * 2 * dim).flatten()
    strides = torch.tensor(padded[0].stride(), device=device)
    rows, offsets = padded.flatten(1).T.contiguous(), (steps * strides).sum(1)
    at = ((torch.nonzero(here.wanted) + reach) * strides).sum(1)
    features, lengths = here.features[here.wanted], rows.pow(2).sum(1)
    costs = torch.empty(len(at), len(steps), device=device)
    known = torch.empty(costs.shape, dtype=torch.bool, device=device)
    for chunk in torch.arange(len(at), device=device).split(CELLS_AT_ONCE // 4):
        met, own = at[chunk, None] + offsets, features[chunk]
        products = torch.bmm(rows[met.flatten()].view(*met.shape, rows.shape[-1]), own[:, :, None])[..., 0]
        costs[chunk] = (lengths[met] - 2 * products + own.pow(2).sum(1, keepdim=True)) / own.shape[1]
        known[chunk] = seen[met]
    unseen = UNSEEN * costs[known].mean() if bool(known.any()) else costs.new_zeros(())
    return steps.flip(1).float(), _with_neighbours(costs.where(known, unseen), here)


def _with_neighbours(costs: Tensor, here: _Cells) -> Tensor:
    """Costs (n, m) of the wanted cells averaged with those of the wanted cells next to them."""
    rows = costs.new_zeros(*here.shape, costs.shape[1] + 1)
    rows[here.wanted] = F.pad(costs, (0, 1), value=1.0)
    for axis in range(len(here.shape)):
        summed = rows.clone()
        summed.narrow(axis, 1, rows.shape[axis] - 1).add_(rows.narrow(axis, 0, rows.shape[axis] - 1))
        summed.narrow(axis, 0, rows.shape[axis] - 1).add_(rows.narrow(axis, 1, rows.shape[axis] - 1))
        rows = summed
    rows = rows[here.wanted]
    return rows[:, :-1] / rows[:, -1:]


def _smooth(field: Tensor) -> Tensor:
    """A field (d, k, j, i) averaged over its neighbours."""
    dim = len(field)
    pool = F.avg_pool3d if dim == 3 else F.avg_pool2d
    for _ in range(SMOOTHINGS):
        field = pool(F.pad(field[None], (1,) * 2 * dim, mode="replicate"), 3, 1)[0]
    return field


def _consistent(there: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    """Two fields (k, j, i, d), in cells, brought nearer to each other's inverse."""
    grid = Grid.aligned(there.shape[-2::-1], 1.0, [0.0] * there.shape[-1])
    points = grid.points(there.device)
    there, back = there.flatten(0, -2), back.flatten(0, -2)

    def met(other: Tensor, own: Tensor) -> Tensor:
        return linear(other.T.view(-1, *grid.shape), points + own).T

    for _ in range(CONSISTENT):
        there, back = (there - met(back, there)) / 2, (back - met(there, back)) / 2
    return there.view(*grid.shape, -1), back.view(*grid.shape, -1)
