"""A transform node through splines maps points as the engine's splines do, in Slicer and in the file it saves."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("slicer", reason="slicer-core is not installed")

from closed_form import ClosedForm, oblique_grid, partner_grid, tilted_affine
from mrml_scene import add_linear, add_node, new_scene, turn_matrix
from nephi.files.itk import faded
from nephi.geometry import random_points
from nephi.maps.sampled import sampled
from NePhiRegistrationLib.mrml import deformation_display, transform_nodes
from NePhiRegistrationLib.mrml.deformation_nodes import deformation, write_splines

FLIP = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(autouse=True)
def scene():
    return new_scene()


@pytest.fixture
def made():
    """A bent and tilted map through splines."""
    fixed = oblique_grid()
    return sampled(ClosedForm(fixed, partner_grid(ClosedForm(fixed, affine=tilted_affine())), tilted_affine()).forward)


def written(made):
    outward, node = faded(made.map.parts[0]), add_node("Transform", "forward")
    nodes = outward.lattice.window([-1] * 3, [n + 2 for n in outward.lattice.size])
    write_splines(node, outward.spline.coefficients.detach().float().numpy(), nodes.to_dict(), made.map.linear)
    return node


def through(node, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) LPS through a node's from-parent transform."""
    return np.array([node.GetTransformFromParent().TransformPoint(p) for p in (points * FLIP).tolist()]) * FLIP


def read_back(node, path: str):
    storage, copy = add_node("TransformStorage"), add_node("Transform", "copy")
    storage.SetFileName(path)
    assert storage.WriteData(node) and storage.ReadData(copy)
    return copy


def test_the_node_and_its_saved_copy_map_points_as_the_splines_do_within_the_image_and_around_it(made, tmp_path):
    node, domain = written(made), made.map.domain
    points = random_points(domain, 200, seed=3).double()
    expected = made.map.map(points).numpy()
    assert np.abs(through(node, points.numpy()) - expected).max() < 1e-3
    copy = read_back(node, str(tmp_path / "forward.h5"))
    around = random_points(domain.padded(60.0), 100, seed=4).double().numpy()
    assert np.abs(through(copy, around) - through(node, around)).max() < 1e-3
    far = np.array([[2000.0, -1500.0, 900.0]])
    assert np.allclose(through(node, far), far @ made.map.linear[:3, :3].T + made.map.linear[:3, 3])


def test_other_programs_read_the_saved_node_as_the_same_map(made, tmp_path):
    read_back(written(made), str(tmp_path / "forward.h5"))
    read = sitk.ReadTransform(str(tmp_path / "forward.h5"))
    for point in random_points(made.map.domain, 20, seed=3).double():
        assert np.allclose(read.TransformPoint(point.tolist()), made.map.map(point[None])[0], atol=1e-3)


def test_what_was_written_is_found_again_in_a_saved_copy_too(made, tmp_path):
    node = written(made)
    for held in (deformation(node), deformation(read_back(node, str(tmp_path / "t.h5")))):
        assert np.allclose(FLIP[:, None] * held.linear[:3, :3] * FLIP, made.map.linear[:3, :3])
        assert held.image.GetDimensions() == deformation(node).image.GetDimensions()
    points = made.map.domain.points("cpu").double()
    largest = float((made.map.map(points) - points).norm(dim=1).max())
    assert 0.7 * largest < deformation(node).largest < 1.2 * largest
    assert deformation(add_linear(turn_matrix(10, (1, 2, 3)))) is None and deformation(add_node("Transform")) is None


@pytest.mark.parametrize("percent", [0, 30, 100])
def test_a_part_of_a_deformation_moves_points_by_that_part(made, percent):
    node, part = written(made), add_node("Transform", "part")
    transform_nodes.scale_field(part, node, percent)
    points = random_points(made.map.domain, 50, seed=5).double()
    moved = made.map.map(points) - points
    assert np.allclose(through(part, points.numpy()), points + percent / 100 * moved, atol=1e-3)


def test_a_deformation_is_drawn_as_a_grid_and_as_arrows(made):
    node = written(made)
    spacing = deformation(node).side / deformation_display.LINES
    assert deformation_display.show_grid(node).GetGridSpacingMm() == pytest.approx(spacing)
    assert deformation_display.show_arrows(node).GetGlyphSpacingMm() == pytest.approx(spacing)


def test_a_parent_transform_of_the_node_is_taken_off(made):
    node, parent = written(made), add_linear(turn_matrix(10, (1, 2, 3)))
    node.SetAndObserveTransformNodeID(parent.GetID())
    write_splines(node, np.zeros((5, 5, 5, 3)), {**made.map.domain.to_dict(), "size": [5, 5, 5]}, np.eye(4))
    assert node.GetParentTransformNode() is None
    point = np.array([[3.0, 4.0, 5.0]])
    assert np.allclose(through(node, point), point)
