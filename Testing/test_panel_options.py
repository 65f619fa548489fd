"""Presets and Advanced: every option has a line, what is changed is kept, what cannot be is refused in a sentence."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from nephi.options import Options, preset_names

pytest_plugins = ["panel_fixture"]


def editor(opened, name):
    return opened.widget.panel.options._editors[name]


def give(opened, name, text):
    box = editor(opened, name)
    box.setText(text)
    box._q.editingFinished.emit()


def test_every_option_of_the_engine_has_an_editor_with_its_help(opened):
    assert set(opened.widget.panel.options._editors) == {item.name for item in dataclasses.fields(Options)}
    assert editor(opened, "seed").toolTip.startswith("Seed of all random numbers. From 0 to")


def test_the_presets_are_those_of_the_engine_and_generic_comes_first(opened):
    combo = opened.ui.presetComboBox
    assert sorted(combo.itemData(index) for index in range(combo.count)) == preset_names()
    assert (combo.currentText, combo.currentData) == ("Generic", "generic")


@pytest.mark.parametrize("name", preset_names())
def test_the_editors_show_what_the_engine_makes_of_a_preset(opened, name):
    opened.parameters.preset = name
    engine = Options.from_preset(name).to_dict()
    form = opened.widget.panel.options
    for option in form._options.values():
        box = editor(opened, option.name)
        shown = option.parsed(box.currentText if option.choices else box.text)
        expected = engine[option.name]
        assert shown == pytest.approx(list(expected) if isinstance(expected, tuple) else expected), option.name


def test_a_change_is_kept_in_the_parameter_node_and_reaches_the_task(opened):
    give(opened, "smoothness", "2.5")
    give(opened, "iterations", "5, 6, 7")
    device = editor(opened, "device")
    device.setCurrentIndex(device.findText("cpu"))
    expected = {"smoothness": 2.5, "iterations": [5, 6, 7], "device": "cpu"}
    assert json.loads(opened.parameters.options) == expected
    assert opened.ui.optionsLabel.text == "Changed: device, iterations, smoothness."
    opened.choose_pair()
    opened.press()
    assert opened.logic.calls[-1][3] == expected


def test_the_presets_own_value_is_no_change(opened):
    give(opened, "patch", "9")
    give(opened, "patch", "3")
    assert opened.parameters.options == ""
    assert not opened.ui.resetOptionsButton.enabled


@pytest.mark.parametrize("name, text, sentence", [
    ("patch", "1", "patch is 1; it must be from 2 to 16."),
    ("patch", "3.5", "patch is '3.5', which is not a whole number."),
    ("smoothness", "much", "smoothness is 'much', which is not a number."),
    ("seed", "1, 2", "seed is '1, 2'; give one number."),
    ("resolution", "", "resolution is ''; give numbers separated by commas."),
])
def test_a_value_that_cannot_be_is_told_and_the_old_one_comes_back(opened, name, text, sentence):
    before = editor(opened, name).text
    give(opened, name, text)
    assert opened.ui.optionsLabel.text == sentence
    assert editor(opened, name).text == before
    assert opened.parameters.options == ""


def test_another_preset_forgets_the_changes_and_its_description_is_the_tip(opened):
    give(opened, "patch", "9")
    combo = opened.ui.presetComboBox
    combo.setCurrentIndex(combo.findData("lung-ct"))
    assert (opened.parameters.preset, opened.parameters.options) == ("lung-ct", "")
    assert "lung masks" in combo.toolTip


def test_back_to_the_preset_forgets_the_changes(opened):
    give(opened, "patch", "9")
    opened.ui.resetOptionsButton.click()
    assert (opened.parameters.options, editor(opened, "patch").text) == ("", "3")


def _presets_with(opened, folder, monkeypatch, content):
    """The panel opened anew where a file of the user lies beside the presets; None stands for a folder."""
    from NePhiRegistrationLib.panel import preset_files
    shutil.copytree(preset_files.RESOURCES / "Presets", folder / "Presets")
    shutil.copy(preset_files.RESOURCES / "options.json", folder)
    mine = folder / "Presets" / "mine.json"
    mine.mkdir() if content is None else mine.write_bytes(content)
    monkeypatch.setattr(preset_files, "RESOURCES", folder)
    preset_files._presets.cache_clear()
    opened.widget = opened.running.open(opened.module)
    return preset_files


def test_a_file_of_the_users_own_is_a_preset(opened, tmp_path, monkeypatch):
    own = b'\xef\xbb\xbf{"description": "Mine.", "options": {"patch": 5, "resolution": [8, 16.0], "iterations": 7}}'
    assert _presets_with(opened, tmp_path, monkeypatch, own).problems() == ()
    combo = opened.ui.presetComboBox
    combo.setCurrentIndex(combo.findData("mine"))
    assert (opened.parameters.preset, combo.toolTip, editor(opened, "patch").text) == ("mine", "Mine.", "5")
    assert editor(opened, "resolution").text == "8, 16"


@pytest.mark.parametrize(("content", "reason"), [
    (b'{"options": ', "it is not valid JSON (Expecting value: line 1 column 13 (char 12))."),
    (b"[" * 100_000, "it is not valid JSON"),
    (b'{"options": {"patsch": 3}}', "there is no option patsch."),
    (b'{"options": {"patch": "3"}}', "patch is '3'; give one number."),
    (b'{"options": {"patch": true}}', "patch is True; give one number."),
    (b'{"options": {"patch": null}}', "patch is None; give one number."),
    (b'{"options": {"patch": [3, 4]}}', "patch is [3, 4]; give one number."),
    (b'{"options": {"patch": 3.5}}', "patch is '3.5', which is not a whole number."),
    (b'{"options": {"patch": 900}}', "patch is 900; it must be from 2 to 16."),
    (b'{"options": {"smoothness": NaN}}', "smoothness is nan; it must be from 0 to 1e+06."),
    (b'{"options": {"resolution": ["a"]}}', "resolution is ['a']; give numbers."),
    (b'{"options": {"resolution": []}}', "resolution is ''; give numbers separated by commas."),
    (b'{"options": {"similarity": "best"}}', "similarity is 'best'; choose one of auto, shapes, ncc, lncc, mind, nmi."),
    (b'{"options": {"weights": 3}}', "weights is 3; give a text."),
    (b'{"options": 3}', "it has no options."), (b"[]", "it has no options."), (b"", "it is not valid JSON"),
    (b'{"options": {}, "description": "M\xfcnchen"}', "it is not text in UTF-8."),
    (b" " * 2_000_000, "it is too large."), (None, "it cannot be read ("),
])
def test_a_file_that_is_no_preset_is_named_with_what_is_wrong_and_the_panel_opens(opened, tmp_path, monkeypatch,
                                                                                  content, reason):
    _presets_with(opened, tmp_path, monkeypatch, content)
    said = opened.ui.statusLabel.text
    assert said.startswith(f"The preset {tmp_path / 'Presets' / 'mine.json'} is left out: {reason}")
    assert said.endswith(".") and said.count(" is left out: ") == 1
    combo = opened.ui.presetComboBox
    assert [combo.itemData(index) for index in range(combo.count)] == ["generic", "brain-mri", "multimodal", "lung-ct"]
    assert editor(opened, "patch").text == "3"


def test_a_broken_default_preset_leaves_the_engines_own_values(opened, tmp_path, monkeypatch):
    preset_files = _presets_with(opened, tmp_path, monkeypatch, b"")
    (tmp_path / "Presets" / "generic.json").write_text("{")
    preset_files._presets.cache_clear()
    opened.widget = opened.running.open(opened.module)
    assert editor(opened, "patch").text == str(Options().patch)


def test_changes_of_another_version_are_left_out(opened):
    opened.parameters.options = '{"patch": 5, "gone": 1}'
    assert opened.widget.panel.options.changes == {"patch": 5}
    opened.parameters.options = "no json"
    assert opened.widget.panel.options.changes == {}
