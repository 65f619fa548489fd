"""Both transform nodes map points as the displacements say, and what Slicer hardens with them is the warped volume."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
import vtk
from closed_form import ClosedForm, oblique_grid, partner_grid, tilted_affine
from mrml_scene import add_linear, add_node, add_volume, as_vtk, new_scene, oblique_matrix, turn_matrix
from nephi.files.itk import export_itk
from nephi.geometry import Grid, random_points
from nephi.maps.displacement_map import DisplacementMap
from NePhiRegistrationLib.mrml import node_geometry, transform_nodes, volume_nodes
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.mrml.slabs import run_now
from written_nodes import read_displacement, read_provenance

FLIP = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(autouse=True)
def scene():
    return new_scene()


def tilted() -> ClosedForm:
    """A map with a linear part and a bend, from an oblique grid to another."""
    fixed = oblique_grid()
    grid = partner_grid(ClosedForm(fixed, affine=tilted_affine()))
    return ClosedForm(fixed, grid, tilted_affine())


def displacement(transform, grid: Grid, direction: str) -> np.ndarray:
    """(k, j, i, 3) float32 LPS mm, the linear part included: what the worker sends."""
    points = grid.points("cpu").double()
    return (getattr(transform, direction).map(points) - points).float().numpy().reshape(*grid.shape, 3)


def written(transform, direction: str, grid: Grid):
    node = add_node("Transform", direction)
    transform_nodes.write_displacement(node, displacement(transform, grid, direction), grid.to_dict())
    return node


def from_parent(node, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) LPS through a node's from-parent transform."""
    transform = node.GetTransformFromParent()
    return np.array([transform.TransformPoint(p) for p in (points * FLIP).tolist()]) * FLIP


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_a_file_of_the_command_line_maps_points_in_slicer_as_the_map_does(direction, tmp_path):
    transform = tilted()
    export_itk(getattr(transform, direction), tmp_path / "t.h5")
    node, storage = add_node("Transform", direction), add_node("TransformStorage", "file")
    storage.SetFileName(str(tmp_path / "t.h5"))
    assert storage.ReadData(node)
    start = transform.fixed_grid if direction == "forward" else transform.moving_grid
    points = random_points(start, 300, seed=3).double()
    shared = transform.fixed_grid.contains(transform.inverse.map(points)) | (direction == "forward")
    points = points[shared]
    assert len(points) > 50
    expected = getattr(transform, direction).map(points).numpy()
    assert np.abs(from_parent(node, points.numpy()) - expected).max() < 0.12 * start.voxel


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_each_node_maps_points_as_its_field_does(direction):
    transform = tilted()
    start = transform.fixed_grid if direction == "forward" else transform.moving_grid
    node = written(transform, direction, start.with_spacing(1.0))
    rng = np.random.default_rng(0)
    index = rng.uniform(2, np.array(start.size) - 3, (50, 3))
    points = index @ start.index_to_world[:3, :3].T + start.index_to_world[:3, 3]
    expected = getattr(transform, direction).map(torch.from_numpy(points)).numpy()
    assert np.abs(from_parent(node, points) - expected).max() < 0.02


def test_at_its_nodes_the_grid_is_exact_and_of_class_transform_node():
    transform = tilted()
    node = written(transform, "forward", transform.fixed_grid)
    points = transform.fixed_grid.points("cpu").double()[::97]
    assert node.GetClassName() == "vtkMRMLTransformNode"
    assert isinstance(node.GetTransformFromParent(), slicer.vtkOrientedGridTransform)
    assert np.allclose(from_parent(node, points.numpy()), transform.forward.map(points).numpy(), atol=1e-4)


def test_to_parent_undoes_from_parent():
    transform = tilted()
    node = written(transform, "forward", transform.fixed_grid)
    for point in transform.fixed_grid.points("cpu").double()[2000:6000:371].numpy() * FLIP:
        there = node.GetTransformFromParent().TransformPoint(point)
        assert np.allclose(node.GetTransformToParent().TransformPoint(there), point, atol=0.05)


def test_simpleitk_reads_the_saved_node_as_the_same_map(tmp_path):
    transform = tilted()
    node = written(transform, "forward", transform.fixed_grid)
    path = str(tmp_path / "forward.h5")
    storage = add_node("TransformStorage")
    storage.SetFileName(path)
    assert storage.WriteData(node)
    read = sitk.ReadTransform(path)
    for point in transform.fixed_grid.points("cpu").double()[2000:6000:371]:
        assert np.allclose(read.TransformPoint(point.tolist()), transform.forward.map(point[None])[0], atol=1e-3)


def test_a_saved_and_loaded_node_holds_the_same_displacements(tmp_path):
    transform = tilted()
    node, path = written(transform, "forward", transform.fixed_grid), str(tmp_path / "forward.h5")
    storage = add_node("TransformStorage")
    storage.SetFileName(path)
    loaded = add_node("Transform", "loaded")
    assert storage.WriteData(node) and storage.ReadData(loaded)
    points = transform.fixed_grid.points("cpu").double()[::97].numpy()
    assert np.allclose(from_parent(loaded, points), from_parent(node, points), atol=1e-4)
    values, place = read_displacement(loaded)
    assert np.allclose(values, displacement(transform, transform.fixed_grid, "forward"), atol=1e-4)
    assert node_geometry.same_geometry(place, transform.fixed_grid.to_dict())


def test_a_preview_on_the_same_grid_is_written_in_place_and_seen():
    transform = tilted()
    node = written(transform, "forward", transform.fixed_grid)
    values, place = displacement(transform, transform.fixed_grid, "forward"), transform.fixed_grid.to_dict()
    field, events = node.GetTransformFromParent(), []
    node.AddObserver(slicer.vtkMRMLTransformNode.TransformModifiedEvent, lambda *_: events.append(1))
    points = transform.fixed_grid.points("cpu").double()[::97].numpy()
    before = from_parent(node, points)
    transform_nodes.write_displacement(node, 0.5 * values, place)
    assert node.GetTransformFromParent() is field and len(events) == 1
    assert np.allclose(from_parent(node, points) - points, (before - points) / 2, atol=1e-4)
    assert np.allclose(read_displacement(node)[0], 0.5 * values)


def test_another_grid_or_an_earlier_content_of_any_kind_is_replaced():
    transform = tilted()
    node = add_linear(turn_matrix(30, (1, 2, 3)), parent=add_linear(turn_matrix(10, (4, 5, 6))))
    for grid in (transform.fixed_grid, transform.fixed_grid.with_spacing(4.0)):
        transform_nodes.write_displacement(node, displacement(transform, grid, "forward"), grid.to_dict())
        points = grid.points("cpu").double()[::41]
        assert np.allclose(from_parent(node, points.numpy()), transform.forward.map(points).numpy(), atol=1e-4)
        assert node.GetParentTransformNode() is None


@pytest.mark.parametrize("percent", [0, 40, 100])
def test_a_part_of_the_deformation_follows_its_source(percent):
    transform = tilted()
    node, part = written(transform, "forward", transform.fixed_grid), add_node("Transform", "part")
    transform_nodes.scale_field(part, node, percent)
    points = transform.fixed_grid.points("cpu").double()[::97].numpy()
    whole = from_parent(node, points) - points
    assert np.allclose(from_parent(part, points) - points, percent / 100 * whole, atol=1e-4)
    transform_nodes.write_displacement(node, displacement(transform, transform.fixed_grid, "forward") / 2,
                                  transform.fixed_grid.to_dict())
    transform_nodes.scale_field(part, node, percent)
    assert np.allclose(from_parent(part, points) - points, percent / 200 * whole, atol=1e-4)
    assert not part.GetSaveWithScene()


def test_only_a_deformation_has_a_part():
    with pytest.raises(NodeError, match="'linear' does not hold a deformation"):
        transform_nodes.scale_field(add_node("Transform"), add_linear(np.eye(4)), 50)


# ------------------------------------------------------------------------------------------- warped and hardened


def smooth_image(grid: Grid) -> np.ndarray:
    x, y, z = np.moveaxis(grid.points("cpu").numpy().reshape(*grid.shape, 3) - grid.center, -1, 0)
    blob = np.exp(-(x**2 + (y - 4)**2 + (1.2 * z)**2) / 600)
    return (1000 * blob + 60 * np.sin(x / 9) + 50 * np.cos(y / 11) + 40 * np.sin(z / 10)).astype(np.float32)


def itk_field(node) -> sitk.Transform:
    values, place = read_displacement(node)
    image = sitk.GetImageFromArray(values.astype(np.float64), isVector=True)
    image.SetSpacing(place["spacing"])
    image.SetOrigin(place["origin"])
    image.SetDirection(place["direction"])
    return sitk.DisplacementFieldTransform(image)


def as_sitk(array: np.ndarray, place: dict) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(place["spacing"])
    image.SetOrigin(place["origin"])
    image.SetDirection(place["direction"])
    return image


def warp(moving: volume_nodes.VolumeData, node, fixed: dict) -> np.ndarray:
    """The moving image on the fixed grid through a node's field, linear interpolation: what the worker sends."""
    result = sitk.Resample(as_sitk(moving.array, moving.geometry), fixed["size"], itk_field(node), sitk.sitkLinear,
                           fixed["origin"], fixed["spacing"], fixed["direction"], float(moving.array.min()))
    return sitk.GetArrayFromImage(result)


def difference(warped: sitk.Image, hardened: sitk.Image, inside: sitk.Image) -> float:
    """The largest difference, as a part of the range, where ``inside`` is 1: away from the borders."""
    there = sitk.GetArrayFromImage(sitk.Resample(hardened, warped, sitk.Transform(), sitk.sitkBSpline, math.nan))
    values, known = sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(inside) > 0.999
    assert known.mean() > 0.3 and np.isfinite(there[known]).all()
    return float(np.abs(values - there)[known].max() / np.ptp(values))


PARENTS = {"no parents": (None, None), "a parent of fixed": (turn_matrix(25, (30, -20, 10)), None),
           "a parent of moving": (None, turn_matrix(-15, (-12, 8, 5))),
           "parents of both": (turn_matrix(25, (30, -20, 10)), turn_matrix(-15, (-12, 8, 5), 1.1))}


@pytest.mark.parametrize("parents", PARENTS.values(), ids=PARENTS.keys())
def test_the_warped_volume_equals_the_moving_one_hardened(parents):
    fixed_node = add_volume(np.zeros((34, 30, 28), np.float32) + np.arange(28, dtype=np.float32), name="fixed")
    fixed_node.SetIJKToRASMatrix(as_vtk(turn_matrix(12, (-20, -25, -30), 1.7)))
    moving_node = add_volume(smooth_image(Grid((40, 36, 38), (1.5,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))))
    moving_node.SetIJKToRASMatrix(as_vtk(turn_matrix(40, (-20, -30, -25), 1.5)))
    for node, matrix in zip((fixed_node, moving_node), parents):
        if matrix is not None:
            node.SetAndObserveTransformNodeID(add_linear(matrix).GetID())
    fixed, moving = volume_nodes.read_volume(fixed_node, "fixed"), volume_nodes.read_volume(moving_node, "moving")
    fixed_grid, moving_grid = Grid.from_dict(fixed.geometry), Grid.from_dict(moving.geometry)
    affine = np.eye(4)
    affine[:3, 3] = moving_grid.center - fixed_grid.center
    field_grid = fixed_grid.padded(25)
    forward = written(ClosedForm(fixed_grid, moving_grid, affine, wavelength=50.0), "forward", field_grid)
    interior = np.zeros_like(moving.array)
    interior[(slice(3, -3),) * 3] = 1
    inside = warp(volume_nodes.VolumeData(interior, moving.geometry, ""), forward, fixed.geometry)
    warped_node = add_node("ScalarVolume", "warped")
    volume_nodes.write_volume(warped_node, warp(moving, forward, fixed.geometry), fixed.geometry)
    moving_node.HardenTransform()  # its own parents
    moving_node.SetAndObserveTransformNodeID(forward.GetID())
    moving_node.HardenTransform()
    warped, hardened = (as_sitk(slicer.util.arrayFromVolume(node), place_of(node))
                        for node in (warped_node, moving_node))
    assert difference(warped, hardened, as_sitk(inside, fixed.geometry)) < 0.005


def place_of(node) -> dict:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return node_geometry.geometry_from(node_geometry.numpy_matrix(matrix), node.GetImageData().GetDimensions())


def test_on_one_lattice_warped_and_hardened_are_the_same_to_a_ten_thousandth():
    grid = Grid((40, 36, 38), (1.5,) * 3, (9.0, -7.0, 5.0), tuple(np.eye(3).ravel()))
    moving_node = add_node("ScalarVolume", "moving")
    volume_nodes.write_volume(moving_node, smooth_image(grid), grid.to_dict())
    moving = volume_nodes.read_volume(moving_node, "moving")
    forward = written(ClosedForm(grid, wavelength=50.0), "forward", grid.padded(20))
    moving_node.SetAndObserveTransformNodeID(forward.GetID())
    moving_node.HardenTransform()  # onto its own lattice, its box grown
    expected = warp(moving, forward, place_of(moving_node))
    inner = (slice(8, -8),) * 3
    assert np.abs(slicer.util.arrayFromVolume(moving_node) - expected)[inner].max() < 1e-4 * np.ptp(expected)


# ------------------------------------------------------------------------------------------------ initial, labels


def test_an_initial_transform_is_read_as_the_map_that_resampling_needs():
    parent = add_linear(turn_matrix(20, (3, -4, 5), 1.2))
    node = add_linear(turn_matrix(-35, (10, 20, -30)), parent)
    moving = add_node("ScalarVolume", "moving")
    moving.SetAndObserveTransformNodeID(node.GetID())
    matrix = transform_nodes.read_initial(node)
    for point in np.random.default_rng(0).normal(size=(5, 3)) * 50:
        world = [0.0, 0.0, 0.0]
        moving.TransformPointToWorld(point, world)  # where the moving volume's point is shown
        back = matrix[:3, :3] @ (np.array(world) * FLIP) + matrix[:3, 3]
        assert np.allclose(back * FLIP, point, atol=1e-4)


def test_no_initial_transform_is_none_and_a_flat_one_is_refused():
    assert transform_nodes.read_initial(None) is None and not transform_nodes.bends(None)
    flat = np.eye(4)
    flat[2, 2] = 0
    with pytest.raises(NodeError, match="cannot be inverted"):
        transform_nodes.read_initial(add_linear(flat))


@pytest.mark.parametrize("inverted", [False, True])
def test_an_initial_transform_that_bends_is_read_as_displacements_with_its_parents(inverted):
    transform = tilted()
    node = written(transform, "forward", transform.fixed_grid.padded(30.0))
    node.SetAndObserveTransformNodeID(add_linear(turn_matrix(5, (3, -4, 5), 1.05)).GetID())
    if inverted:
        node.Inverse()
    assert transform_nodes.bends(node) and transform_nodes.read_initial(node) is None
    around = transform.fixed_grid
    values, geometry = run_now(transform_nodes.read_displacement(node, around.to_dict()))
    read = DisplacementMap(torch.from_numpy(values), Grid.from_dict(geometry))
    assert read.grid.contains(torch.from_numpy(around.corners())).all()
    general = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(general)
    for point in random_points(around, 40).double():
        expected = np.array(general.TransformPoint((point.numpy() * FLIP).tolist())) * FLIP
        assert np.linalg.norm(read.map(point[None])[0].numpy() - expected) < 0.2


def test_many_voxels_are_sampled_at_fewer_nodes(monkeypatch):
    monkeypatch.setattr(transform_nodes, "MOST_NODES", 1000)
    transform = tilted()
    node = written(transform, "forward", transform.fixed_grid)
    values, _ = run_now(transform_nodes.read_displacement(node, transform.fixed_grid.to_dict()))
    assert 300 < values[..., 0].size < 2500


def test_an_initial_transform_that_already_moves_the_volume_is_refused():
    node, other = add_linear(turn_matrix(5, (1, 2, 3))), add_linear(np.eye(4))
    moving = add_node("ScalarVolume", "MR")
    moving.SetAndObserveTransformNodeID(add_linear(np.eye(4), parent=node).GetID())
    with pytest.raises(NodeError, match="'linear' is already applied to the moving volume 'MR'"):
        transform_nodes.read_initial(node, moving)
    assert np.allclose(transform_nodes.read_initial(other, moving), np.eye(4))


def test_references_and_provenance_stay_with_the_node():
    node, fixed, moving = add_node("Transform"), add_node("ScalarVolume", "f"), add_node("ScalarVolume", "m")
    transform_nodes.set_references(node, fixed, moving)
    assert node.GetNodeReference("spatialRegistrationFixed") is fixed
    assert node.GetNodeReference("spatialRegistrationMoving") is moving
    transform_nodes.set_provenance(node, {"version": "0.1.0", "seed": 3, "gone": None})
    assert read_provenance(node) == {"version": "0.1.0", "seed": "3"}
    assert node.GetAttribute("NePhi.seed") == "3"


def test_displacements_that_do_not_fit_their_geometry_are_a_mistake():
    place = node_geometry.geometry_from(oblique_matrix(), (15, 12, 9))
    with pytest.raises(ValueError, match="do not fit"):
        transform_nodes.write_displacement(add_node("Transform"), np.zeros((15, 12, 9, 3), np.float32), place)
