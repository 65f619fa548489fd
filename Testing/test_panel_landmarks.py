"""Landmarks: placed as pairs with one click, listed with their distances, and taken as guidance by Continue."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import slicer
from panel_case import add_points, add_volume

pytest_plugins = ["panel_fixture"]


def registered(opened):
    """A result whose forward transform moves points by (-2, -2, 2) RAS mm."""
    opened.choose_pair()
    task = opened.press()
    task.finish()
    return task


def rows(ui) -> list[tuple[str, ...]]:
    table = ui.landmarksTable
    return [tuple(table.item(row, column).text() for column in range(3)) for row in range(table.rowCount)]


def point(node, index: int) -> list[float]:
    return list(node.GetNthControlPointPositionWorld(index))


def test_one_click_places_a_pair_whose_other_point_is_where_the_map_takes_it(opened):
    registered(opened)
    opened.ui.placePairButton.click()
    fixed, moving = opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks
    interaction = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLInteractionNode")
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode").GetActivePlaceNodeID() == fixed.GetID()
    fixed.AddControlPointWorld([6.0, 5.0, 4.0])
    assert np.allclose(point(moving, 0), [4.0, 3.0, 6.0]) and moving.GetNumberOfControlPoints() == 1
    assert interaction.GetCurrentInteractionMode() != interaction.Place
    fixed.AddControlPointWorld([1.0, 1.0, 1.0])  # by hand: no partner
    assert moving.GetNumberOfControlPoints() == 1 and opened.parameters.guideByLandmarks


def test_a_point_that_was_clicked_in_the_moving_volume_comes_to_the_moving_list(opened):
    from NePhiRegistrationLib.mrml.landmark_pairs import complete_pair
    task, fixed, moving = registered(opened), add_points("F", 1), add_points("M", 0)
    volume = opened.parameters.movingVolume
    fixed.SetNthControlPointPositionWorld(0, [6.0, 5.0, 4.0])
    fixed.SetNthControlPointAssociatedNodeID(0, volume.GetID())
    assert complete_pair(fixed, moving, volume, task.outputs.forward, task.outputs.inverse)
    assert np.allclose(point(moving, 0), [6.0, 5.0, 4.0]) and np.allclose(point(fixed, 0), [8.0, 7.0, 2.0])
    moving.AddControlPointWorld([1.0, 1.0, 1.0])
    assert complete_pair(fixed, moving, volume, task.outputs.forward, task.outputs.inverse)
    assert np.allclose(point(fixed, 1), [3.0, 3.0, -1.0]) and not complete_pair(fixed, moving)


def test_pairs_are_listed_by_their_distance_now_and_a_double_click_brings_the_views_there(opened):
    task = registered(opened)
    view, other = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode") for _ in range(2))
    view.SetLayoutName("Red")
    other.SetLayoutName("Green")
    fixed, moving = add_points("F", 2), add_points("M", 2)
    moving.SetNthControlPointPositionWorld(0, [-2.0, -2.0, 2.0])
    moving.SetNthControlPointPositionWorld(1, [1.0, 0.0, 7.0])
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = fixed, moving
    assert rows(opened.ui) == [("F-2", "7.00", "5.74"), ("F-1", "3.46", "0.00")]
    moving.SetNthControlPointPositionWorld(0, [-2.0, -2.0, 22.0])
    assert [row[0] for row in rows(opened.ui)] == ["F-1", "F-2"]
    green = next(node for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
                 if node.GetLayoutName() == "Green")
    green.SetBackgroundVolumeID(opened.parameters.movingVolume.GetID())
    opened.ui.landmarksTable.cellDoubleClicked.emit(0, 0)
    assert view.GetSliceToRAS().GetElement(2, 3) == pytest.approx(0.0)
    assert other.GetSliceToRAS().GetElement(2, 3) == pytest.approx(22.0)
    assert task.state == "finished"


def test_continue_takes_landmarks_that_were_dragged_as_guidance_and_otherwise_iterates(opened):
    fixed, moving = add_points("F", 2), add_points("M", 2)
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = fixed, moving
    opened.parameters.guideByLandmarks = True
    registered(opened)
    button = opened.ui.registerButton
    assert button.text == "Continue" and "more iterations" in button.toolTip
    moving.SetNthControlPointPositionWorld(0, [5.0, 0.0, 0.0])
    assert button.text == "Continue" and "pairs of landmarks (2)" in button.toolTip
    opened.press().finish()
    assert opened.logic.calls[-1][:3] == ("pull", fixed, moving)
    assert "more iterations" in button.toolTip
    opened.press().finish()
    assert opened.logic.calls[-1][0] == "resume"


def test_the_landmarks_own_button_pulls_at_once_when_there_is_a_result(opened):
    fixed, moving = add_points("F", 1), add_points("M", 1)
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = fixed, moving
    assert not opened.ui.pullButton.enabled
    registered(opened)
    assert opened.ui.pullButton.enabled
    opened.ui.pullButton.click()
    assert opened.logic.calls[-1][0] == "pull"
    opened.logic.tasks[-1].finish()
    opened.ui.fixedSelector.setCurrentNode(add_volume("Another"))
    assert not opened.ui.pullButton.enabled


@pytest.mark.parametrize(("failure", "state"), [("input", "failed"), ("", "cancelled")])
def test_landmarks_that_are_refused_or_cancelled_leave_the_result_to_be_continued(opened, failure, state):
    registered(opened)
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = add_points("F", 2), add_points("M", 2)
    opened.parameters.guideByLandmarks = True
    task = opened.press()
    assert opened.logic.calls[-1][0] == "pull"
    task.failure = failure
    task.fail("The map would fold between the landmarks 1 and 2.", state)
    assert opened.ui.registerButton.text == "Continue" and opened.ui.pullButton.enabled
    assert "would fold" in opened.ui.statusLabel.text
    opened.press().finish()
    assert opened.logic.calls[-1][0] == "pull" and opened.ui.registerButton.text == "Continue"


@pytest.mark.parametrize("failure", ["died", "gone"])
def test_after_a_worker_that_died_the_result_cannot_be_continued(opened, failure):
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = add_points("F", 2), add_points("M", 2)
    registered(opened)
    task = opened.press()
    assert not opened.ui.pullButton.enabled
    task.failure = failure
    task.fail("The worker has ended.")
    assert opened.ui.registerButton.text == "Register" and not opened.ui.pullButton.enabled


def test_landmarks_that_are_dragged_while_a_task_runs_are_news_to_its_result(opened):
    fixed, moving = add_points("F", 2), add_points("M", 2)
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = fixed, moving
    opened.parameters.guideByLandmarks = True
    registered(opened)
    task = opened.press()
    moving.SetNthControlPointPositionWorld(0, [5.0, 0.0, 0.0])
    task.finish()
    assert "pairs of landmarks (2)" in opened.ui.registerButton.toolTip
    opened.press().finish()
    assert opened.logic.calls[-1][0] == "pull" and "more iterations" in opened.ui.registerButton.toolTip


def test_landmarks_that_only_judged_a_result_pull_it_once_they_are_to_guide(opened):
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = add_points("F", 2), add_points("M", 2)
    registered(opened)
    opened.press().finish()
    assert opened.logic.calls[-1][0] == "resume"
    opened.parameters.guideByLandmarks = True
    assert "pairs of landmarks (2)" in opened.ui.registerButton.toolTip
    opened.press().finish()
    opened.press().finish()
    assert [call[0] for call in opened.logic.calls[-2:]] == ["pull", "resume"]


def test_the_distances_are_those_of_the_result_that_a_cancel_brings_back(opened):
    fixed, moving = add_points("F", 1), add_points("M", 1)
    opened.parameters.fixedLandmarks, opened.parameters.movingLandmarks = fixed, moving
    registered(opened)
    before = rows(opened.ui)
    going_on = opened.press()
    going_on.make_outputs(bend=5.0)
    fixed.SetNthControlPointPositionWorld(0, [1.0, 0.0, 0.0])
    fixed.SetNthControlPointPositionWorld(0, [0.0, 0.0, 0.0])
    assert rows(opened.ui) != before
    going_on.make_outputs()  # as those of the result were
    going_on.fail("", "cancelled")
    assert rows(opened.ui) == before
