"""Presets and Advanced: every option has a line, what is changed is kept, what cannot be is refused in a sentence."""

from __future__ import annotations

import dataclasses
import json

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


def test_changes_of_another_version_are_left_out(opened):
    opened.parameters.options = '{"patch": 5, "gone": 1}'
    assert opened.widget.panel.options.changes == {"patch": 5}
    opened.parameters.options = "no json"
    assert opened.widget.panel.options.changes == {}
