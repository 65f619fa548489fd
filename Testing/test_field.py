"""The fields: where they start, their Jacobian in closed form, and derivatives through it."""

import numpy as np
import pytest
import torch
from nephi.maps.field import Architecture, Field, siren_bound
from nephi.maps.neural import LatentCode, NePhi, latent_grid
from nephi.maps.spline import Spline

BOTH = pytest.mark.parametrize("dim", [2, 3])
WAYS = pytest.mark.parametrize("way", ["forward", "inverse"])


def _model(dim, code_scale=0.3, seed=0, shared=3, awake=True):
    """A small model in float64, its last layers away from zero so that every part of it acts."""
    generator = torch.Generator().manual_seed(seed)
    grid = latent_grid((-1.0,) * dim, (1.0,) * dim, 0.7)
    architecture = Architecture(dim, frequencies=4, hidden=6, channels=3, shared=shared, omega=2.0)
    model = NePhi.random(architecture, grid, code_scale, generator)
    for part in (model.code, *model.fields):
        part.double()
    if awake:
        with torch.no_grad():
            for field in model.fields:
                field.output.normal_(0, 0.1, generator=generator)
    return model


def _points(dim, count, seed=1):
    return 1.8 * torch.rand(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.9


@BOTH
@WAYS
def test_a_model_with_a_zero_code_starts_at_the_identity(dim, way):
    map_ = getattr(_model(dim, code_scale=0.0, awake=False), way)
    points = _points(dim, 20)
    mapped, jacobian = map_.with_jacobian(points)
    assert torch.equal(mapped, points)
    assert torch.equal(jacobian, torch.eye(dim, dtype=torch.float64).expand(20, dim, dim))


def test_a_small_code_moves_points_at_the_start_oppositely_in_the_two_directions():
    model = _model(3, code_scale=0.01, awake=False)
    points = _points(3, 20)
    forward, inverse = (way.map(points) - points for way in (model.forward, model.inverse))
    assert forward.abs().max() > 0
    assert torch.allclose(forward, -inverse)


@BOTH
@WAYS
def test_the_jacobian_of_the_map_agrees_with_autograd_and_with_finite_differences(dim, way):
    map_ = getattr(_model(dim).requires_grad_(False), way)
    points, step = _points(dim, 10), 1e-6
    mapped, jacobian = map_.with_jacobian(points)
    assert torch.allclose(mapped, map_.map(points), atol=1e-12)
    by_autograd = torch.autograd.functional.jacobian(lambda x: map_.map(x).sum(0), points)
    assert torch.allclose(jacobian, by_autograd.movedim(1, 0), atol=1e-10)
    for axis in range(dim):
        shift = step * torch.eye(dim, dtype=torch.float64)[axis]
        difference = (map_.map(points + shift) - map_.map(points - shift)) / (2 * step)
        assert torch.allclose(jacobian[:, :, axis], difference, atol=1e-6)


@BOTH
@WAYS
def test_a_field_on_a_lattice_is_the_map_at_its_points_also_beyond_the_latent_grid(dim, way):
    map_ = getattr(_model(dim).requires_grad_(False), way)
    axes = [torch.linspace(-1.6, 1.5, 5 + axis, dtype=torch.float64) for axis in range(dim)]
    parts = list(map_.on_lattice(axes, 7))
    points, moved = (torch.cat(part) for part in zip(*parts))
    assert all(len(part) <= 7 for part, _ in parts) and len(points.unique(dim=0)) == len(points)
    assert torch.equal(points[:5, 0], axes[0])
    assert torch.allclose(moved, map_.map(points), atol=1e-12)


def test_a_grid_of_whole_cells_covers_what_it_should_and_is_centred_on_it():
    low, high = (-1.0, 0.0, 2.0), (1.0, 0.5, 2.9)
    corners = latent_grid(low, high, 0.3).corners()
    assert latent_grid(low, high, 0.3).size == (8, 3, 4)
    assert (corners[0] <= np.array(low) + 1e-9).all() and (corners[-1] >= np.array(high) - 1e-9).all()
    assert corners[0] + corners[-1] == pytest.approx(np.array(low) + np.array(high))


def test_a_code_that_does_not_fit_its_grid_is_refused():
    with pytest.raises(ValueError, match="does not fit a grid of"):
        LatentCode(latent_grid((-1.0, -1.0), (1.0, 1.0), 0.5), Spline(torch.zeros(4, 4, 2)), torch.zeros(1))


def test_a_random_code_is_the_same_for_the_same_generator():
    grid = latent_grid((-1.0, -1.0), (1.0, 1.0), 0.5)
    draws = [LatentCode.random(grid, 4, 2, 0.01, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    local = [code.local.coefficients for code in draws]
    assert torch.equal(local[0], local[1]) and torch.equal(draws[0].shared, draws[1].shared)
    assert not torch.equal(local[0], local[2])


def test_beyond_the_latent_grid_the_displacement_is_that_of_its_nearest_point():
    model = _model(3).requires_grad_(False)
    inside = torch.tensor([[0.1, -0.2, float(model.code.grid.corners()[-1, 2])]], dtype=torch.float64)
    outside = inside + torch.tensor([0.0, 0.0, 0.8], dtype=torch.float64)
    at_border, beyond = (model.forward.map(x) - x for x in (inside, outside))
    assert torch.allclose(beyond, at_border, atol=1e-12)
    jacobian = model.forward.jacobian(outside)
    assert torch.allclose(jacobian[0, :, 2], torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


def test_a_model_without_a_global_code_works():
    model = _model(2, shared=0)
    mapped, jacobian = model.inverse.with_jacobian(_points(2, 5))
    assert mapped.shape == (5, 2) and jacobian.shape == (5, 2, 2)


def test_the_initial_weights_keep_the_bound_of_a_sinusoidal_layer():
    field = Field(Architecture(3, frequencies=8, hidden=16, channels=4, shared=2), torch.Generator().manual_seed(0))
    bound = siren_bound(16, 30.0)
    assert 0.8 * bound < field.synthesis.abs().max() <= bound
    assert (field.output == 0).all()
