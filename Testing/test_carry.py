"""Carrying the levels so far to a finer one: a lattice brought up to date agrees with the maps themselves."""

import pytest
import torch
from nephi.align.carry import Carrier
from nephi.geometry import Grid
from nephi.maps.field import Architecture
from nephi.maps.map import Composition
from nephi.maps.neural import NePhi, latent_grid

MODELS = 3


def _model(dim, seed):
    """A smooth random model with displacements of a few hundredths of a frame unit."""
    generator = torch.Generator().manual_seed(seed)
    grid = latent_grid((-1.0,) * dim, (1.0,) * dim, 0.5)
    return NePhi.random(Architecture(dim, 4, 8, 4, 2), grid, 0.1, generator).requires_grad_(False)


def _grid(dim, size):
    return Grid.aligned((size,) * dim, 2 / (size - 1), (-1.0,) * dim)


def _distance(points, values, expected):
    """Root mean square of the difference over that of what is expected, away from the border."""
    inner = points.abs().amax(1) < 0.85
    return float((values - expected)[inner].norm() / expected[inner].norm())


@pytest.mark.parametrize("dim", [2, 3])
def test_the_lattice_follows_the_levels_and_agrees_with_their_maps(dim):
    models, carrier = [_model(dim, seed) for seed in range(MODELS)], Carrier()
    for count, size in enumerate((17, 25, 37), start=1):
        grid = _grid(dim, size)
        carried = carrier.onto(tuple(models[:count]), grid)
    points = grid.points("cpu")
    moved = Composition([model.forward for model in reversed(models)]).map(points)
    assert _distance(points, carried.forward.read_on(grid).flatten(0, -2), moved - points) < 0.04
    returned = Composition([model.inverse for model in models]).map(moved)
    assert _distance(points, carried.round_trip.map(points), returned) < 0.004
    assert _distance(points, points + carried.error.displacement(points), returned) < 0.004


def test_without_models_nothing_is_carried():
    assert Carrier().onto((), _grid(2, 9)) is None
