"""The fields: where they start, their Jacobian in closed form, and derivatives through it."""

import pytest
import torch
from nephi.align.regularity import consistency
from nephi.maps.field import Field, siren_bound
from nephi.maps.neural import DIRECTIONS, FORWARD, INVERSE, Architecture, NePhi, opposite
from nephi.maps.spline import LatentBox

BOTH = pytest.mark.parametrize("dim", [2, 3])


def _model(dim, code_scale=0.3, seed=0, shared=3, awake=True):
    """A small model in float64, its last layers away from zero so that every part of it acts."""
    generator = torch.Generator().manual_seed(seed)
    box = LatentBox.covering((-1.0,) * dim, (1.0,) * dim, 0.7)
    architecture = Architecture(dim, frequencies=4, hidden=6, channels=3, shared=shared, omega=2.0)
    model = NePhi.random(architecture, box, code_scale, generator).double()
    if awake:
        with torch.no_grad():
            for direction in DIRECTIONS:
                model.field(direction).output.normal_(0, 0.1, generator=generator)
    return model


def _points(dim, count, seed=1):
    return 1.8 * torch.rand(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.9


@BOTH
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_model_with_a_zero_code_starts_at_the_identity(dim, direction):
    model = _model(dim, code_scale=0.0, awake=False)
    points = _points(dim, 20)
    mapped, jacobian = model.map_with_jacobian(points, direction)
    assert torch.equal(mapped, points)
    assert torch.equal(jacobian, torch.eye(dim, dtype=torch.float64).expand(20, dim, dim))


def test_a_small_code_moves_points_at_the_start_oppositely_in_the_two_directions():
    model = _model(3, code_scale=0.01, awake=False)
    points = _points(3, 20)
    forward, inverse = (model.map(points, direction) - points for direction in DIRECTIONS)
    assert forward.abs().max() > 0
    assert torch.allclose(forward, -inverse)


@BOTH
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_jacobian_of_the_map_agrees_with_autograd_and_with_finite_differences(dim, direction):
    model = _model(dim).requires_grad_(False)
    points, step = _points(dim, 10), 1e-6
    mapped, jacobian = model.map_with_jacobian(points, direction)
    assert torch.allclose(mapped, model.map(points, direction), atol=1e-12)
    by_autograd = torch.autograd.functional.jacobian(lambda x: model.map(x, direction).sum(0), points)
    assert torch.allclose(jacobian, by_autograd.movedim(1, 0), atol=1e-10)
    for axis in range(dim):
        shift = step * torch.eye(dim, dtype=torch.float64)[axis]
        difference = (model.map(points + shift, direction) - model.map(points - shift, direction)) / (2 * step)
        assert torch.allclose(jacobian[:, :, axis], difference, atol=1e-6)


def test_beyond_the_latent_box_the_displacement_is_that_of_the_nearest_point_of_the_box():
    model = _model(3).requires_grad_(False)
    inside = torch.tensor([[0.1, -0.2, model.code.box.high[2]]], dtype=torch.float64)
    outside = inside + torch.tensor([0.0, 0.0, 0.8], dtype=torch.float64)
    at_border, beyond = (model.map(x, FORWARD) - x for x in (inside, outside))
    assert torch.allclose(beyond, at_border, atol=1e-12)
    _, jacobian = model.map_with_jacobian(outside, FORWARD)
    assert torch.allclose(jacobian[0, :, 2], torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


def test_a_model_without_a_global_code_works():
    model = _model(2, shared=0)
    mapped, jacobian = model.map_with_jacobian(_points(2, 5), INVERSE)
    assert mapped.shape == (5, 2) and jacobian.shape == (5, 2, 2)


def test_the_two_directions_are_each_others_opposites():
    assert [opposite(direction) for direction in DIRECTIONS] == [INVERSE, FORWARD]


def test_the_initial_weights_keep_the_bound_of_a_sinusoidal_layer():
    field = Field(3, 4, 2, 8, 16, 30.0, 1.0, 0.3, torch.Generator().manual_seed(0))
    bound = siren_bound(16, 30.0)
    assert 0.8 * bound < field.synthesis.abs().max() <= bound
    assert (field.output == 0).all()


@BOTH
@pytest.mark.parametrize("term", ["gradient", "roughness", "shrinkage"])
def test_the_gradient_of_each_consistency_term_agrees_with_finite_differences(dim, term):
    model = _model(dim, seed=2)
    points = _points(dim, 6, seed=3)

    def value():
        return getattr(consistency(model, points, FORWARD, margin=1.3), term)

    parameters = dict(model.named_parameters())
    gradients = dict(zip(parameters, torch.autograd.grad(value(), list(parameters.values()), allow_unused=True)))
    generator = torch.Generator().manual_seed(9)
    for name, parameter in parameters.items():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        found = 0.0 if gradients[name] is None else float((gradients[name] * direction).sum())
        step = 1e-5
        with torch.no_grad():
            parameter.add_(step * direction)
            above = float(value())
            parameter.add_(-2 * step * direction)
            below = float(value())
            parameter.add_(step * direction)
        assert found == pytest.approx((above - below) / (2 * step), rel=2e-4, abs=1e-7), name
