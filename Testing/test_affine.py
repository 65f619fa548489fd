"""The linear alignment finds the map, from far away and with any field of view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nephi.align.linear import align
from nephi.errors import InputError
from nephi.geometry import Grid, apply_affine, apply_matrix
from nephi.images.image import Image

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def blobs(grid: Grid, points: torch.Tensor, invert: bool = False, seed: int = 0) -> Image:
    """Sixty soft balls within 45 mm of the world's origin, seen at ``points``."""
    generator = np.random.default_rng(seed)
    centers = torch.tensor(generator.normal(size=(60, grid.dim)) * 18, dtype=points.dtype)
    widths = torch.tensor(generator.uniform(4, 9, 60), dtype=points.dtype)
    heights = torch.tensor(generator.uniform(0.3, 1, 60), dtype=points.dtype)
    values = torch.exp(-torch.cdist(points, centers) ** 2 / (2 * widths**2)) @ heights
    return Image((1 / (1 + values) if invert else values).float().reshape(grid.shape), grid)


def pair(matrix: np.ndarray, moving_origin=None, invert=False, dim=3):
    """A fixed image and the same balls moved by ``matrix`` (fixed to moving LPS mm)."""
    fixed_grid = Grid((40, 44, 36)[:dim], (3.0, 2.8, 3.3)[:dim], (-58.0, -60.0, -58.0)[:dim],
                      tuple(np.eye(dim).flatten().tolist()))
    if moving_origin is None:
        moving_origin = tuple(apply_matrix(matrix, np.array(fixed_grid.origin)[None])[0])
    moving_grid = Grid((44, 40, 40)[:dim], (3.0, 3.0, 3.0)[:dim], moving_origin, fixed_grid.direction)
    fixed = blobs(fixed_grid, fixed_grid.points("cpu"))
    return fixed, blobs(moving_grid, apply_affine(np.linalg.inv(matrix), moving_grid.points("cpu")), invert)


def turned(degrees: float, offset, scale: float = 1.0, dim: int = 3) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(dim + 1)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:-1, :-1] *= scale
    matrix[:-1, -1] = offset
    return matrix


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """The mean distance (mm) where the balls are."""
    points = np.random.default_rng(1).normal(size=(200, len(truth) - 1)) * 20
    return float(np.linalg.norm(apply_matrix(found, points) - apply_matrix(truth, points), axis=1).mean())


def test_voxels_that_are_no_numbers_do_not_count():
    matrix = turned(8, (6.0, -5.0, 4.0))
    fixed, moving = pair(matrix)
    spoiled = []
    for image in (fixed, moving):
        values = image.values.clone()
        values[:6] = float("nan")
        picture = Image(values, image.grid).to_sitk()
        spoiled.append(Image.from_sitk(picture))
    masks = [image.known for image in spoiled]
    found = align(*spoiled)
    assert np.array_equal(found, align(*(Image(image.values, image.grid) for image in spoiled), *masks))
    assert error(found, matrix) < 1


@pytest.mark.parametrize("kind, truth", [
    ("translation", turned(0, (5.0, -8.0, 35.0))),
    ("rigid", turned(8, (5.0, -8.0, 35.0))),
    ("similarity", turned(8, (5.0, -8.0, 35.0), 1.06)),
    ("affine", turned(6, (5.0, -8.0, 35.0)) @ np.diag([1.05, 0.96, 1.0, 1.0])),
])
def test_each_kind_recovers_a_map_of_its_own_kind(kind, truth):
    found = align(*pair(truth), kind=kind)
    assert found.shape == (4, 4)
    assert error(found, truth) < 1.0


def test_a_map_stays_of_the_kind_asked_for():
    fixed, moving = pair(turned(6, (5.0, -8.0, 12.0), 1.06))
    shift = align(fixed, moving, kind="translation")
    assert np.allclose(shift[:3, :3], np.eye(3))
    rigid = align(fixed, moving, kind="rigid")[:3, :3]
    assert np.allclose(rigid @ rigid.T, np.eye(3), atol=1e-9)
    similar = align(fixed, moving, kind="similarity")[:3, :3]
    assert np.allclose(similar @ similar.T, np.eye(3) * np.linalg.det(similar) ** (2 / 3), atol=1e-9)


def test_another_field_of_view_does_not_mislead():
    truth = turned(4, (4.0, -3.0, 35.0))
    found = align(*pair(truth, moving_origin=(-85.0, -40.0, -10.0)), kind="rigid")
    assert error(found, truth) < 1.5


def test_another_contrast_does_not_mislead():
    truth = turned(5, (4.0, -3.0, 20.0))
    assert error(align(*pair(truth, invert=True), kind="rigid"), truth) < 1.0


def test_two_dimensional_images_are_aligned():
    truth = turned(6, (12.0, -9.0), dim=2)
    assert error(align(*pair(truth, dim=2), kind="rigid"), truth) < 1.5


def test_only_what_is_inside_the_masks_is_aligned():
    truth = turned(4, (6.0, -5.0, 9.0))
    fixed, moving = pair(truth)
    masks = [(image.values > 0.2) for image in (fixed, moving)]
    plate = fixed.grid.points("cpu")[:, 0].reshape(fixed.grid.shape) > 45  # something bright beside, only in one image
    spoiled = Image(torch.where(plate, 5.0, fixed.values), fixed.grid)
    masks[0] &= ~plate
    assert error(align(spoiled, moving, *masks, kind="rigid"), truth) < 1.5


def test_a_given_start_is_refined():
    truth = turned(30, (5.0, -8.0, 35.0))
    start = turned(26, (3.0, -6.0, 32.0))
    found = align(*pair(truth), kind="rigid", initial=start)
    assert error(found, truth) < 1.0 < error(start, truth)


def test_a_start_that_shows_the_moving_image_nothing_is_refused():
    with pytest.raises(InputError, match="do not overlap"):
        align(*pair(np.eye(4)), initial=turned(0, (900.0, 0.0, 0.0)))


def test_the_result_is_the_same_every_time():
    images = pair(turned(5, (4.0, -3.0, 20.0)))
    assert np.array_equal(align(*images, seed=3), align(*images, seed=3))


def test_identical_images_stay_where_they_are():
    fixed, _ = pair(np.eye(4))
    assert error(align(fixed, fixed), np.eye(4)) < 0.2


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="'elastic'.*translation, rigid, similarity, affine"):
        align(*pair(np.eye(4)), kind="elastic")
