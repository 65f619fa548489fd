"""A scene keeps everything through save and reload, and a node gets back what it held before a task."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
from closed_form import ClosedForm, oblique_grid
from mrml_scene import (
    add_linear,
    add_node,
    add_points,
    add_segmentation,
    add_volume,
    new_scene,
    noise,
    oblique_matrix,
    read_bundle,
)
from NePhiRegistrationLib.mrml import (
    log_jacobian_display,
    mask_nodes,
    metrics_table,
    node_geometry,
    snapshot,
    transform_archive,
    transform_nodes,
    volume_nodes,
)
from NePhiRegistrationLib.mrml.slabs import run_now
from written_nodes import fold_count, read_displacement, read_provenance


@pytest.fixture(autouse=True)
def scene():
    return new_scene()


DATA = bytes(range(256)) * 5000  # 1.3 MB of all values
PLACE = node_geometry.geometry_from(oblique_matrix(), (15, 12, 9))


def displacement() -> np.ndarray:
    grid = oblique_grid()
    points = grid.points("cpu").double()
    return (ClosedForm(grid).forward.map(points) - points).float().numpy().reshape(*grid.shape, 3)


# -------------------------------------------------------------------------------------------------------- archive


def test_the_exact_map_is_kept_with_its_transform_and_hidden():
    node = add_node("Transform", "forward")
    text = transform_archive.store(node, DATA)
    assert transform_archive.load(node) == DATA
    assert text.GetHideFromEditors() and text.GetSaveWithScene()
    assert transform_archive.store(node, b"second") is text and transform_archive.load(node) == b"second"


def test_a_node_without_an_archive_or_with_a_spoilt_one_has_none():
    node = add_node("Transform", "forward")
    assert transform_archive.load(node) is None
    transform_archive.store(node, DATA).SetText("not base64!")
    assert transform_archive.load(node) is None


# -------------------------------------------------------------------------------------------------- save and reload


def whole_scene() -> None:
    """All that a registration leaves."""
    fixed, moving = (add_volume(noise(seed=s), oblique_matrix(), name) for s, name in ((0, "fixed"), (1, "moving")))
    forward, inverse = add_node("Transform", "forward"), add_node("Transform", "inverse")
    for node, sign in ((forward, 1), (inverse, -1)):
        transform_nodes.write_displacement(node, sign * displacement(), oblique_grid().to_dict())
        transform_nodes.set_references(node, fixed, moving)
        transform_nodes.set_provenance(node, {"version": "0.1.0", "options": '{"a": "<1> & \\"2\\""}'})
    transform_archive.store(forward, DATA)
    values = noise(seed=2) / 5
    values[3, 4, 5], values[6, 7, 8] = np.nan, 0.9
    log_jacobian = add_node("ScalarVolume", "log-Jacobian")
    log_jacobian_display.write_log_jacobian(log_jacobian, values, PLACE)
    log_jacobian_display.set_colors(log_jacobian, 0.1)
    log_jacobian_display.show_legend(log_jacobian)
    metrics_table.write_metrics(add_node("Table", "numbers"), {"runtime": {"seconds": 2.5, "iterations": 40}})
    add_segmentation({"lung": noise(seed=3) > 0}, oblique_matrix(), "mask")
    landmarks = add_points(np.eye(3), "landmarks")  # whose storage Slicer's Markups module would add
    landmarks.SetAndObserveStorageNodeID(add_node("MarkupsJsonStorage").GetID())
    volume_nodes.write_volume(add_node("ScalarVolume", "warped"), noise(seed=4), PLACE)


def save_bundle(folder) -> str:
    path = str(folder / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path, None)
    return path


def named(name: str):
    return slicer.mrmlScene.GetFirstNodeByName(name)


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    """The whole scene after it was saved as a bundle and read into a new one."""
    new_scene()
    whole_scene()
    path = save_bundle(tmp_path_factory.mktemp("bundle"))

    def load() -> None:
        read_bundle(path)

    return load


def test_both_transforms_come_back_exact_with_references_and_provenance(reloaded):
    reloaded()
    for name, sign in (("forward", 1), ("inverse", -1)):
        values, place = read_displacement(named(name))
        assert np.allclose(values, sign * displacement(), atol=1e-4)
        assert node_geometry.same_geometry(place, oblique_grid().to_dict())
        assert named(name).GetNodeReference("spatialRegistrationFixed") is named("fixed")
        assert named(name).GetNodeReference("spatialRegistrationMoving") is named("moving")
        assert read_provenance(named(name)) == {"version": "0.1.0", "options": '{"a": "<1> & \\"2\\""}'}


def test_the_exact_map_comes_back_byte_for_byte(reloaded):
    reloaded()
    assert transform_archive.load(named("forward")) == DATA
    assert named("forward").GetNodeReference(transform_archive.ROLE).GetHideFromEditors()


def test_the_log_jacobian_comes_back_with_its_colours_range_and_legend(reloaded):
    reloaded()
    node = named("log-Jacobian")
    display = node.GetDisplayNode()
    assert fold_count(node) == 1
    assert display.GetColorNode().GetAttribute(log_jacobian_display.ROLE) is not None
    color = [0.0] * 4
    display.GetColorNode().GetColor(0, color)
    assert np.allclose(color, (*log_jacobian_display.FOLD_COLOR, 1))
    display.GetColorNode().GetColor(128, color)
    assert color[3] == 0
    assert display.GetWindowLevelMax() == pytest.approx(0.75, abs=1e-3) and not display.GetAutoWindowLevel()
    assert log_jacobian_display.show_legend(node, True).GetVisibility()
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLColorTableNode")
    log_jacobian_display.set_colors(node, 0.3)  # goes on with the same table
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLColorTableNode") == count


def test_numbers_landmarks_masks_and_images_come_back(reloaded):
    reloaded()
    assert named("numbers").GetTable().GetNumberOfRows() == 2
    assert named("landmarks").GetNumberOfControlPoints() == 3
    warped = volume_nodes.read_volume(named("warped"), "fixed")
    assert np.array_equal(warped.array, noise(seed=4)) and node_geometry.same_geometry(warped.geometry, PLACE)
    assert np.array_equal(run_now(mask_nodes.read_mask(named("mask"), None, warped, "fixed")), noise(seed=3) > 0)


def test_a_preview_can_be_written_into_a_reloaded_transform(reloaded):
    reloaded()
    for factor in (0.5, 0.25):
        transform_nodes.write_displacement(named("forward"), factor * displacement(), oblique_grid().to_dict())
        assert np.allclose(read_displacement(named("forward"))[0], factor * displacement(), atol=1e-5)


# ------------------------------------------------------------------------------------------------------- snapshots


def test_a_volume_gets_back_voxels_place_parent_window_and_colours():
    node = add_volume(noise(), oblique_matrix(), "output")
    node.SetAndObserveTransformNodeID(add_linear(np.eye(4)).GetID())
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(7, 3)
    colors, count = node.GetDisplayNode().GetColorNodeID(), slicer.mrmlScene.GetNumberOfNodes()
    before = snapshot.Snapshot(node)
    log_jacobian_display.write_log_jacobian(node, noise(seed=1), {**PLACE, "origin": [1, 2, 3]})
    transform_nodes.set_provenance(node, {"seed": 1})
    before.restore()
    assert np.array_equal(slicer.util.arrayFromVolume(node), noise())
    assert node.GetParentTransformNode() is not None and node.GetAttribute("NePhi.seed") is None
    node.SetAndObserveTransformNodeID(None)
    assert node_geometry.same_geometry(volume_nodes.read_volume(node, "fixed").geometry, PLACE)
    display = node.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel(), display.GetColorNodeID()) == (7, 3, colors)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_transform_gets_back_its_field_its_references_and_its_archive():
    node = add_node("Transform", "output")
    transform_nodes.write_displacement(node, displacement(), oblique_grid().to_dict())
    text = transform_archive.store(node, DATA)
    before = snapshot.Snapshot(node)
    for grid in (oblique_grid(), oblique_grid().padded(5)):
        transform_nodes.write_displacement(node, np.zeros((*grid.shape, 3), np.float32), grid.to_dict())
    transform_nodes.set_references(node, add_node("ScalarVolume"), add_node("ScalarVolume"))
    before.restore()
    assert np.allclose(read_displacement(node)[0], displacement())
    assert node.GetNodeReference("spatialRegistrationFixed") is None
    assert node.GetNodeReference(transform_archive.ROLE) is text and transform_archive.load(node) == DATA


@pytest.mark.parametrize("kind, fill", [
    ("ScalarVolume", lambda node: log_jacobian_display.write_log_jacobian(node, noise(), PLACE)),
    ("Transform", lambda node: (transform_nodes.write_displacement(node, displacement(), oblique_grid().to_dict()),
                                transform_archive.store(node, DATA))),
    ("Table", lambda node: metrics_table.write_metrics(node, {"runtime": {"seconds": 1.0}})),
])
def test_an_empty_node_is_empty_again_and_nothing_made_for_it_stays(kind, fill):
    node = add_node(kind, "output")
    count, before = slicer.mrmlScene.GetNumberOfNodes(), snapshot.Snapshot(node)
    fill(node)
    before.restore()
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    empty = {"ScalarVolume": lambda: node.GetImageData() is None and node.GetDisplayNode() is None,
             "Transform": lambda: transform_nodes.grid_transform(node) is None and node.IsLinear(),
             "Table": lambda: node.GetTable().GetNumberOfRows() == 0}
    assert empty[kind]()


def test_a_large_field_and_a_large_volume_are_kept_and_put_back_without_a_copy(stopwatch):
    place = node_geometry.geometry_from(oblique_matrix(), (200, 200, 200))
    transform, volume = add_node("Transform"), add_node("ScalarVolume")
    field, voxels = np.ones((200, 200, 200, 3), np.float32), np.ones((200, 200, 200), np.float32)
    for scale in (1, 2):
        transform_nodes.write_displacement(transform, scale * field, place)
        volume_nodes.write_volume(volume, scale * voxels, place)
    volume.GetDisplayNode().SetAutoWindowLevel(False)  # the automatic one, if it is due, is Slicer's own work
    seconds = time.thread_time()
    before = [snapshot.Snapshot(node) for node in (transform, volume)]
    seconds = time.thread_time() - seconds
    for scale in (3, 4):
        transform_nodes.write_displacement(transform, scale * field, place)
        volume_nodes.write_volume(volume, scale * voxels, place)
    assert read_displacement(transform)[0].max() == slicer.util.arrayFromVolume(volume).max() == 4
    again = time.thread_time()
    for kept in before:
        kept.restore()
    assert not stopwatch or (seconds < 0.01 and time.thread_time() - again < 0.02)
    assert read_displacement(transform)[0].min() == slicer.util.arrayFromVolume(volume).min() == 2
    assert read_displacement(transform)[0].max() == slicer.util.arrayFromVolume(volume).max() == 2
    corner = node_geometry.ijk_to_ras(place)[:3, 3]
    point = transform.GetTransformFromParent().TransformPoint(corner.tolist())
    assert np.allclose(point - corner, 2 * node_geometry.FLIP)


def test_one_snapshot_after_another_is_put_back_in_turn():
    node = add_volume(noise())
    first = snapshot.Snapshot(node)
    volume_nodes.write_volume(node, noise(seed=1), PLACE)
    second = snapshot.Snapshot(node)
    volume_nodes.write_volume(node, noise(seed=2), PLACE)
    second.restore()
    assert np.array_equal(slicer.util.arrayFromVolume(node), noise(seed=1))
    volume_nodes.write_volume(node, noise(seed=3), PLACE)
    first.restore()
    assert np.array_equal(slicer.util.arrayFromVolume(node), noise())


def test_a_display_that_cannot_be_put_back_keeps_nothing_else_from_it(monkeypatch):
    node = add_volume(noise())
    node.SetAttribute("whose", "mine")
    before, restore = snapshot.Snapshot(node), snapshot.Snapshot.restore

    def failing(kept):
        if kept.node is node.GetDisplayNode():
            raise RuntimeError("no")
        restore(kept)

    monkeypatch.setattr(snapshot.Snapshot, "restore", failing)
    node.SetAttribute("whose", "yours")
    added = slicer.vtkMRMLScalarVolumeDisplayNode()
    slicer.mrmlScene.AddNode(added)
    node.AddAndObserveDisplayNodeID(added.GetID())
    volume_nodes.write_volume(node, noise(seed=1), PLACE)
    with pytest.raises(RuntimeError):
        before.restore()
    assert node.GetAttribute("whose") == "mine" and np.array_equal(slicer.util.arrayFromVolume(node), noise())
    assert added.GetScene() is None


def test_a_node_that_left_the_scene_is_let_be():
    node = add_volume(noise())
    before = snapshot.Snapshot(node)
    slicer.mrmlScene.RemoveNode(node)
    before.restore()


def test_a_removed_node_takes_with_it_what_was_made_for_it():
    count = slicer.mrmlScene.GetNumberOfNodes()
    volume, transform = add_node("ScalarVolume"), add_node("Transform")
    log_jacobian_display.write_log_jacobian(volume, noise(), PLACE)
    transform_archive.store(transform, DATA)
    snapshot.remove(volume)
    snapshot.remove(transform)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
