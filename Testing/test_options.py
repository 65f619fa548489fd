"""Options and presets: what loads, and what is refused in one sentence."""

import json
import shutil
from dataclasses import fields

import pytest
import torch
from nephi import options
from nephi.device import pick_device
from nephi.errors import InputError
from nephi.options import Options, preset_names
from nephi.resources import resources_folder


def _refused(pattern, **changes):
    with pytest.raises(InputError, match=pattern) as caught:
        Options.from_preset("generic", **changes)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def test_every_preset_loads_and_says_what_it_is_for():
    assert {"generic", "multimodal", "lung-ct", "brain-mri"} <= set(preset_names())
    for name in preset_names():
        assert isinstance(Options.from_preset(name), Options)
        text = (resources_folder() / "Presets" / f"{name}.json").read_text(encoding="utf-8")
        assert json.loads(text)["description"].endswith(".")


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="Unknown preset 'lung'; choose one of .*lung-ct.*\\."):
        Options.from_preset("lung")


def test_a_preset_is_not_a_path():
    with pytest.raises(InputError, match="Unknown preset"):
        Options.from_preset("../Presets/generic")


def test_an_unknown_option_is_refused_by_name():
    assert "'colour'" in _refused("Unknown option", colour=3)


@pytest.mark.parametrize("changes", [{"hidden": 2}, {"hidden": 10**6}, {"learning_rate": 0.0}, {"seed": -1},
                                     {"learning_rate": float("nan")}, {"resolution": [25.0, 2.0, 75.0]}])
def test_a_number_outside_its_limits_is_refused_with_the_limits(changes):
    assert next(iter(changes)) in _refused("must be from", **changes)


@pytest.mark.parametrize("changes", [{"affine": "elastic"}, {"similarity": "ssd"}, {"device": "tpu"}])
def test_a_name_outside_its_choices_is_refused_with_the_choices(changes):
    assert next(iter(changes)) in _refused("choose one of", **changes)


@pytest.mark.parametrize("changes", [{"hidden": "wide"}, {"hidden": 3.5}, {"hidden": True}, {"similarity": 1},
                                     {"smoothness": None}, {"smoothness": [1.0]}, {"iterations": [10, "many", 3]},
                                     {"seed": float("nan")}, {"seed": float("inf")}])
def test_a_value_of_the_wrong_type_is_refused(changes):
    assert next(iter(changes)) in _refused("it must be (a|a whole) (number|text)", **changes)


def test_levels_that_do_not_match_are_refused():
    _refused("There are 2 iterations for 3 levels", iterations=[10, 10], resolution=[10, 20, 30])
    _refused("is empty", iterations=[], resolution=[])


def test_json_lists_become_tuples_and_whole_numbers_find_their_type():
    options = Options.from_preset(resolution=[20, 40], iterations=[10.0, 5], smoothness=2, seed=3.0)
    assert options.resolution == (20.0, 40.0) and options.iterations == (10, 5)
    assert isinstance(options.smoothness, float) and isinstance(options.seed, int)


def test_one_number_stands_for_one_level():
    assert Options.from_preset(resolution=30, iterations=10).iterations == (10,)


def test_options_come_back_from_json_as_they_were():
    options = Options.from_preset("lung-ct", seed=5, affine="rigid")
    assert Options().changed(**json.loads(json.dumps(options.to_dict()))) == options


def test_changed_options_leave_the_original_alone():
    options = Options()
    assert options.changed(seed=7).seed == 7 and options.seed == 0
    assert hash(options) == hash(Options())


def test_every_option_has_a_help_text_and_a_default_within_its_limits():
    for item in fields(Options):
        assert item.metadata["help"], item.name
    Options()


def test_the_processor_can_always_be_asked_for():
    assert pick_device("cpu") == torch.device("cpu")


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    for there, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert pick_device("auto").type == kind


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="'cuda' was asked for"):
        pick_device("cuda")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Where the file of a user's own preset lies, beside the shipped ones."""
    shutil.copytree(options.resources_folder() / "Presets", tmp_path / "Presets")
    monkeypatch.setattr(options, "resources_folder", lambda: tmp_path)
    return tmp_path / "Presets" / "mine.json"


def test_a_users_own_file_is_a_preset(own):
    own.write_bytes(b'\xef\xbb\xbf{"options": {"patch": 5, "iterations": 7, "resolution": [8, 9]}}')
    assert Options.from_preset("mine").patch == 5
    assert Options.from_preset("mine", iterations=3).iterations == (3, 3)


@pytest.mark.parametrize("content", [
    b'{"options": ', b"[" * 100_000, b'{"options": {"patsch": 3}}', b'{"options": {"patch": "3"}}', b'{"options": 3}',
    b'{"options": {"patch": 900}}', b'{"options": {"smoothness": NaN}}', b'{"options": {"resolution": []}}', b"[]",
    b'{"options": {"resolution": [8]}}', b"", b"\xff\xfe", b'{"options": {"patch": {}}}', b"{}", None])
def test_a_file_that_is_no_preset_is_told_only_when_it_is_chosen(own, content):
    own.mkdir() if content is None else own.write_bytes(content)
    assert Options.from_preset("generic") and "mine" in options.preset_names()
    with pytest.raises(InputError, match=r"^The preset .*mine\.json (cannot|is not)") as caught:
        Options.from_preset("mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("old, new", [("mask_margin", "margin"), ("inverse_consistency", "round_trip"),
                                      ("landmark_weight", "landmark_pull")])
def test_an_option_in_a_unit_of_length_is_refused_by_the_name_of_the_one_that_is_in_samples(old, new):
    assert old in _refused(rf"use {new}, .*samples of the finest level", **{old: 1.0})
