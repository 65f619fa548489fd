"""Real images: one lung at two breath-holds and the brains of two people. See also benchmarks/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nephi import Options, Transform, read_image, read_labels, read_mask, run
from nephi.files.points import read_landmark_pairs
from nephi.geometry import random_points
from nephi.images.image import Image
from nephi.images.resampling import downsample
from nephi.judge.labels import overlap
from nephi.judge.point_errors import inverse_consistency, tre
from nephi.maps.determinant import determinant_at
from nephi.maps.warp import warp

pytestmark = pytest.mark.data

BRAIN_LABELS = [2, 3, 4, 7, 8, *range(10, 19), 28, 31, 41, 42, 43, 46, 47, *range(49, 55), 60, 63]


def assert_one_to_one(transform: Transform, fixed_points: torch.Tensor, moving_points: torch.Tensor, mm: float) -> None:
    """No sampled determinant is negative, and the two directions undo each other to some millimetres on average."""
    for way, points in ((transform.forward, fixed_points), (transform.inverse, moving_points)):
        assert float(determinant_at(way, points).min()) > 0
    assert inverse_consistency(transform, fixed_points, moving_points)["mean"] < mm


def test_a_lung_at_two_breath_holds_is_aligned_to_about_a_voxel(data: Path) -> None:
    folder = data / "lung"
    fixed, moving = read_image(folder / "fixed.nrrd"), read_image(folder / "moving.nrrd", "moving")
    masks = (read_mask(folder / "fixed_mask.nrrd", fixed), read_mask(folder / "moving_mask.nrrd", moving, "moving"))
    transform = run(fixed, moving, Options.from_preset("lung-ct"), fixed_mask=masks[0], moving_mask=masks[1])
    error = tre(transform.forward, *read_landmark_pairs(folder / "landmarks.csv", fixed.grid, moving.grid))
    assert error["before"] > 30
    assert error["mean"] < 1.8
    assert error["median"] < 1.1
    points = [random_points(image.grid, 5000, mask) for image, mask in zip((fixed, moving), masks)]
    assert_one_to_one(transform, *points, mm=0.4)


@pytest.fixture(scope="module")
def brains(data: Path) -> tuple[Image, Image, Image, Image]:
    """Fixed and moving image, fixed and moving labels: every second voxel of the heads, averaged, and of the labels."""
    folder = data / "brain"
    images = [read_image(folder / f"{name}.nii.gz", name) for name in ("fixed", "moving")]
    halved = [Image(*downsample(image.values, image.grid, 2.0), image.name) for image in images]
    labels = [read_labels(folder / f"{name}_labels.nii.gz", name) for name in ("fixed", "moving")]
    return (*halved, *(Image(label.values[::2, ::2, ::2], label.grid.strided(2), label.name) for label in labels))


def test_a_brain_becomes_another_in_a_few_iterations(brains: tuple[Image, ...]) -> None:
    fixed, moving, *labels = brains
    transform = run(fixed, moving, Options.from_preset("brain-mri", iterations=[10, 10, 10, 10, 10, 0]))
    after = warp(labels[1], transform.forward, labels[0].grid, mode="nearest")
    dice = overlap(labels[0].values, labels[1].values, after.values, BRAIN_LABELS)
    assert np.isclose(dice["before"], 0.527, atol=0.005)
    assert dice["mean"] > 0.67
    points = [random_points(image.grid, 5000, image.values > 0) for image in (fixed, moving)]
    assert_one_to_one(transform, *points, mm=1.2)  # ten iterations a level are far from converged


def test_the_shipped_weights_alone_bring_a_lung_and_a_brain_closer(data: Path, brains: tuple[Image, ...]) -> None:
    """Bounds a little wider than what docs/training.md says was measured, of a brain at half its resolution."""
    alone = {"weights": "universal", "iterations": 0, "refinement": 0}
    folder = data / "lung"
    fixed, moving = read_image(folder / "fixed.nrrd"), read_image(folder / "moving.nrrd", "moving")
    masks = (read_mask(folder / "fixed_mask.nrrd", fixed), read_mask(folder / "moving_mask.nrrd", moving, "moving"))
    transform = run(fixed, moving, Options.from_preset("lung-ct", **alone), fixed_mask=masks[0], moving_mask=masks[1])
    assert tre(transform.forward, *read_landmark_pairs(folder / "landmarks.csv", fixed.grid, moving.grid))["mean"] < 3.5
    fixed, moving, *labels = brains
    transform = run(fixed, moving, Options.from_preset("brain-mri", **alone))
    carried = warp(labels[1], transform.forward, fixed.grid, mode="nearest").values
    assert overlap(labels[0].values, carried, carried, BRAIN_LABELS)["mean"] > 0.60
