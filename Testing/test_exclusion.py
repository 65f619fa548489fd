"""What is excluded, or has no value, is compared nowhere: not its voxels, nor what is made of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import SimpleITK as sitk
import torch
from nephi.align.registration import run
from nephi.cli.main import main
from nephi.errors import InputError
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.images.masks import foreground, region
from nephi.images.pair import Pair
from nephi.images.resampling import filled
from nephi.images.writing import write_image
from nephi.judge.evidence import evaluate
from nephi.options import Options

GRID = Grid((96, 88), (1.0, 1.0), (-47.5, -43.5), (1.0, 0.0, 0.0, 1.0))
POINTS = GRID.points("cpu")
GENERATOR = torch.Generator().manual_seed(4)
WAVES = torch.randn(24, 2, generator=GENERATOR)
WAVES = WAVES / WAVES.norm(dim=1, keepdim=True) * 2 * math.pi / (9 + 12 * torch.rand(24, 1, generator=GENERATOR))
PHASES = 2 * math.pi * torch.rand(24, generator=GENERATOR)
CAVITY = torch.tensor([8.0, -5.0]), 9.0  # mm, in the moving image


def truth(points):
    """From fixed to moving points: a shift of the middle by 4 mm."""
    bell = torch.exp(-(points**2).sum(-1, keepdim=True) / (2 * 20.0**2))
    return points + bell * torch.tensor([4.0, 2.0])


def texture(points):
    return torch.sigmoid((40 - points.norm(dim=-1)) / 1.5) * (1 + 0.15 * torch.sin(points @ WAVES.T + PHASES).sum(-1))


def image(values, name):
    return Image(values.float().reshape(GRID.shape), GRID, name)


def moving_values():
    back = POINTS.clone()
    for _ in range(30):
        back = POINTS - (truth(back) - back)
    return texture(back)


FIXED, MOVING = image(texture(POINTS), "fixed image"), image(moving_values(), "moving image")
HOLE = ((POINTS - CAVITY[0]).norm(dim=1) < CAVITY[1]).reshape(GRID.shape)


def spoilt(kind="bright"):
    """The moving image with something else in its hole."""
    generator = torch.Generator().manual_seed(9)
    there = {"bright": 3 + 2 * torch.rand(GRID.shape, generator=generator), "empty": torch.zeros(GRID.shape)}[kind]
    return image(torch.where(HOLE, there, MOVING.values).flatten(), "moving image")


def options(**changes):
    return Options.from_preset(**{"affine": "none", "weights": "none", "device": "cpu", "resolution": (24.0, 48.0),
                                  "iterations": (50, 30), **changes})


def errors(transform):
    """mm from the truth at the fixed points that go near the hole, but not into it, and at those that go into it."""
    moved = truth(POINTS)
    apart, away = (transform.forward.map(POINTS) - moved).norm(dim=1), (moved - CAVITY[0]).norm(dim=1) - CAVITY[1]
    return float(apart[(away > 0) & (away < 8)].mean()), float(apart[away < 0].mean())


def test_around_a_hole_that_is_excluded_the_map_is_as_right_as_without_a_hole():
    plain = errors(run(FIXED, MOVING, options()))
    wrong = errors(run(FIXED, spoilt(), options()))
    right = errors(run(FIXED, spoilt().without(HOLE), options()))
    assert right[0] < 1.3 * plain[0] + 0.1
    assert wrong[0] > 2 * right[0]
    assert right[1] < 1.5  # carried on smoothly within


@pytest.mark.parametrize("similarity", ["lncc", "ncc", "mind", "nmi"])
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_what_a_hole_holds_makes_no_difference_to_the_last_bit(similarity, side):
    wanted = options(similarity=similarity, affine="rigid", iterations=(4, 3), resolution=(12.0, 24.0))
    found = []
    for kind in ("bright", "empty"):
        one = spoilt(kind).without(HOLE)
        pair = (FIXED, one) if side == "moving" else (one, FIXED)
        found.append(run(*pair, wanted).forward.map(POINTS))
    assert torch.equal(*found)


def test_a_mask_margin_does_not_reach_back_over_a_hole():
    mask = (POINTS.norm(dim=1) < 36).reshape(GRID.shape)
    found = [run(FIXED, spoilt(kind).without(HOLE), options(iterations=(4, 3), margin=3.0), moving_mask=mask,
                 fixed_mask=mask).forward.map(POINTS) for kind in ("bright", "empty")]
    assert torch.equal(*found)


def test_voxels_without_a_value_are_a_hole_like_any_other():
    picture = spoilt("empty").to_sitk()
    for index in HOLE.nonzero().flip(1).tolist():
        picture[index] = math.nan
    wanted = options(iterations=(4, 3))
    assert torch.equal(run(FIXED, Image.from_sitk(picture), wanted).forward.map(POINTS),
                       run(FIXED, spoilt().without(HOLE), wanted).forward.map(POINTS))


def test_similarity_is_measured_where_both_images_count():
    transform = run(FIXED, MOVING, options(iterations=(40, 30)))
    plain, wrong, right = (evaluate(transform, Pair(FIXED, moving), whole=False)["similarity"]["after"]["ncc"]
                           for moving in (MOVING, spoilt(), spoilt().without(HOLE)))
    assert right == pytest.approx(plain, abs=0.01)
    assert wrong < right - 0.1


def test_an_excluded_region_is_no_part_of_a_mask_nor_of_the_foreground():
    one = spoilt().without(HOLE)
    assert not (region(one, torch.ones(GRID.shape, dtype=torch.bool)) & HOLE).any()
    assert not (foreground(one) & HOLE).any()
    with pytest.raises(InputError, match="holds only NaN"):
        region(one, HOLE)


def test_an_exclusion_that_leaves_nothing_or_does_not_fit_is_refused():
    with pytest.raises(InputError, match="leaves nothing"):
        FIXED.without(torch.ones(GRID.shape, dtype=torch.bool))
    with pytest.raises(InputError, match="shape"):
        FIXED.without(HOLE[1:])
    flat = replace(FIXED, values=FIXED.values.where(~HOLE, 3.0))
    with pytest.raises(InputError, match=r"leaves only voxels of one value \(3\); non-zero voxels are excluded"):
        flat.without(~HOLE)


@pytest.mark.parametrize("dim", [2, 3])
def test_unknown_values_are_filled_from_the_known_ones_nearby(dim):
    values = torch.arange(11.0).expand(*(7,) * (dim - 1), 11).clone()
    known = torch.ones_like(values, dtype=torch.bool)
    known[..., 3:6] = False
    values[..., 3:6] = 1e9
    result = filled(values, known)
    assert torch.equal(result[known], values[known])
    assert (result[~known] >= 0).all() and (result[~known] <= 10).all()
    assert filled(values, None) is values and filled(values, known & False) is values


def test_the_command_line_leaves_out_what_is_excluded_when_it_registers_and_when_it_evaluates(tmp_path):
    for kind in ("bright", "empty"):
        write_image(spoilt(kind).to_sitk(), tmp_path / f"{kind}.nrrd")
    write_image(FIXED.to_sitk(), tmp_path / "fixed.nrrd")
    write_image(Image(HOLE, GRID).to_sitk(sitk.sitkUInt8), tmp_path / "hole.nrrd")
    exclude = ["--moving-exclude", str(tmp_path / "hole.nrrd"), "-q"]
    few = ["--resolution", "12", "--iterations", "3", "--affine", "none", "--weights", "none", "--device", "cpu"]
    reports = []
    for kind in ("bright", "empty"):
        images, out = [str(tmp_path / "fixed.nrrd"), str(tmp_path / f"{kind}.nrrd")], tmp_path / kind
        assert main(["register", *images, "-o", str(out), *exclude, *few]) == 0
        reports.append(json.loads((out / "report.json").read_text(encoding="utf-8")))
        assert main(["evaluate", str(out / "transform.nephi"), "--fixed", images[0], "--moving", images[1], *exclude,
                     "-o", str(out / "metrics.json")]) == 0
        reports.append(json.loads((out / "metrics.json").read_text(encoding="utf-8")))
    for first, second in (reports[::2], reports[1::2]):
        assert first["metrics"]["similarity"]["after"] == second["metrics"]["similarity"]["after"]
    assert reports[0]["provenance"]["sources"]["moving_exclude"] == str(tmp_path / "hole.nrrd")
