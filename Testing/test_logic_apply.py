"""Apply to: what belongs to one volume is carried to the other, by the exact map, and nothing of the user's is lost."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from logic_case import PHANTOM, QUICK, add_pair, content, engine
from mrml_scene import (
    add_linear,
    add_node,
    add_points,
    add_segmentation,
    add_volume,
    new_scene,
    read_bundle,
    turn_matrix,
)
from NePhiRegistrationLib.mrml import doubtful_places
from NePhiRegistrationLib.mrml.mask_nodes import read_mask
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.mrml.node_geometry import FLIP, ijk_to_ras, numpy_matrix
from NePhiRegistrationLib.mrml.slabs import run_now
from NePhiRegistrationLib.mrml.volume_nodes import read_volume
from NePhiRegistrationLib.session.logic import RegistrationLogic
from vtk.util import numpy_support

FORKS = PHANTOM.landmarks_moving.numpy() * FLIP  # RAS


class Registered:
    """A pair that is registered; the tests look at it and at nodes of their own."""

    def __init__(self) -> None:
        self.scene = new_scene()
        self.pair, self.logic = add_pair(), RegistrationLogic(engine())
        self.result = self.logic.register(self.pair.fixed, self.pair.moving, "lung-ct", **QUICK)
        self.forward, self.inverse = self.result.nodes.forward, self.result.nodes.inverse
        self.moving = slicer.util.arrayFromVolume(self.pair.moving)
        self.matrix = ijk_to_ras(read_volume(self.pair.moving, "moving").geometry)

    def one(self, node, **options):
        carried, = self.logic.applyTo([node], **options)
        assert carried.problem == "", carried.problem
        return carried


@pytest.fixture(scope="module")
def once():
    return Registered()


@pytest.fixture
def done(once):
    slicer.mrmlScene = once.scene
    return once


def add_model(points: np.ndarray, normals: bool = True):
    """A surface through points, triangles of every three of them."""
    surface, places, cells = vtk.vtkPolyData(), vtk.vtkPoints(), vtk.vtkCellArray()
    for point in points.tolist():
        places.InsertNextPoint(point)
    for first in range(len(points) - 2):
        cells.InsertNextCell(3, [first, first + 1, first + 2])
    surface.SetPoints(places)
    surface.SetPolys(cells)
    if normals:
        up = np.tile([0.0, 0.0, 1.0], (len(points), 1))
        surface.GetPointData().SetNormals(numpy_support.numpy_to_vtk(up, deep=True))
    node = add_node("Model", "vessel")
    node.SetAndObserveMesh(surface)
    node.CreateDefaultDisplayNodes()
    return node


def model_points(node) -> np.ndarray:
    return numpy_support.vtk_to_numpy(node.GetMesh().GetPoints().GetData()).copy()


def control_points(node) -> np.ndarray:
    return np.array([node.GetNthControlPointPositionWorld(n) for n in range(node.GetNumberOfControlPoints())])


def voxels(node) -> np.ndarray:
    return slicer.util.arrayFromVolume(node)


def mask(node, name: str, volume) -> np.ndarray:
    """A segment on the grid of a volume."""
    segment = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    return run_now(read_mask(node, segment, read_volume(volume, "fixed"), "fixed")).astype(bool)




# ------------------------------------------------------------------------------------------------ points


@pytest.mark.parametrize("to", ["fixed", "moving"])
def test_markups_and_models_follow_the_exact_map_either_way(done, to):
    expected = done.logic.applyToPoints(FORKS, to=to)
    curve = add_node("MarkupsCurve", "airway")
    for point in FORKS:
        curve.AddControlPoint(vtk.vtkVector3d(*point))
    curve.SetNthControlPointLabel(1, "carina")
    curve.SetNthControlPointDescription(1, "the first fork")
    curve.CreateDefaultDisplayNodes()
    curve.GetDisplayNode().SetSelectedColor(0.1, 0.2, 0.9)
    model = add_model(FORKS)
    first, second = done.logic.applyTo([curve, model], to=to)
    assert np.allclose(control_points(first.node), expected, atol=1e-3)
    assert np.allclose(model_points(second.node), expected, atol=1e-3)
    assert first.node.IsA("vtkMRMLMarkupsCurveNode") and first.node.GetName() == f"airway on {to}"
    assert (first.node.GetNthControlPointLabel(1), first.node.GetNthControlPointDescription(1)) == (
        "carina", "the first fork")
    assert np.allclose(first.node.GetDisplayNode().GetSelectedColor(), (0.1, 0.2, 0.9))
    assert np.allclose(control_points(curve), FORKS) and np.allclose(model_points(model), FORKS, atol=1e-4)
    assert second.node.GetMesh().GetPointData().GetNormals() is not None
    assert second.node.GetMesh().GetNumberOfCells() == model.GetMesh().GetNumberOfCells()


def test_parent_transforms_apply_first_and_are_taken_off_what_is_carried(done):
    matrix = turn_matrix(20, (4, -6, 3))
    parent = add_linear(matrix)
    local = (np.linalg.inv(matrix) @ np.c_[FORKS, np.ones(len(FORKS))].T)[:3].T
    points, model = add_points(local, "forks"), add_model(local)
    for node in (points, model):
        node.SetAndObserveTransformNodeID(parent.GetID())
    expected = done.logic.applyToPoints(FORKS, to="fixed")
    for carried in done.logic.applyTo([points, model]):
        there = model_points(carried.node) if carried.source is model else control_points(carried.node)
        assert np.allclose(there, expected, atol=2e-3) and carried.node.GetParentTransformNode() is None
        assert carried.source.GetParentTransformNode() is parent


# ------------------------------------------------------------------------------------------------ voxels


def test_another_volume_comes_as_the_warped_one_did_and_keeps_its_type(done):
    dose = add_volume(done.moving, done.matrix, "dose")
    counts = add_volume(np.round(done.moving).astype(np.int16), done.matrix, "counts")
    for node in (dose, counts):
        carried, warped = voxels(done.one(node).node), voxels(done.result.nodes.warped)
        assert carried.dtype == voxels(node).dtype and carried.shape == warped.shape
        assert np.quantile(np.abs(carried - warped), 0.99) < 0.03 * np.ptp(warped)


def test_a_parent_transform_of_a_volume_is_honoured_and_so_is_one_that_bends(done):
    plain = voxels(done.one(add_volume(done.moving, done.matrix, "plain")).node)
    matrix = turn_matrix(15, (4, -6, 3))
    turned = add_volume(done.moving, np.linalg.inv(matrix) @ done.matrix, "turned")
    turned.SetAndObserveTransformNodeID(add_linear(matrix).GetID())
    assert np.abs(voxels(done.one(turned).node) - plain).max() < 0.01 * np.ptp(plain)
    bent = add_volume(done.moving, done.matrix, "bent")
    spline = vtk.vtkThinPlateSplineTransform()
    places = [vtk.vtkPoints(), vtk.vtkPoints()]
    for point in np.ndindex(2, 2, 2):
        for end, shift in zip(places, (0, 7)):
            end.InsertNextPoint(*(np.array(point) * 400.0 - 200 + (shift, 0, 0)))
    spline.SetSourceLandmarks(places[0])
    spline.SetTargetLandmarks(places[1])
    spline.SetBasisToR()
    parent = add_node("Transform", "bend")
    parent.SetAndObserveTransformToParent(spline)
    shifted = done.matrix.copy()
    shifted[0, 3] -= 7
    bent.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(shifted))
    bent.SetAndObserveTransformNodeID(parent.GetID())
    assert np.abs(voxels(done.one(bent).node) - plain).max() < 0.02 * np.ptp(plain)


def test_labels_stay_the_numbers_they_are(done):
    labels = np.where(PHANTOM.moving_mask.numpy(), 70000, 0).astype(np.int32)
    labels[:, :, : labels.shape[2] // 2][labels[:, :, : labels.shape[2] // 2] > 0] = 3
    node = add_volume(labels, done.matrix, "lobes", "LabelMapVolume")
    carried = done.one(node).node
    assert carried.IsA("vtkMRMLLabelMapVolumeNode") and voxels(carried).dtype == np.int32
    assert set(np.unique(voxels(carried))) == {0, 3, 70000}


def test_colours_are_carried_component_by_component(done):
    grey = (done.moving - done.moving.min()) / np.ptp(done.moving)
    colour = np.stack([grey * 200, 255 - grey * 200, grey * 50], -1).astype(np.uint8)
    node = add_node("VectorVolume", "colour")
    slicer.util.updateVolumeFromArray(node, colour)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(done.matrix))
    carried = voxels(done.one(node).node)
    inside = carried[..., 1] > 0
    assert carried.shape[-1] == 3 and carried.dtype == np.uint8
    assert np.abs(carried[inside].astype(int)[:, :2].sum(1) - 255).max() <= 2


@pytest.mark.parametrize("to", ["fixed", "moving"])
def test_segments_keep_their_names_colours_and_tags_either_way(done, to):
    there, matrix = PHANTOM.moving_mask.numpy(), done.matrix
    if to == "moving":
        there, matrix = PHANTOM.fixed_mask.numpy(), ijk_to_ras(PHANTOM.fixed.grid.to_dict())
    left = there & (np.arange(there.shape[2]) < there.shape[2] // 2)
    node = add_segmentation({"both": there, "left": left}, matrix, f"for {to}")
    segment = node.GetSegmentation().GetNthSegment(1)
    segment.SetColor(0.2, 0.4, 0.6)
    segment.SetTag("TerminologyEntry", "lung")
    carried = done.one(node, to=to).node
    ids = [[one.GetSegmentation().GetNthSegmentID(n) for n in range(2)] for one in (carried, node)]
    other, tag = carried.GetSegmentation().GetNthSegment(1), vtk.mutable("")
    assert ids[0] == ids[1] and other.GetName() == "left" and np.allclose(other.GetColor(), (0.2, 0.4, 0.6))
    assert other.GetTag("TerminologyEntry", tag) and tag == "lung"
    target, reference = getattr(PHANTOM, f"{to}_mask").numpy(), getattr(done.pair, to)
    both = mask(carried, "both", reference)
    assert 2 * (both & target).sum() / (both.sum() + target.sum()) > 0.9
    half = mask(carried, "left", reference)
    assert 0 < half.sum() < both.sum() and not (half & ~both).any()
    assert node.GetSegmentation().GetNthSegment(1).GetRepresentation("Binary labelmap") is not None


# --------------------------------------------------------------------------------- hardened, and what cannot be


def test_hardening_changes_the_nodes_themselves_and_can_be_undone(done):
    volume = add_volume(done.moving, done.matrix, "dose")
    segments = add_segmentation({"lung": PHANTOM.moving_mask.numpy()}, done.matrix)
    points, model, parent = add_points(FORKS), add_model(FORKS), add_linear(np.eye(4))
    points.SetAndObserveTransformNodeID(parent.GetID())
    nodes, before, told = [volume, segments, points, model], content(), []
    segments.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: told.append(len(told)))
    expected = done.logic.applyToPoints(FORKS)
    carried = done.logic.applyTo(nodes, harden=True)
    assert [one.node for one in carried] == nodes and content() == before
    assert np.allclose(control_points(points), expected, atol=1e-3) and points.GetParentTransformNode() is None
    assert np.allclose(model_points(model), expected, atol=1e-3)
    assert voxels(volume).shape == voxels(done.pair.fixed).shape and told == [0]
    for one in carried:
        one.undo()
    assert told == [0, 1]
    assert np.allclose(control_points(points), FORKS) and points.GetParentTransformNode() is parent
    assert np.allclose(model_points(model), FORKS, atol=1e-4)
    assert np.array_equal(voxels(volume), done.moving)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    assert np.allclose(numpy_matrix(matrix), done.matrix)
    assert np.array_equal(mask(segments, "lung", done.pair.moving), PHANTOM.moving_mask.numpy())


def test_what_cannot_be_carried_is_told_in_a_sentence_and_the_rest_is_carried(done):
    box, empty = add_node("MarkupsROI", "box"), add_node("MarkupsFiducial", "none")
    under = add_points(FORKS, "under")
    under.SetAndObserveTransformNodeID(done.forward.GetID())
    tensors = add_node("DiffusionTensorVolume", "tensors")
    far = add_volume(done.moving, turn_matrix(0, (9000, 0, 0)) @ done.matrix, "far")
    away = add_segmentation({"away": PHANTOM.moving_mask.numpy()}, turn_matrix(0, (9000, 0, 0)) @ done.matrix, "apart")
    before = content()
    carried = done.logic.applyTo([box, empty, under, tensors, far, away, add_points(FORKS, "fine"), done.forward])
    problems = [one.problem for one in carried]
    for problem, words in zip(problems, ("cannot bend", "no points", "would move it twice", "directions in each voxel",
                                         "Nothing of 'far'", "Nothing of 'apart'", "", "is no volume")):
        assert words in problem and (problem.count(".") == 1) == bool(words)
    assert content() - before == {"fine", "fine on fixed"}
    assert done.logic.applyTo([done.pair.moving], harden=True)[0].problem.startswith("'out' was registered")


def test_a_transform_that_leaves_the_scene_on_the_way_still_knows_its_volumes():
    alone, carried = Registered(), []
    node = add_segmentation({"lung": PHANTOM.moving_mask.numpy()}, alone.matrix, "late")
    steps = alone.logic.applyToGradually([node], carried.append, transform=alone.forward)
    slicer.mrmlScene.RemoveNode(alone.forward)
    run_now(steps)
    assert carried[0].node is not None, carried[0].problem


def test_hardening_never_loses_a_segment(done):
    node = add_segmentation({"lung": PHANTOM.moving_mask.numpy()}, done.matrix, "lungs")
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap"))
    image.SetOrigin(9000, 0, 0)
    node.AddSegmentFromBinaryLabelmapRepresentation(image, "far")
    carried = done.logic.applyTo([node], harden=True)[0]
    assert carried.node is None and carried.problem.startswith("Nothing of 'far' of 'lungs' would be left")
    assert np.array_equal(mask(node, "lung", done.pair.moving), PHANTOM.moving_mask.numpy())
    assert done.logic.applyTo([node])[0].node.GetSegmentation().GetNumberOfSegments() == 2


def test_the_grid_is_the_moving_volumes_own_where_that_lies_under_the_result(done):
    node = add_volume(voxels(done.pair.fixed), ijk_to_ras(read_volume(done.pair.fixed, "fixed").geometry), "fixed too")
    expected = voxels(done.one(node, to="moving").node)
    done.pair.moving.SetAndObserveTransformNodeID(done.forward.GetID())
    try:
        carried = done.one(node, to="moving").node
    finally:
        done.pair.moving.SetAndObserveTransformNodeID(None)
    assert np.array_equal(voxels(carried), expected)


def test_what_may_belong_is_listed_without_the_result_and_with_what_is_in_the_way(done):
    add_node("MarkupsPlane", "plane")
    carried = done.one(add_points(FORKS, "listed")).node
    names = {one.node.GetName(): one for one in done.logic.belongings("fixed")}
    assert names["listed"].kind == "markups" and names["listed"].obstacle == ""
    assert "cannot bend" in names["plane"].obstacle
    outputs = {node.GetName() for _name, node in done.result.nodes.nodes()}
    hidden = {"in", "out", carried.GetName()} | outputs
    assert not hidden & set(names) and carried.GetName() in {
        one.node.GetName() for one in done.logic.belongings("moving")}


def test_a_transform_of_a_saved_scene_carries_too_and_one_without_a_map_is_refused(tmp_path):
    made = Registered()
    path = str(tmp_path / "scene.mrb")
    add_points(FORKS, "forks")
    expected, names = made.logic.applyToPoints(FORKS), (made.forward.GetName(), made.inverse.GetName())
    assert slicer.mrmlScene.WriteToMRB(path, None)
    read_bundle(path)
    forward, inverse = (slicer.mrmlScene.GetFirstNodeByName(name) for name in names)
    later, forks = RegistrationLogic(engine()), slicer.mrmlScene.GetFirstNodeByName("forks")
    carried, = later.applyTo([forks], transform=forward)
    assert np.allclose(control_points(carried.node), expected, atol=1e-3)
    forks.SetAndObserveTransformNodeID(inverse.GetID())
    assert "would move it twice" in later.applyTo([forks], transform=forward)[0].problem
    listed = {one.node.GetName() for one in later.belongings(transform=forward)}
    assert listed == {"forks", "forks in", "forks out", "lungs in", "lungs out"}
    with pytest.raises(NodeError, match="register first"):
        later.applyTo([forks])
    with pytest.raises(NodeError, match="The destination is 'back'"):
        later.applyTo([forks], "back", forward)


@pytest.mark.parametrize("broken, sentence", [
    (lambda: None, "None is no node"), (lambda: add_points(np.array([[np.nan, 0.0, 0.0]]), "nan"), "are not finite"),
    (lambda: add_without_segmentation(), "has no segments")])
def test_what_is_broken_is_a_sentence_and_the_others_are_carried(done, broken, sentence):
    nodes = [broken(), add_points(FORKS, "sound")]
    first, second = done.logic.applyTo(nodes)
    assert sentence in first.problem and second.problem == ""
    done.logic.belongings("fixed")
    for node in filter(None, nodes):
        slicer.mrmlScene.RemoveNode(node)


def test_one_node_may_be_given_alone(done):
    carried, = done.logic.applyTo(add_points(FORKS, "alone"))
    assert carried.problem == ""


def add_without_segmentation():
    node = add_node("Segmentation", "nothing")
    node.SetAndObserveSegmentation(None)
    return node


def test_doubtful_places_are_listed_for_scripts(done):
    node = done.logic.doubtfulPlaces()
    places = doubtful_places.load(done.result.nodes.table)
    assert node.GetNumberOfControlPoints() == len(places) and done.logic.doubtfulPlaces(done.result.nodes.table) is node
    assert node not in [one.node for one in done.logic.belongings("fixed")]
    with pytest.raises(NodeError, match="There is no table of a registration"):
        RegistrationLogic(engine()).doubtfulPlaces()


def test_the_error_map_covers_the_fixed_volume_and_its_mean_is_about_the_estimate(done):
    node = done.logic.errorMap()
    values = slicer.util.arrayFromVolume(node)
    assert values.shape == slicer.util.arrayFromVolume(done.pair.fixed).shape
    known = values[values >= 0]
    assert len(known) > 0.05 * values.size
    assert known.mean() == pytest.approx(done.result.metrics["residual_mm"]["estimate"], rel=0.4)
