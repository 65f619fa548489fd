"""The numbers a registration is judged by."""

import math

import numpy as np
import pytest
import torch
from closed_form import ClosedForm, oblique_grid, tilted_affine
from nephi.errors import InputError
from nephi.geometry import Grid, random_points
from nephi.images.image import Image
from nephi.images.pair import Pair
from nephi.judge.evidence import evaluate
from nephi.judge.folds import folds
from nephi.judge.labels import dice, overlap, surface_distance
from nephi.judge.likeness import similarity
from nephi.judge.point_errors import inverse_consistency, tre
from nephi.maps.displacement_map import DisplacementMap
from nephi.maps.map import Composition, MapPair

_PLAIN = Grid((30, 24, 20), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def _box(grid: Grid, i: slice, j: slice, k: slice) -> torch.Tensor:
    values = torch.zeros(grid.shape, dtype=torch.bool)
    values[k, j, i] = True
    return values


def test_the_landmark_error_of_the_true_map_is_zero_and_before_it_is_the_distance():
    transform = ClosedForm(oblique_grid(), affine=tilted_affine())
    fixed = random_points(oblique_grid(), 30)
    moving = transform.forward.map(fixed)
    result = tre(transform.forward, fixed, moving)
    assert result["max"] < 1e-3 and result["count"] == 30 and len(result["points"]) == 30
    assert result["before"] == pytest.approx(float((moving - fixed).norm(dim=-1).mean()), abs=1e-3)
    assert 0.1 < result["affine"] < result["before"]


def test_the_landmark_summary_is_that_of_its_points():
    fixed = torch.zeros(4, 3)
    moving = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 3.0], [0, 0, -10.0]])
    result = tre(ClosedForm(_PLAIN, stretch=0.0, shear=0.0).forward, fixed, moving)
    assert result["points"] == [1, 2, 3, 10]
    assert (result["mean"], result["median"], result["max"], result["before"]) == (4, 2.5, 10, 4)


def test_landmarks_of_unequal_number_are_refused():
    with pytest.raises(InputError, match="3 fixed landmarks and 2 moving"):
        tre(ClosedForm(_PLAIN).forward, torch.zeros(3, 3), torch.zeros(2, 3))


def test_dice_of_shifted_boxes():
    a, b = _box(_PLAIN, slice(0, 10), slice(0, 5), slice(0, 5)), _box(_PLAIN, slice(5, 15), slice(0, 5), slice(0, 5))
    assert dice(a * 7, b * 7) == {7: pytest.approx(0.5)}
    assert dice(a * 7, a * 7) == {7: 1.0}
    assert dice(a * 7, b * 8) == {7: 0.0, 8: 0.0}
    assert dice(a * 7, b * 7, labels=[7, 99]) == {7: pytest.approx(0.5)}


@pytest.mark.parametrize("label", [614454277, 2**32 - 1, 2**53 + 1])
def test_labels_that_differ_by_one_are_two_labels_however_large(label):
    box = _box(_PLAIN, slice(0, 10), slice(0, 5), slice(0, 5)).to(torch.int64)
    a, b = box * label, box * (label - 1)
    assert dice(a, b) == {label - 1: 0.0, label: 0.0}
    assert overlap(a, b, a)["per_label"] == {label: 1.0}
    assert surface_distance(a, a, _PLAIN) == {label: {"mean": 0.0, "hd95": 0.0}}
    image = Image(a, _PLAIN)
    assert Pair(fixed_labels=image, moving_labels=image, labels=[label]).labels == [label]
    with pytest.raises(InputError, match=f"no label {label - 1};"):
        Pair(fixed_labels=image, moving_labels=image, labels=[label - 1])


def test_overlap_reports_before_mean_and_each_label_of_the_fixed_image():
    fixed = torch.tensor([1, 1, 2, 2, 0, 0])
    before = torch.tensor([0, 1, 2, 0, 0, 5])
    result = overlap(fixed, before, fixed)
    assert result == {"before": pytest.approx(2 / 3), "mean": 1.0, "per_label": {1: 1.0, 2: 1.0}}
    with pytest.raises(InputError, match=r"\[77\]"):
        overlap(fixed, before, fixed, labels=[77])


def test_surfaces_moved_apart_by_a_voxel_are_a_spacing_apart():
    a = _box(_PLAIN, slice(5, 20), slice(6, 16), slice(4, 12))
    b = _box(_PLAIN, slice(5, 20), slice(6, 16), slice(5, 13))
    distance = surface_distance(a * 3, b * 3, _PLAIN)[3]
    assert distance["hd95"] == pytest.approx(3.0)
    assert 0 < distance["mean"] < 3.0
    assert surface_distance(a * 3, a * 3, _PLAIN)[3] == {"mean": 0.0, "hd95": 0.0}


def test_a_label_at_the_border_of_the_image_has_a_surface_there():
    a = _box(_PLAIN, slice(0, 30), slice(0, 24), slice(0, 20))
    b = _box(_PLAIN, slice(0, 30), slice(0, 24), slice(0, 18))
    assert surface_distance(a * 1, b * 1, _PLAIN)[1]["hd95"] == pytest.approx(6.0)


def test_a_label_that_one_image_lacks_has_no_surface_distance():
    a, empty = _box(_PLAIN, slice(5, 9), slice(6, 9), slice(4, 9)), torch.zeros(_PLAIN.shape)
    assert math.isnan(surface_distance(a * 3, empty, _PLAIN)[3]["mean"])
    assert surface_distance(a * 3, a * 3, _PLAIN, labels=[4]) == {}


@pytest.mark.parametrize("dim", [2, 3])
def test_folds_are_counted_inside_and_everywhere(dim):
    grid = oblique_grid(dim)
    # Steep enough to fold forwards where the slope passes -1; there is no true inverse, which is the point.
    transform = ClosedForm(grid, stretch=14.0, shear=0.0, wavelength=60.0)
    inside, whole = folds(transform.forward)
    assert inside == whole
    assert 5 < inside["analytic"] < 95
    assert inside["finite_difference"] == pytest.approx(inside["analytic"], abs=5)


def test_folds_inside_a_mask_are_the_same_whether_the_rest_is_evaluated_or_not():
    grid = oblique_grid()
    transform = ClosedForm(grid, stretch=14.0, shear=3.0)
    mask = _box(grid, slice(3, 20), slice(0, 9), slice(5, 17))
    everything, inside = folds(transform.forward, mask), folds(transform.forward, mask, whole=False)
    assert inside[0] == everything[0]
    assert inside[1] is None and everything[1] is not None
    assert everything[0] != everything[1]


def test_a_sound_map_has_no_folds():
    transform = ClosedForm(oblique_grid(), oblique_grid(), tilted_affine())
    for way in (transform.forward, transform.inverse):
        assert folds(way)[1] == {"analytic": 0.0, "finite_difference": 0.0}


def test_inverse_consistency_of_exact_inverses_is_zero_and_of_others_is_not():
    grid = oblique_grid()
    transform = ClosedForm(grid, grid, tilted_affine())
    points = random_points(grid, 200)
    moved = transform.forward.map(points)
    assert inverse_consistency(transform, points, moved)["max"] < 1e-3
    affine_back = ClosedForm(grid, grid, tilted_affine(), stretch=0.0, shear=0.0).inverse
    broken = inverse_consistency(MapPair(transform.forward, affine_back), points, moved)
    assert 0.5 < broken["mean"] < broken["p95"] <= broken["max"]


def test_random_points_lie_in_the_mask_and_repeat_with_the_seed():
    mask = _box(_PLAIN, slice(5, 9), slice(6, 9), slice(4, 9))
    points = random_points(_PLAIN, 500, mask, seed=4)
    low, high = points.min(0).values, points.max(0).values
    assert torch.all(low >= torch.tensor([4.5, 11.0, 10.5])) and torch.all(high <= torch.tensor([8.5, 17.0, 25.5]))
    assert torch.equal(points, random_points(_PLAIN, 500, mask, seed=4))
    assert bool(_PLAIN.contains(random_points(_PLAIN, 500)).all())
    with pytest.raises(InputError, match="no voxel"):
        random_points(_PLAIN, 5, torch.zeros(_PLAIN.shape, dtype=torch.bool))


def test_similarity_knows_the_same_image_another_contrast_and_noise():
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(20, 30, 40, generator=generator)
    same, contrast = similarity(a, a), similarity(a, (a - 0.5) ** 2)
    noise = similarity(a, torch.rand(20, 30, 40, generator=generator))
    assert same["ncc"] == pytest.approx(1.0) and same["nmi"] == pytest.approx(2.0)
    assert same["mean_absolute_difference"] == 0
    assert abs(contrast["ncc"]) < 0.05 and contrast["nmi"] > 1.5
    assert abs(noise["ncc"]) < 0.05 and noise["nmi"] < 1.1


def test_similarity_looks_only_inside_the_mask():
    a = torch.rand(10, 10, 10, generator=torch.Generator().manual_seed(1))
    b = a.clone()
    b[:, :, 5:] = 0
    mask = torch.zeros(10, 10, 10, dtype=torch.bool)
    mask[:, :, :5] = True
    assert similarity(a, b, mask)["ncc"] == pytest.approx(1.0)
    assert similarity(a, b)["ncc"] < 0.9


def test_a_constant_image_tells_nothing():
    a = torch.rand(10, 10, 10, generator=torch.Generator().manual_seed(1))
    flat = torch.zeros_like(a)
    for other in (a, flat):
        found = similarity(flat, other)
        assert found["ncc"] == 0.0 and found["nmi"] == pytest.approx(1.0)


def test_arrays_of_different_shapes_are_refused():
    for compare in (dice, similarity):
        with pytest.raises(InputError, match="cannot be compared"):
            compare(torch.zeros(3, 4), torch.zeros(4, 3))


def test_the_numbers_are_plain():
    result = inverse_consistency(ClosedForm(_PLAIN), torch.zeros(3, 3), torch.ones(3, 3))
    assert all(type(v) is float and np.isfinite(v) for v in result.values())


class _Steep(ClosedForm):
    """A shift that grows steeply from x = 24 on, where it leads out of the moving image."""

    @property
    def forward(self) -> Composition:
        displacements = torch.zeros(*self.fixed_grid.shape, 2)
        displacements[..., 0] = 19.5 + 8 * (torch.arange(32) - 24).clamp_min(0)
        return Composition([DisplacementMap(displacements, self.fixed_grid, self.fixed_grid)], self.fixed_grid)


def test_volume_changes_count_where_the_images_meet():
    grid, moving = (Grid.aligned((32, 24), 1.0, (x, 0.0)) for x in (0.0, 12.0))
    found = evaluate(_Steep(grid, moving), Pair(None, None))
    assert 0.7 < found["overlap"]["forward"] < 0.8
    assert found["volume_change"]["extreme_percent"] == 0


def test_volume_changes_count_everywhere_if_the_images_meet_nowhere():
    grid, moving = (Grid.aligned((32, 24), 1.0, (x, 0.0)) for x in (0.0, 500.0))
    found = evaluate(_Steep(grid, moving), Pair(None, None))
    assert found["overlap"]["forward"] == 0 and 15 < found["volume_change"]["extreme_percent"] < 30
