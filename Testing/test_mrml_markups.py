"""Landmark lists are read in the world, in LPS, and lists that cannot be pairs are refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_scene import add_linear, add_node, add_points, add_volume, new_scene, noise, turn_matrix
from NePhiRegistrationLib.mrml import landmark_nodes, volume_nodes
from NePhiRegistrationLib.mrml.node_error import NodeError

POINTS = np.random.default_rng(0).uniform(1, 7, (5, 3))  # RAS


@pytest.fixture(autouse=True)
def scene():
    return new_scene()


def test_pairs_are_lps_and_in_the_order_of_the_lists():
    fixed, moving = landmark_nodes.read_landmark_pairs(add_points(POINTS), add_points(POINTS[::-1] + 2))
    assert np.allclose(fixed, POINTS * (-1, -1, 1))
    assert np.allclose(moving, (POINTS[::-1] + 2) * (-1, -1, 1))


def test_parent_transforms_of_the_lists_are_honoured():
    move = turn_matrix(25, (12, -8, 20))
    node = add_points(POINTS)
    node.SetAndObserveTransformNodeID(add_linear(move).GetID())
    expected = (POINTS @ move[:3, :3].T + move[:3, 3]) * (-1, -1, 1)
    assert np.allclose(landmark_nodes.read_landmark_pairs(node, add_points(POINTS))[0], expected)


def test_no_lists_are_no_pairs():
    assert landmark_nodes.read_landmark_pairs(None, None) is None


def unplaced():
    node = add_points(POINTS, "U")
    node.UnsetNthControlPointPosition(2)
    return node


@pytest.mark.parametrize("fixed, moving, sentence", [
    (lambda: add_points(POINTS), lambda: None, "There are fixed landmarks but no moving landmarks"),
    (lambda: None, lambda: add_points(POINTS), "There are moving landmarks but no fixed landmarks"),
    (lambda: add_points(POINTS), lambda: add_points(POINTS[:3]), "There are 5 fixed and 3 moving landmarks"),
    (lambda: add_node("MarkupsFiducial", "F"), lambda: add_points(POINTS), "The fixed list 'F' has no points"),
    (unplaced, lambda: add_points(POINTS), "Point 3 of the fixed list 'U' is not placed"),
    (lambda: add_points(np.vstack([POINTS[:2], np.full((1, 3), np.nan)]), "N"), lambda: add_points(POINTS),
     "Point 3 of the fixed list 'N' is not placed"),
    (lambda: add_node("Transform", "T"), lambda: add_points(POINTS), "The fixed list 'T' is not a markups node"),
])
def test_lists_that_are_no_pairs_are_refused_in_a_sentence(fixed, moving, sentence):
    with pytest.raises(NodeError) as error:
        landmark_nodes.read_landmark_pairs(fixed(), moving())
    assert sentence in str(error.value) and str(error.value).endswith(".")


def test_one_list_for_both_is_refused():
    node = add_points(POINTS, "both")
    with pytest.raises(NodeError, match="'both' is chosen for the fixed and the moving landmarks"):
        landmark_nodes.read_landmark_pairs(node, node)


def test_points_outside_their_volume_are_counted_and_the_first_is_named():
    volume = volume_nodes.read_volume(add_volume(noise((9, 9, 9)), name="CT"), "fixed")  # RAS 0 to 8
    landmark_nodes.read_landmark_pairs(add_points(POINTS), add_points(POINTS + 100), volume)
    points = POINTS.copy()
    points[3, 0], points[4, 1] = -3.0, 9.0
    with pytest.raises(NodeError, match="2 of 5 points of 'P' lie outside the fixed volume 'CT', P-4 first"):
        landmark_nodes.read_landmark_pairs(add_points(points, "P"), add_points(POINTS), volume)


def test_points_are_written_to_where_they_are_read_with_the_labels_of_their_source():
    source, node = add_points(POINTS, "source"), add_points(POINTS[:2], "target")
    node.SetAndObserveTransformNodeID(add_linear(turn_matrix(5, (1, 2, 3))).GetID())
    source.SetNthControlPointLabel(1, "carina")
    landmark_nodes.write_points(node, POINTS * 2, like=source)
    assert np.allclose(landmark_nodes.read_points(node), POINTS * 2)
    assert node.GetNumberOfControlPoints() == 5 and node.GetNthControlPointLabel(1) == "carina"
