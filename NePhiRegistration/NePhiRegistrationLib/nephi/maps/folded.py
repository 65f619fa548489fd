"""Both maps of a transform with the coarse stages as splines: to be read at many points.

A stage changes over the cells of its own latent grid. So all but the finest stages are evaluated at few nodes, and
their splines are read in the place of their fields.
"""

from __future__ import annotations

import itertools
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from ..geometry import Frame, Grid, random_points
from .coarsest import CHECK_POINTS, SEED, TOLERANCE
from .framed import FramedMap
from .map import Composition, Map, MapPair
from .resampled import EVERY, lattice_over, through_splines
from .spline import SplineMap
from .transform import Stage, Transform, lattice_of

COARSER = 1.3  # times the finest cells: those of stages that are worth a spline
NODES = 0.4  # cells between its nodes: a fifth to a third of the usual tolerance; the error falls with the fourth power


def folded(transform: Transform, masks: tuple[Optional[Tensor], Optional[Tensor]], tolerance: float = TOLERANCE
           ) -> MapPair:
    """Both maps, some times faster at each point.

    Args:
        masks: (*shape) bool on the fixed and on the moving grid, where the maps are wanted.
        tolerance: about a third of it may they be off, voxels; nothing is measured here.
    """
    frame = Frame.of(transform.fixed_grid)
    spacing = NODES * (tolerance / TOLERANCE) ** 0.25 * frame.scale
    affine, back = transform.forward.parts[-1], transform.inverse.parts[0]

    def forward(stages: tuple[Stage, ...], grid: Grid, mask: Optional[Tensor]) -> Map:
        coarse = _coarse(stages, grid, spacing)
        first = FramedMap(Composition([stage.forward for stage in reversed(stages[coarse:])]), frame, grid)
        rest = [affine]
        if coarse:  # the fine stages take points out of the image and of the mask
            points = random_points(grid, CHECK_POINTS, None, SEED)
            shift = float((first.map(points) - points).norm(dim=-1).max())
            wider = grid.padded(shift + spacing * lattice_of(stages[coarse - 1]).spacing[0])
            within = _within(wider, mask)
            rest = _splines(forward(stages[:coarse], wider, within), wider, within, stages[:coarse], spacing)
        return Composition([first, *rest], grid)

    def inverse(stages: tuple[Stage, ...], grid: Grid, mask: Optional[Tensor]) -> Map:
        coarse = _coarse(stages, grid, spacing)
        last = FramedMap(Composition([stage.inverse for stage in stages[coarse:]]), frame, transform.fixed_grid)
        rest = [back]
        if coarse:  # a natural spline is worst at its ends
            wider = grid.padded(2 * spacing * lattice_of(stages[coarse - 1]).spacing[0])
            within = _within(wider, mask)
            rest = _splines(inverse(stages[:coarse], wider, within), wider, within, stages[:coarse], spacing)
        return Composition([*rest, last], grid)

    return MapPair(forward(transform.stages, transform.fixed_grid, masks[0]),
                   inverse(transform.stages, transform.moving_grid, masks[1]))


def _coarse(stages: tuple[Stage, ...], grid: Grid, spacing: float) -> int:
    """How many of the first stages have cells so much larger than the last that splines through few points do."""
    if not stages:
        return 0
    cells = [lattice_of(stage).spacing[0] for stage in stages]
    least = max(COARSER * cells[-1], EVERY * grid.voxel / spacing)
    return len(list(itertools.takewhile(lambda cell: cell >= least, cells[:-1])))


def _within(padded: Grid, mask: Optional[Tensor]) -> Optional[Tensor]:
    """A mask on a grid with as many more voxels on each side."""
    if mask is None:
        return None
    extra = [(n - m) // 2 for n, m in zip(padded.size, reversed(mask.shape))]
    return F.pad(mask, [n for n in extra for _ in range(2)])


def _splines(exact: Map, grid: Grid, mask: Optional[Tensor], stages: tuple[Stage, ...], spacing: float
             ) -> tuple[Map, ...]:
    step = spacing * min(lattice_of(stage).spacing[0] for stage in stages)
    splines, linear = through_splines(exact, grid, mask, lattice_over(grid, (step,) * grid.dim)).parts
    return SplineMap.from_coefficients(splines.spline.coefficients.float(), splines.lattice), linear
