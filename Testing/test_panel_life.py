"""The life of the panel: entering and leaving, closing scenes, reloading, and what it never does."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case  # noqa: F401  # isort: skip  (it makes `import qt` work)

import numpy as np
import pythonqt
import qt
import slicer
from marked_sentences import unfilled, unmarked
from mrml_scene import add_segmentation
from panel_case import MODULE, add_volume
from PySide6 import QtCore, QtWidgets
from pythonqt.wrapping import unwrap

pytest_plugins = ["panel_fixture"]
UI = MODULE.parent / "Resources" / "UI" / "NePhiRegistration.ui"
LIBRARY = MODULE.parent / "NePhiRegistrationLib"
FOR_USERS = [path for folder in ("mrml", "panel", "session") for path in sorted((LIBRARY / folder).glob("*.py"))]
"""The sources whose sentences users read; the engine and its worker speak English."""


def test_the_module_says_what_it_is(opened):
    assert opened.module.title == "NePhi Registration"
    assert opened.module.categories == ("Registration",)
    assert not opened.module.icon.isNull()


def test_opening_takes_less_than_a_third_of_a_second_of_the_processor(opened):
    slicer.modules.NePhiRegistrationWidget.cleanup()
    started = time.process_time()
    widget = opened.running.open(opened.module)
    assert time.process_time() - started < 0.3
    opened.widget = widget


def test_nothing_heavy_is_imported_by_opening_the_module():
    code = f"""if True:
        import sys
        sys.path[:0] = {[str(MODULE.parent), str(Path(__file__).parent)]!r}
        import panel_case
        import slicer
        from pythonqt.slicer_module import running_slicer
        with running_slicer() as running:
            panel_case.new_scene(slicer.mrmlScene)
            running.open(running.load(panel_case.MODULE))
            slicer.modules.NePhiRegistrationWidget.cleanup()
        heavy = ("torch", "SimpleITK", "nephi", "NePhiRegistrationLib.nephi", "NePhiRegistrationLib.worker.server")
        print("heavy:", [name for name in heavy if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "QT_QPA_PLATFORM": "offscreen"})
    assert "heavy: []" in done.stdout.splitlines(), done.stdout + done.stderr


def test_entering_warms_the_worker_up_once_the_window_is_drawn(opened):
    assert ("warmUp",) not in opened.logic.calls
    qt.QCoreApplication.processEvents()
    assert opened.logic.calls == [("warmUp",)]


def test_a_panel_that_is_closed_at_once_starts_no_worker(opened):
    opened.widget.cleanup()
    qt.QCoreApplication.processEvents()
    assert ("warmUp",) not in opened.logic.calls


def test_choices_survive_leaving_and_entering(opened):
    fixed, moving = opened.choose_pair()
    opened.ui.gridSpacingSpinBox.value = 2.5
    parent = opened.widget.parent
    parent.exit()
    parent.enter()
    assert (opened.ui.fixedSelector.currentNode(), opened.ui.movingSelector.currentNode()) == (fixed, moving)
    assert opened.ui.gridSpacingSpinBox.value == 2.5


def test_leaving_does_not_stop_a_task_and_its_end_is_shown(opened):
    opened.choose_pair()
    task = opened.press()
    task.run()
    opened.widget.parent.exit()
    task.run()
    task.finish()
    opened.widget.parent.enter()
    assert task.cancels == []
    assert opened.ui.statusLabel.text.startswith("Mean landmark error")
    assert opened.parameters.forwardTransform is task.outputs.forward
    assert opened.ui.registerButton.text == "Continue"


def test_closing_the_scene_empties_the_panel_and_leaves_it_usable(opened):
    opened.choose_pair()
    opened.press().finish()
    slicer.mrmlScene.Clear()
    ui = opened.ui
    assert (ui.registerButton.text, ui.registerButton.enabled) == ("Register", False)
    assert ui.statusLabel.text == "Choose a fixed and a moving volume."
    assert (ui.numbersTable.rowCount, ui.fixedSelector.currentNode()) == (0, None)
    opened.choose_pair()
    assert ui.registerButton.enabled


def test_closing_the_scene_while_running_is_told_and_late_messages_are_not_heard(opened):
    opened.choose_pair()
    task = opened.press()
    task.run()
    slicer.mrmlScene.Clear()
    assert opened.ui.statusLabel.text == "The scene was closed; the task was stopped."
    task.run()
    task.fail("The scene was closed; the task was stopped.", "cancelled")
    assert opened.ui.registerButton.text == "Register"
    opened.choose_pair()
    assert (opened.ui.statusLabel.text, opened.ui.registerButton.enabled) == ("", True)


def test_removing_an_input_brings_the_sentence_back(opened):
    _fixed, moving = opened.choose_pair()
    slicer.mrmlScene.RemoveNode(moving)
    assert opened.ui.statusLabel.text == "Choose a moving volume."


def test_removing_an_input_while_running_breaks_nothing(opened):
    _fixed, moving = opened.choose_pair()
    task = opened.press()
    task.run()
    slicer.mrmlScene.RemoveNode(moving)
    task.run()
    assert opened.ui.registerButton.text == "Cancel"
    task.fail("The moving volume was removed from the scene.")
    assert not opened.ui.registerButton.enabled


def test_reloading_makes_a_new_panel_with_the_same_choices(opened):
    fixed, moving = opened.choose_pair()
    opened.ui.createOutputsCheckBox.checked = False
    old = opened.widget
    slicer.util.reloadScriptedModule("NePhiRegistration")
    new = slicer.modules.NePhiRegistrationWidget
    assert new is not old
    assert ("close",) in old.logic.calls
    assert (new.ui.fixedSelector.currentNode(), new.ui.movingSelector.currentNode()) == (fixed, moving)
    assert not new.ui.createOutputsCheckBox.checked
    opened.widget = new
    add_volume("Late")
    assert not pythonqt.slot_errors


def test_cleanup_leaves_no_observer_behind(opened):
    opened.choose_pair()
    node = opened.parameters.parameterNode
    opened.widget.cleanup()
    node.SetParameter("preset", "lung-ct")
    slicer.mrmlScene.Clear()
    assert not pythonqt.slot_errors


def test_a_script_that_sets_parameters_moves_the_panel(opened):
    node = add_volume("Set")
    opened.parameters.fixedVolume = node
    opened.parameters.preset = "brain-mri"
    opened.parameters.continueIterations = 77
    ui = opened.ui
    assert (ui.fixedSelector.currentNode(), ui.presetComboBox.currentText, ui.continueSpinBox.value) == (
        node, "Brain MRI", 77)


@pytest.mark.parametrize(("region", "segment"), [("fixedMask", "fixedSegment"), ("movingMask", "movingSegment"),
                                                 ("fixedExclude", "fixedExcludeSegment"),
                                                 ("movingExclude", "movingExcludeSegment")])
def test_segments_of_a_region_can_be_chosen_and_go_with_it(opened, region, segment):
    opened.choose_pair()
    mask = add_segmentation({"Left lung": np.ones((4, 4, 4), bool)}, np.eye(4), "Lungs")
    left = mask.GetSegmentation().GetNthSegmentID(0)
    selector, combo = getattr(opened.ui, f"{region}Selector"), getattr(opened.ui, f"{segment}ComboBox")
    assert not combo.enabled
    selector.setCurrentNode(mask)
    assert (combo.enabled, combo.itemText(0), combo.itemText(1)) == (True, "all visible segments", "Left lung")
    combo.setCurrentIndex(1)
    assert getattr(opened.parameters, segment) == left
    opened.press()
    inputs = opened.logic.calls[-1][1]
    assert (getattr(inputs, region), getattr(inputs, segment)) == (mask, left)
    opened.logic.tasks[-1].fail("x")
    selector.setCurrentNode(None)
    assert (getattr(opened.parameters, segment), combo.enabled) == ("", False)


def test_the_console_reaches_the_logic_through_the_module(opened):
    logic = slicer.modules.nephiregistration.logic()
    logic.warmUp()
    with pytest.raises(ValueError, match="is no .nephi file"):
        logic.startLoading("x.txt")


def test_every_text_of_the_panel_is_marked_for_translation(opened):
    """What shows and is not in the .ui file, which Qt translates by itself, must have gone through tr()."""
    if opened.running.sources is not None:
        pytest.skip("only the double keeps what was marked")
    from slicer.i18n import marked
    opened.choose_pair()
    shown = {opened.ui.registerButton.text, opened.ui.registerButton.toolTip, opened.ui.statusLabel.text,
             *(combo.itemText(index) for combo in (opened.ui.presetComboBox, opened.ui.compareComboBox,
                                                   opened.ui.drawComboBox, opened.ui.layoutComboBox)
               for index in range(combo.count)),
             *(opened.ui.numbersTable.horizontalHeaderItem(column).text() for column in range(2))}
    assert shown - {""} <= marked


def test_every_sentence_in_the_sources_of_the_panel_is_marked_for_translation():
    """A string with a space that starts like a sentence is for people; docstrings and log lines aside."""
    for path in sorted((LIBRARY / "panel").glob("*.py")):
        text = re.sub(r'"""(?s:.*?)"""', "", path.read_text(encoding="utf-8"))
        text = re.sub(r"(?s)_\((\s*\"(?:[^\"\\]|\\.)*\")+", "", text)
        text = re.sub(r"logger\.\w+\((\s*\"(?:[^\"\\]|\\.)*\")+", "", text)
        left = re.findall(r'"([A-Z][a-z]+ [^"]*)"', text)
        assert [item for item in left if not item.startswith("NePhi")] == [], path.name


@pytest.mark.parametrize("path", FOR_USERS, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_every_sentence_that_users_read_is_marked_for_translation(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert unmarked(tree) == []
    assert unfilled(tree) == []


@pytest.mark.parametrize("line", [
    'raise NodeError("No output is chosen.")', 'raise NodeError(f"The {name} is empty.")',
    'raise NodeError("The {name} is empty.".format(name=name))', 'raise NodeError("The %s is empty." % name)',
    'raise NodeError("The " + name + " is empty.")', 'raise NodeError(_(f"The {name} is empty."))',
    'raise NodeError(f"{path} cannot be loaded: {error}")', 'raise NodeError("Empty" if name else name)',
    'self._fail("memory", "There is not enough memory; crop "\n "the volumes.", details)',
    'return Result(outputs, error=message or "The registration was cancelled.")',
    'self._fail("input", f"Failed ({error}).")', 'CLOSED = "The scene was closed."',
    'raise NodeError(_("Choose it.") + " Or choose none.")'])
def test_a_sentence_that_is_not_marked_is_found(line):
    assert unmarked(ast.parse(line)) != []


@pytest.mark.parametrize("line", [
    'raise NodeError(_("No output is chosen."))', 'raise NodeError(_("The {name} is empty.").format(name=f"{a}, {b}"))',
    'raise NodeError(message)', '"""What this is."""', 'def made():\n    """What this does."""',
    'logger.warning("The worker did not stop.")', 'log.info("The %s is %s.", name, " and ".join(names))'])
def test_what_is_marked_or_not_for_users_is_passed_over(line):
    assert unmarked(ast.parse(line)) == []


@pytest.mark.parametrize("line", [
    'raise NodeError(_("The {name} is empty."))', '_("The {name} is empty.").format(nam=name)',
    '_("Choose one.").format(name=name)', '_("The {} is empty.").format(name)'])
def test_a_marked_sentence_whose_places_are_not_filled_by_name_is_found(line):
    assert unfilled(ast.parse(line)) != []


def test_translations_are_slicers_own_where_it_has_them(opened):
    from slicer.i18n import tr
    assert runpy.run_path(str(LIBRARY / "i18n.py"))["tr"] is tr


def test_without_translations_texts_stay_as_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "slicer.i18n", None)
    assert runpy.run_path(str(LIBRARY / "i18n.py"))["tr"]("Choose one.") == "Choose one."


def test_every_field_of_the_form_has_a_tip_and_a_label_with_a_buddy():
    tree = ElementTree.parse(UI)
    fields = [widget for widget in tree.iter("widget") if widget.get("class") in (
        "qMRMLNodeComboBox", "QComboBox", "QSpinBox", "QDoubleSpinBox", "ctkSliderWidget", "QCheckBox")]
    without = [widget.get("name") for widget in fields
               if not any(item.get("name") == "toolTip" for item in widget.findall("property"))]
    assert without == []
    buddies = {item.findtext("cstring") for item in tree.iter("property") if item.get("name") == "buddy"}
    assert {widget.get("name") for widget in fields if widget.get("class") != "QCheckBox"} <= buddies


def test_the_tab_key_leads_through_every_control_from_top_to_bottom(opened):
    opened.choose_pair()
    opened.press().finish()
    ui = opened.ui
    ui.optionalGroupBox.collapsed = ui.advancedCollapsibleButton.collapsed = False
    root = unwrap(ui.registerButton).window()
    root.resize(420, 4000)
    root.show()
    QtWidgets.QApplication.processEvents()
    walked, widget = [], root.nextInFocusChain()
    while widget is not root:
        if widget.focusPolicy() & QtCore.Qt.TabFocus and widget.isVisibleTo(root) and widget.isEnabledTo(root):
            walked.append(widget)
        widget = widget.nextInFocusChain()
    names = {name for widget in walked for name in (widget.objectName(), widget.parent().objectName())}
    controls = ("Selector", "ComboBox", "Button", "CheckBox", "SpinBox", "Slider", "Table")
    wanted = {name for name, widget in vars(ui).items() if name.endswith(controls) and widget.enabled
              and unwrap(widget).isVisibleTo(root)}
    assert wanted <= names, wanted - names
    tops = [widget.mapTo(root, QtCore.QPoint(0, 0)).y() for widget in walked]
    assert all(second > first - 12 for first, second in zip(tops, tops[1:])), "a step upwards"
    assert not ui.numbersTable.tabKeyNavigation, "the Tab key would stay in the table"


def test_no_two_fields_share_a_key():
    texts = [item.text or "" for item in ElementTree.parse(UI).iter("string")]
    keys = [key.lower() for text in texts for key in re.findall(r"&(\w)", text)]
    assert len(keys) == len(set(keys))


def test_every_mrml_selector_follows_the_scene():
    tree = ElementTree.parse(UI)
    selectors = {widget.get("name") for widget in tree.iter("widget") if widget.get("class") == "qMRMLNodeComboBox"}
    assert {item.findtext("receiver") for item in tree.iter("connection")} == selectors
