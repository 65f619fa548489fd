"""Carrying the levels so far to a finer one: a lattice brought up to date agrees with the maps themselves."""

import numpy as np
import pytest
import torch
from nephi.align.carry import Carrier, shifts
from nephi.geometry import Grid
from nephi.maps.neural import FORWARD, INVERSE, Architecture, NePhi
from nephi.maps.spline import LatentBox
from nephi.maps.transform import Transform

MODELS = 3


def _model(dim, seed):
    """A smooth random model with displacements of a few hundredths of a frame unit."""
    generator = torch.Generator().manual_seed(seed)
    box = LatentBox.covering((-1.0,) * dim, (1.0,) * dim, 0.5)
    model = NePhi.random(Architecture(dim, 4, 8, 4, 2), box, 0.1, generator)
    return model.requires_grad_(False)


def _grid(dim, size):
    return Grid((size,) * dim, (2 / (size - 1),) * dim, (-1.0,) * dim, tuple(np.eye(dim).ravel()))


def _transform(dim):
    world = Grid((16,) * dim, (1.0,) * dim, (0.0,) * dim, tuple(np.eye(dim).ravel()))
    return Transform(world, world, np.eye(dim + 1), tuple(_model(dim, seed) for seed in range(MODELS)))


def _distance(points, values, expected):
    """Root mean square of the difference over that of what is expected, away from the border."""
    inner = points.abs().amax(1) < 0.85
    return float((values - expected)[inner].norm() / expected[inner].norm())


@pytest.mark.parametrize("dim", [2, 3])
def test_the_lattice_follows_the_levels_and_agrees_with_their_maps(dim):
    transform, carrier = _transform(dim), Carrier()
    for count, size in enumerate((17, 25, 37), start=1):
        grid = _grid(dim, size)
        carried = carrier.onto(transform.models[:count], grid)
    points = grid.points()
    expected = transform.map_in_frame(points, FORWARD) - points
    assert _distance(points, shifts(carried, grid), expected) < 0.04
    returned = transform.map_in_frame(transform.map_in_frame(points, FORWARD), INVERSE)
    assert _distance(points, points + carried.error.at(points), returned) < 0.004


def test_without_models_nothing_is_carried():
    assert Carrier().onto((), _grid(2, 9)) is None
