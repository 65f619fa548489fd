"""A registration from two images to a map: known deformations recovered, both ways, masks, seeds and cancelling."""

from __future__ import annotations

import gc
import math
import weakref

import numpy as np
import pytest
import torch
from closed_form import ClosedForm
from nephi.align.registration import register, run
from nephi.errors import InputError
from nephi.geometry import Grid, apply_affine, random_points
from nephi.images.image import Image
from nephi.images.phantom import shapes_2d
from nephi.judge.folds import folds
from nephi.judge.labels import dice
from nephi.judge.point_errors import inverse_consistency
from nephi.maps.warp import warp
from nephi.options import Options

BODY = 30.0  # mm, radius


def _oblique(size, spacing, origin):
    c, s = math.cos(0.25), math.sin(0.25)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ np.array([[0, 0, -1.0], [1, 0, 0], [0, -1.0, 0]])
    return Grid(size, spacing, origin, tuple(turn.flatten().tolist()))


FIXED = _oblique((42, 36, 28), (1.6, 2.0, 3.0), (40.0, -25.0, 310.0))
MOVING = Grid((38, 40, 36), (2.2, 2.0, 2.2),
              tuple((FIXED.center - np.array([37 * 2.2, 39 * 2.0, 35 * 2.2]) / 2).tolist()),
              tuple(np.eye(3).flatten().tolist()))
TRUTH = ClosedForm(FIXED, stretch=3.0, shear=1.5)


class Case:
    """A textured ball on an oblique anisotropic grid, and the same deformed on another grid: its truth is known.

    Attributes:
        fixed, moving: the images; ``fixed_mask``, ``moving_mask``: the ball.
        points: (n, 3) in the ball of the fixed image; ``moved``: where they truly go.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        waves = torch.randn(40, 3, generator=generator, dtype=torch.float64)
        length = 12 + 18 * torch.rand(40, 1, generator=generator, dtype=torch.float64)
        self._waves = waves / waves.norm(dim=1, keepdim=True) * 2 * math.pi / length
        self._phases = 2 * math.pi * torch.rand(40, generator=generator, dtype=torch.float64)
        back = TRUTH.inverse.map(MOVING.points("cpu").double())
        self.fixed, self.fixed_mask = self._image(FIXED.points("cpu"), FIXED, "fixed")
        self.moving, self.moving_mask = self._image(back, MOVING, "moving")
        self.points = random_points(FIXED, 1000, self.fixed_mask).double()
        self.moved = TRUTH.forward.map(self.points)

    def _image(self, points, grid, name):
        offset = points.double() - torch.from_numpy(FIXED.center)
        depth = BODY - offset.norm(dim=1)
        values = torch.sigmoid(depth / 1.5) * (1 + 0.12 * torch.sin(offset @ self._waves.T + self._phases).sum(1))
        return Image(values.float().reshape(grid.shape), grid, name), (depth > 0).reshape(grid.shape)

    @property
    def masks(self):
        return {"fixed_mask": self.fixed_mask, "moving_mask": self.moving_mask}

    def error(self, transform, way="forward"):
        """(n,) mm from the truth."""
        start, end = (self.points, self.moved) if way == "forward" else (self.moved, self.points)
        return (getattr(transform, way).map(start) - end).norm(dim=1)


@pytest.fixture(scope="module")
def case():
    return Case()


def _options(**changes):
    """Enough for what can be seen at a coarse resolution, without a prediction (test_predictor.py) or a search
    (test_search.py)."""
    return Options.from_preset(**{"affine": "none", "weights": "none", "search": "never", "device": "cpu",
                                  "resolution": (16.0, 26.0), "iterations": (35, 20), **changes})


def _brief(**changes):
    """A few coarse iterations."""
    return _options(**{"resolution": (8.0, 12.0), "iterations": (3, 3), **changes})


@pytest.fixture(scope="module")
def recovered(case):
    """The result of the case and all its progress."""
    steps = list(register(case.fixed, case.moving, _options(), **case.masks))
    return steps[-1].transform, steps


@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_a_known_smooth_deformation_is_recovered_in_both_directions(case, recovered, way):
    before = (case.moved - case.points).norm(dim=1).mean()
    error = case.error(recovered[0], way)
    assert before > 3.5
    assert error.mean() < 1.0  # half a voxel
    assert error.quantile(0.9) < 2.0


def test_forward_and_inverse_compose_to_nearly_the_identity(case, recovered):
    found = inverse_consistency(recovered[0], case.points, case.moved)
    assert found["mean"] < 0.25 and found["max"] < 1.0


def test_a_smooth_deformation_is_found_without_folds(case, recovered):
    for way, mask in ((recovered[0].forward, case.fixed_mask), (recovered[0].inverse, case.moving_mask)):
        assert folds(way, mask, whole=False)[0] == {"analytic": 0.0, "finite_difference": 0.0}


def test_progress_goes_through_the_affine_and_the_levels_to_the_result(recovered):
    result, steps = recovered
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["affine", "level 1/2", "level 2/2", "done"]
    assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
    assert [(step.step, step.steps) for step in steps if step.phase == "affine"] == [(0, 1), (1, 1)]
    for phase, most in (("level 1/2", 35), ("level 2/2", 20)):
        numbers = [step.step for step in steps if step.phase == phase]
        assert numbers == sorted(numbers) and numbers[0] == 1 and numbers[-1] == most
        assert {step.steps for step in steps if step.phase == phase} == {most}
    assert steps[-1].transform is result and len(result.stages) == 2
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)


def test_progress_carries_terms_rates_the_time_left_and_a_map_that_can_be_used(case, recovered):
    steps = [step for step in recovered[1] if step.phase.startswith("level")]
    assert all(step.iterations_per_second > 0 and step.seconds_left >= 0 for step in steps)
    assert steps[-1].seconds_left == pytest.approx(0.0, abs=1e-6)
    assert {"similarity", "regularity", "inverse_consistency"} <= set(steps[0].terms)
    assert [len(step.transform.stages) for step in (steps[0], steps[-1])] == [1, 2]
    assert steps[0].transform.forward.map(case.points).shape == case.points.shape


def test_the_history_has_one_record_per_iteration_and_the_loss_falls(recovered):
    steps = [step for step in recovered[1] if step.phase.startswith("level")]
    history = recovered[1][-1].history
    assert [(f"level {h['level']}/2", h["iteration"]) for h in history] == [(s.phase, s.step) for s in steps]
    assert all(h["loss"] == pytest.approx(sum(s.terms.values())) for h, s in zip(history, steps))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


def test_the_result_says_what_made_it(recovered):
    made = recovered[0].provenance
    assert made["options"]["resolution"] and made["seed"] == 0
    assert {"program", "version", "torch", "device", "fixed", "moving"} <= set(made)
    assert not any(parameter.requires_grad for model in recovered[0].stages for part in (model.code, *model.fields)
                   for parameter in part.parameters())


def test_the_same_seed_gives_the_same_map_to_the_last_bit_and_another_seed_another(case):
    first, again, other = (run(case.fixed, case.moving, _brief(seed=seed), **case.masks) for seed in (3, 3, 4))
    mapped = [transform.forward.map(case.points) for transform in (first, again, other)]
    assert torch.equal(mapped[0], mapped[1])
    assert not torch.equal(mapped[0], mapped[2])


def test_a_registration_neither_reads_nor_moves_the_global_random_numbers(case):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = run(case.fixed, case.moving, _brief())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(run(case.fixed, case.moving, _brief()).forward.map(case.points), first.forward.map(case.points))


def test_the_images_and_masks_are_left_as_they_were(case):
    before = [values.clone() for values in (case.fixed.values, case.moving.values, *case.masks.values())]
    run(case.fixed, case.moving, _brief(), **case.masks)
    after = (case.fixed.values, case.moving.values, *case.masks.values())
    assert all(torch.equal(a, b) for a, b in zip(before, after))


def test_closing_the_generator_cancels_and_leaves_nothing(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = register(case.fixed, case.moving, _brief(iterations=(500, 500), convergence=0), **case.masks)
    while not (step := next(steps)).phase.startswith("level"):
        pass
    model = weakref.ref(step.transform.stages[-1])
    steps.close()
    assert next(steps, None) is None
    del step
    gc.collect()
    assert model() is None
    assert list(tmp_path.iterdir()) == []


def test_swapping_fixed_and_moving_roughly_swaps_the_fields(case, recovered):
    swapped = run(case.moving, case.fixed, _options(iterations=(35, 0)), fixed_mask=case.moving_mask,
                  moving_mask=case.fixed_mask)
    before = (case.moved - case.points).norm(dim=1).mean()
    for way, other, points in ((recovered[0].forward, swapped.inverse, case.points),
                               (recovered[0].inverse, swapped.forward, case.moved)):
        apart = way.map(points) - other.map(points)
        assert apart.norm(dim=1).mean() < 0.3 * before


def test_what_lies_far_outside_both_masks_does_not_matter(case):
    def spoiled(image, mask, grid):
        centre = torch.from_numpy(FIXED.center)
        far = ((grid.points("cpu").double() - centre).norm(dim=1) > BODY + 24).reshape(grid.shape)
        assert far.any() and not (far & mask).any()
        return Image(torch.where(far, torch.full_like(image.values, 9.0), image.values), grid, image.name)

    options = _brief(margin=0.0)
    clean = run(case.fixed, case.moving, options, **case.masks)
    dirty = run(spoiled(case.fixed, case.fixed_mask, FIXED), spoiled(case.moving, case.moving_mask, MOVING), options,
                **case.masks)
    assert torch.allclose(clean.forward.map(case.points), dirty.forward.map(case.points), atol=1e-3)
    unmasked = run(spoiled(case.fixed, case.fixed_mask, FIXED), case.moving, options)
    assert not torch.allclose(clean.forward.map(case.points), unmasked.forward.map(case.points), atol=1e-2)


def _shifted(image, offset):
    grid = image.grid
    origin = tuple((np.asarray(grid.origin) + offset).tolist())
    return Image(image.values, Grid(grid.size, grid.spacing, origin, grid.direction), image.name)


def test_an_initial_transform_is_all_there_is_of_the_affine_when_that_is_off(case):
    offset = np.array([400.0, -30.0, 12.0])
    initial = np.eye(4)
    initial[:-1, -1] = offset
    result = run(case.fixed, _shifted(case.moving, offset), _options(iterations=(25, 0)), initial=initial, **case.masks)
    assert np.array_equal(result.affine, initial)
    error = (result.forward.map(case.points) - torch.from_numpy(offset) - case.moved).norm(dim=1).mean()
    assert error < 0.4 * (case.moved - case.points).norm(dim=1).mean()


def test_the_linear_alignment_comes_first_when_it_is_on(case):
    offset = np.array([35.0, -10.0, 12.0])
    result = run(case.fixed, _shifted(case.moving, offset), _brief(affine="translation"), **case.masks)
    assert np.array_equal(result.affine[:3, :3], np.eye(3))
    assert np.linalg.norm(result.affine[:3, 3] - offset) < 5.0


def test_images_without_overlap_are_refused_when_the_affine_is_off(case):
    with pytest.raises(InputError, match="do not overlap .* turn the affine pre-alignment on"):
        run(case.fixed, _shifted(case.moving, np.array([500.0, 0.0, 0.0])), _brief())


def test_an_image_of_two_dimensions_is_not_registered_with_one_of_three(case):
    with pytest.raises(InputError, match="2D"):
        next(register(case.fixed, shapes_2d(32)[0], _brief()))


def test_levels_with_no_iterations_are_skipped_and_given_stages_stay(case):
    first = run(case.fixed, case.moving, _brief(iterations=(3, 0)))
    assert len(first.stages) == 1
    again = run(case.fixed, case.moving, _brief(iterations=(0, 0)), start=first.stages)
    assert torch.equal(again.forward.map(case.points), first.forward.map(case.points))
    refined = run(case.fixed, case.moving, _brief(iterations=(0, 2)), start=first.stages)
    assert refined.stages[0] is first.stages[0] and len(refined.stages) == 2


def test_an_image_is_registered_with_itself_quickly_and_stays_where_it_is(case):
    *_, last = register(case.fixed, case.fixed, _options(resolution=12.0, iterations=100, convergence=0.05))
    assert len(last.history) < 100
    assert (last.transform.forward.map(case.points) - case.points).norm(dim=1).mean() < 0.5


@pytest.mark.parametrize(("similarity", "iterations"), [("mind", (35, 20)), ("nmi", (35, 0))])
def test_an_inverted_contrast_is_registered_by_mind_and_by_mutual_information(case, similarity, iterations):
    inverted = Image(case.moving.values.max() - case.moving.values, MOVING, "inverted")
    options = _options(similarity=similarity, global_ncc=0.0, iterations=iterations)
    result = run(case.fixed, inverted, options, **case.masks)
    assert case.error(result).mean() < 0.5 * (case.moved - case.points).norm(dim=1).mean()


@pytest.mark.parametrize("similarity", ["ncc", "lncc"])
def test_correlation_registers_images_whose_brightness_differs(case, similarity):
    brighter = Image(300 * case.moving.values - 1000, MOVING, "brighter")
    result = run(case.fixed, brighter, _options(similarity=similarity, iterations=(25, 0)), **case.masks)
    assert case.error(result).mean() < 0.4 * (case.moved - case.points).norm(dim=1).mean()


def test_landmarks_pull_where_the_images_say_little(case):
    landmarks = case.points[:40].float(), case.moved[:40].float()
    with_them, without = (run(case.fixed, case.moving, _options(resolution=10.0, iterations=15, landmark_pull=weight),
                              landmarks=landmarks, **case.masks) for weight in (30.0, 0.0))
    assert case.error(with_them)[:40].mean() < 0.7 * case.error(without)[:40].mean()


@pytest.fixture(scope="module")
def brief(case):
    return run(case.fixed, case.moving, _brief(), **case.masks)


@pytest.mark.parametrize("scale, offset", [(0.0025, 0.0), (1000.0, 0.0), (1.0, 1e5)])
def test_the_same_voxels_give_the_same_map_in_any_unit_of_length_and_anywhere(case, brief, scale, offset):
    def placed(image):
        grid = image.grid
        origin = tuple(scale * (o + offset) for o in grid.origin)
        return Image(image.values, Grid(grid.size, tuple(scale * s for s in grid.spacing), origin, grid.direction))

    landmarks = tuple(scale * (points[:5] + offset) for points in (case.points, case.moved))
    found = run(placed(case.fixed), placed(case.moving), _brief(), landmarks=landmarks, **case.masks)
    guided = run(case.fixed, case.moving, _brief(), landmarks=(case.points[:5], case.moved[:5]), **case.masks)
    for way, points in (("forward", case.points), ("inverse", case.moved)):
        there = getattr(found, way).map(scale * (points + offset)) / scale - offset
        assert (there - getattr(guided, way).map(points)).norm(dim=1).max() < 0.02 * FIXED.voxel
    assert not torch.allclose(guided.forward.map(case.points), brief.forward.map(case.points), atol=1e-3)


def test_a_mask_of_one_image_alone_holds_for_the_other_too(case):
    half = case.fixed_mask & (FIXED.points("cpu")[:, 2] > FIXED.center[2]).reshape(FIXED.shape)
    other = torch.where((MOVING.points("cpu")[:, 2] < MOVING.center[2] - 22).reshape(MOVING.shape), 5.0,
                        case.moving.values)
    inside = FIXED.points("cpu")[half.flatten()].double()
    clean, spoiled = (run(case.fixed, Image(values, MOVING, "moving"), _brief(margin=1.0), fixed_mask=half)
                      for values in (case.moving.values, other))
    assert (clean.forward.map(inside) - inside).norm(dim=1).mean() > 0.1
    apart = (clean.forward.map(inside) - spoiled.forward.map(inside)).norm(dim=1)
    assert apart.mean() < 0.5 * (clean.forward.map(inside) - inside).norm(dim=1).mean()


def test_a_triangle_becomes_a_circle():
    triangle, circle, inside_triangle, inside_circle = shapes_2d(96)
    result = run(triangle, circle, _options(resolution=(25.0,), iterations=(60,)))
    labels = Image(inside_circle.float(), circle.grid, "circle")
    warped = warp(labels, result.forward, triangle.grid, mode="nearest").values
    assert dice(inside_triangle.int(), inside_circle.int())[1] < 0.9
    assert dice(inside_triangle.int(), warped.int())[1] >= 0.97
    for way, mask in ((result.forward, inside_triangle), (result.inverse, inside_circle)):
        assert set(folds(way, mask, whole=False)[0].values()) == {0.0}


def test_a_deformation_in_two_dimensions_is_recovered_both_ways():
    grid = Grid((60, 50), (1.2, 1.5), (10.0, -20.0), (math.cos(0.3), -math.sin(0.3), math.sin(0.3), math.cos(0.3)))
    truth = ClosedForm(grid, stretch=2.5, shear=1.0)

    def image(points, name):
        x, y = (points.double() - torch.from_numpy(grid.center)).unbind(1)
        texture = torch.sin(x / 3 + y / 7) + torch.cos(y / 4 - x / 9) + torch.sin(x / 6) * torch.sin(y / 2.7)
        values = torch.sigmoid((30 - torch.hypot(x, y)) / 2) * (texture + 3)
        return Image(values.float().reshape(grid.shape), grid, name)

    points = random_points(grid, 500, (image(grid.points("cpu"), "inside").values > 0.5)).double()
    moving = image(truth.inverse.map(grid.points("cpu")), "moving")
    result = run(image(grid.points("cpu"), "fixed"), moving, _options(resolution=(20.0, 40.0), iterations=(50, 20)))
    moved = truth.forward.map(points)
    before = (moved - points).norm(dim=1).mean()
    assert (result.forward.map(points) - moved).norm(dim=1).mean() < 0.25 * before
    assert (result.inverse.map(moved) - points).norm(dim=1).mean() < 0.25 * before


def test_the_affine_moves_points_to_where_the_moving_image_is(case):
    result = run(case.fixed, case.moving, _brief(iterations=(0, 0)), initial=np.diag([1.1, 0.9, 1.0, 1.0]))
    assert torch.allclose(result.forward.map(case.points), apply_affine(result.affine, case.points))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="This machine has no CUDA device.")
def test_the_gpu_finds_nearly_the_same_map_as_the_processor(case):
    results = [run(case.fixed, case.moving, _brief(device=device), **case.masks) for device in ("cpu", "cuda")]
    points = case.points.float()
    mapped = [transform.forward.map(points).cpu() for transform in results]
    assert (mapped[0] - mapped[1]).norm(dim=1).mean() < 0.2
