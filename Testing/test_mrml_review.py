"""What is seen in slice views is where it should be: rendered off screen and looked at, pixel by pixel.

With NEPHI_PICTURES=1 the pictures for docs/images are written as well.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
from mrml_scene import add_colors, add_linear, add_node, add_volume, as_vtk, new_scene, oblique_matrix, turn_matrix
from nephi.geometry import Grid
from nephi.images.phantom import Phantom, lung_phantom
from nephi.maps.determinant import finite_difference_determinant
from nephi.maps.map import Map
from NePhiRegistrationLib.mrml import (
    comparison_volumes,
    deformation_display,
    log_jacobian_display,
    node_geometry,
    slice_views,
    transform_nodes,
    volume_nodes,
)
from NePhiRegistrationLib.mrml.slabs import run_now
from NePhiRegistrationLib.mrml.vtk_images import onto, oriented, volume_matrix
from slice_view import SliceView, save_picture
from written_nodes import read_displacement

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images" if os.environ.get("NEPHI_PICTURES") else None
SHAPE = (40, 44, 48)


@pytest.fixture(autouse=True)
def scene():
    scene = new_scene()
    add_colors(scene)
    return scene


def straight(spacing: float = 2.0) -> np.ndarray:
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = -40, -45, -35
    return matrix


def ras_of(matrix: np.ndarray, ijk) -> np.ndarray:
    return matrix[:3, :3] @ ijk + matrix[:3, 3]


def anatomy(matrix: np.ndarray, name: str = "fixed"):
    """A dark box with a soft bright ball at voxel (15, 20, 20)."""
    k, j, i = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    ball = np.exp(-((i - 15.0)**2 + (j - 20.0)**2 + (k - 20.0)**2) / 30)
    node = add_volume((1000 * ball).astype(np.float32), matrix, name)
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(0, 1000)
    return node


def show(background, foreground=None, opacity: float = 0.5, view: SliceView | None = None, **options) -> SliceView:
    """Layers in a view; a new one is fitted to the background."""
    shown = view or SliceView(**options)
    slice_views.show_layers([shown.composite], background, foreground, opacity)
    if view is None:
        shown.fit()
    return shown


# ---------------------------------------------------------------------------------------------- Jacobian over anatomy

BLOCKS = {"grows": ((slice(18, 23), slice(8, 14), slice(28, 36)), 0.6),
          "shrinks": ((slice(18, 23), slice(28, 34), slice(28, 36)), -0.6),
          "folds": ((slice(18, 23), slice(28, 34), slice(6, 12)), np.nan)}
CENTERS = {"grows": (31.5, 10.5, 20.0), "shrinks": (31.5, 30.5, 20.0), "folds": (8.5, 30.5, 20.0),
           "nothing": (15.0, 20.0, 20.0), "edge": (45.0, 3.0, 20.0)}


def blocks(matrix: np.ndarray):
    values = np.zeros(SHAPE, np.float32)
    for part, value in BLOCKS.values():
        values[part] = value
    node = add_node("ScalarVolume", "log-Jacobian")
    log_jacobian_display.write_log_jacobian(node, values, node_geometry.geometry_from(matrix, reversed(SHAPE)))
    return node


def look_at(view: SliceView, matrix: np.ndarray) -> dict[str, np.ndarray]:
    pixels = view.pixels().astype(int)
    return {name: pixels[view.pixel_of(ras_of(matrix, ijk))] for name, ijk in CENTERS.items()}


@pytest.mark.parametrize("orientation", ["Axial", "Sagittal", "Coronal"])
@pytest.mark.parametrize("matrix", [straight(), oblique_matrix()], ids=["straight", "oblique"])
def test_the_jacobian_overlay_is_where_the_volume_changes(matrix, orientation):
    fixed, overlay = anatomy(matrix), blocks(matrix)
    view = SliceView(orientation=orientation)
    slice_views.overlay([view.composite], fixed, overlay, 0.7)
    view.fit()
    for name, ijk in CENTERS.items():
        view.node.JumpSlice(*ras_of(matrix, ijk))
        seen = look_at(view, matrix)[name]
        red, green, blue = seen
        expected = {"grows": red > blue + 60 and red > green + 60, "shrinks": blue > red + 60,
                    "folds": red > blue + 100 and green > blue + 100, "nothing": red == green == blue and red > 220,
                    "edge": (seen < 10).all()}
        assert expected[name], (name, seen)


def test_only_folds_are_left_when_the_threshold_is_above_all_else():
    matrix = straight()
    view, overlay = SliceView(), blocks(matrix)
    slice_views.overlay([view.composite], anatomy(matrix), overlay, 0.7)
    view.fit()
    view.node.JumpSlice(*ras_of(matrix, (24, 20, 20)))
    log_jacobian_display.set_colors(overlay, 100.0)
    seen = look_at(view, matrix)
    assert seen["folds"][0] > seen["folds"][2] + 100
    assert all(np.ptp(seen[name]) == 0 for name in ("grows", "shrinks", "nothing", "edge"))


def test_the_legend_is_drawn_at_the_side_and_only_while_its_volume_is_shown():
    matrix = straight()
    fixed, overlay = anatomy(matrix), blocks(matrix)
    view = show(fixed, overlay)
    without = view.pixels()
    log_jacobian_display.show_legend(overlay)
    changed = (view.pixels() != without).any(2)
    assert changed[:, 300:].sum() > 1000 and changed[:, :250].sum() == 0
    show(fixed, view=view)
    assert np.ptp(view.pixels(), axis=2).max() == 0


# ------------------------------------------------------------------------------------- the moving volume settles down


def shifted(mm, percent: float = 100.0):
    """A forward transform that takes every point by ``mm`` (LPS)."""
    node = add_node("Transform", "forward")
    grid = Grid((6, 6, 6), (40.0,) * 3, (-100.0,) * 3, tuple(np.eye(3).ravel()))
    values = np.broadcast_to(np.asarray(mm, np.float32) * percent / 100, (*grid.shape, 3))
    transform_nodes.write_displacement(node, values, grid.to_dict())
    return node


def brightest(view: SliceView) -> np.ndarray:
    """The centre of what is bright, (row, column)."""
    grey = view.pixels().mean(2)
    return np.argwhere(grey > 0.7 * grey.max()).mean(0)


def test_the_moving_volume_is_seen_settling_into_place_and_stays_as_it_is():
    matrix = straight()
    fixed, moving = anatomy(matrix), anatomy(straight(), "moving")
    moving.SetAndObserveTransformNodeID(add_linear(turn_matrix(0, (20, -14, 0))).GetID())  # RAS
    forward = shifted((0, 0, 0))
    shown = add_node("ScalarVolume", "shown")
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    run_now(deformation_display.show_moving(shown, moving, forward))
    view = show(fixed)
    view.node.JumpSlice(*ras_of(matrix, (15, 20, 20)))
    target = brightest(view)
    slice_views.show_layers([view.composite], fixed, shown, 1.0)
    distances = []
    for percent in (0, 50, 100):
        values, place = read_displacement(shifted((-20, 14, 0), percent))
        transform_nodes.write_displacement(forward, values, place)
        distances.append(np.linalg.norm(brightest(view) - target))
    per_mm = 420 / 96  # pixels: the view shows the longest side
    assert distances == pytest.approx([24.4 * per_mm, 12.2 * per_mm, 0], abs=3)
    assert shown.GetImageData() is moving.GetImageData() and not shown.GetSaveWithScene()
    assert moving.GetParentTransformNode().IsLinear()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count


def test_a_moving_volume_with_sheared_axes_of_its_own_is_shown():
    matrix = straight()
    matrix[0, 2] += 0.4
    moving, shown = anatomy(matrix, "moving"), add_node("ScalarVolume", "shown")
    run_now(deformation_display.show_moving(shown, moving, shifted((0, 0, 0))))
    first = shown.GetImageData()
    run_now(deformation_display.show_moving(shown, moving, shifted((0, 0, 0))))
    assert first.GetNumberOfPoints() > moving.GetImageData().GetNumberOfPoints()
    assert shown.GetImageData() is first  # resampled once


def test_the_deformation_amount_moves_what_is_shown():
    matrix = straight()
    fixed, moving, forward, part = anatomy(matrix), anatomy(matrix), shifted((-20, 14, 0)), add_node("Transform")
    shown = add_node("ScalarVolume", "shown")
    transform_nodes.scale_field(part, forward, 0)
    run_now(deformation_display.show_moving(shown, moving, part))
    view = show(fixed, shown, 1.0)
    view.node.JumpSlice(*ras_of(matrix, (15, 20, 20)))
    start = brightest(view)
    transform_nodes.scale_field(part, forward, 100)
    end = brightest(view)
    transform_nodes.scale_field(part, forward, 50)
    assert np.linalg.norm(end - start) > 80
    assert np.allclose(brightest(view), (start + end) / 2, atol=2)


def test_the_copy_of_a_sheared_volume_is_made_anew_only_when_the_volume_or_its_transform_has_changed(monkeypatch):
    reads, moving, shown, forward = [], anatomy(straight()), add_node("ScalarVolume", "shown"), shifted((0, 0, 0))
    shear = np.eye(4)
    shear[0, 1] = 0.3
    parent = add_linear(shear)
    moving.SetAndObserveTransformNodeID(parent.GetID())
    monkeypatch.setattr(deformation_display, "read_volume_gradually",
                        lambda *told: reads.append(told) or volume_nodes.read_volume_gradually(*told))
    for _ in range(3):
        run_now(deformation_display.show_moving(shown, moving, forward))
    assert len(reads) == 1
    once, where = slicer.util.arrayFromVolume(shown).copy(), shown.GetOrigin()
    slicer.util.updateVolumeFromArray(moving, slicer.util.arrayFromVolume(moving) * 2)
    run_now(deformation_display.show_moving(shown, moving, forward))
    assert len(reads) == 2 and np.allclose(slicer.util.arrayFromVolume(shown), 2 * once) and shown.GetOrigin() == where
    parent.SetMatrixTransformToParent(as_vtk(np.diag([1.0, 1.0, 1.2, 1.0]) @ shear))
    run_now(deformation_display.show_moving(shown, moving, forward))
    assert len(reads) == 3


def test_the_copy_of_a_sheared_volume_is_not_taken_for_that_of_another(monkeypatch):
    moving, plain, shown = anatomy(straight()), anatomy(straight(), "other"), add_node("ScalarVolume", "shown")
    slicer.util.updateVolumeFromArray(plain, slicer.util.arrayFromVolume(plain)[::-1].copy())
    shear, forward = np.eye(4), shifted((0, 0, 0))
    shear[0, 1] = 0.3
    moving.SetAndObserveTransformNodeID(add_linear(shear).GetID())
    run_now(deformation_display.show_moving(shown, moving, forward))
    sheared, where = slicer.util.arrayFromVolume(shown).copy(), shown.GetOrigin()
    run_now(deformation_display.show_moving(shown, plain, forward))
    run_now(deformation_display.show_moving(shown, moving, forward))
    assert np.array_equal(slicer.util.arrayFromVolume(shown), sheared) and shown.GetOrigin() == where
    moving.SetOrigin(30, 0, 0)
    run_now(deformation_display.show_moving(shown, moving, forward))
    assert not np.allclose(shown.GetOrigin(), where)


def test_a_moving_volume_under_shear_is_shown_from_a_copy():
    matrix = np.eye(4)
    matrix[0, 1] = 0.3
    moving, shown = anatomy(straight()), add_node("ScalarVolume", "shown")
    moving.SetAndObserveTransformNodeID(add_linear(matrix).GetID())
    run_now(deformation_display.show_moving(shown, moving, shifted((0, 0, 0))))
    assert shown.GetImageData() is not moving.GetImageData()
    ball = moving.GetParentTransformNode().GetTransformToParent().TransformPoint(ras_of(straight(), (15, 20, 20)))
    view = show(shown)
    view.node.JumpSlice(*ball)
    assert np.linalg.norm(brightest(view) - view.pixel_of(ball)) < 4


# ------------------------------------------------------------------------------------------------------- comparisons


def at_once(steps) -> int:
    """Take all steps; how many there were."""
    return sum(1 for _ in steps)


def constant_pair():
    fixed, warped = anatomy(straight()), anatomy(straight(), "warped")
    for node, value in ((fixed, 200), (warped, 800)):
        array = slicer.util.arrayFromVolume(node)
        array[:] = value
        array[0, 0, 0] = 0  # not constant
        slicer.util.arrayFromVolumeModified(node)
    return fixed, warped


def test_a_checkerboard_shows_both_in_turn_each_through_its_own_window():
    fixed, warped = constant_pair()
    warped.GetDisplayNode().SetWindowLevelMinMax(0, 1600)
    node = add_node("ScalarVolume", "checkerboard")
    at_once(comparison_volumes.write_checkerboard(node, fixed, warped, cells=6))
    grey = show(node, size=(480, 480)).pixels()[:, :, 0]
    cell = 80  # pixels: six cells along the longest side, which the view shows whole
    row = grey[180, :]
    levels = [int(np.median(row[n * cell + 15:(n + 1) * cell - 15])) for n in range(6)]
    assert sorted(set(levels)) == [51, 127] and all(a != b for a, b in zip(levels, levels[1:]))


def test_checkerboard_cells_are_cubes_in_mm():
    pattern = comparison_volumes.checkerboard((10, 20, 40), (1.0, 2.0, 4.0), 4)
    assert not pattern[0, 0, 0]
    assert np.flatnonzero(np.diff(pattern[0, 0].astype(int))).tolist() == [9, 19, 29]
    assert np.flatnonzero(np.diff(pattern[0, :, 0].astype(int))).tolist() == [4, 9, 14]
    assert not pattern[:2, 0, 0].any() and pattern[3:5, 0, 0].all()


def test_a_difference_is_fixed_minus_warped_blue_where_that_is_negative_and_light_where_it_is_0():
    fixed, warped = constant_pair()
    slicer.util.arrayFromVolume(warped)[:, :, 24:] = 200
    node = add_node("ScalarVolume", "difference")
    at_once(comparison_volumes.write_difference(node, fixed, warped))
    values = slicer.util.arrayFromVolume(node)
    assert (values[5, 5, 5], values[5, 5, 40]) == (-600, 0)
    view = show(node)
    view.node.JumpSlice(*ras_of(straight(), (24, 20, 20)))
    left, right = (view.pixels()[view.pixel_of(ras_of(straight(), (i, 20, 20)))].astype(int) for i in (8, 40))
    assert left[2] > left[0] + 60 and right.min() > 240


def test_a_difference_says_nothing_where_the_warped_volume_has_no_data():
    fixed, moving, forward = anatomy(straight()), anatomy(straight()), shifted((0, 0, 30))
    slicer.util.arrayFromVolume(moving)[:] += 500
    warped, node = add_node("ScalarVolume", "warped"), add_node("ScalarVolume", "difference")
    place = volume_nodes.read_volume(fixed, "fixed").geometry
    image = oriented(moving.GetImageData(), volume_matrix(moving))
    volume_nodes.write_volume(warped, onto(image, place, forward.GetTransformToParent(), True, 500.0), place)
    at_once(comparison_volumes.write_difference(node, fixed, warped, moving, forward))
    values = slicer.util.arrayFromVolume(node)
    blank = (values[:, 5, 40] == 0).sum()
    assert blank == 15 and (values[:, 5, 40] == -500).sum() == SHAPE[0] - 15
    shown = add_node("ScalarVolume", "shown")
    run_now(deformation_display.show_moving(shown, moving, forward))
    at_once(comparison_volumes.write_difference(node, fixed, shown))
    assert (slicer.util.arrayFromVolume(node)[:, 5, 40] == 0).sum() == blank


def test_slab_by_slab_is_what_slicer_resamples_at_once(monkeypatch):
    fixed, warped, forward = anatomy(oblique_matrix()), anatomy(oblique_matrix()), shifted((-20, 14, 3))
    shown, node = add_node("ScalarVolume", "shown"), add_node("ScalarVolume", "difference")
    run_now(deformation_display.show_moving(shown, warped, forward))
    monkeypatch.setattr(comparison_volumes, "SLAB", 1)
    assert at_once(comparison_volumes.write_difference(node, fixed, shown)) > 20
    slabs = slicer.util.arrayFromVolume(node).copy()
    monkeypatch.setattr(comparison_volumes, "SLAB", 1 << 40)
    assert at_once(comparison_volumes.write_difference(node, fixed, shown)) < 5
    assert np.abs(slabs).max() > 100 and np.allclose(slabs, slicer.util.arrayFromVolume(node), atol=1e-2)


def test_volumes_on_different_grids_are_compared_on_the_fixed_one():
    fixed, warped, node = anatomy(straight()), anatomy(straight(1.7)), add_node("ScalarVolume", "difference")
    at_once(comparison_volumes.write_difference(node, fixed, warped))
    data = volume_nodes.read_volume(node, "fixed")
    assert node_geometry.same_geometry(data.geometry, volume_nodes.read_volume(fixed, "fixed").geometry)


def test_the_moving_volume_under_the_transform_can_be_compared_as_it_moves():
    fixed, moving, forward = anatomy(straight()), anatomy(straight()), shifted((-20, 14, 0))
    shown, node = add_node("ScalarVolume", "shown"), add_node("ScalarVolume", "difference")
    run_now(deformation_display.show_moving(shown, moving, forward))
    at_once(comparison_volumes.write_difference(node, fixed, shown))
    assert np.abs(slicer.util.arrayFromVolume(node)).max() > 900
    values, place = read_displacement(forward)
    transform_nodes.write_displacement(forward, 0 * values, place)
    at_once(comparison_volumes.write_difference(node, fixed, shown))
    assert np.abs(slicer.util.arrayFromVolume(node)).max() < 1


# --------------------------------------------------------------------------------------------------- layers, layouts


def test_layers_opacity_and_views_are_set_and_emptied():
    fixed, warped, view = anatomy(straight()), anatomy(straight()), SliceView()
    assert slice_views.composites(slicer.mrmlScene) == [view.composite]
    slice_views.show_layers([view.composite], fixed, warped, 0.25)
    assert view.composite.GetBackgroundVolumeID() == fixed.GetID()
    assert (view.composite.GetForegroundVolumeID(), view.composite.GetForegroundOpacity()) == (warped.GetID(), 0.25)
    slice_views.set_opacity([view.composite], 1.0)
    assert view.composite.GetForegroundOpacity() == 1.0
    slice_views.show_layers([view.composite], None)
    assert not view.composite.GetBackgroundVolumeID() and not view.composite.GetForegroundVolumeID()


def test_the_comparison_shows_fixed_warped_and_both_in_linked_views_and_can_be_left():
    fixed, warped = anatomy(straight()), anatomy(straight())
    layout = slice_views.layout_node(slicer.mrmlScene)
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    views = [SliceView(name) for name in slice_views.COMPARED]  # what Slicer's layout manager makes of the layout
    before = slice_views.show_comparison(slicer.mrmlScene, fixed, warped, 0.4)
    assert layout.GetViewArrangement() == slice_views.LAYOUT and before == layout.SlicerLayoutFourUpView
    shown = [(view.composite.GetBackgroundVolumeID(), view.composite.GetForegroundVolumeID()) for view in views]
    assert shown == [(fixed.GetID(), None), (warped.GetID(), None), (fixed.GetID(), warped.GetID())]
    assert all(view.composite.GetLinkedControl() for view in views)
    for tag in slice_views.COMPARED:
        assert f'singletontag="{tag}"' in layout.GetLayoutDescription(slice_views.LAYOUT)
    slice_views.show_comparison(slicer.mrmlScene, fixed, warped, orientation="Coronal")
    assert "Coronal" in layout.GetLayoutDescription(slice_views.LAYOUT)
    assert slice_views.composites(slicer.mrmlScene) == []  # the comparison's own views are not among the ordinary ones


@pytest.mark.parametrize(("width", "height"), [(200, 420), (420, 200)])
def test_a_view_that_is_fitted_shows_all_of_a_volume_far_from_the_origin_at_the_slice_that_was_seen(width, height):
    matrix = straight()
    matrix[:3, 3] += 0, 0, -1274
    fixed = anatomy(matrix)
    red, view = SliceView("Red"), SliceView(slice_views.COMPARED[0], size=(width, height))
    seen = ras_of(matrix, (15, 20, 20))
    red.node.JumpSlice(*seen)
    slice_views.show_comparison(slicer.mrmlScene, fixed, fixed)
    assert view.node.GetSliceOffset() == pytest.approx(seen[2])
    bright = view.pixels().max(axis=2) > 128
    assert bright.any() and bright[view.pixel_of(seen)]
    for corner in ((0, 0, 20), (SHAPE[2] - 1, SHAPE[1] - 1, 20)):
        row, column = view.pixel_of(ras_of(matrix, corner))
        assert 0 <= row < height and 0 <= column < width
    view.node.JumpSlice(0, 0, 500)
    slice_views.fit_comparison(slicer.mrmlScene, fixed)  # another volume, beside which the slice would lie
    assert view.node.GetSliceOffset() == pytest.approx(ras_of(matrix, (0, 0, (SHAPE[0] - 1) / 2))[2], abs=1.1)


def test_views_that_the_layout_does_not_show_are_left_out():
    views = [SliceView(name) for name in ("Red", "Green")]
    composites = [view.composite for view in views]
    views[0].node.SetMappedInLayout(1)
    views[1].node.SetMappedInLayout(0)
    assert slice_views.in_layout(composites) == composites[:1]
    views[0].node.SetMappedInLayout(0)
    assert slice_views.in_layout(composites) == composites and slice_views.in_layout([]) == []


@pytest.mark.parametrize("draw", [deformation_display.show_grid, deformation_display.show_arrows])
def test_a_grid_or_arrows_are_drawn_over_the_slice_and_taken_away(draw):
    forward, view = shifted((-20, 14, 0)), show(anatomy(straight()))
    without = view.pixels()
    display = draw(forward, 10.0)
    colored = np.ptp(view.pixels(), axis=2) > 30
    assert colored.sum() > 1500
    deformation_display.hide_deformation(forward)
    assert np.array_equal(view.pixels(), without)
    assert draw(forward, 10.0) is display


# ---------------------------------------------------------------------------------------------- pictures for the docs


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return lung_phantom(96 if PICTURES else 40)


class Truth(Map):
    """The phantom's own map."""

    def __init__(self, phantom: Phantom) -> None:
        self.phantom = phantom

    def map(self, points):
        return self.phantom.forward(points)

    def with_jacobian(self, points):
        raise NotImplementedError


def chest(phantom: Phantom, role: str):
    image = getattr(phantom, role)
    node = add_node("ScalarVolume", role)
    volume_nodes.write_volume(node, image.values.numpy(), image.grid.to_dict())
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(1500, -500)
    return node


def test_on_the_phantom_the_true_map_brings_the_moving_volume_onto_the_fixed_one(phantom):
    fixed, moving, shown = chest(phantom, "fixed"), chest(phantom, "moving"), add_node("ScalarVolume", "shown")
    grid = phantom.fixed.grid.padded(30).with_spacing(6.0)
    points = grid.points("cpu").double()
    forward = add_node("Transform", "forward")
    values = (phantom.forward(points) - points).float().numpy().reshape(*grid.shape, 3)
    transform_nodes.write_displacement(forward, values, grid.to_dict())
    run_now(deformation_display.show_moving(shown, moving, forward))
    log_jacobian = add_node("ScalarVolume", "log-Jacobian")
    determinant = finite_difference_determinant(Truth(phantom), phantom.fixed.grid).numpy()
    log_jacobian_display.write_log_jacobian(log_jacobian, np.log(determinant), phantom.fixed.grid.to_dict())
    view, pictures = show(fixed, orientation="Coronal"), {}
    for name, layers in (("fixed", (fixed,)), ("before", (fixed, moving)), ("after", (fixed, shown))):
        show(*layers, view=view)
        pictures[name] = view.pixels()
    slice_views.overlay([view.composite], fixed, log_jacobian)
    log_jacobian_display.show_legend(log_jacobian)
    pictures["jacobian"] = view.pixels()
    log_jacobian_display.show_legend(log_jacobian, False)
    slice_views.show_layers([view.composite], fixed)
    deformation_display.show_grid(forward, 12.0)
    pictures["grid"] = view.pixels()
    deformation_display.show_arrows(forward, 12.0)
    pictures["arrows"] = view.pixels()
    error = {name: np.abs(pictures[name].astype(int) - pictures["fixed"])[40:-40, 40:-40].mean()
             for name in ("before", "after")}
    assert error["after"] < 0.4 * error["before"]
    if PICTURES:
        framed = {name: np.pad(picture, ((3, 3), (3, 3), (0, 0)), constant_values=255)
                  for name, picture in pictures.items()}
        rows = [np.hstack([framed[name] for name in names])
                for names in (("before", "after", "jacobian"), ("fixed", "grid", "arrows"))]
        save_picture(np.vstack(rows), PICTURES / "slicer-review.png")
