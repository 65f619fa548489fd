"""Both maps of a transform with the coarse stages as splines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from closed_form import oblique_grid, tilted_affine
from nephi.geometry import Frame, random_points
from nephi.maps.folded import folded
from nephi.maps.map import MapPair
from nephi.maps.neural import latent_grid
from nephi.maps.spline import SplineMap
from nephi.maps.transform import Transform

CELLS = (0.6, 0.4, 0.25)  # of the frame


def _transform(dim=3):
    """Waves about as long as the cells of their stage, of parts of a voxel; the images are of different sizes."""
    generator = torch.Generator().manual_seed(3)
    fixed = oblique_grid(dim).with_spacing(1.5)
    moving = fixed.with_spacing(2.0)
    frame, stages = Frame.of(fixed), []
    for cell in CELLS:
        lattice = latent_grid((-1.3,) * dim, (1.3,) * dim, cell)
        shift = 0.015 * cell * torch.randn(*lattice.shape, dim, generator=generator)
        stages.append(MapPair(SplineMap.through(shift, lattice), SplineMap.through(-shift, lattice)))
    assert frame.scale * CELLS[-1] * 0.015 > 0.05
    return Transform(fixed, moving, tilted_affine(dim), tuple(stages))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_folded_maps_are_the_maps_within_half_of_the_tolerance(dim, masked):
    transform = _transform(dim)
    grids = transform.fixed_grid, transform.moving_grid
    masks = tuple(torch.ones(grid.shape, dtype=torch.bool) if masked else None for grid in grids)
    quick = folded(transform, masks, 0.1)
    for way, grid in (("forward", grids[0]), ("inverse", grids[1])):
        points = random_points(grid, 2000)
        error = (getattr(quick, way).map(points) - getattr(transform, way).map(points)).norm(dim=-1) / grid.voxel
        assert 0 < float(error.quantile(0.999)) < 0.05
        assert any(isinstance(part, SplineMap) for part in getattr(quick, way).parts)


def test_stages_that_are_no_coarser_than_the_last_stay_as_they_are():
    transform = _transform()
    for stages in ((), transform.stages[-1:], (transform.stages[-1], transform.stages[0])):
        few = replace(transform, stages=stages)
        quick, points = folded(few, (None, None)), random_points(few.fixed_grid, 100)
        assert torch.allclose(quick.forward.map(points), few.forward.map(points), atol=1e-6)
        assert np.allclose(quick.forward.linear, few.forward.linear)
