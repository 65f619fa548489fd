"""Weights: what they predict, how they are kept, and which files are refused."""

import json

import numpy as np
import pytest
import torch
from learned import tiny_config
from nephi.align.registration import register, run
from nephi.errors import InputError
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.images.phantom import shapes_2d
from nephi.judge.likeness import similarity
from nephi.maps.field import Architecture
from nephi.maps.transform import Transform
from nephi.maps.warp import warp
from nephi.options import Options
from nephi.predict.encoder import EncoderSizes
from nephi.predict.predictor import Design, Predictor, resized, widened
from nephi.predict.smoothing import smoothed
from nephi.predict.weights import find


def _predictor(**model):
    """One with random codes of a visible size."""
    predictor = Predictor(tiny_config(model=model).model.design, seed=1, name="tiny")
    with torch.no_grad():
        predictor.encoder.local.weight.mul_(30)
    return predictor.eval()


def _pair():
    fixed, moving, _, _ = shapes_2d(40)
    return fixed, moving


def _map(stages, grid, way="forward"):
    return getattr(Transform(grid, grid, np.eye(3), stages), way).map(grid.points("cpu"))


def _rewritten(path, target, change):
    """The file with changed contents."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(arrays.pop("header").tobytes())
    change(header, arrays)
    np.savez(target, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **arrays)
    return target


def test_saved_and_loaded_weights_predict_the_same_map(tmp_path):
    fixed, moving = _pair()
    predictor = _predictor()
    predictor.save(tmp_path / "tiny.npz")
    loaded = Predictor.load(tmp_path / "tiny.npz", "cpu")
    for way in ("forward", "inverse"):
        before, after = (_map(p.predict(fixed, moving, np.eye(3)), fixed.grid, way) for p in (predictor, loaded))
        assert float((before - fixed.grid.points("cpu")).norm(dim=1).max()) > 0.5
        assert torch.allclose(before, after, atol=0.05)
    assert loaded.hash == predictor.hash and loaded.name == "tiny"


def test_a_prediction_does_not_depend_on_the_pairs_before():
    fixed, moving = _pair()
    predictor = _predictor()
    first = _map(predictor.predict(fixed, moving, np.eye(3)), fixed.grid)
    predictor.predict(moving, Image(1 - fixed.values, fixed.grid), np.eye(3))
    assert torch.equal(first, _map(predictor.predict(fixed, moving, np.eye(3)), fixed.grid))


def test_optimising_a_prediction_leaves_the_predictor_as_it_was():
    fixed, moving = _pair()
    predictor = _predictor()
    before = predictor.hash
    model = predictor.predict(fixed, moving, np.eye(3))[0]
    with torch.no_grad():
        for part in (model.code, *model.fields):
            for parameter in part.parameters():
                parameter.add_(1.0)
    assert predictor.hash == before


def test_a_second_pass_looks_at_what_the_first_has_left():
    fixed, moving = _pair()
    once, twice = (_predictor(passes=passes).predict(fixed, moving, np.eye(3)) for passes in (1, 2))
    assert (len(once), len(twice)) == (1, 2)
    assert torch.equal(_map(once, fixed.grid), _map(twice[:1], fixed.grid))
    assert not torch.allclose(twice[0].code.local.coefficients, twice[1].code.local.coefficients)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_prediction_of_several_passes_and_its_smooth_maps_stay_on_the_images_device(dim):
    """torch's device "meta" refuses every operation that mixes it with another device."""
    sizes = EncoderSizes(dim, 16, (4, 8, 8), 1, 4, 4, norm="group", cues=True)
    design = Design(sizes, Architecture(dim, 4, 8, 4, 4), passes=3)
    grid = Grid.aligned((20, 18, 22)[:dim], 1.5, (3.0,) * dim)
    image = Image(torch.empty(grid.shape, device="meta"), grid)
    models = Predictor(design).to("meta").predict(image, image, np.eye(dim + 1))
    assert [model.forward.device.type for model in models] == ["meta"] * 3
    assert smoothed(models, models[0].code.corners, 0.5).inverse.device.type == "meta"


def test_images_of_any_grid_are_seen_in_the_same_place():
    fixed, moving = _pair()
    turned = Grid((40, 40), (1.0, 1.0), (39.0, 39.0), (-1.0, 0.0, 0.0, -1.0))
    flipped = Image(moving.values.flip(0, 1), turned, "moving")
    predictor = _predictor()
    maps = [_map(predictor.predict(fixed, image, np.eye(3)), fixed.grid) for image in (moving, flipped)]
    assert torch.allclose(*maps, atol=1e-3)


def test_no_iterations_are_the_prediction_alone(tmp_path):
    fixed, moving = _pair()
    predictor = _predictor()
    predictor.save(tmp_path / "tiny.npz")
    options = Options.from_preset(affine="none", weights=str(tmp_path / "tiny.npz"), iterations=0, device="cpu")
    transform = run(fixed, moving, options)
    expected = _map(Predictor.load(tmp_path / "tiny.npz", "cpu").predict(fixed, moving, np.eye(3)), fixed.grid)
    assert torch.allclose(transform.forward.map(fixed.grid.points("cpu")), expected, atol=1e-3)
    assert transform.provenance["weights"] == {"name": "tiny", "sha256": predictor.hash}


@pytest.fixture
def more_alike(monkeypatch):
    """A prediction with which the images look more alike than without."""
    found = iter((2.0, 1.0))
    monkeypatch.setattr("nephi.align.registration.misfit", lambda *_: next(found))


def test_levels_start_from_the_prediction_as_one_smooth_map(tmp_path, more_alike):
    fixed, moving = _pair()
    predictor = _predictor(passes=3)
    predictor.save(tmp_path / "tiny.npz")
    options = Options.from_preset(affine="none", weights=str(tmp_path / "tiny.npz"), resolution=[16], iterations=2,
                                  latent_ratio=2, hidden=8, frequencies=4, device="cpu")
    states = list(register(fixed, moving, options))
    predicted = next(state for state in states if state.phase == "prediction").transform
    assert len(predicted.stages) == 1 and states[-1].transform.stages[0] is predicted.stages[0]
    assert len(states[-1].transform.stages) == 2
    exact = _map(predictor.predict(fixed, moving, np.eye(3)), fixed.grid)
    smooth = _map(predicted.stages, fixed.grid)
    left, moved = ((values - exact).norm(dim=1).mean() for values in (smooth, fixed.grid.points("cpu")))
    assert float(left) < 0.05 * float(moved)


def test_images_of_another_dimension_are_refused(tmp_path):
    _predictor().save(tmp_path / "tiny.npz")
    grid = Grid((12, 12, 12), (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))
    image = Image(torch.rand(grid.shape, generator=torch.Generator().manual_seed(0)), grid, "fixed image")
    with pytest.raises(InputError, match="tiny are for 2D images and the fixed image is 3D"):
        run(image, image, Options.from_preset(weights=str(tmp_path / "tiny.npz"), affine="none"))


def test_weights_that_are_nowhere_are_named():
    with pytest.raises(InputError, match="There are no weights 'nowhere'"):
        find("nowhere")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(InputError, match="is not a file of NePhi weights"):
        Predictor.load(tmp_path / "other.npz", "cpu")


def test_changed_numbers_are_found_out(tmp_path):
    _predictor().save(tmp_path / "tiny.npz")

    def change(header, arrays):
        arrays["forward_field.readout"] = arrays["forward_field.readout"] + np.float16(1)

    with pytest.raises(InputError, match="their hash is not the one"):
        Predictor.load(_rewritten(tmp_path / "tiny.npz", tmp_path / "changed.npz", change), "cpu")


def test_a_file_of_a_newer_version_asks_for_an_update(tmp_path):
    _predictor().save(tmp_path / "tiny.npz")
    newer = _rewritten(tmp_path / "tiny.npz", tmp_path / "newer.npz", lambda header, _: header.update(version=99))
    with pytest.raises(InputError, match="version 99, newer than"):
        Predictor.load(newer, "cpu")


def test_weights_that_do_not_fit_their_description_are_refused(tmp_path):
    _predictor().save(tmp_path / "tiny.npz")
    other = _rewritten(tmp_path / "tiny.npz", tmp_path / "other.npz",
                       lambda header, _: header["design"]["sizes"].update(widths=[4, 4, 4]))
    with pytest.raises(InputError, match="do not fit their own description"):
        Predictor.load(other, "cpu")


@pytest.mark.parametrize(("part", "changes"), [
    ("sizes", {"widths": [10**9] * 3}), ("sizes", {"depth": 10**12}), ("sizes", {"size": 2**40}),
    ("sizes", {"channels": 10**9}), ("sizes", {"shared": 10**12}), ("sizes", {"local_block": 0}), ("sizes", {"dim": 9}),
    ("architecture", {"hidden": 10**9}), ("architecture", {"frequencies": 10**12})])
def test_sizes_of_layers_that_a_file_does_not_hold_take_no_memory(tmp_path, part, changes):
    _predictor().save(tmp_path / "tiny.npz")
    other = _rewritten(tmp_path / "tiny.npz", tmp_path / "other.npz",
                       lambda header, _: header["design"][part].update(changes))
    with pytest.raises(InputError, match="do not fit their own description"):
        Predictor.load(other, "cpu")


def test_weights_that_are_applied_without_end_are_refused(tmp_path):
    _predictor().save(tmp_path / "tiny.npz")
    other = _rewritten(tmp_path / "tiny.npz", tmp_path / "other.npz",
                       lambda header, _: header["design"].update(passes=10**9))
    with pytest.raises(InputError, match="There are 1000000000 passes; there can be 1 to 8"):
        Predictor.load(other, "cpu")


def test_a_prediction_on_a_wider_latent_grid_is_the_same_map():
    fixed, moving = _pair()
    model = _predictor().predict(fixed, moving, np.eye(3))[0]
    wider = widened(model, (-1.3, -1.1), (1.0, 1.6))
    low, high = wider.code.grid.corners()[[0, -1]]
    assert high.min() >= 1.6 and low.max() <= -1.3
    assert torch.allclose(_map((wider,), fixed.grid).detach(), _map((model,), fixed.grid), atol=1e-3)


def test_refinement_goes_on_from_the_prediction_and_adds_no_model(tmp_path):
    fixed, moving = _pair()
    _predictor(passes=2).save(tmp_path / "tiny.npz")
    options = Options.from_preset(affine="none", weights=str(tmp_path / "tiny.npz"), iterations=0, refinement=30,
                                  device="cpu")
    states = list(register(fixed, moving, options))
    predicted, refined = (next(s for s in reversed(states) if s.phase == phase) for phase in ("prediction", "done"))
    assert len(refined.transform.stages) == len(predicted.transform.stages) == 2
    assert [record["level"] for record in refined.history] == [0] * len(refined.history)

    def alike(state):
        return similarity(fixed.values, warp(moving, state.transform.forward, fixed.grid).values)["ncc"]

    assert alike(refined) > alike(predicted) + 0.1


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Weights named tiny, shipped for images of two dimensions."""
    predictor = _predictor()
    predictor.save(tmp_path / "tiny.npz")
    monkeypatch.setattr("nephi.predict.weights.GENERAL", {2: "tiny"})
    monkeypatch.setattr("nephi.predict.weights.names", lambda: ["tiny"])
    monkeypatch.setattr("nephi.predict.predictor.find", lambda name: tmp_path / "tiny.npz")
    return predictor


def _automatic(**changes):
    quick = {"affine": "none", "iterations": 0, "refinement": 0, "device": "cpu"}
    return Options.from_preset(**{"weights": "auto", **quick, **changes})


def test_automatic_weights_are_those_shipped_for_images_of_that_dimension(shipped, more_alike):
    transform = run(*_pair(), _automatic())
    assert transform.provenance["weights"] == {"name": "tiny", "sha256": shipped.hash}
    assert len(transform.stages) == 1


def test_without_shipped_weights_automatic_means_none(shipped, monkeypatch):
    monkeypatch.setattr("nephi.predict.weights.GENERAL", {3: "tiny"})
    transform = run(*_pair(), _automatic())
    assert transform.provenance["weights"] is None
    assert transform.stages == ()


@pytest.mark.parametrize(("weights", "level"), [("auto", "INFO"), ("tiny", "WARNING")])
def test_a_prediction_that_makes_images_less_alike_is_left_out_and_all_levels_run(shipped, caplog, weights, level):
    fixed, _ = _pair()
    caplog.set_level("INFO")
    transform = run(fixed, fixed, _automatic(weights=weights, resolution=[8, 16], iterations=2, after_prediction=0.0))
    assert [record.levelname for record in caplog.records if "is not used" in record.message] == [level]
    assert len(transform.stages) == 2 and transform.provenance["weights"] is None


def test_weights_that_are_named_are_taken_at_their_word_where_no_level_follows(shipped):
    fixed, _ = _pair()
    assert len(run(fixed, fixed, _automatic(weights="tiny")).stages) == 1


def test_after_a_prediction_each_level_does_its_share_of_the_iterations(shipped, more_alike):
    options = _automatic(weights="tiny", resolution=[4, 30], iterations=10, after_prediction=[0.0, 0.3],
                         convergence=0.0)
    *_, last = register(*_pair(), options)
    assert [(entry["level"], entry["iteration"]) for entry in last.history] == [(1, 1), (1, 2), (1, 3)]
    *_, whole = register(*_pair(), options.changed(weights="none"))
    assert len(whole.history) == 20


@pytest.mark.parametrize(("shares", "left"), [([0.5], (5, 10, 20)), ([0.0, 0.25], (0, 0, 10)),
                                              ([0.1, 0.2, 0.3], (1, 4, 12)), ([0.9, 0.1, 0.2, 0.3], (1, 4, 12))])
def test_shares_of_iterations_are_counted_from_the_finest_level(shares, left):
    options = Options().changed(iterations=[10, 20, 40], after_prediction=shares)
    assert options.predicted.iterations == left


@pytest.mark.parametrize("dim", [2, 3])
def test_weights_for_cubes_of_another_size_say_the_same_of_a_pair_without_structure(dim):
    small = Predictor(Design(EncoderSizes(dim, 16, (4, 8, 8), 1, 4, 4, norm="group"), Architecture(dim, 4, 8, 4, 4)))
    small.eval()
    large = resized(small, 24).eval()
    assert large.design.sizes.size == 24 and resized(small, 16).hash == small.hash
    with torch.no_grad():
        codes = [predictor.encoder(torch.full((1, 2, *(predictor.design.sizes.size,) * dim), 0.5))[1]
                 for predictor in (small, large)]
    assert torch.allclose(*codes, atol=0.1 * float(codes[0].abs().max()))
