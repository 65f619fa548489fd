"""Volume nodes are read and written where SimpleITK and Slicer see their voxels; bad ones are refused in a sentence."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
import vtk
from mrml_scene import add_linear, add_node, add_volume, new_scene, noise, oblique_matrix, turn_matrix
from nephi.geometry import Grid
from nephi.images.phantom import lung_phantom
from NePhiRegistrationLib.mrml import node_geometry, volume_nodes
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.session.choices import check, check_outputs
from NePhiRegistrationLib.session.values import Inputs, Outputs


@pytest.fixture(autouse=True)
def scene():
    return new_scene()


def world_lps(node, index) -> np.ndarray:
    """Where Slicer has a voxel (i, j, k), parent transforms included, LPS mm."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    point = np.array(matrix.MultiplyPoint((*index, 1.0))[:3])
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(point, world)
    return np.array(world) * (-1, -1, 1)


INDICES = [(0, 0, 0), (14, 0, 0), (3, 11, 5), (14, 11, 8)]


def assert_voxels_in_place(data: volume_nodes.VolumeData, node) -> None:
    grid = Grid.from_dict(data.geometry)
    for index in INDICES:
        point = grid.index_to_world[:3, :3] @ index + grid.index_to_world[:3, 3]
        assert np.allclose(point, world_lps(node, index), atol=1e-4)


def as_itk(data) -> sitk.Image:
    """What was read from a volume node, for SimpleITK."""
    image = sitk.GetImageFromArray(data.array)
    image.SetSpacing(data.geometry["spacing"])
    image.SetOrigin(data.geometry["origin"])
    image.SetDirection(data.geometry["direction"])
    return image


def test_an_oblique_volume_is_read_where_slicer_shows_it():
    array = noise()
    node = add_volume(array, oblique_matrix())
    data = volume_nodes.read_volume(node, "fixed")
    assert np.array_equal(data.array, array)
    assert data.geometry["size"] == [15, 12, 9]
    assert_voxels_in_place(data, node)


def test_what_is_read_cannot_be_written_to():
    data = volume_nodes.read_volume(add_volume(noise()), "fixed")
    with pytest.raises(ValueError, match="read-only"):
        data.array[0, 0, 0] = 1


@pytest.mark.parametrize("suffix", ["nrrd", "nii.gz", "mha"])
def test_a_file_of_simpleitk_and_the_node_slicer_makes_of_it_have_one_geometry(tmp_path, suffix):
    image = sitk.GetImageFromArray(noise())
    image.SetSpacing((0.9, 1.7, 2.6))
    image.SetOrigin((-51.0, 80.5, -434.5))
    image.SetDirection(np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0].ravel().tolist())
    path = str(tmp_path / f"image.{suffix}")
    sitk.WriteImage(image, path)
    image = sitk.ReadImage(path)
    node = add_node("ScalarVolume", "read")
    storage = add_node("VolumeArchetypeStorage")
    storage.SetFileName(path)
    assert storage.ReadData(node)
    data = volume_nodes.read_volume(node, "fixed")
    assert np.allclose(data.array, sitk.GetArrayFromImage(image))
    assert Grid.from_dict(data.geometry).same_as(Grid.from_sitk(image), 1e-4)


def test_a_written_volume_saved_by_slicer_is_the_same_for_simpleitk(tmp_path):
    array, matrix = noise(), oblique_matrix()
    node = add_node("ScalarVolume", "written")
    volume_nodes.write_volume(node, array, node_geometry.geometry_from(matrix, (15, 12, 9)))
    path = str(tmp_path / "written.nrrd")
    storage = add_node("VolumeArchetypeStorage")
    storage.SetFileName(path)
    assert storage.WriteData(node)
    image = sitk.ReadImage(path)
    assert np.allclose(sitk.GetArrayFromImage(image), array)
    for index in INDICES:
        assert np.allclose(image.TransformIndexToPhysicalPoint(index), world_lps(node, index), atol=1e-4)


def test_linear_parents_that_keep_the_grid_change_only_the_geometry():
    array = noise()
    node = add_volume(array, oblique_matrix())
    grandparent = add_linear(turn_matrix(-35, (4, 80, -7), scale=1.5))
    node.SetAndObserveTransformNodeID(add_linear(turn_matrix(20, (-9, 3, 5)), grandparent).GetID())
    data = volume_nodes.read_volume(node, "moving")
    assert np.array_equal(data.array, array)
    assert_voxels_in_place(data, node)
    assert np.allclose(data.geometry["spacing"], 1.5 * np.array((0.9, 1.7, 2.6)))


def smooth_volume(matrix):
    k, j, i = np.meshgrid(*map(np.arange, (24, 26, 28)), indexing="ij")
    return add_volume((np.sin(i / 5) + np.cos(j / 6) + np.sin(k / 4 + 1)).astype(np.float32), matrix)


def bent(node, amount: float = 3.0) -> None:
    """Put a volume under a thin-plate spline."""
    bounds = np.zeros(6)
    node.GetRASBounds(bounds)
    corners = [(bounds[a], bounds[2 + b], bounds[4 + c]) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for n, corner in enumerate(corners):
        source.InsertNextPoint(corner)
        target.InsertNextPoint([x + amount * np.sin(7 * n + a) for a, x in enumerate(corner)])
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    parent = add_node("Transform", "bend")
    parent.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(parent.GetID())


def sheared(node) -> None:
    matrix = np.eye(4)
    matrix[0, 1], matrix[:3, 3] = 0.3, (5, -4, 2)
    node.SetAndObserveTransformNodeID(add_linear(matrix).GetID())


@pytest.mark.parametrize("spoil", [sheared, bent])
def test_under_shear_and_nonlinear_parents_the_volume_is_resampled_in_place_and_says_so(spoil, caplog):
    node = smooth_volume(oblique_matrix())
    spoil(node)
    with caplog.at_level(logging.INFO):
        data = volume_nodes.read_volume(node, "moving")
    assert "resampled" in caplog.text
    assert np.allclose(np.reshape(data.geometry["direction"], (3, 3)), np.diag([-1, -1, 1]))
    assert sorted(data.geometry["spacing"]) == pytest.approx(sorted({round(s, 9) for s in data.geometry["spacing"]}))
    image = as_itk(data)
    original = slicer.util.arrayFromVolume(node)
    for index in [(10, 9, 8), (5, 20, 17), (22, 6, 12)]:
        point = world_lps(node, index).tolist()
        assert image.EvaluateAtPhysicalPoint(point) == pytest.approx(original[index[::-1]], abs=0.06)
    for index in [(0, 0, 0), (27, 25, 23), (27, 0, 23)]:
        inside = np.array(image.TransformPhysicalPointToContinuousIndex(world_lps(node, index).tolist()))
        assert (inside > -0.5).all() and (inside < np.array(image.GetSize()) - 0.5).all()


def test_axes_off_right_angles_by_rounding_are_turned_and_it_is_said(caplog):
    exact = oblique_matrix()
    node = smooth_volume(np.vstack([np.round(exact[:3], 3), exact[3:]]))
    data = volume_nodes.read_volume(node, "moving")
    assert "turned to right angles" in caplog.text
    assert data.array.shape == slicer.util.arrayFromVolume(node).shape
    axes = np.reshape(data.geometry["direction"], (3, 3))
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    steps = axes * data.geometry["spacing"]
    for index in [(0, 0, 0), (27, 25, 23), (27, 0, 23)]:
        assert np.allclose(steps @ index + data.geometry["origin"], world_lps(node, index), atol=0.1)


def test_a_volume_whose_own_axes_are_sheared_is_resampled_where_it_is(caplog):
    matrix = oblique_matrix()
    matrix[:3, 2] += 0.3 * matrix[:3, 1]
    node = smooth_volume(matrix)
    data = volume_nodes.read_volume(node, "moving")
    assert "resampled" in caplog.text
    image = as_itk(data)
    original = slicer.util.arrayFromVolume(node)
    for index in [(10, 9, 8), (5, 20, 17), (22, 6, 12)]:
        assert image.EvaluateAtPhysicalPoint(world_lps(node, index).tolist()) == pytest.approx(
            original[index[::-1]], abs=0.06)


def test_reading_leaves_the_node_alone():
    node = add_volume(noise(), oblique_matrix())
    sheared(node)
    before, parent, count, events = noise(), node.GetParentTransformNode(), slicer.mrmlScene.GetNumberOfNodes(), []
    node.AddObserver(vtk.vtkCommand.AnyEvent, lambda _, event: events.append(event))
    volume_nodes.read_volume(node, "moving")
    assert np.array_equal(slicer.util.arrayFromVolume(node), before)
    assert node.GetParentTransformNode() is parent and not events
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def with_nan() -> np.ndarray:
    array = noise()
    array[1, 2, 3], array[4, 5, 6] = np.nan, np.inf
    return array


@pytest.mark.parametrize("make, sentence", [
    (lambda: None, "No fixed volume is chosen; choose one."),
    (lambda: add_node("Transform", "T"), "is not a volume"),
    (lambda: add_node("ScalarVolume", "empty"), "The fixed volume 'empty' holds no image"),
    (lambda: add_volume(noise((9, 12, 15, 3)), kind="VectorVolume"), "has 3 values in each voxel"),
    (lambda: add_volume(noise().astype(np.int16), kind="LabelMapVolume"), "is a label map"),
    (lambda: add_volume(noise((1, 12, 15))), "has 15 x 12 x 1 voxels; at least 8"),
    (lambda: add_volume(np.full((9, 9, 9), np.nan)), "has only voxels that are not numbers"),
    (lambda: add_volume(np.full((9, 9, 9), -7, np.int16)), "is constant (-7 everywhere)"),
])
def test_a_volume_that_cannot_be_registered_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(NodeError) as error:
        volume_nodes.read_volume(make(), "fixed")
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")


def test_voxels_that_are_not_numbers_are_passed_on_as_they_are():
    read = volume_nodes.read_volume(add_volume(with_nan()), "fixed")
    assert np.array_equal(read.array, with_nan(), equal_nan=True)


def test_the_same_volume_twice_is_refused():
    node = add_volume(noise(), name="CT")
    with pytest.raises(NodeError, match=r"are the same \(CT\); choose two volumes."):
        check(Inputs(node, node))
    check(Inputs(node, add_volume(noise())))


def test_an_output_that_is_an_input_or_another_output_is_refused():
    fixed, other = add_volume(noise(), name="CT"), add_node("ScalarVolume", "out")
    check_outputs(Inputs(fixed), Outputs(warped=other))
    with pytest.raises(NodeError, match="CT is chosen as fixed volume and as warped volume"):
        check_outputs(Inputs(fixed), Outputs(warped=fixed))
    with pytest.raises(NodeError, match="out is chosen as warped volume and as log-Jacobian volume"):
        check_outputs(Inputs(), Outputs(warped=other, logJacobian=other))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, bool])
def test_every_voxel_type_comes_back(kind):
    array = noise() > 0 if kind is bool else (noise() * 20 + 100).astype(kind)
    node = add_node("ScalarVolume")
    volume_nodes.write_volume(node, array, node_geometry.geometry_from(oblique_matrix(), (15, 12, 9)))
    assert np.array_equal(volume_nodes.read_volume(node, "fixed").array, array)


def test_writing_keeps_the_node_its_display_and_its_memory():
    node = add_volume(noise(), oblique_matrix())
    node.SetAndObserveTransformNodeID(add_linear(turn_matrix(5, (1, 2, 3))).GetID())
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(7, 3)
    image, events = node.GetImageData(), []
    node.AddObserver(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, lambda *_: events.append(1))
    array = noise(seed=1)
    place = node_geometry.geometry_from(turn_matrix(30, (1, 2, 3), 2.0), (15, 12, 9))
    volume_nodes.write_volume(node, array, place)
    assert node.GetImageData() is image and node.GetDisplayNode() is display and events
    assert (display.GetWindow(), display.GetLevel()) == (7, 3)
    assert node.GetParentTransformNode() is None
    data = volume_nodes.read_volume(node, "fixed")
    assert np.array_equal(data.array, array) and node_geometry.same_geometry(data.geometry, place)


def test_a_new_display_looks_like_the_volume_it_comes_from():
    moving, node = add_volume(noise()), add_node("ScalarVolume")
    moving.GetDisplayNode().SetAutoWindowLevel(False)
    moving.GetDisplayNode().SetWindowLevel(1400, -500)
    volume_nodes.write_volume(node, noise(), node_geometry.geometry_from(np.eye(4), (15, 12, 9)), like=moving)
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == (1400, -500)


def test_the_phantom_goes_in_and_out_unchanged():
    image = lung_phantom(16).fixed
    node = add_node("ScalarVolume")
    volume_nodes.write_volume(node, image.values.numpy(), image.grid.to_dict())
    data = volume_nodes.read_volume(node, "fixed")
    assert np.array_equal(data.array, image.values.numpy())
    assert Grid.from_dict(data.geometry).same_as(image.grid, 1e-6)


def test_geometries_differ_when_a_far_voxel_does():
    first = node_geometry.geometry_from(oblique_matrix(), (400, 300, 200))
    turned = oblique_matrix()
    turned[:3, :3] = turn_matrix(0.01, (0, 0, 0))[:3, :3] @ turned[:3, :3]
    assert node_geometry.same_geometry(first, dict(first))
    assert not node_geometry.same_geometry(first, node_geometry.geometry_from(turned, (400, 300, 200)))
    assert not node_geometry.same_geometry(first, {**first, "size": [400, 300, 201]})
