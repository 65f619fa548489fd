"""The phantoms are what they say: a chest whose truth is exact, and two shapes."""

from __future__ import annotations

import pytest
import torch
from nephi.images.phantom import Phantom, breathed_in, lung_phantom, shapes_2d
from nephi.images.resampling import sample


@pytest.fixture(scope="module")
def chest():
    return lung_phantom(64)


def some_points(chest) -> torch.Tensor:
    return chest.fixed.grid.points("cpu")[::53].double()


def test_the_true_maps_are_each_others_inverse(chest):
    points = some_points(chest)
    assert torch.allclose(chest.inverse(chest.forward(points)), points, atol=1e-8)
    assert torch.allclose(chest.forward(chest.inverse(points)), points, atol=1e-8)


def test_the_true_map_does_not_fold(chest):
    points = some_points(chest)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda p: chest.forward(p[None])[0]))(points)
    determinant = torch.linalg.det(jacobian)
    assert float(determinant.min()) > 0.4
    assert float(determinant.max()) < 2


def test_breathing_moves_the_lungs_by_centimetres(chest):
    distance = (chest.landmarks_moving - chest.landmarks_fixed).norm(dim=1)
    assert len(distance) >= 30
    assert float(distance.max()) > 15
    assert float(distance.std()) > 2  # no translation would do


def test_landmarks_lie_in_the_lungs_on_vessels(chest):
    for image, mask, points in ((chest.fixed, chest.fixed_mask, chest.landmarks_fixed),
                                (chest.moving, chest.moving_mask, chest.landmarks_moving)):
        assert sample(mask, image.grid, points, "nearest").all()
        around = image.values[mask].median()
        assert float(sample(image.values, image.grid, points.float()).median()) > float(around) + 150


def test_the_moving_image_is_the_fixed_one_seen_through_the_map(chest):
    points = chest.fixed.grid.points("cpu")[chest.fixed_mask.flatten()]
    here = sample(chest.fixed.values, chest.fixed.grid, points)
    there = sample(chest.moving.values, chest.moving.grid, chest.forward(points))
    before = sample(chest.moving.values, chest.moving.grid, points)
    assert torch.corrcoef(torch.stack([here, there]))[0, 1] > 0.8
    assert torch.corrcoef(torch.stack([here, before]))[0, 1] < 0.4


def test_a_chest_has_the_densities_of_ct(chest):
    values = chest.fixed.values
    assert float(values[0, 0, 0]) == pytest.approx(-1000, abs=100)  # air around the body
    assert float(values[chest.fixed_mask].median()) == pytest.approx(-860, abs=50)
    assert float(values.max()) > 300  # bone
    litres = float(chest.fixed_mask.sum()) * torch.tensor(chest.fixed.grid.spacing).prod() / 1e6
    assert 2 < litres < 7


def test_a_seed_gives_the_same_phantom_and_another_seed_another():
    first, again, other = lung_phantom(24), lung_phantom(24), lung_phantom(24, seed=1)
    assert torch.equal(again.moving.values, first.moving.values)
    assert not torch.equal(other.landmarks_fixed, first.landmarks_fixed)


def test_fine_vessels_leave_hardly_a_part_of_a_lung_empty(chest):
    def share_near_a_vessel(phantom: Phantom) -> float:
        inner = -torch.nn.functional.max_pool3d(-phantom.fixed_mask.float()[None], 5, 1, 2)[0] > 0
        bright = (phantom.fixed.values > -750) & inner
        near = torch.nn.functional.max_pool3d(bright.float()[None], 7, 1, 3)[0] > 0  # within 13 mm along each axis
        return float(near[inner].float().mean())

    fine = lung_phantom(64, fine_vessels=600)
    assert share_near_a_vessel(chest) < 0.85
    assert share_near_a_vessel(fine) > 0.95
    assert torch.equal(fine.fixed_mask, chest.fixed_mask)


def test_the_chest_breathed_in_can_be_had_alone(chest):
    assert torch.equal(breathed_in(64).values, chest.fixed.values)


def test_the_shapes_are_filled_and_of_like_size():
    triangle, circle, triangle_mask, circle_mask = shapes_2d(128)
    for image, mask in ((triangle, triangle_mask), (circle, circle_mask)):
        assert image.grid.size == (128, 128)
        assert float(image.values.min()) == 0
        assert float(image.values.max()) == 1
        assert torch.equal(image.values > 0.5, mask)
        assert 0.1 < float(mask.float().mean()) < 0.3
    overlap = 2 * (triangle_mask & circle_mask).sum() / (triangle_mask.sum() + circle_mask.sum())
    assert float(overlap) < 0.9
