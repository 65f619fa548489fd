"""The log-Jacobian volume: its colours are centred on no change, folds have their own, small changes are clear."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
from mrml_scene import add_colors, add_node, new_scene, oblique_matrix
from nephi.maps.determinant import LOG_FLOOR
from nephi.report.planes import FOLD_COLOUR
from NePhiRegistrationLib.mrml import log_jacobian_display, node_geometry, slab_writing, snapshot, volume_nodes
from NePhiRegistrationLib.mrml.slabs import run_now
from NePhiRegistrationLib.mrml.vtk_images import image_array
from written_nodes import fold_count

VALUES = np.linspace(-0.7, 0.7, 15, dtype=np.float32)
PLACE = node_geometry.geometry_from(oblique_matrix(), (15, 8, 8))


@pytest.fixture(autouse=True)
def scene():
    scene = new_scene()
    add_colors(scene)
    return scene


def written(values=VALUES, threshold: float = 0.0):
    node = add_node("ScalarVolume", "log-Jacobian")
    log_jacobian_display.write_log_jacobian(node, np.broadcast_to(values, (8, 8, 15)), PLACE)
    log_jacobian_display.set_colors(node, threshold)
    return node


def colors(node) -> np.ndarray:
    """(15, 4): what the display pipeline makes of the first row of voxels, RGBA 0 to 255."""
    producer = node.GetDisplayNode().GetOutputImageDataConnection().GetProducer()
    producer.Update()
    return image_array(producer.GetOutputDataObject(0))[0, 0].astype(int)


def test_shrinking_is_blue_growing_is_red_and_no_change_is_clear():
    red, green, blue, alpha = colors(written()).T
    middle = len(VALUES) // 2
    assert alpha[middle] == 0 and (np.delete(alpha, middle) == 255).all()
    assert (blue[:middle] > red[:middle]).all() and (red[middle + 1:] > blue[middle + 1:]).all()
    assert (np.diff(green[:middle]) > 0).all() and (np.diff(green[middle + 1:]) < 0).all()


def test_the_scale_is_symmetric_whatever_the_values():
    for values in (VALUES, VALUES + 0.2, VALUES * 3, 0 * VALUES):
        display = written(values).GetDisplayNode()
        assert display.GetLevel() == pytest.approx(0, abs=1e-9)
        assert display.GetWindow() / 2 >= np.abs(values).max()


def test_equal_values_look_equal_in_every_volume():
    narrow, wide = colors(written(VALUES)), colors(written(np.append(VALUES[:-1], 2.6).astype(np.float32)))
    assert np.abs(narrow - wide)[[1, 3, 5, 9, 11, 13], :3].max() < 18  # the wide scale has coarser steps


@pytest.mark.parametrize("fold", [np.nan, -np.inf, np.log(LOG_FLOOR), -50.0])
def test_folds_are_yellow_as_in_the_report_and_nothing_else_is(fold):
    values = VALUES.copy()
    values[4] = fold
    node = written(values)
    yellow = (colors(node) == (*FOLD_COLOUR, 255)).all(1)
    assert yellow[4] and yellow.sum() == 1
    assert np.isfinite(slicer.util.arrayFromVolume(node)).all()
    assert fold_count(node) == 64


@pytest.mark.parametrize("smallest", [-0.7425, -0.99, -1.4, -2.9, -6.0])
def test_the_strongest_shrinking_is_not_taken_for_a_fold(smallest):
    found = colors(written(np.append(smallest, VALUES[1:]).astype(np.float32)))[0]
    assert found[2] > found[0] and tuple(found[:3]) != FOLD_COLOUR


def test_the_engine_and_the_volume_agree_on_what_a_fold_is():
    assert pytest.approx(np.log(LOG_FLOOR)) == log_jacobian_display.FOLD


def test_changes_below_the_threshold_are_clear_and_folds_never():
    values = VALUES.copy()
    values[0] = np.nan
    node = written(values, threshold=0.35)
    assert ((colors(node)[1:, 3] == 255) == (np.abs(values[1:]) > 0.35)).all() and colors(node)[0, 3] == 255
    log_jacobian_display.set_colors(node, 100.0)
    assert (colors(node)[:, 3] == 255).tolist() == [True] + 14 * [False]
    log_jacobian_display.set_colors(node, 0.0)
    assert (colors(node)[:, 3] == 255).sum() == 14


def test_previews_go_on_in_the_same_volume_with_the_same_colours():
    node = written()
    image, display, table = node.GetImageData(), node.GetDisplayNode(), node.GetDisplayNode().GetColorNode()
    count = slicer.mrmlScene.GetNumberOfNodes()
    log_jacobian_display.write_log_jacobian(node, np.broadcast_to(VALUES * 2, (8, 8, 15)), PLACE)
    assert (node.GetImageData(), node.GetDisplayNode(), display.GetColorNode()) == (image, display, table)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert np.allclose(volume_nodes.read_volume(node, "fixed").array[0, 0], VALUES * 2)


def test_a_preview_keeps_the_threshold_that_the_user_has_set():
    node = written(threshold=0.35)
    for threshold in (0.35, 0.15):
        log_jacobian_display.set_colors(node, threshold)
        log_jacobian_display.write_log_jacobian(node, np.broadcast_to(VALUES, (8, 8, 15)), PLACE)
        assert ((colors(node)[:, 3] == 255) == (np.abs(VALUES) > threshold)).all()


def test_a_volume_of_the_user_can_be_coloured_too():
    node = add_node("ScalarVolume")
    slicer.util.updateVolumeFromArray(node, np.broadcast_to(VALUES, (8, 8, 15)).copy())
    assert not log_jacobian_display.is_colored(node)
    log_jacobian_display.set_colors(node, 0.0)
    assert log_jacobian_display.is_colored(node) and np.array_equal(colors(node), colors(written()))


def test_small_changes_are_clear_unless_asked_for():
    node = add_node("ScalarVolume")
    values = np.where(VALUES > 0, 0.04, 0.06)
    log_jacobian_display.write_log_jacobian(node, np.broadcast_to(values, (8, 8, 15)), PLACE)
    assert ((colors(node)[:, 3] == 0) == (VALUES > 0)).all()


def test_two_volumes_have_a_table_each():
    first, second = written(), written()
    assert first.GetDisplayNode().GetColorNode() is not second.GetDisplayNode().GetColorNode()


def test_the_colours_of_the_user_are_not_changed():
    node = add_node("ScalarVolume", "used before")
    volume_nodes.write_volume(node, np.broadcast_to(VALUES, (8, 8, 15)), PLACE)
    grey = node.GetDisplayNode().GetColorNode()
    before = [grey.GetLookupTable().GetTableValue(n) for n in (0, 128, 255)]
    log_jacobian_display.write_log_jacobian(node, np.broadcast_to(VALUES, (8, 8, 15)), PLACE)
    assert node.GetDisplayNode().GetColorNode() is not grey
    assert [grey.GetLookupTable().GetTableValue(n) for n in (0, 128, 255)] == before


def test_the_legend_is_made_once_and_can_be_hidden():
    node = written()
    assert log_jacobian_display.show_legend(node, False) is None
    legend = log_jacobian_display.show_legend(node)
    assert legend.GetVisibility() and legend.GetTitleText() == "log J"
    assert log_jacobian_display.show_legend(node, False) is legend and not legend.GetVisibility()


def test_without_the_colour_module_there_is_no_legend_and_no_error():
    slicer.mrmlScene = slicer.vtkMRMLScene()
    add_colors(slicer.mrmlScene)
    assert log_jacobian_display.show_legend(written()) is None


def test_outside_of_what_was_compared_the_jacobian_is_shown_only_when_that_is_asked_for():
    node, rng = add_node("ScalarVolume", "jacobian"), np.random.default_rng(0)
    values = rng.normal(scale=0.2, size=(8, 9, 10)).astype(np.float32)
    compared = np.zeros(values.shape, bool)
    compared[2:6, 2:6, 2:6] = True
    values[~compared] *= 20
    place = {"size": [10, 9, 8], "spacing": [1.0] * 3, "origin": [0.0] * 3, "direction": np.eye(3).ravel().tolist()}
    run_now(slab_writing.write_log_jacobian(node, values, place, compared))
    assert np.array_equal(slicer.util.arrayFromVolume(node), np.where(compared, values, 0))
    assert node.GetDisplayNode().GetWindowLevelMax() == 0.75  # as the compared values want it
    for everywhere in (True, False, True):
        log_jacobian_display.show_everywhere(node, everywhere)
        assert log_jacobian_display.shows_everywhere(node) is everywhere
    assert np.array_equal(slicer.util.arrayFromVolume(node), log_jacobian_display.cleaned(values))
    kept = snapshot.Snapshot(node)
    log_jacobian_display.write_log_jacobian(node, 0 * values, place)
    assert log_jacobian_display.shows_everywhere(node) is None
    kept.restore()
    log_jacobian_display.show_everywhere(node, False)
    assert np.array_equal(slicer.util.arrayFromVolume(node), np.where(compared, values, 0))


def test_one_extreme_value_does_not_take_the_colours_from_all_others():
    values = np.random.default_rng(0).normal(scale=0.2, size=(20, 20, 20))
    values[3, 3, 3] = 6.0
    assert log_jacobian_display.largest(values) < 1
