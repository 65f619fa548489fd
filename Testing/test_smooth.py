"""Smoothed predictions: what is smooth stays, what is fine goes, both ways, in one small model."""

from __future__ import annotations

import torch
from nephi.geometry import Grid
from nephi.maps.neural import DIRECTIONS, FORWARD, INVERSE, NePhi
from nephi.predict.smoothing import smoothed

CELL = 0.25
INSIDE = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7


def _model(displacement) -> NePhi:
    """A model that moves points by a function of theirs, and back by minus the same."""
    grid = Grid((41,) * 3, (0.05,) * 3, (-1.0,) * 3, tuple(torch.eye(3).flatten().tolist()))
    values = displacement(grid.points()).view(*grid.shape, 3)
    return NePhi.spline(values, -values, grid.origin, grid.spacing[0]).requires_grad_(False)


def _bend(points: torch.Tensor) -> torch.Tensor:
    return 0.05 * torch.sin(points.flip(1)) + 0.02


def _ripple(points: torch.Tensor) -> torch.Tensor:
    return 0.01 * torch.sin(2 * torch.pi * points / 0.25).prod(1, keepdim=True).expand(-1, 3)


def test_a_model_through_displacements_says_them_both_ways():
    model = _model(_bend)
    for direction, sign in ((FORWARD, 1), (INVERSE, -1)):
        assert torch.allclose(model.map(INSIDE, direction) - INSIDE, sign * _bend(INSIDE), atol=1e-5)
    there, jacobian = model.map_with_jacobian(INSIDE, FORWARD)
    assert torch.allclose(there, model.map(INSIDE, FORWARD), atol=1e-6)
    assert float((jacobian - torch.eye(3)).abs().amax()) < 0.06


def test_bends_stay_and_ripples_go():
    bent, rippled = _model(_bend), _model(lambda points: _bend(points) + _ripple(points))
    for direction in DIRECTIONS:
        expected = bent.map(INSIDE, direction)
        assert torch.allclose(smoothed((bent,), CELL).map(INSIDE, direction), expected, atol=5e-4)
        left = (smoothed((rippled,), CELL).map(INSIDE, direction) - expected).abs().mean()
        assert float(left) < 0.2 * float((rippled.map(INSIDE, direction) - expected).abs().mean())


def test_several_models_become_one_that_composes_them_in_their_order():
    first, second = _model(_bend), _model(lambda points: 0.1 * points.roll(1, 1))
    both = smoothed((first, second), CELL)
    assert torch.allclose(both.map(INSIDE, FORWARD), first.map(second.map(INSIDE, FORWARD), FORWARD), atol=1e-3)
    assert torch.allclose(both.map(INSIDE, INVERSE), second.map(first.map(INSIDE, INVERSE), INVERSE), atol=1e-3)
    assert both.code.local.numel() < first.code.local.numel() / 10
