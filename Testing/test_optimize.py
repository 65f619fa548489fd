"""Instance optimisation: its schedule, its monitor, little memory and landmarks."""

import itertools

import nephi.align.objective
import nephi.align.optimisation
import numpy as np
import pytest
import torch
from nephi.align.levels import AlignedPair, level_spacings, make_level, reduced, sample_spacing
from nephi.align.optimisation import FINAL_RATE, WARM_UP, WINDOW, Convergence, optimise, schedule
from nephi.align.regularity import consistency
from nephi.errors import DeviceMemoryError
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.maps.field import Architecture
from nephi.maps.neural import NePhi, latent_grid
from nephi.maps.transform import Transform
from nephi.options import Options

GRID = Grid((32, 28), (2.0, 2.0), (5.0, -8.0), (1.0, 0.0, 0.0, 1.0))


def _options(**changes):
    return Options.from_preset(**{"hidden": 16, "frequencies": 8, "convergence": 0, "similarity": "lncc",
                                  **changes})


def _image(shift=0.0, flat=False):
    points = GRID.points("cpu")
    waves = torch.sin((points[:, 0] - shift) / 5) * torch.cos(points[:, 1] / 7)
    return Image((0.5 + 0.5 * waves * (not flat)).reshape(GRID.shape), GRID, "image")


def _level(options, landmarks=None, shift=2.0, flat=False):
    pair = AlignedPair(_image(flat=flat), _image(shift, flat), None, None, np.eye(3), landmarks)
    return make_level(pair, Transform(GRID, GRID, np.eye(3)), 3.0, options)


@pytest.mark.parametrize("masks", [(False, False), (True, False), (False, True), (True, True)])
def test_no_more_points_are_drawn_than_asked_for_whichever_masks_there_are(masks):
    small = ((GRID.points("cpu") - torch.tensor(GRID.center, dtype=torch.float32)).norm(dim=1) < 9).reshape(GRID.shape)
    options = _options(points=100, resolution=(16.0,), iterations=(1,), margin=0.0)
    pair = AlignedPair(_image(), _image(2.0), *(small if there else None for there in masks), np.eye(3), None)
    level = make_level(pair, Transform(GRID, GRID, np.eye(3)), 1.0, options)
    drawn = [len(level.lattice.draw(level.wanted, level.fraction, torch.Generator().manual_seed(seed),
                                    torch.device("cpu")).origins) * options.patch**2 for seed in range(40)]
    assert 60 < np.mean(drawn) < 115


def test_masks_that_are_scattered_are_sampled_as_coarsely_as_the_box_around_them_demands():
    grid = Grid.aligned((400, 400), 1.0, (0.0, 0.0))
    image = Image(torch.rand(grid.shape, generator=torch.Generator().manual_seed(0)), grid)
    scattered, together = (torch.zeros(grid.shape, dtype=torch.bool) for _ in range(2))
    scattered[:10, :10] = scattered[-10:, -10:] = True
    together[:20, :10] = True
    spacings = [sample_spacing(AlignedPair(image, image, mask, mask, np.eye(3), None), 20.0)
                for mask in (scattered, together)]
    assert spacings[1] == 1.0
    assert 400**2 / spacings[0]**2 == pytest.approx(8 * 20**2)  # eight times the samples of a full box


@pytest.mark.parametrize("dim", [2, 3])
def test_a_mask_thinner_than_the_voxels_of_an_image_that_is_made_coarser_is_not_lost(dim):
    grid = Grid.aligned((60,) * dim, 1.0, (0.0,) * dim)
    image = Image(torch.rand(grid.shape, generator=torch.Generator().manual_seed(0)), grid)
    thin = torch.zeros(grid.shape, dtype=torch.bool)
    thin[20, 5:50] = True
    pair = AlignedPair(image, image, None, thin, np.eye(dim + 1), None)
    pair = reduced(pair, _options(resolution=(6.0,), iterations=(1,)))
    held = pair.moving.grid.nearest_index(grid.points("cpu")[thin.flatten()]).round().long().flip(-1)
    assert pair.moving.grid.count < grid.count
    assert pair.moving_mask[tuple(held.T)].all()
    assert int(pair.moving_mask.count_nonzero()) == len(held.unique(dim=0))


def test_what_a_level_reads_is_the_same_whether_or_not_there_is_more_around():
    larger = GRID.window([-20, -30], [80, 90])
    values = torch.full(larger.shape, 0.5)
    values[30:58, 20:52] = _image().values
    small = torch.zeros(GRID.shape, dtype=torch.bool)
    small[10:18, 12:20] = True
    around = torch.zeros(larger.shape, dtype=torch.bool)
    around[30:58, 20:52] = small
    options = _options(margin=1.0)
    read = []
    for image, mask in ((_image(), small), (Image(values, larger), around)):
        pair = AlignedPair(image, image, mask, mask, np.eye(3), None)
        read.append(make_level(pair, Transform(image.grid, image.grid, np.eye(3)), 2.0, options).fixed.volume)
    assert torch.equal(*(volume.values[-1] > 0 for volume in read))
    assert torch.allclose(read[0].values[0], read[1].values[0], atol=1e-4)


def test_an_image_with_far_more_voxels_than_the_levels_read_is_made_coarser_and_read_the_same():
    fine = Grid.aligned((600, 500), 0.1, (5.0, -8.0))
    points = fine.points("cpu")
    waves = 0.5 + 0.5 * (torch.sin(points[:, 0] / 5) * torch.cos(points[:, 1] / 7)).reshape(fine.shape)
    mask = ((points - torch.tensor(fine.center, dtype=torch.float32)).norm(dim=1) < 20).reshape(fine.shape)
    known = torch.ones(fine.shape, dtype=torch.bool)
    known[200:260, 300:380] = False
    image = Image(waves, fine, "image", known)
    pair, options = AlignedPair(image, image, mask, mask, np.eye(3), None), _options(resolution=(16.0, 40.0),
                                                                                     iterations=(1, 1))
    less = reduced(pair, options)
    assert less.fixed.grid.count < fine.count / 4 and less.fixed.grid.extent.tolist() == pytest.approx([60.0, 50.0])
    assert [spacing for spacing, _ in level_spacings(less, options)] == pytest.approx(
        [spacing for spacing, _ in level_spacings(pair, options)], rel=0.02)
    read = [make_level(one, Transform(fine, fine, np.eye(3)), 1.0, options).fixed.volume for one in (pair, less)]
    frame = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    (there, wanted), (again, still) = (volume.at(volume.to_unit(frame)) for volume in read)
    assert (wanted - still).mean().abs() < 0.08 and (wanted - still).clamp(min=0).mean() < 0.01  # nothing is lost
    assert (there - again)[(wanted > 0.5) & (still > 0.5)].abs().max() < 0.01


def test_an_image_that_the_finest_level_needs_stays_as_it_is():
    pair = AlignedPair(_image(), _image(2.0), None, None, np.eye(3), None)
    assert reduced(pair, _options(resolution=(16.0,), iterations=(1,))).fixed is pair.fixed


def _model(seed=0):
    architecture = Architecture(2, frequencies=8, hidden=16, channels=4, shared=2)
    grid = latent_grid((-1.2, -1.2), (1.2, 1.2), 0.4)
    return NePhi.random(architecture, grid, 0.01, torch.Generator().manual_seed(seed))


def _steps(options, iterations, level=None, model=None):
    return optimise(model or _model(), level or _level(options), iterations, options, torch.Generator().manual_seed(1))


def test_the_learning_rate_warms_up_and_then_falls_to_its_last_share():
    rates = [schedule(position, 100) for position in range(101)]
    assert rates[0] == pytest.approx(1 / WARM_UP)
    assert rates[:WARM_UP] == sorted(rates[:WARM_UP])
    assert rates[WARM_UP:] == sorted(rates[WARM_UP:], reverse=True)
    assert max(rates) <= 1.0 and rates[-1] == pytest.approx(FINAL_RATE)


def _first_convergence(losses, share):
    monitor = Convergence(share)
    return next((n for n, loss in enumerate(losses, start=1) if monitor.converged(loss)), None)


def test_the_monitor_waits_for_two_windows_and_then_sees_a_constant_loss():
    assert _first_convergence([1.0] * 100, 1e-3) == 2 * WINDOW


def test_the_monitor_lets_a_falling_loss_go_on_and_stops_it_when_it_levels_off():
    assert _first_convergence([1.0 - 0.01 * n for n in range(80)], 1e-3) is None
    levelled = [max(0.5, 1.0 - 0.01 * n) for n in range(200)]
    assert 50 < _first_convergence(levelled, 1e-3) <= 50 + 2 * WINDOW


def test_the_monitor_sees_through_noise_and_negative_losses():
    rng = np.random.default_rng(0)
    falling = [-0.02 * n + 0.02 * rng.standard_normal() for n in range(60)]
    assert _first_convergence(falling, 1e-3) is None


def test_the_monitor_never_stops_with_a_share_of_zero():
    assert _first_convergence([1.0] * 100, 0.0) is None


def test_steps_are_numbered_and_carry_the_terms_and_the_loss_falls():
    options = _options()
    steps = list(_steps(options, 30))
    assert [step.iteration for step in steps] == list(range(1, 31))
    assert {step.iterations for step in steps} == {30}
    assert {"similarity", "global_ncc", "regularity", "inverse_consistency", "smoothness", "folds", "prior"} \
        == set(steps[0].terms)
    assert all(isinstance(term, float) for step in steps for term in step.terms.values())
    assert sum(steps[-1].terms.values()) < 0.7 * sum(steps[0].terms.values())


def test_terms_without_weight_are_left_out():
    options = _options(global_ncc=0, smoothness=0, fold_weight=0, prior=0)
    assert set(next(_steps(options, 1)).terms) == {"similarity", "regularity", "inverse_consistency"}


def test_a_converged_level_goes_straight_to_its_last_part():
    options = _options(convergence=1.0)  # any loss counts as levelled off
    numbers = [step.iteration for step in _steps(options, 100)]
    jump = numbers.index(60)
    assert jump + 1 == 2 * WINDOW
    assert numbers[jump:] == list(range(60, 101))


def test_closing_the_generator_stops_the_optimisation():
    model = _model()
    steps = _steps(_options(), 10, model=model)
    next(steps)
    before = model.code.local.coefficients.detach().clone()
    steps.close()
    assert next(steps, None) is None
    assert torch.equal(model.code.local.coefficients, before)


def _with_memory_for(monkeypatch, most, message="CUDA out of memory. Tried to allocate 2.00 GiB."):
    """Regularity terms at more than ``most`` patches fail; returns the counts that were tried."""
    tried = []

    def limited(displacements, closed, patches, margin):
        tried.append(len(patches.origins))
        if len(patches.origins) > most:
            raise RuntimeError(message)
        return consistency(displacements, closed, patches, margin)

    monkeypatch.setattr(nephi.align.objective, "consistency", limited)
    return tried


@pytest.mark.parametrize("message", ["CUDA out of memory. Tried to allocate 2.00 GiB.",
                                     "[enforce fail] DefaultCPUAllocator: can't allocate memory",
                                     "DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes."])
def test_out_of_memory_fewer_points_are_used_and_all_iterations_done(message, monkeypatch, caplog):
    options = _options()
    tried = _with_memory_for(monkeypatch, 20, message)  # of 48
    steps = list(_steps(options, 6))
    assert [step.iteration for step in steps] == list(range(1, 7))
    assert tried[:2] == [48, 24] and max(tried[2:]) <= 20
    assert "Out of memory: going on with 25 % of the points." in caplog.text
    assert all(np.isfinite(sum(step.terms.values())) for step in steps)


def test_the_gradients_of_an_attempt_that_failed_are_thrown_away(monkeypatch):
    options = _options()
    level, plain, interrupted = _level(options), _model(), _model()
    next(optimise(plain, level, 3, options, torch.Generator().manual_seed(1)))
    generator = torch.Generator().manual_seed(1)
    start, attempts = generator.get_state(), itertools.count()

    def second_fails(*arguments):
        if next(attempts) == 0:  # when the gradients of the similarity are there already
            generator.set_state(start)
            raise RuntimeError("CUDA out of memory")
        return consistency(*arguments)

    monkeypatch.setattr(nephi.align.objective, "consistency", second_fails)
    monkeypatch.setattr(nephi.align.optimisation, "_smaller_share", lambda error, share, level: share)
    next(optimise(interrupted, level, 3, options, generator))
    assert all(torch.equal(a, b) for one, other in zip(_parts(plain), _parts(interrupted))
               for a, b in zip(one.parameters(), other.parameters()))


def _parts(model):
    return model.code, *model.fields


def test_when_even_few_points_do_not_fit_the_error_says_what_to_change(monkeypatch):
    tried = _with_memory_for(monkeypatch, 0)
    with pytest.raises(DeviceMemoryError, match="ran out of memory with .* of the points .*lower the resolution") as e:
        list(_steps(_options(), 5))
    assert "GB" in str(e.value) and "\n" not in str(e.value)
    assert len(tried) <= 8


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    tried = _with_memory_for(monkeypatch, 0, "mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        list(_steps(_options(), 5))
    assert not isinstance(caught.value, DeviceMemoryError) and len(tried) == 1


def _landmarks(offset):
    fixed = GRID.to_world(torch.tensor([[8.0, 8.0], [22.0, 9.0], [15.0, 19.0]]))
    return fixed, fixed + torch.tensor(offset)


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_landmarks_pull_both_maps_when_they_have_weight(weight):
    options = _options(landmark_pull=weight, code_learning_rate=0.03)
    level = _level(options, _landmarks((5.0, 3.0)), flat=True)
    model = _model()
    terms = [step.terms for step in _steps(options, 60, level, model)]
    for way, (start, end) in zip((model.forward, model.inverse), (level.landmarks, reversed(level.landmarks))):
        with torch.no_grad():
            distance = (way.map(start) - end).norm(dim=1).mean() * level.unit
        assert (distance < 2.0) == (weight > 0)
    assert ("landmarks" in terms[0]) == (weight > 0)

