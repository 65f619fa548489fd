"""Masks and labels come from segmentations and label maps of any geometry; useless ones are refused in a sentence."""

from __future__ import annotations

import logging

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
import vtk
from mrml_scene import (
    add_linear,
    add_node,
    add_segmentation,
    add_volume,
    as_vtk,
    new_scene,
    noise,
    oblique_matrix,
    turn_matrix,
)
from nephi.geometry import Grid
from nephi.images import masks
from NePhiRegistrationLib.mrml import carried_segmentation, mask_nodes, node_geometry, transform_nodes, volume_nodes
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.mrml.slabs import run_now
from NePhiRegistrationLib.mrml.vtk_images import new_image, onto

SHAPE = (20, 24, 28)


@pytest.fixture(autouse=True)
def scene():
    return new_scene()


def box(*bounds: tuple[int, int], shape=SHAPE) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(*b) for b in bounds)] = 1
    return mask


LUNG, HEART = box((4, 12), (5, 15), (6, 20)), box((10, 16), (12, 20), (14, 24))


def volume(node=None) -> volume_nodes.VolumeData:
    return volume_nodes.read_volume(node or add_volume(noise(SHAPE), oblique_matrix(), name="CT"), "fixed")


def id_of(node, name: str) -> str:
    return node.GetSegmentation().GetSegmentIdBySegmentName(name)


def test_on_the_volumes_own_grid_a_mask_is_voxel_for_voxel():
    node = add_segmentation({"lung": LUNG}, oblique_matrix())
    mask = run_now(mask_nodes.read_mask(node, None, volume(), "fixed"))
    assert mask.dtype == np.uint8 and np.array_equal(mask, LUNG)


def test_all_visible_segments_count_or_the_one_that_is_chosen(caplog):
    node = add_segmentation({"lung": LUNG, "heart": HEART}, oblique_matrix())
    image = volume()
    assert np.array_equal(run_now(mask_nodes.read_mask(node, None, image, "fixed")), LUNG | HEART)
    assert np.array_equal(run_now(mask_nodes.read_mask(node, id_of(node, "heart"), image, "fixed")), HEART)
    node.GetDisplayNode().SetSegmentVisibility(id_of(node, "heart"), False)
    with caplog.at_level(logging.INFO):
        assert np.array_equal(run_now(mask_nodes.read_mask(node, "", image, "fixed")), LUNG)
    assert f"fixed mask 'segmentation' is lung, {LUNG.sum()} voxels" in caplog.text


def test_a_label_map_counts_where_it_is_not_zero():
    node = add_volume((3 * LUNG + 2 * (HEART & ~LUNG)).astype(np.int16), oblique_matrix(), kind="LabelMapVolume")
    assert np.array_equal(run_now(mask_nodes.read_mask(node, None, volume(), "fixed")), LUNG | HEART)


def test_no_node_is_no_mask():
    assert run_now(mask_nodes.read_mask(None, None, volume(), "fixed")) is None


def other_geometry() -> np.ndarray:
    """The same box as the volume's, in finer voxels and other directions."""
    matrix = oblique_matrix()
    return matrix @ np.array([[0, 0.5, 0, 0], [0.5, 0, 0, 0], [0, 0, -0.5, SHAPE[0] - 1], [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", ["segmentation", "label map"])
def test_a_mask_of_another_geometry_lands_in_the_same_place(kind):
    fine = np.zeros((2 * SHAPE[0], 2 * SHAPE[2], 2 * SHAPE[1]), np.uint8)
    fine[10:24, 12:34, 8:30] = 1
    make = {"segmentation": lambda: add_segmentation({"a": fine}, other_geometry()),
            "label map": lambda: add_volume(fine, other_geometry(), kind="LabelMapVolume")}
    mask = run_now(mask_nodes.read_mask(make[kind](), None, volume(), "fixed"))
    k, j, i = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    back = np.linalg.inv(other_geometry()) @ oblique_matrix()
    a, b, c = np.tensordot(back[:3, :3], np.stack([i, j, k]), 1) + back[:3, 3].reshape(3, 1, 1, 1)
    expected = (a > 7.5) & (a < 29.5) & (b > 11.5) & (b < 33.5) & (c > 9.5) & (c < 23.5)
    assert np.array_equal(mask, expected)


def test_parents_of_the_mask_and_of_the_volume_are_both_honoured():
    move = turn_matrix(1.5, (4, -3, 5))
    node = add_segmentation({"lung": LUNG}, oblique_matrix())
    image = add_volume(noise(SHAPE), oblique_matrix())
    node.SetAndObserveTransformNodeID(add_linear(move).GetID())
    shifted = run_now(mask_nodes.read_mask(node, None, volume(image), "fixed"))
    assert shifted.any() and not np.array_equal(shifted, LUNG)
    image.SetAndObserveTransformNodeID(add_linear(move).GetID())
    assert np.array_equal(run_now(mask_nodes.read_mask(node, None, volume(image), "fixed")), LUNG)


def without_header(mask: np.ndarray, kind: str, spacing=1.0):
    """A mask whose file had no geometry, as Slicer loads it: a label map, or a segmentation made of one."""
    matrix = np.diag([-spacing, -spacing, spacing, 1.0])
    if kind == "label map":
        return add_volume(mask, matrix, kind="LabelMapVolume", name="M")
    node = add_segmentation({"a": mask}, matrix, name="M")
    geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(as_vtk(matrix), new_image(mask))
    node.GetSegmentation().SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(), geometry)
    return node


@pytest.mark.parametrize("kind", ["label map", "segmentation"])
def test_a_mask_that_lost_its_header_is_taken_voxel_by_voxel_with_a_warning(kind, caplog):
    mask = run_now(mask_nodes.read_mask(without_header(LUNG, kind), None, volume(), "fixed"))
    assert np.array_equal(mask, LUNG)
    assert "fixed mask 'M' has lost its header" in caplog.text and "voxel by voxel" in caplog.text
    labels = run_now(mask_nodes.read_labels(without_header(LUNG, kind), volume(), "fixed"))
    assert np.array_equal(labels.array, LUNG)


@pytest.mark.parametrize("kind", ["label map", "segmentation"])
@pytest.mark.parametrize("shape", [SHAPE[::-1], (20, 24, 26)])
def test_a_lost_header_with_another_size_or_order_of_axes_is_refused(kind, shape):
    node = without_header(box((4, 12), (5, 15), (6, 20), shape=shape), kind)
    with pytest.raises(NodeError, match=r"The fixed mask 'M' has lost its header \(origin 0\) and has .* voxels, not"):
        run_now(mask_nodes.read_mask(node, None, volume(), "fixed"))


@pytest.mark.parametrize("spacing", [1.0, 2.0, 0.7])
@pytest.mark.parametrize("origin", [0.0, 3.0, -40.0])
@pytest.mark.parametrize("own", [(20, 24, 28), (9, 30, 12)])
def test_slicer_and_the_engine_tell_a_lost_header_by_the_same_rule(spacing, origin, own):
    beside = Grid((28, 24, 20), (2.0,) * 3, (origin, -origin, origin), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    grid = Grid(own, (spacing,) * 3, (0.0,) * 3, beside.direction)
    said = masks._says_nothing(grid, beside) and min(masks._share(grid, beside), masks._share(beside, grid)) < 0.5
    assert node_geometry.lost(grid.to_dict(), beside.to_dict()) == said


def sphere(center, radius: float):
    source = vtk.vtkSphereSource()
    source.SetCenter(*center)
    source.SetRadius(radius)
    source.SetThetaResolution(60)
    source.SetPhiResolution(60)
    source.Update()
    node = add_node("Segmentation", "surface")
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.AddSegmentFromClosedSurfaceRepresentation(source.GetOutput(), "ball", [1, 0, 0])
    return node


def test_a_segment_that_is_only_a_surface_is_filled_and_not_converted():
    image = volume()
    center = (oblique_matrix() @ [14, 12, 10, 1])[:3]
    node = sphere((0, 0, 0), 9.0)
    shift = np.eye(4)
    shift[:3, 3] = center
    node.SetAndObserveTransformNodeID(add_linear(shift).GetID())
    mask = run_now(mask_nodes.read_mask(node, None, image, "fixed"))
    index = np.stack(np.meshgrid(*map(np.arange, reversed(SHAPE)), indexing="ij"), -1)
    distance = np.linalg.norm(index @ oblique_matrix()[:3, :3].T + oblique_matrix()[:3, 3] - center, axis=-1).T
    assert np.all(mask[distance < 8.7] == 1) and np.all(mask[distance > 9.3] == 0)
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def hidden():
    node = add_segmentation({"lung": LUNG}, oblique_matrix())
    node.GetDisplayNode().SetSegmentVisibility(id_of(node, "lung"), False)
    return node


def elsewhere():
    matrix = oblique_matrix()
    matrix[:3, 3] += 500
    return add_segmentation({"lung": LUNG}, matrix)


@pytest.mark.parametrize("make, segment, sentence", [
    (lambda: add_node("Segmentation", "S"), None, "The fixed mask 'S' has no segments"),
    (hidden, None, "has no visible segment"),
    (lambda: add_segmentation({"lung": LUNG}, oblique_matrix()), "nonsense", "has no segment nonsense"),
    (lambda: add_segmentation({"lung": 0 * LUNG}, oblique_matrix()), None, "is empty"),
    (lambda: add_volume(0 * LUNG, kind="LabelMapVolume"), None, "is empty"),
    (lambda: add_node("LabelMapVolume", "L"), None, "The fixed mask 'L' holds no image"),
    (elsewhere, None, "does not overlap the fixed volume 'CT'"),
    (lambda: add_volume(noise(), name="MR"), None, "'MR' is neither a segmentation nor a label map"),
])
def test_a_mask_that_is_of_no_use_is_refused_in_a_sentence(make, segment, sentence):
    with pytest.raises(NodeError) as error:
        run_now(mask_nodes.read_mask(make(), segment, volume(), "fixed"))
    assert sentence in str(error.value) and str(error.value).endswith(".")


def test_labels_are_matched_by_the_names_of_segments():
    image = volume()
    both = add_segmentation({"lung": LUNG, "only here": HEART}, oblique_matrix())
    fixed = run_now(mask_nodes.read_labels(both, image, "fixed"))
    other = add_segmentation({"heart": HEART, "lung": LUNG}, oblique_matrix())
    moving = run_now(mask_nodes.read_labels(other, image, "moving"))
    assert fixed.names == {1: "lung", 2: "only here"}
    matched = run_now(mask_nodes.match_labels(fixed, moving))
    assert matched[0].names == matched[1].names == {1: "lung"}
    assert np.array_equal(matched[0].array, LUNG & ~HEART)
    assert np.array_equal(matched[1].array, LUNG)
    with pytest.raises(NodeError, match=r"\(lung, only here\) .* \(5\) share no name"):
        labels = add_volume((5 * LUNG).astype(np.int16), oblique_matrix(), kind="LabelMapVolume")
        run_now(mask_nodes.match_labels(fixed, run_now(mask_nodes.read_labels(labels, image, "moving"))))


def test_label_maps_keep_their_numbers_as_names():
    array = (2 * LUNG + 7 * (HEART & ~LUNG)).astype(np.int16)
    node = add_volume(array, oblique_matrix(), kind="LabelMapVolume")
    labels = run_now(mask_nodes.read_labels(node, volume(), "fixed"))
    assert np.array_equal(labels.array, array) and labels.names == {2: "2", 7: "7"}


@pytest.mark.parametrize("kind, label", [(np.uint8, 255), (np.int32, 614454277), (np.uint32, 4000000001),
                                         (np.float64, 4000000001)])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_large_labels_keep_their_numbers_on_the_same_grid_and_on_another(kind, label, shift):
    matrix, array = oblique_matrix(), LUNG.astype(kind) * label
    matrix[:3, 3] += shift * matrix[:3, 0]
    node = add_volume(array - (HEART & LUNG).astype(kind), matrix, kind="LabelMapVolume")
    labels = run_now(mask_nodes.read_labels(node, volume(), "fixed"))
    assert labels.names == {label - 1: str(label - 1), label: str(label)}
    fixed, moving = run_now(mask_nodes.match_labels(labels, labels))
    assert fixed.names == {1: str(label - 1), 2: str(label)} and np.array_equal(fixed.array, moving.array)
    assert np.array_equal(fixed.array, np.where(LUNG, np.where(HEART, 1, 2), 0))


def test_label_maps_of_fractions_are_refused():
    node = add_volume(LUNG * 0.5, oblique_matrix(), kind="LabelMapVolume", name="soft")
    with pytest.raises(NodeError, match="labels 'soft' have 1120 voxels that are not whole numbers"):
        run_now(mask_nodes.read_labels(node, volume(), "fixed"))


@pytest.mark.parametrize("make", [lambda: add_segmentation({"lung": LUNG, "heart": HEART}, oblique_matrix()),
                                  lambda: add_volume(LUNG, oblique_matrix(), kind="LabelMapVolume", name="lung")])
def test_segments_are_carried_by_a_transform_with_names_and_colours(make):
    source, image = make(), volume()
    step = oblique_matrix()[:3, :3] @ (3, -2, 1)  # whole voxels, RAS
    shift = np.eye(4)
    shift[:3, 3] = 2 * step
    source.SetAndObserveTransformNodeID(add_linear(shift).GetID())
    back = add_node("Transform", "back")
    grid = {"size": [4, 4, 4], "spacing": [200.0] * 3, "origin": [-300.0, -300.0, -700.0],
            "direction": np.eye(3).ravel().tolist()}
    shift = np.broadcast_to((step * (-1, -1, 1)).astype(np.float32), (4, 4, 4, 3))
    transform_nodes.write_displacement(back, shift, grid)
    target = add_segmentation({"old": HEART}, np.eye(4), "target")
    carried_segmentation.carry_segments(target, source, back, image.geometry)  # in all one step
    moved = np.zeros_like(LUNG)
    moved[5:13, 3:13, 9:23] = 1
    assert np.array_equal(run_now(mask_nodes.read_mask(target, id_of(target, "lung"), image, "fixed")), moved)
    if source.IsA("vtkMRMLSegmentationNode"):
        color = [node.GetSegmentation().GetSegment(id_of(node, "heart")).GetColor() for node in (source, target)]
        assert color[0] == color[1] and not id_of(target, "old")


def test_every_label_of_a_label_map_is_carried_as_a_segment_with_its_number():
    first, second = 614454277, 4000000001
    source = add_volume(np.where(HEART, second, np.where(LUNG, first, 0)).astype(np.uint32), oblique_matrix(), "atlas",
                        "LabelMapVolume")
    target, image = add_segmentation({"old": HEART}, np.eye(4), "target"), volume()
    carried_segmentation.carry_segments(target, source, add_linear(np.eye(4)), image.geometry)
    segmentation = target.GetSegmentation()
    found = [segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments())]
    assert [segment.GetName() for segment in found] == [str(first), str(second)]
    assert segmentation.GetNumberOfLayers() == 1 and found[0].GetColor() != found[1].GetColor()
    for label, expected in ((first, LUNG > HEART), (second, HEART)):
        mask = run_now(mask_nodes.read_mask(target, id_of(target, str(label)), image, "fixed"))
        assert np.array_equal(mask, expected)


@pytest.mark.parametrize("turned", [0.0, 1e-9, 0.4])
def test_a_segmentation_on_the_volumes_lattice_is_taken_over_as_it_is_and_any_other_resampled(turned):
    """Both ways must say the same; a smaller and shifted extent is filled up with nothing."""
    image, place = volume(), oblique_matrix()
    crop = LUNG[2:, 1:-1, :-3]
    moved = place.copy()
    moved[:3, 3] += place[:3, :3] @ [0, 1, 2]
    moved[:3, :3] = moved[:3, :3] @ turn_matrix(turned, (0, 0, 1))[:3, :3]
    node = add_segmentation({"lung": crop}, moved)
    (part,) = mask_nodes.parts(node, None, "x")
    assert (mask_nodes._on_lattice(part.shape, image.geometry) is None) == (turned == 0.4)
    expected = onto(part.shape, image.geometry) == part.label
    assert np.array_equal(run_now(mask_nodes.read_mask(node, None, image, "fixed")), expected)
    if turned < 0.4:
        whole = np.zeros_like(LUNG)
        whole[2:, 1:-1, :-3] = crop
        assert np.array_equal(expected, whole)
