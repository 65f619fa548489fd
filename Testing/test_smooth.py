"""Smoothed predictions: what is smooth stays, what is fine goes, both ways, in one small pair of maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from nephi.maps.map import Map, MapPair
from nephi.maps.neural import LatentCode, latent_grid
from nephi.maps.spline import Spline
from nephi.predict.smoothing import smoothed

CELL = 0.25
INSIDE = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7
NODES = latent_grid((-1.0,) * 3, (1.0,) * 3, 0.5)
CODE = LatentCode(NODES, Spline(torch.zeros(*(n + 2 for n in NODES.shape), 1)), torch.zeros(0))


class _Moved(Map):
    """Points moved by a function of theirs."""

    def __init__(self, displacement, sign: float) -> None:
        self._displacement, self._sign = displacement, sign

    def map(self, points):
        return points + self._sign * self._displacement(points)

    def with_jacobian(self, points):
        raise NotImplementedError


@dataclass(frozen=True)
class _Model(MapPair):
    """What smoothing asks of a model: both maps, and where its code lies."""

    code: LatentCode = CODE


def _model(displacement) -> _Model:
    return _Model(_Moved(displacement, 1.0), _Moved(displacement, -1.0))


def _bend(points: torch.Tensor) -> torch.Tensor:
    return 0.05 * torch.sin(points.flip(1)) + 0.02


def _ripple(points: torch.Tensor) -> torch.Tensor:
    return 0.01 * torch.sin(2 * torch.pi * points / 0.25).prod(1, keepdim=True).expand(-1, 3)


def test_bends_stay_and_ripples_go():
    bent, rippled = _model(_bend), _model(lambda points: _bend(points) + _ripple(points))
    for way in ("forward", "inverse"):
        expected = getattr(bent, way).map(INSIDE)
        assert torch.allclose(getattr(smoothed((bent,), bent.code.corners, CELL), way).map(INSIDE), expected, atol=5e-4)
        left = (getattr(smoothed((rippled,), rippled.code.corners, CELL), way).map(INSIDE) - expected).abs().mean()
        assert float(left) < 0.2 * float((getattr(rippled, way).map(INSIDE) - expected).abs().mean())


def test_several_models_become_one_pair_that_composes_them_in_their_order():
    first, second = _model(_bend), _model(lambda points: 0.1 * points.roll(1, 1))
    both = smoothed((first, second), first.code.corners, CELL)
    assert torch.allclose(both.forward.map(INSIDE), first.forward.map(second.forward.map(INSIDE)), atol=1e-3)
    assert torch.allclose(both.inverse.map(INSIDE), second.inverse.map(first.inverse.map(INSIDE)), atol=1e-3)


def test_a_smoothed_prediction_has_no_network_and_is_smaller_than_a_models_code():
    both = smoothed((_model(_bend),), _model(_bend).code.corners, CELL)
    values = sum(way.spline.coefficients.numel() for way in (both.forward, both.inverse))
    assert values < 6 * 12**3
    assert not any(way.spline.coefficients.requires_grad for way in (both.forward, both.inverse))
