"""Everything that computes on a device, on one that refuses to mix its tensors with the CPU's (second_device.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learned import tiny_config
from nephi.align import registration
from nephi.align.registration import run
from nephi.files.outputs import Run, write_outputs
from nephi.geometry import Grid, random_points
from nephi.images.image import Image
from nephi.images.pair import Pair
from nephi.images.phantom import shapes_2d
from nephi.maps.determinant import determinant_at, determinant_image, finite_difference_determinant
from nephi.maps.transform import Transform
from nephi.maps.warp import warp
from nephi.options import Options, preset_names
from nephi.predict.predictor import Predictor
from nephi.training import loop, parallel
from second_device import SECOND, SecondTensor, second_device

QUICK = {"resolution": (6.0, 9.0), "iterations": (1, 1), "after_prediction": (1.0,),
         "affine": "none", "convergence": 0.0}


@pytest.fixture
def second(monkeypatch):
    """A second device, which everything that picks one picks."""
    for module in (registration, parallel):
        monkeypatch.setattr(module, "pick_device", lambda _name: SECOND)
    with second_device() as device:
        yield device


def _pair(dim: int) -> Pair:
    if dim == 2:
        fixed, moving, *_ = shapes_2d(32)
    else:
        grid = Grid((20, 18, 16), (2.0, 2.2, 2.5), (-10.0, 5.0, 40.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
        fixed, moving = (_blob(grid, shift) for shift in (0.0, 3.0))
    masks = [image.values > 0.2 * image.values.max() for image in (fixed, moving)]
    points = random_points(fixed.grid, 4, masks[0]).double()
    return Pair(fixed, moving, *masks, landmarks=(points, points + 1.0))


def _blob(grid: Grid, shift: float) -> Image:
    offset = grid.points("cpu") - torch.from_numpy(grid.center).float() - shift
    values = (10 - offset.norm(dim=1)).sigmoid() * (1 + 0.3 * torch.sin(offset / 4).sum(1))
    return Image(values.view(grid.shape), grid)


def _run(pair: Pair, options: Options, **more: object) -> Transform:
    return run(pair.fixed, pair.moving, options, fixed_mask=pair.fixed_mask, moving_mask=pair.moving_mask,
               landmarks=pair.landmarks, **more)


def _is_second(transform: Transform) -> bool:
    return bool(transform.stages) and transform.forward.device == transform.inverse.device == SECOND


# --------------------------------------------------------------------------------------------- the device itself

@pytest.mark.parametrize("mixed", [
    lambda here, there: there + here,
    lambda here, there: here * there,
    lambda here, there: torch.cat([here, there]),
    lambda here, there: torch.stack([there, here]),
    lambda here, there: there.view(1, 3) @ here,
    lambda here, there: here[there > 0],
    lambda here, there: there.add_(here),
    lambda here, there: there.clamp_min(0).minimum(here),
    lambda here, there: there.index_put_((torch.arange(3),), here),
    lambda here, there: torch.where(there > 0, here, there),
    lambda here, there: torch.rand(3, device=SECOND, generator=torch.Generator()),
    lambda here, there: there.numpy(),
])
def test_the_second_device_refuses_what_a_second_device_refuses(mixed):
    with second_device():
        there = torch.tensor([1.0, 2.0, 3.0], device=SECOND)
        with pytest.raises((RuntimeError, TypeError)):
            mixed(torch.ones(3), there)


def test_the_second_device_computes_and_copies_and_takes_numbers_and_indices_from_the_cpu():
    with second_device():
        there = torch.tensor([1.0, 2.0, 3.0], device=SECOND).requires_grad_()
        (there * torch.tensor(2.0)).square()[torch.tensor([0, 2])].sum().backward()
        assert isinstance(there.grad, SecondTensor) and there.grad.cpu().tolist() == [8.0, 0.0, 24.0]
        here = torch.zeros(3)
        here[1:] = there.detach()[1:]
        assert here.tolist() == [0.0, 2.0, 3.0] and float(there.detach().sum()) == 6.0


# ------------------------------------------------------------------------------------------------- registrations

@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_finds_on_the_second_device_what_it_finds_on_the_cpu(preset, dim, request):
    pair, options = _pair(dim), Options.from_preset(preset, **QUICK, device="cpu")
    expected = _run(pair, options)
    request.getfixturevalue("second")
    found = _run(pair, options)
    assert _is_second(found)
    for way in ("forward", "inverse"):
        ours, known = (getattr(t, way).displacement_on(pair.fixed.grid) for t in (found, expected))
        assert known.abs().max() > 0.01
        assert torch.allclose(ours, known, atol=1e-3)


@pytest.mark.parametrize("weights", ["none", "universal"])
def test_voxels_that_are_left_out_are_left_out_on_the_device(second, weights):
    pair = _pair(3)
    hole = torch.zeros(pair.fixed.grid.shape, dtype=torch.bool)
    hole[6:9, 6:9, 6:9] = True
    pair = replace(pair, fixed=pair.fixed.without(hole), moving=pair.moving.without(hole))
    assert _is_second(_run(pair, Options.from_preset("generic", **QUICK, weights=weights)))


@pytest.mark.parametrize("similarity", ["ncc", "mind", "nmi"])
def test_every_similarity_stays_on_the_device(second, similarity):
    assert _is_second(_run(_pair(3), Options(**QUICK, similarity=similarity)))


@pytest.mark.parametrize(("preset", "changes"), [
    ("generic", {"weights": "auto", "affine": "affine"}), ("lung-ct", {"weights": "auto", "refinement": 2}),
    ("brain-mri", {"weights": "universal", "iterations": (0, 0)})])
def test_predictions_stay_on_the_device(second, preset, changes):
    assert _is_second(_run(_pair(3), Options.from_preset(preset, **{**QUICK, **changes})))


def test_a_registration_goes_on_from_stages_on_the_device(second):
    pair, options = _pair(3), Options.from_preset("generic", **QUICK)
    first = _run(pair, options)
    further = _run(pair, options, start=first.stages, initial=first.affine)
    assert _is_second(further) and len(further.stages) > len(first.stages)


def test_the_files_and_measures_of_a_registration_on_the_device_are_those_of_its_map(second, tmp_path):
    pair = _pair(2)
    transform = _run(pair, Options.from_preset("generic", **QUICK))
    report = write_outputs(transform, pair, Run(1.0, "second", 2), tmp_path)
    assert set(report["metrics"]) and (tmp_path / "report.html").is_file()
    again = Transform.load(tmp_path / "transform.nephi", second)
    assert _is_second(again)
    for way in ("forward", "inverse"):
        here, there = (getattr(t, way).displacement_on(pair.fixed.grid) for t in (transform, again))
        assert torch.equal(here, there)


def test_a_transform_is_applied_and_differentiated_on_the_device(second):
    pair = _pair(3)
    transform = _run(pair, Options.from_preset("generic", **QUICK))
    grid, points = pair.fixed.grid, pair.landmarks[0]
    assert warp(pair.moving, transform.forward, grid).values.isfinite().all()
    assert warp(pair.moving.to(second), transform.forward, grid, "nearest").values.isfinite().all()
    for way in (transform.forward, transform.inverse):
        assert not isinstance(way.map(points), SecondTensor) and isinstance(way.map(points.to(second)), SecondTensor)
        assert determinant_at(way, points).shape == (len(points),)
        for image in (determinant_image(way, grid), finite_difference_determinant(way, grid)):
            assert image.isfinite().all() and not isinstance(image, SecondTensor)


# ------------------------------------------------------------------------------------------------------ training

@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # torch means its own "meta"
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_training_with_its_validation_and_its_checkpoint_stays_on_the_device(second, tmp_path, norm):
    config = tiny_config(model={"norm": norm, "passes": 2, "cues": True}, training={"steps": 2, "validate_every": 1})
    progress = list(loop.run(config, tmp_path, Path()))
    assert np.isfinite(progress[-1].scores.dice)
    further = loop.changed(config, steps=3)
    assert [step.step for step in loop.run(further, tmp_path, Path(), resume=True)] == [3]
    assert Predictor.load(tmp_path / loop.BEST, second).forward_field is not None
