"""The run button: what it says, what it allows and what it starts, in every state."""

from __future__ import annotations

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import numpy as np
import slicer
from mrml_scene import add_segmentation
from panel_case import add_points, add_volume
from PySide6 import QtWidgets

pytest_plugins = ["panel_fixture"]


def shown(ui) -> tuple[str, bool, str]:
    return ui.registerButton.text, ui.registerButton.enabled, ui.statusLabel.text


def test_without_volumes_the_button_says_what_is_missing(opened):
    assert shown(opened.ui) == ("Register", False, "Choose a fixed and a moving volume.")
    assert opened.ui.registerButton.toolTip == "Choose a fixed and a moving volume."


def test_each_missing_volume_is_named(opened):
    opened.ui.movingSelector.setCurrentNode(add_volume("Moving"))
    assert opened.ui.statusLabel.text == "Choose a fixed volume."
    opened.ui.fixedSelector.setCurrentNode(opened.ui.movingSelector.currentNode())
    opened.ui.movingSelector.setCurrentNode(None)
    assert opened.ui.statusLabel.text == "Choose a moving volume."


def test_the_same_volume_twice_is_refused(opened):
    node = add_volume("Chest")
    opened.ui.fixedSelector.setCurrentNode(node)
    opened.ui.movingSelector.setCurrentNode(node)
    assert shown(opened.ui) == ("Register", False,
                                "The fixed and the moving volume are the same (Chest); choose two volumes.")


def test_a_pair_of_volumes_enables_the_button_and_leaves_nothing_to_say(opened):
    opened.choose_pair()
    assert shown(opened.ui) == ("Register", True, "")


def test_landmarks_for_one_volume_only_are_refused(opened):
    opened.choose_pair()
    opened.ui.fixedLandmarksSelector.setCurrentNode(add_points("F", 3))
    said = "There are fixed landmarks but no moving landmarks; choose both lists or neither."
    assert opened.ui.statusLabel.text == said
    assert not opened.ui.registerButton.enabled


def test_landmark_lists_of_different_lengths_are_refused_with_both_counts(opened):
    opened.choose_pair()
    opened.ui.fixedLandmarksSelector.setCurrentNode(add_points("F", 3))
    opened.ui.movingLandmarksSelector.setCurrentNode(add_points("M", 2))
    assert opened.ui.statusLabel.text.startswith("There are 3 fixed and 2 moving landmarks;")


def test_landmarks_that_are_placed_or_deleted_later_are_noticed(opened):
    opened.choose_pair()
    fixed, moving = add_points("F", 3), add_points("M", 2)
    opened.ui.fixedLandmarksSelector.setCurrentNode(fixed)
    opened.ui.movingLandmarksSelector.setCurrentNode(moving)
    assert not opened.ui.registerButton.enabled
    moving.AddControlPoint(2.0, 0.0, 0.0)
    assert shown(opened.ui) == ("Register", True, "")
    fixed.RemoveNthControlPoint(0)
    assert opened.ui.statusLabel.text.startswith("There are 2 fixed and 3 moving landmarks;")


@pytest.mark.parametrize("change", ["landmark", "voxels", "segment", "drawing"])
def test_a_result_of_inputs_that_have_changed_since_is_not_continued(opened, change):
    _fixed, moving = opened.choose_pair()
    points = [add_points(name, 3) for name in "FM"]
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = points
    mask = add_segmentation({"lung": np.ones((4, 4, 4), bool)}, np.eye(4), "Lungs")
    opened.parameters.fixedMask = mask
    opened.press().finish()
    assert opened.ui.registerButton.text == "Continue"
    if change == "landmark":
        points[0].SetNthControlPointPosition(1, 5.0, 5.0, 5.0)
    elif change == "voxels":
        slicer.util.updateVolumeFromArray(moving, np.ones((12, 12, 12), np.float32))
    elif change == "drawing":
        mask.GetSegmentation().InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)
    else:
        mask.GetSegmentation().RemoveSegment(mask.GetSegmentation().GetNthSegmentID(0))
    assert opened.ui.registerButton.text == "Register"


def test_voxels_that_are_read_later_are_noticed(opened):
    fixed, _moving = opened.choose_pair()
    image = fixed.GetImageData()
    fixed.SetAndObserveImageData(None)
    assert shown(opened.ui) == ("Register", False, "The fixed volume 'Fixed' holds no image; load its file "
                                                   "again or choose another volume.")
    fixed.SetAndObserveImageData(image)
    assert shown(opened.ui) == ("Register", True, "")


def test_an_input_that_is_no_longer_chosen_is_no_longer_followed(opened):
    opened.choose_pair()
    points = add_points("F", 3)
    before = points.HasObserver(points.PointAddedEvent)
    opened.ui.fixedLandmarksSelector.setCurrentNode(points)
    assert points.HasObserver(points.PointAddedEvent)
    opened.ui.fixedLandmarksSelector.setCurrentNode(None)
    assert points.HasObserver(points.PointAddedEvent) == before


def test_no_output_at_all_is_refused(opened):
    opened.choose_pair()
    opened.ui.createOutputsCheckBox.checked = False
    assert opened.ui.statusLabel.text == "No output is chosen; choose at least one, or have missing outputs created."


def test_an_input_as_output_is_refused(opened):
    _fixed, moving = opened.choose_pair()
    opened.ui.warpedSelector.setCurrentNode(moving)
    assert opened.ui.statusLabel.text == ("Moving is chosen as moving volume and as warped volume; choose another node "
                                          "for warped volume.")


def test_one_node_for_both_transforms_is_refused(opened):
    opened.choose_pair()
    node = opened.ui.forwardSelector.addNode()
    opened.ui.inverseSelector.setCurrentNode(node)
    assert "is chosen as forward transform and as inverse transform" in opened.ui.statusLabel.text


def test_pressing_register_starts_with_what_is_chosen_and_becomes_cancel(opened):
    fixed, moving = opened.choose_pair()
    opened.press()
    kind, inputs, preset, options = opened.logic.calls[-1]
    assert (kind, inputs.fixed, inputs.moving, preset, options) == ("start", fixed, moving, "generic", {})
    assert shown(opened.ui)[:2] == ("Cancel", True)
    assert not opened.ui.inputsCollapsibleButton.enabled


def test_landmarks_judge_unless_they_are_to_guide(opened):
    opened.choose_pair()
    pair = add_points("F", 3), add_points("M", 3)
    opened.ui.fixedLandmarksSelector.setCurrentNode(pair[0])
    opened.ui.movingLandmarksSelector.setCurrentNode(pair[1])
    opened.press().fail("x")
    assert (opened.logic.calls[-1][1].landmarksFixed, opened.logic.calls[-1][1].guideFixed) == (pair[0], None)
    opened.ui.guideCheckBox.checked = True
    opened.press()
    assert (opened.logic.calls[-1][1].landmarksFixed, opened.logic.calls[-1][1].guideMoving) == (None, pair[1])


def test_while_running_the_second_button_offers_to_stop_and_keep(opened):
    opened.choose_pair()
    task = opened.press()
    assert opened.ui.secondButton.text == ""
    task.run()
    assert opened.ui.secondButton.text == "Stop and keep result"
    opened.ui.secondButton.click()
    assert task.cancels == [True]


def test_while_the_outputs_are_made_of_the_map_so_far_a_plain_cancel_is_still_possible(opened):
    opened.choose_pair()
    task = opened.press()
    task.run()
    opened.ui.secondButton.click()
    assert (shown(opened.ui)[:2], opened.ui.secondButton.text) == (("Cancel", True), "")
    task.progress.emit({"phase": "outputs", "name": "warped volume", "step": 2, "steps": 6})
    assert opened.ui.progressLabel.text == "Creating outputs: warped volume"
    opened.ui.registerButton.click()
    assert task.cancels == [True, False]
    assert shown(opened.ui)[:2] == ("Cancelling…", False)
    task.fail("", "cancelled")
    opened.press()
    opened.ui.registerButton.click()
    assert shown(opened.ui)[:2] == ("Cancelling…", False)


def test_what_the_worker_logs_is_in_the_log_with_its_level_where_that_matters(opened):
    opened.choose_pair()
    task = opened.press()
    task.log.emit("info", "level 1 of 3")
    task.log.emit("warning", "few points")
    lines = opened.ui.logTextEdit.toPlainText().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["level 1 of 3", "warning: few points"]


def test_cancel_says_so_until_the_task_has_stopped(opened):
    opened.choose_pair()
    task = opened.press()
    task.run()
    opened.ui.registerButton.click()
    assert task.cancels == [False]
    assert shown(opened.ui)[:2] == ("Cancelling…", False)
    task.fail("", "cancelled")
    assert shown(opened.ui) == ("Register", True, "Cancelled; the scene was restored.")


def test_a_failure_is_one_sentence_beneath_a_working_button(opened):
    opened.choose_pair()
    task = opened.press()
    task.run()
    task.fail("The worker ended (signal 9), most likely out of memory; lower the resolution.")
    assert shown(opened.ui) == ("Register", True,
                                "The worker ended (signal 9), most likely out of memory; lower the resolution.")
    assert opened.press() is not task


def test_a_refusal_at_the_start_is_shown_and_nothing_runs(opened):
    opened.choose_pair()
    opened.logic.refusal = ValueError("Fixed has 7 voxels that are no numbers; replace them.")
    opened.press()
    assert shown(opened.ui) == ("Register", True, "Fixed has 7 voxels that are no numbers; replace them.")
    assert "no numbers" in opened.ui.logTextEdit.toPlainText()


def test_after_the_end_the_button_continues_or_starts_over(opened):
    opened.choose_pair()
    opened.ui.continueSpinBox.value = 12
    opened.press().finish()
    assert shown(opened.ui) == ("Continue", True, "Mean landmark error 9.3 → 1.2 mm, no folds, 12 s on cpu.")
    assert "12 more iterations" in opened.ui.registerButton.toolTip
    opened.press().finish()
    assert opened.logic.calls[-1] == ("resume", 12)
    assert opened.ui.secondButton.text == "Start over"
    opened.ui.secondButton.click()
    assert opened.logic.calls[-1][0] == "start"


def test_a_cancelled_start_over_leaves_the_result_to_be_continued(opened):
    opened.choose_pair()
    opened.press().finish()
    opened.ui.secondButton.click()
    opened.logic.tasks[-1].fail("", "cancelled")
    assert shown(opened.ui) == ("Continue", True, "Cancelled; the scene was restored.")
    assert opened.ui.pullButton.enabled is False  # there are no landmarks
    opened.press()
    assert opened.logic.calls[-1][0] == "resume"


@pytest.mark.parametrize(("failure", "text"), [("memory", "Continue"), ("internal", "Continue"), ("died", "Register"),
                                               ("missing", "Register")])
def test_a_result_can_be_continued_after_a_failure_unless_the_worker_has_ended(opened, failure, text):
    opened.choose_pair()
    opened.press().finish()
    task = opened.press()
    task.failure = failure
    task.fail("There is not enough memory for this; lower the points.")
    assert shown(opened.ui) == (text, True, "There is not enough memory for this; lower the points.")


@pytest.mark.parametrize("change", ["removed", "voxels"])
def test_a_result_of_inputs_that_changed_while_it_was_made_is_not_continued(opened, change):
    _fixed, moving = opened.choose_pair()
    mask = add_segmentation({"lung": np.ones((4, 4, 4), bool)}, np.eye(4), "Lungs")
    opened.parameters.fixedMask = mask
    task = opened.press()
    if change == "removed":
        slicer.mrmlScene.RemoveNode(mask)
    else:
        slicer.util.updateVolumeFromArray(moving, np.ones((12, 12, 12), np.float32))
    task.finish()
    assert opened.ui.registerButton.text == "Register"


def test_the_curve_counts_iterations_and_not_messages_and_has_all_of_them_at_the_end(opened, monkeypatch):
    from NePhiRegistrationLib.panel import run_section
    drawn = []
    monkeypatch.setattr(run_section, "draw_losses", lambda _label, losses: drawn.append(list(losses)))
    monkeypatch.setattr(run_section, "PLOT_INTERVAL", 0.0)
    opened.choose_pair()
    task = opened.press()
    task.run(4, phase="level 1/2", loss=0.5)
    task.run(9, phase="level 1/2", loss=0.3)
    assert drawn[-1] == [("level 1/2", 4, 0.5), ("level 1/2", 9, 0.3)]
    task.history = [{"level": level, "iteration": 5 * number, "loss": 1.0 / number} for level in (1, 2)
                    for number in (1, 2)]
    task.finish()
    assert drawn[-1] == [(1, 1, 1.0), (1, 2, 0.5), (2, 1, 1.0), (2, 2, 0.5)]


@pytest.mark.parametrize("change", [
    lambda ui: ui.presetComboBox.setCurrentIndex(1),
    lambda ui: ui.movingSelector.setCurrentNode(add_volume("Other")),
    lambda ui: setattr(ui.gridSpacingSpinBox, "value", 3.0),
], ids=["preset", "moving volume", "grid spacing"])
def test_another_choice_after_the_end_brings_register_back(opened, change):
    opened.choose_pair()
    opened.press().finish()
    change(opened.ui)
    assert shown(opened.ui) == ("Register", True, "")


def test_choosing_another_output_does_not_prevent_continuing(opened):
    opened.choose_pair()
    opened.press().finish()
    opened.ui.tableSelector.addNode()
    assert opened.ui.registerButton.text == "Continue"


def test_what_is_continued_into_another_output_leaves_the_result_before_as_it_is(opened):
    opened.choose_pair()
    first = opened.press()
    first.finish()
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Longer")
    opened.parameters.forwardTransform = other
    second = opened.press()
    second.finish()
    assert second.outputs.forward is other is opened.parameters.forwardTransform
    assert second.outputs.warped is first.outputs.warped


def test_what_is_missing_is_said_in_the_place_of_an_older_message_and_goes_with_its_cause(opened):
    opened.choose_pair()
    opened.press().finish()
    moving, warped = opened.parameters.movingVolume, opened.parameters.warpedVolume
    opened.parameters.warpedVolume = moving
    assert "is chosen as moving volume and as warped volume" in opened.ui.statusLabel.text
    assert not opened.ui.registerButton.enabled
    opened.parameters.warpedVolume = warped
    assert opened.ui.statusLabel.text == "" and opened.ui.registerButton.enabled


@pytest.mark.parametrize("input_name", ["movingVolume", "movingMask"])
def test_a_transform_that_an_input_lies_under_is_not_overwritten(opened, input_name):
    opened.choose_pair()
    task = opened.press()
    task.finish()
    if input_name == "movingMask":
        opened.parameters.movingMask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lung")
    node = getattr(opened.parameters, input_name)
    node.SetAndObserveTransformNodeID(task.outputs.forward.GetID())
    opened.ui.presetComboBox.setCurrentIndex(1)
    role = {"movingVolume": "moving volume", "movingMask": "moving mask"}[input_name]
    assert shown(opened.ui) == ("Register", False, f"{node.GetName()}, the {role}, lies under forward, which is to be "
                                                   "overwritten; take it out of the transform, or choose another "
                                                   "forward transform.")
    opened.ui.forwardSelector.addNode()
    assert opened.ui.registerButton.enabled


def test_a_preset_that_is_not_there_is_shown_as_none_and_nothing_is_read_under_its_name(opened, tmp_path):
    opened.choose_pair()
    (tmp_path / "evil.json").write_text("{}")
    opened.parameters.preset = str(tmp_path / "evil")
    assert opened.ui.presetComboBox.currentIndex == -1 and opened.ui.registerButton.enabled
    opened.ui.presetComboBox.setCurrentIndex(1)
    assert opened.parameters.preset in ("brain-mri", "lung-ct")


def test_without_pytorch_the_button_says_so_and_the_offer_shows(opened, monkeypatch):
    from NePhiRegistrationLib.panel import torch_offer
    monkeypatch.setattr(torch_offer, "has_torch", lambda: False)
    opened.widget.panel.torch._present = False
    opened.choose_pair()
    opened.widget.panel.enter()
    assert shown(opened.ui) == ("Register", False, "PyTorch is not installed; install it with the button above.")
    assert opened.ui.torchFrame.isVisibleTo(opened.ui.torchFrame.parent())
    opened.ui.torchButton.click()
    assert opened.ui.statusLabel.text.startswith("Install the extension PyTorch with Slicer's Extensions Manager")


def test_progress_shows_phase_bar_speed_and_time_left(opened):
    opened.choose_pair()
    opened.press().run(step=3)
    bar = opened.ui.progressBar
    assert (bar.minimum, bar.maximum, bar.value) == (0, 1000, 250)
    assert opened.ui.progressLabel.text == "Level 2 of 3, iteration 3 of 12 · 7.25 iterations/s · 1:02 left"


def test_success_opens_no_window(opened):
    opened.choose_pair()
    before = [widget for widget in QtWidgets.QApplication.topLevelWidgets() if widget.isVisible()]
    opened.press().finish()
    QtWidgets.QApplication.processEvents()
    assert [widget for widget in QtWidgets.QApplication.topLevelWidgets() if widget.isVisible()] == before
    assert QtWidgets.QApplication.activeModalWidget() is None


def test_a_result_that_cannot_be_trusted_is_said_with_its_reason_before_the_figures(opened):
    from NePhiRegistrationLib.panel.run_section import verdict_text
    said = {"level": "failed", "headline": "Not aligned", "reason": "The images have only 4 % in common.",
            "text": "No folds."}
    assert verdict_text(said) == "Not aligned: The images have only 4 % in common. No folds."
    assert verdict_text({**said, "level": "good"}) == "No folds." and verdict_text({}) == ""
