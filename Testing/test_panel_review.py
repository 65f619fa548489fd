"""Review: what the slice views are given, for every comparison, without touching an output."""

from __future__ import annotations

import sys
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import slicer
import vtk
from panel_case import add_volume

pytest_plugins = ["panel_fixture"]


def views() -> list:
    found = slicer.mrmlScene.GetNodesByClass("vtkMRMLSliceCompositeNode")
    found.UnRegister(None)
    return [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]


def layers() -> list[tuple]:
    """What the views show once what had to be made for it is there."""
    slicer.modules.NePhiRegistrationWidget.panel.review._queue.run_all()
    names = []
    for view in views():
        ids = view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()
        names.append(tuple(slicer.mrmlScene.GetNodeByID(item).GetName() if item else None for item in ids))
    return names


def finished(opened):
    opened.choose_pair()
    task = opened.press()
    task.finish()
    return task


def choose(combo, data) -> None:
    combo.setCurrentIndex(combo.findData(data))


def hidden_or_not() -> list:
    nodes = (slicer.mrmlScene.GetNthNode(index) for index in range(slicer.mrmlScene.GetNumberOfNodes()))
    return [node for node in nodes if node.GetName()]


def hidden_names() -> set[str]:
    return {node.GetName() for node in hidden_or_not()
            if node.GetName().startswith("NePhi ") and node.GetHideFromEditors()}


def test_before_a_result_nothing_can_be_compared(opened):
    opened.choose_pair()
    ui = opened.ui
    assert not any(widget.enabled for widget in (ui.compareComboBox, ui.layoutComboBox, ui.opacitySlider,
                                                 ui.jacobianGroupBox, ui.deformationGroupBox))


def test_a_result_is_shown_over_the_fixed_volume(opened):
    finished(opened)
    assert set(layers()) == {("Fixed", "warped")}
    opened.ui.opacitySlider.value = 0.25
    assert {view.GetForegroundOpacity() for view in views()} == {0.25}


def test_while_running_the_moving_volume_is_shown_through_the_forward_transform(opened):
    _fixed, moving = opened.choose_pair()
    task = opened.press()
    task.run()
    task.make_outputs()
    task.run()
    background, shown = layers()[0]
    node = slicer.mrmlScene.GetFirstNodeByName(shown)
    assert (background, node.GetParentTransformNode()) == ("Fixed", task.outputs.forward)
    assert np.array_equal(slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(moving))
    assert moving.GetParentTransformNode() is None


def test_a_result_is_shown_before_its_numbers_are_there(opened):
    opened.choose_pair()
    task = opened.press()
    task.run()
    task.make_outputs()
    task.run()
    task.transform = b"exact"
    task.shown.emit(task)
    assert set(layers()) == {("Fixed", "warped")} and "its numbers follow" in opened.ui.statusLabel.text
    task.run(phase="outputs", name="metrics", loss=None)
    assert set(layers()) == {("Fixed", "warped")} and opened.ui.registerButton.text == "Cancel"


def test_own_nodes_are_hidden_before_they_join_the_scene(opened):
    """Slicer's lists show a node that is not hidden when it is added."""
    seen = []
    tag = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, lambda *_: seen.extend(
        node for node in hidden_or_not() if node.GetName().startswith("NePhi ") and not node.GetHideFromEditors()))
    finished(opened)
    opened.ui.amountSlider.value = 30
    choose(opened.ui.compareComboBox, "checkerboard")
    layers()
    slicer.mrmlScene.RemoveObserver(tag)
    assert {"NePhi mixed", "NePhi moving", "NePhi part"} <= hidden_names() and seen == []


@pytest.mark.parametrize("choice", ["checkerboard", "difference", "amount"])
def test_pictures_that_have_to_be_made_follow_the_previews_too(opened, monkeypatch, choice):
    from NePhiRegistrationLib.panel import review_section
    opened.choose_pair()
    task = opened.press()
    task.make_outputs(bend=1.0)
    task.run()
    if choice == "amount":
        opened.ui.amountSlider.value = 50
    else:
        choose(opened.ui.compareComboBox, choice)

    def picture() -> np.ndarray:
        shown = slicer.mrmlScene.GetFirstNodeByName([name for name in layers()[0] if name][-1])
        if choice == "amount":
            return np.array(shown.GetParentTransformNode().GetTransformFromParent().TransformPoint((5, 5, 5)))
        return slicer.util.arrayFromVolume(shown).copy()

    before = picture()
    task.make_outputs(bend=3.0)
    task.run()
    monkeypatch.setattr(review_section, "FOLLOW_INTERVAL", 0.0)
    task.run()
    assert not np.array_equal(picture(), before)


def test_the_jacobian_lies_over_the_picture_while_a_task_runs(opened):
    opened.choose_pair()
    opened.ui.jacobianCheckBox.checked = True
    task = opened.press()
    task.make_outputs()
    image = task.outputs.logJacobian.GetImageData()
    task.outputs.logJacobian.SetAndObserveImageData(None)
    task.run()  # the forward transform's preview comes first
    assert not opened.ui.jacobianGroupBox.enabled
    task.outputs.logJacobian.SetAndObserveImageData(image)
    task.run()
    assert opened.ui.jacobianGroupBox.enabled and set(layers()) == {("Fixed", "logJacobian")}


def test_pictures_are_made_anew_at_most_once_a_second(opened):
    opened.choose_pair()
    task = opened.press()
    task.make_outputs()
    task.run()
    choose(opened.ui.compareComboBox, "checkerboard")
    layers()
    for _ in range(5):
        task.run()
    assert not opened.widget.panel.review._queue


@pytest.fixture
def bent(opened):
    """The moving volume of a running task under a transform that shears it, so that its picture is made in steps."""
    _fixed, moving = opened.choose_pair()
    parent, matrix = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkMatrix4x4()
    matrix.SetElement(0, 1, 0.3)
    parent.SetMatrixTransformToParent(matrix)
    moving.SetAndObserveTransformNodeID(parent.GetID())
    task = opened.press()
    task.make_outputs()
    task.run()
    return moving


def test_the_picture_of_a_sheared_moving_volume_is_made_step_by_step(opened, bent):
    assert opened.widget.panel.review._queue
    assert set(layers()) == {("Fixed", "NePhi moving")}
    sheared = slicer.util.arrayFromVolume(slicer.util.getNode("NePhi moving"))
    assert sheared.shape != slicer.util.arrayFromVolume(bent).shape


def test_a_sheared_moving_volume_that_goes_while_its_picture_is_made_does_no_harm(opened, bent):
    slicer.mrmlScene.RemoveNode(bent)
    assert "NePhi moving" not in {shown for pair in layers() for shown in pair}
    assert opened.ui.statusLabel.text == "Choose a moving volume."


def test_a_part_of_the_deformation_follows_the_previews_without_disturbing_the_flicker(opened, monkeypatch):
    from NePhiRegistrationLib.panel import review_section
    opened.choose_pair()
    task = opened.press()
    task.make_outputs(bend=1.0)
    task.run()
    opened.ui.amountSlider.value = 50
    choose(opened.ui.compareComboBox, "flicker")
    layers()
    opened.widget.panel.review.onFlicker()
    before = {view.GetForegroundOpacity() for view in views()}
    task.make_outputs(bend=3.0)
    monkeypatch.setattr(review_section, "FOLLOW_INTERVAL", 0.0)
    task.run()
    part = slicer.util.getNode("NePhi part").GetTransformFromParent()
    assert np.allclose(np.abs(np.array(part.TransformPoint((5, 5, 5))) - 5), 1.5)
    assert {view.GetForegroundOpacity() for view in views()} == before == {1.0}
    assert opened.widget.panel.review._timer.active


def test_a_failure_takes_the_moving_picture_away(opened):
    opened.choose_pair()
    for view in views():
        view.SetBackgroundVolumeID(opened.parameters.movingVolume.GetID())
        view.SetForegroundOpacity(0.7)
    before = layers()
    task = opened.press()
    task.make_outputs()
    task.run()
    assert layers() != before
    for _name, node in task.outputs.nodes():
        slicer.mrmlScene.RemoveNode(node)
    task.fail("The worker ended.")
    assert layers() == before and {view.GetForegroundOpacity() for view in views()} == {0.7}
    assert opened.parameters.forwardTransform is None
    assert not opened.ui.deformationGroupBox.enabled


def test_checkerboard_and_difference_are_nodes_of_their_own(opened):
    task = finished(opened)
    before = slicer.util.arrayFromVolume(task.outputs.warped).copy()
    choose(opened.ui.compareComboBox, "checkerboard")
    assert set(layers()) == {("NePhi mixed", None)}
    assert opened.ui.checkerSpinBox.enabled
    board = slicer.util.arrayFromVolume(slicer.util.getNode("NePhi mixed")).copy()
    opened.ui.checkerSpinBox.value = 3
    layers()
    assert not np.array_equal(board, slicer.util.arrayFromVolume(slicer.util.getNode("NePhi mixed")))
    choose(opened.ui.compareComboBox, "difference")
    layers()
    mixed = slicer.util.arrayFromVolume(slicer.util.getNode("NePhi mixed"))
    assert mixed.min() < 0 < mixed.max()
    assert np.array_equal(before, slicer.util.arrayFromVolume(task.outputs.warped))
    choose(opened.ui.compareComboBox, "overlay")
    assert set(layers()) == {("Fixed", "warped")}


def test_flicker_alternates_between_fixed_and_warped_and_stops(opened):
    finished(opened)
    choose(opened.ui.compareComboBox, "flicker")
    review = opened.widget.panel.review
    assert review._timer.active
    seen = set()
    for _ in range(3):
        review.onFlicker()
        seen.add(views()[0].GetForegroundOpacity())
    assert seen == {0.0, 1.0}
    choose(opened.ui.compareComboBox, "overlay")
    assert not review._timer.active


def test_the_reveal_cursor_is_offered_only_where_slicer_has_it(opened):
    assert opened.ui.compareComboBox.findData("reveal") == -1


def test_the_reveal_cursor_of_slicer_comes_and_goes_with_its_choice(opened, monkeypatch):
    """With what CompareVolumes has, under the names and arguments that it gives them."""
    alive = []

    class LayerReveal:
        def __init__(self, parent=None, width=400, height=400, showWidget=False, scale=False):
            alive.append(self)

        def cleanup(self):
            alive.remove(self)

    monkeypatch.setitem(sys.modules, "CompareVolumes", mock.Mock(spec=["LayerReveal"], LayerReveal=LayerReveal))
    slicer.modules.comparevolumes = object()
    opened.widget.cleanup()
    opened.widget = opened.running.open(opened.module)
    finished(opened)
    choose(opened.ui.compareComboBox, "reveal")
    assert len(alive) == 1 and set(layers()) == {("Fixed", "warped")} and opened.ui.opacitySlider.enabled
    opened.ui.amountSlider.value = 60
    assert len(alive) == 1
    choose(opened.ui.compareComboBox, "overlay")
    assert alive == []
    choose(opened.ui.compareComboBox, "reveal")
    slicer.mrmlScene.Clear(0)
    assert alive == []


def test_the_jacobian_lies_over_the_fixed_volume_with_its_threshold(opened):
    task = finished(opened)
    opened.ui.jacobianCheckBox.checked = True
    assert set(layers()) == {("Fixed", "logJacobian")}
    table = task.outputs.logJacobian.GetDisplayNode().GetColorNode()

    def seen() -> int:
        return sum(table.GetLookupTable().GetTableValue(index)[3] > 0 for index in range(table.GetNumberOfColors()))

    everywhere = seen()
    opened.ui.thresholdSlider.value = 0.5
    less = seen()
    opened.ui.foldsCheckBox.checked = True
    assert everywhere > less > seen() > 0


def test_a_volume_of_another_kind_in_the_place_of_the_jacobian_keeps_its_colours(opened):
    finished(opened)
    other = add_volume("CT")
    before = other.GetDisplayNode().GetColorNodeID(), other.GetDisplayNode().GetWindow()
    opened.parameters.logJacobian = other
    opened.ui.thresholdSlider.value = 0.4
    opened.ui.foldsCheckBox.checked = True
    opened.widget.panel.review.result()
    assert (other.GetDisplayNode().GetColorNodeID(), other.GetDisplayNode().GetWindow()) == before
    assert not opened.ui.jacobianGroupBox.enabled


def test_the_deformation_is_drawn_as_chosen(opened):
    forward = finished(opened).outputs.forward
    choose(opened.ui.drawComboBox, "grid")
    display = forward.GetDisplayNode()
    assert (display.GetVisibility(), display.GetVisualizationMode()) == (1, display.VIS_MODE_GRID)
    choose(opened.ui.drawComboBox, "arrows")
    assert display.GetVisualizationMode() == display.VIS_MODE_GLYPH
    choose(opened.ui.drawComboBox, "nothing")
    assert not display.GetVisibility()


def test_the_drawing_moves_to_another_transform_that_is_chosen(opened):
    forward = finished(opened).outputs.forward
    choose(opened.ui.drawComboBox, "grid")
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "other")
    opened.parameters.forwardTransform = other  # which has nothing to draw yet
    assert not forward.GetDisplayNode().GetVisibility()
    opened.parameters.forwardTransform = forward
    assert forward.GetDisplayNode().GetVisibility()


def test_what_the_user_draws_of_a_transform_is_left_alone(opened):
    forward = finished(opened).outputs.forward
    forward.CreateDefaultDisplayNodes()
    forward.GetDisplayNode().SetVisibility(True)
    opened.widget.panel.review.result()
    opened.parameters.warpedVolume = None
    assert forward.GetDisplayNode().GetVisibility()


def test_a_transform_that_the_moving_volume_lies_under_is_not_shown_twice(opened):
    forward = finished(opened).outputs.forward
    moving = opened.parameters.movingVolume
    moving.SetAndObserveTransformNodeID(forward.GetID())
    opened.ui.amountSlider.value = 50
    layers()
    shown = slicer.util.getNode("NePhi moving")
    assert shown.GetImageData() is moving.GetImageData()
    assert shown.GetParentTransformNode() is slicer.util.getNode("NePhi part")


def test_a_part_of_the_deformation_moves_the_picture_and_no_output(opened):
    forward = finished(opened).outputs.forward
    opened.ui.amountSlider.value = 50
    shown = slicer.mrmlScene.GetFirstNodeByName(layers()[0][1])
    half, whole = [0.0] * 3, [0.0] * 3
    shown.GetParentTransformNode().GetTransformFromParent().TransformPoint((5, 5, 5), half)
    forward.GetTransformFromParent().TransformPoint((5, 5, 5), whole)
    assert shown.GetParentTransformNode() is not forward
    assert np.allclose(np.array(half) - 5, (np.array(whole) - 5) / 2)
    opened.ui.amountSlider.value = 100
    assert set(layers()) == {("Fixed", "warped")}


def compared_views() -> list:
    """What Slicer's layout manager makes of the layout fixed | warped | overlay."""
    made = []
    for name in ("NePhiFixed", "NePhiWarped", "NePhiOverlay"):
        view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
        view.SetLayoutName(name)
        made.append(view)
    return made


@pytest.fixture
def layout(opened):
    """The layout node, four views shown, of a scene with a finished registration."""
    finished(opened)
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    node.SetViewArrangement(node.SlicerLayoutFourUpView)
    return node


def test_three_views_side_by_side_and_back(opened, layout):
    layout.SetViewArrangement(layout.SlicerLayoutConventionalView)
    fixed, warped, both = compared_views()
    opened.ui.layoutComboBox.setCurrentIndex(1)
    assert layout.GetViewArrangement() == 7411
    assert [view.GetBackgroundVolumeID() for view in (fixed, warped, both)] == [
        node.GetID() for node in (opened.parameters.fixedVolume, opened.parameters.warpedVolume,
                                  opened.parameters.fixedVolume)]
    assert both.GetForegroundVolumeID() == opened.parameters.warpedVolume.GetID()
    opened.ui.layoutComboBox.setCurrentIndex(0)
    assert layout.GetViewArrangement() == layout.SlicerLayoutConventionalView


def test_leaving_the_three_views_by_slicers_own_toolbar_is_noticed(opened, layout):
    both = compared_views()[2]
    opened.ui.layoutComboBox.setCurrentIndex(1)
    layout.SetViewArrangement(layout.SlicerLayoutOneUpRedSliceView)
    assert opened.ui.layoutComboBox.currentIndex == 0
    opened.ui.opacitySlider.value = 0.125
    assert both.GetForegroundOpacity() != 0.125
    opened.ui.layoutComboBox.setCurrentIndex(1)
    opened.ui.layoutComboBox.setCurrentIndex(0)
    assert layout.GetViewArrangement() == layout.SlicerLayoutOneUpRedSliceView


def test_closing_the_scene_or_the_panel_leaves_the_three_views(opened, layout):
    opened.ui.layoutComboBox.setCurrentIndex(1)
    slicer.mrmlScene.Clear(0)
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView
    assert opened.ui.layoutComboBox.currentIndex == 0
    finished(opened)
    opened.ui.layoutComboBox.setCurrentIndex(1)
    assert layout.GetViewArrangement() == 7411
    opened.widget.panel.close()
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView


def test_a_scene_saved_with_the_three_views_opens_with_them_and_they_can_be_left(opened, layout):
    opened.ui.layoutComboBox.setCurrentIndex(1)
    slicer.mrmlScene.SetSaveToXMLString(1)
    slicer.mrmlScene.Commit()
    saved = slicer.mrmlScene.GetSceneXMLString()
    slicer.mrmlScene.Clear(0)
    assert layout.GetViewArrangement() != 7411
    slicer.mrmlScene.SetLoadFromXMLString(1)
    slicer.mrmlScene.SetSceneXMLString(saved)
    slicer.mrmlScene.Import()
    assert layout.GetViewArrangement() == 7411 and layout.GetLayoutRootElement() is not None
    assert opened.ui.layoutComboBox.currentIndex == 1 and opened.ui.layoutComboBox.enabled
    opened.ui.layoutComboBox.setCurrentIndex(0)
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView


def test_the_three_views_are_known_before_the_module_is_opened(opened, monkeypatch):
    from NePhiRegistrationLib.mrml import slice_views
    monkeypatch.setattr(slicer, "mrmlScene", slicer.vtkMRMLScene())
    monkeypatch.setitem(sys.modules, "SampleData", mock.MagicMock())
    sys.modules["NePhiRegistration"].registerLayout()  # where nothing is shown there is nothing to describe
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode") is None
    layout = slice_views.layout_node(slicer.mrmlScene)
    assert not layout.IsLayoutDescription(slice_views.LAYOUT)
    opened.running.app._q.startupCompleted.emit()
    assert layout.IsLayoutDescription(slice_views.LAYOUT)


def test_what_the_panel_made_for_looking_goes_with_the_panel(opened):
    finished(opened)
    choose(opened.ui.compareComboBox, "checkerboard")
    layers()
    opened.ui.amountSlider.value = 30
    layers()
    assert {"NePhi mixed", "NePhi moving", "NePhi part"} <= hidden_names()
    displays = [slicer.util.getNode(name).GetDisplayNode() for name in ("NePhi mixed", "NePhi moving")]
    assert not any(display.GetSaveWithScene() for display in displays)
    opened.widget.panel.close()
    assert not hidden_names() and not any(slicer.mrmlScene.IsNodePresent(display) for display in displays)


def test_own_nodes_that_the_user_removed_are_made_again(opened):
    finished(opened)
    choose(opened.ui.compareComboBox, "difference")
    layers()
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("NePhi mixed"))
    choose(opened.ui.compareComboBox, "checkerboard")
    assert set(layers()) == {("NePhi mixed", None)}


def test_a_picture_that_is_no_longer_wanted_is_not_made(opened):
    finished(opened)
    choose(opened.ui.compareComboBox, "difference")
    choose(opened.ui.compareComboBox, "overlay")
    assert set(layers()) == {("Fixed", "warped")}


@pytest.mark.parametrize("name", ["NePhi mixed", "Fixed"])
def test_a_node_that_goes_while_the_picture_is_made_does_no_harm(opened, name):
    finished(opened)
    choose(opened.ui.compareComboBox, "checkerboard")
    opened.widget.panel.review._queue._turn()
    slicer.mrmlScene.RemoveNode(slicer.util.getNode(name))
    assert "NePhi mixed" not in {shown for pair in layers() for shown in pair}


def test_an_input_that_cannot_be_compared_is_told(opened):
    finished(opened)
    slicer.util.updateVolumeFromArray(opened.parameters.fixedVolume, np.full((12, 12, 12), 7.0, "f4"))
    choose(opened.ui.compareComboBox, "checkerboard")
    layers()
    assert "constant" in opened.ui.statusLabel.text


def test_the_estimated_error_is_an_overlay_made_when_asked_for_that_takes_the_jacobians_place(opened):
    from NePhiRegistrationLib.mrml import error_volume
    task, ui = finished(opened), opened.ui
    assert not ui.errorMapCheckBox.enabled
    at = np.random.default_rng(0).uniform((-11, -11, 0), (0, 0, 11), (40, 3)).tolist()
    error_volume.store(task.outputs.table, {"at": at, "distances": [1.0] * 40, "reach": 4.0, "voxel": 1.0})
    opened.widget.panel.update()
    ui.jacobianCheckBox.checked = True
    assert error_volume.made(task.outputs.table) is None
    ui.errorMapCheckBox.checked = True
    assert set(layers()) == {("Fixed", "Estimated error")} and not ui.jacobianCheckBox.checked
    assert ui.opacitySlider.enabled
    ui.jacobianCheckBox.checked = True
    assert set(layers()) == {("Fixed", "logJacobian")} and not ui.errorMapCheckBox.checked
