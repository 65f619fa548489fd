"""Images of different contrasts are recognised and registered by their shapes."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from nephi.align.contrasts import contrasts
from nephi.align.levels import AlignedPair
from nephi.align.linear import align
from nephi.align.registration import run
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.maps.transform import Transform
from nephi.options import Options

GRID = Grid((48, 44), (2.0, 2.0), (5.0, -8.0), (1.0, 0.0, 0.0, 1.0))
FEW = {"iterations": (20, 20), "resolution": (24.0, 46.0), "affine": "none", "device": "cpu"}
OTHER = {
    "inverted": lambda values: 1 - values,
    "with the middle brightest": lambda values: 1 - (2 * values - 0.8).abs().clamp(max=1),
    "with bright background": lambda values: torch.where(values < 0.15, 0.9, values),
}
SAME = {"as it is": lambda values: values, "darker": lambda values: values**2.5, "brighter": lambda values: values**0.4,
        "windowed": lambda values: values.clamp(0.1, 0.7)}


def scene(points):
    """Smooth shapes on a dark background, (n) in [0, 1]."""
    generator = torch.Generator().manual_seed(3)
    centres, widths = torch.rand(40, 2, generator=generator) * 80 + torch.tensor([12.0, -2.0]), 4 + 5 * torch.rand(
        40, generator=generator)
    heights = torch.rand(40, generator=generator)
    return (heights * torch.exp(-(points[:, None] - centres).square().sum(-1) / (2 * widths**2))).sum(1).clamp(0, 1)


def bent(points):
    """Where the fixed points are in the moving image: up to 4 mm away."""
    waves = torch.stack([torch.sin(points[:, 1] / 14), torch.cos(points[:, 0] / 17)], 1)
    return points + 2.8 * waves


def image(points, name, seed):
    noise = 0.01 * torch.randn(GRID.shape, generator=torch.Generator().manual_seed(seed))
    return Image(scene(points).view(GRID.shape) + noise, GRID, name)


@pytest.fixture(scope="module")
def images():
    points = GRID.points("cpu")
    inverse = points.clone()
    for _ in range(30):
        inverse += points - bent(inverse)
    return image(points, "fixed image", 1), image(inverse, "moving image", 2)


def found(images, change):
    fixed, moving = images
    moving = replace(moving, values=change(moving.values.clamp(0, 1)))
    pair = AlignedPair(fixed, moving, None, None, np.eye(3), None)
    return contrasts(pair, Transform(GRID, GRID, np.eye(3), (), {}))


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_gain_gamma_and_window_are_no_other_contrast(images, change):
    assert not found(images, change).differ


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_another_contrast_is_recognised(images, change):
    told = found(images, change)
    assert told.differ and told.any > told.rising


def test_images_that_tell_nothing_of_each_other_are_not_taken_for_another_contrast(images):
    """Misaligned images of one contrast do not either; what they need is not more smoothness."""
    fixed, _ = images
    noise = Image(torch.rand(GRID.shape, generator=torch.Generator().manual_seed(5)), GRID, "moving image")
    assert not found((fixed, noise), lambda values: values).differ
    doubtful = Transform(GRID, GRID, np.eye(3), (), {"linear": {"shared": 0.2, "second": 0.5}})
    assert contrasts(AlignedPair(fixed, noise, None, None, np.eye(3), None), doubtful).differ


def test_thick_slices_of_a_small_field_of_view_tell_contrasts_too():
    grid = Grid((36, 36, 9), (0.4, 0.4, 8.0), (0.0,) * 3, tuple(np.eye(3).flat))
    index = grid.points("cpu") / torch.tensor(grid.spacing)
    fixed = Image(scene(1.8 * index[:, :2] + index[:, 2:] + 5).view(grid.shape), grid, "fixed image")
    pair = AlignedPair(fixed, replace(fixed, values=1 - fixed.values), None, None, np.eye(4), None)
    assert contrasts(pair, Transform(grid, grid, np.eye(4), (), {})).differ


@pytest.mark.parametrize("flat", ["fixed", "moving"])
def test_a_constant_image_tells_no_contrast(images, flat):
    constant = Image(torch.full(GRID.shape, 0.5), GRID, "flat")
    pair = (constant, images[1]) if flat == "fixed" else (images[0], constant)
    assert not found(pair, lambda values: values).differ


def test_generic_switches_between_contrasts_and_says_so(images, caplog):
    fixed, moving = images
    moving = replace(moving, values=OTHER["with the middle brightest"](moving.values.clamp(0, 1)))
    with caplog.at_level(logging.WARNING):
        transform = run(fixed, moving, Options.from_preset("generic", step_back="never", **FEW))
    assert [record.message for record in caplog.records if "contrasts" in record.message] == [
        "The images show different contrasts, so shapes are compared instead of intensities; choose the similarity "
        "lncc if they do not."]
    assert transform.provenance["contrasts"]["differ"]
    seen = GRID.points("cpu").view(*GRID.shape, 2)[8:-8, 8:-8].reshape(-1, 2)
    seen = seen[scene(seen) > 0.2]
    before, after = ((bent(seen) - at).norm(dim=1).mean() for at in (seen, transform.forward.map(seen)))
    assert after < 0.75 * before


def test_generic_keeps_intensities_within_a_contrast(images, caplog):
    with caplog.at_level(logging.WARNING):
        transform = run(*images, Options.from_preset("generic", **{**FEW, "iterations": (1, 1)}))
    assert not transform.provenance["contrasts"]["differ"] and "contrasts" not in caplog.text


def test_a_similarity_that_is_chosen_is_kept(images):
    transform = run(*images, Options.from_preset("multimodal", **{**FEW, "iterations": (1, 1)}))
    assert transform.provenance["contrasts"] is None
    made = transform.provenance["options"]  # what was used, not the words that stand for it
    assert (made["similarity"], made["smoothness"], made["global_ncc"]) == ("mind", 10.0, 0.0)


@pytest.mark.parametrize("dim", [2, 3])
def test_auto_is_the_preset_multimodal_between_contrasts_and_never_less_smooth(dim):
    auto, multimodal = Options.from_preset("generic"), Options.from_preset("multimodal").for_images(False, dim)
    assert auto.for_images(True, dim) == multimodal and multimodal.similarity == "mind"
    assert auto.for_images(False, dim) == auto.changed(similarity="lncc")
    assert auto.changed(smoothness=300).for_images(True, dim).smoothness == 300
    assert auto.changed(similarity="nmi").for_images(True, dim) == auto.changed(similarity="nmi")


@pytest.mark.parametrize("levels", [{"iterations": 0}, {"resolution": (20.0, 40.0), "iterations": (5, 6)}])
def test_levels_of_ones_own_stay_between_contrasts(levels):
    own = Options.from_preset("generic", **levels)
    chosen = own.for_images(True, 2)
    assert (chosen.resolution, chosen.iterations) == (own.resolution, own.iterations)


def test_a_linear_map_that_a_quite_different_one_beats_keeps_sizes(caplog):
    noise = [Image(torch.rand(GRID.shape, generator=torch.Generator().manual_seed(seed)), GRID, name)
             for seed, name in ((9, "fixed image"), (10, "moving image"))]
    with caplog.at_level(logging.WARNING):
        matrix = align(*noise).matrix
    assert "aligned rigidly" in caplog.text
    assert np.allclose(np.linalg.svd(matrix[:2, :2], compute_uv=False), 1)
