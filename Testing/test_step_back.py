"""A registration does no harm: what does not make the images agree better is left out, and said."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from nephi.align.levels import AlignedPair
from nephi.align.registration import run
from nephi.align.step_back import borne_out, harmless
from nephi.geometry import Frame, Grid
from nephi.images.image import Image
from nephi.judge.verdict import verdict
from nephi.maps.map import MapPair
from nephi.maps.spline import SplineMap
from nephi.maps.transform import Transform
from nephi.options import Options

GRID = Grid((36, 36, 36), (2.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))


def blobs(points, seed=0):
    g = torch.Generator().manual_seed(seed)
    centers, widths = torch.rand(60, 3, generator=g) * 72, 3 + 4 * torch.rand(60, generator=g)
    squared = (points[:, None] - centers).square().sum(-1)
    return (torch.randn(60, generator=g) * torch.exp(-squared / (2 * widths**2))).sum(1)


def image(shift, seed=0):
    points = GRID.points("cpu") - torch.tensor(shift)
    values = blobs(points, seed).view(GRID.shape)
    return Image((values - values.min()) / (values.max() - values.min()), GRID, "image")


def shifted(affine, deformation, **evidence):
    """A transform whose only stage shifts by ``deformation`` mm."""
    frame = Frame.of(GRID)
    lattice = Grid.aligned((8, 8, 8), 2.4 / 7, (-1.2,) * 3)
    ways = (torch.tensor(deformation).double() * sign / frame.scale for sign in (1, -1))
    stage = MapPair(*(SplineMap.through(way.expand(*lattice.shape, 3).contiguous(), lattice) for way in ways))
    matrix = np.eye(4)
    matrix[:3, 3] = affine
    return Transform(GRID, GRID, matrix, (stage,), {"linear": evidence or None})


def judged(moving, transform):
    fixed = image((0.0, 0.0, 0.0))
    pair = AlignedPair(fixed, moving, None, None, transform.affine, None)
    return harmless(pair, transform, np.eye(4))


def test_a_deformation_that_brings_the_images_together_stays():
    transform = shifted((0.0, 0.0, 0.0), (4.0, 0.0, 0.0))
    kept = judged(image((4.0, 0.0, 0.0)), transform)
    assert kept.stages == transform.stages and kept.provenance["stepped_back"] is None


def test_a_deformation_that_drives_the_images_apart_is_left_out(caplog):
    with caplog.at_level(logging.WARNING):
        kept = judged(image((4.0, 0.0, 0.0)), shifted((4.0, 0.0, 0.0), (3.0, 0.0, 0.0), shared=1.0, start=0.2))
    assert kept.stages == () and kept.affine[0, 3] == 4.0 and kept.provenance["stepped_back"] == "linear"
    assert "The deformation does not make the images agree better" in caplog.text


def test_a_linear_alignment_that_is_no_better_than_its_start_is_left_out_too():
    kept = judged(image((0.0, 0.0, 0.0)), shifted((6.0, 0.0, 0.0), (3.0, 0.0, 0.0), shared=0.5, start=1.0))
    assert kept.stages == () and np.array_equal(kept.affine, np.eye(4)) and kept.provenance["stepped_back"] == "start"


def test_between_images_that_show_nothing_in_common_a_deformation_is_left_out():
    kept = judged(image((0.0, 0.0, 0.0), seed=5), shifted((0.0, 0.0, 0.0), (3.0, 1.0, 0.0)))
    assert kept.provenance["stepped_back"] == "linear"


def test_images_without_distinctive_points_keep_their_deformation():
    flat = Image(torch.linspace(0, 1, 36).expand(GRID.shape).contiguous(), GRID, "ramp")
    transform = shifted((0.0, 0.0, 0.0), (3.0, 0.0, 0.0))
    pair = AlignedPair(flat, flat, None, None, transform.affine, None)
    kept = harmless(pair, transform, np.eye(4))
    assert kept.stages == transform.stages and kept.provenance["stepped_back"] is None


@pytest.mark.parametrize("step_back, stages", [("auto", 0), ("never", 1)])
def test_a_registration_of_equal_images_steps_back_unless_told_never_to(step_back, stages):
    fixed = image((0.0, 0.0, 0.0))
    options = Options(affine="none", search="never", iterations=(3,), resolution=(12.0,), device="cpu",
                      step_back=step_back)
    assert len(run(fixed, fixed, options).stages) == stages


@pytest.mark.parametrize("before, after, kept", [
    ([1.0] * 94 + [0.0] * 6, [1.0] * 88 + [0.0] * 12, True),  # most stand still, a few are lost
    ([1.0] * 94 + [0.0] * 6, [1.0] * 70 + [0.0] * 30, False),
    ([1.0] * 27 + [0.0] * 73, [1.0] * 19 + [0.0] * 81, False),  # between contrasts
    ([1.0] * 100, [1.0] * 98 + [0.5] * 2, False),  # nothing was left to do
    ([0.0] * 100, [0.0] * 98 + [1.0] * 2, False),  # as between unrelated images
    ([0.0] * 100, [0.0] * 94 + [1.0] * 6, True),
])
def test_points_bear_a_deformation_out(before, after, kept):
    assert borne_out(np.array(before), np.array(after)) == kept


METRICS = {"voxel_mm": 1.0, "overlap": {"forward": 1.0}, "similarity": {"before": None, "after": None},
           "folds_percent": {"forward": {"analytic": 0.0}}, "volume_change": {"extreme_percent": 0.0},
           "inverse_consistency_mm": {"mean": 0.0}}
DOUBTS = [({"stepped_back": "linear"}, "so the result is the linear alignment"),
          ({"stepped_back": "start"}, "so the result is the start"),
          ({"linear": {"shared": 1.0, "second": 0.97}}, "a different one shares 97 % as much information"),
          ({"linear": {"shared": 1.0, "second": 1.7}}, "a different one shares 170 % as much information")]


def _residual(found: float, median: float) -> dict:
    return {"found": found, "median": median, "estimate": found * median + 4 * (1 - found), "reach": 4.0}


@pytest.mark.parametrize("provenance, words", DOUBTS)
@pytest.mark.parametrize("residual", [None, _residual(0.5, 0.3), _residual(0.9, 2.2)])
def test_the_verdict_says_what_was_left_out_and_where_another_orientation_fits(provenance, words, residual):
    said = verdict({**METRICS, "residual_mm": residual}, {"seconds": 1.0, "device": "cpu"}, (), provenance)
    assert said.level != "good" and words in " ".join(said.concerns)


@pytest.mark.parametrize("provenance, words", DOUBTS)
def test_doubts_about_the_way_do_not_count_where_distinctive_points_confirm_the_end(provenance, words):
    said = verdict({**METRICS, "residual_mm": _residual(0.8, 0.4)}, {"seconds": 1.0, "device": "cpu"}, (), provenance)
    assert said.level == "good" and said.concerns == ()
    assert {piece.name for piece in said.evidence} & {"stepped back to", "second-best linear alignment"}


def _said(residual: dict, extreme: float = 0.0) -> str:
    metrics = {**METRICS, "residual_mm": residual, "volume_change": {"extreme_percent": extreme}}
    return verdict(metrics, {"seconds": 1.0, "device": "cpu"}, (), {}).level


@pytest.mark.parametrize("estimate, level", [(3.3, "good"), (3.5, "check")])
def test_an_estimated_mean_error_of_more_than_three_and_a_half_searched_voxels_is_not_good(estimate, level):
    residual = {**_residual(0.6, 1.0), "estimate": 2.0 * estimate, "reach": 12.0, "voxel": 2.0}
    assert _said(residual) == level


@pytest.mark.parametrize("found, extreme, level", [(0.8, 20.0, "good"), (0.5, 20.0, "check"), (0.8, 31.0, "failed")])
def test_much_volume_may_change_threefold_where_distinctive_points_confirm_the_end(found, extreme, level):
    assert _said(_residual(found, 0.4), extreme) == level


@pytest.mark.parametrize("found, met, level", [(0.8, 0.35, "good"), (0.5, 0.35, "check"), (0.5, 0.65, "good"),
                                               (0.8, 0.25, "check"), (0.8, 0.1, "failed")])
def test_images_may_have_less_in_common_where_distinctive_points_confirm_the_end(found, met, level):
    metrics = {**METRICS, "residual_mm": _residual(found, 0.4), "overlap": {"forward": met}}
    assert verdict(metrics, {"seconds": 1.0, "device": "cpu"}, (), {}).level == level
