"""The section Series: a sequence is chosen, aligned while the window answers, and played."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

from panel_case import add_points, add_sequence

import slicer  # isort: skip

pytest_plugins = ["panel_fixture"]

REPORT = {"verdict": {"level": "good", "headline": "Well aligned", "text": "3 frames, 4 s on the CPU.", "concerns": []}}


def press(opened):
    """Press the section's button; the newest task."""
    opened.ui.seriesButton.click()
    return opened.logic.tasks[-1]


def asked(opened):
    return [call for call in opened.logic.calls if call[0] == "startSequence"][-1]


def end(task, state: str, report=None) -> None:
    task.state, task.report = state, report
    (task.finished if state == "finished" else task.failed).emit(task)


def test_the_button_says_what_is_missing(opened):
    ui = opened.ui
    assert not ui.seriesButton.enabled and "There is no sequence" in ui.seriesButton.toolTip
    assert ui.seriesLabel.text == ""  # nobody has asked for a series yet
    opened.parameters.seriesSequence = add_sequence("one", 1)
    assert not ui.seriesButton.enabled and "has 1 volume" in ui.seriesLabel.text
    opened.parameters.seriesSequence = add_sequence("breath", 3)
    assert ui.seriesButton.enabled and ui.seriesLabel.text == ""
    ui.seriesFrameSpinBox.value = 4
    assert not ui.seriesButton.enabled and "There is no frame 4" in ui.seriesLabel.text
    ui.seriesReferenceComboBox.setCurrentIndex(1)
    assert ui.seriesButton.enabled and not ui.seriesFrameSpinBox.enabled
    ui.seriesTransformsCheckBox.checked = ui.seriesWarpedCheckBox.checked = False
    assert not ui.seriesButton.enabled and "Nothing is wanted" in ui.seriesLabel.text
    opened.parameters.seriesPoints = add_points("forks", 2)
    assert ui.seriesButton.enabled and ui.seriesPointsFrameSpinBox.enabled


def test_what_is_chosen_is_what_is_asked_for(opened):
    ui, parameters = opened.ui, opened.parameters
    parameters.seriesSequence, parameters.seriesPoints = add_sequence("breath", 3), add_points("forks", 2)
    parameters.preset, parameters.options = "lung-ct", '{"seed": 5}'
    ui.seriesFrameSpinBox.value, ui.seriesPointsFrameSpinBox.value = 2, 3
    ui.seriesCycleCheckBox.checked, ui.seriesTransformsCheckBox.checked = True, False
    ui.seriesSmoothnessSpinBox.value = 0.02
    press(opened)
    _kind, inputs, preset, options = asked(opened)
    assert (inputs.sequence, inputs.trackPoints) == (parameters.seriesSequence, parameters.seriesPoints)
    assert (inputs.reference, inputs.trackFrame, inputs.cycle, inputs.outputs) == (1, 2, True, ("warped",))
    assert (inputs.timeSmoothness, preset, options) == (0.02, "lung-ct", {"seed": 5})
    end(opened.logic.tasks[-1], "cancelled")
    ui.seriesReferenceComboBox.setCurrentIndex(2)
    press(opened)
    assert (asked(opened)[1].reference, asked(opened)[1].timeSmoothness) == ("previous", 0.0)
    assert not ui.seriesSmoothnessSpinBox.enabled


def test_progress_and_the_verdict_are_shown_and_the_browser_plays(opened, monkeypatch):
    ui, shown = opened.ui, []
    monkeypatch.setattr(slicer.modules, "sequences", types.SimpleNamespace(showSequenceBrowser=shown.append),
                        raising=False)
    opened.parameters.seriesSequence = add_sequence("breath", 3)
    task = press(opened)
    assert ui.seriesButton.text == "Cancel" and not ui.seriesFormFrame.enabled
    assert not ui.seriesProgressBar._q.isHidden() and ui.seriesLabel.text == "Starting…"
    task.run(phase="level 2/3", number=2, of=4, seconds_left=62)
    assert ui.seriesLabel.text == "Registration 2 of 4: Level 2 of 3, iteration 3 of 12 · 1:02 left"
    assert ui.seriesProgressBar.value == 250
    task.run(phase="outputs", number=3, of=3, seconds_left=None)
    assert ui.seriesLabel.text == "Creating outputs: frame 3 of 3"
    slicer.mrmlScene.RegisterNodeClass(slicer.vtkMRMLSequenceBrowserNode())
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "breath aligned")
    task.outputs = types.SimpleNamespace(browser=browser, warped=None)
    task.log.emit("warning", "The steps do not lead back.")
    assert "warning: The steps do not lead back." in ui.logTextEdit.toPlainText()
    end(task, "finished", REPORT)
    assert shown == [browser] and ui.seriesLabel.text == "3 frames, 4 s on the CPU."
    assert ui.seriesButton.text == "Register series" and ui.seriesFormFrame.enabled
    assert ui.seriesProgressBar._q.isHidden()
    ui.seriesCycleCheckBox.checked = True
    assert ui.seriesLabel.text == ""  # it was about another choice


def test_what_speaks_against_a_series_comes_first(opened):
    opened.parameters.seriesSequence = add_sequence("breath", 3)
    task = press(opened)
    verdict = {**REPORT["verdict"], "headline": "Check the result", "concerns": ["frame 2 with folds"]}
    end(task, "finished", {"verdict": verdict})
    assert opened.ui.seriesLabel.text == "Check the result: frame 2 with folds. 3 frames, 4 s on the CPU."


def test_it_can_be_cancelled_and_a_failure_is_one_sentence(opened):
    ui = opened.ui
    opened.parameters.seriesSequence = add_sequence("breath", 3)
    task = press(opened)
    task.run(phase="affine", number=1, of=2)
    ui.seriesButton.click()
    assert task.cancels == [False] and ui.seriesButton.text == "Cancelling…" and not ui.seriesButton.enabled
    end(task, "cancelled")
    assert ui.seriesLabel.text == "Cancelled; the scene was restored." and ui.seriesButton.enabled
    press(opened).fail("The worker was killed; free some memory.")
    assert ui.seriesLabel.text == "The worker was killed; free some memory."
    opened.logic.refusal = RuntimeError("A registration is running; wait until it has finished, or cancel it.")
    ui.seriesButton.click()
    assert "A registration is running" in ui.seriesLabel.text and ui.seriesButton.text == "Register series"


def test_a_closed_scene_ends_it_and_a_running_pair_closes_the_section(opened):
    opened.parameters.seriesSequence = add_sequence("breath", 3)
    press(opened).run(phase="affine", number=1, of=2)
    slicer.mrmlScene.Clear(0)
    assert opened.ui.seriesLabel.text == "The scene was closed; the task was stopped."
    opened.choose_pair()
    pair = opened.press()
    pair.run()
    assert not opened.ui.seriesCollapsibleButton.enabled
    pair.finish()
    assert opened.ui.seriesCollapsibleButton.enabled
