"""What scripts do with a transform: go on, measure, carry points and segments, many pairs, files."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from logic_case import BARE, PHANTOM, QUICK, Told, add_pair, content, engine, logic, spin  # noqa: F401
from mrml_scene import add_node, add_points, add_segmentation, add_volume, as_vtk, new_scene, read_bundle
from NePhiRegistrationLib.mrml import mask_nodes, transform_archive, volume_nodes
from NePhiRegistrationLib.mrml.deformation_nodes import deformation
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.mrml.node_geometry import FLIP, ijk_to_ras
from NePhiRegistrationLib.mrml.slabs import run_now
from NePhiRegistrationLib.session.logic import Inputs, Outputs, RegistrationError, RegistrationLogic
from written_nodes import read_displacement, read_provenance

POINTS = PHANTOM.landmarks_fixed.numpy() * FLIP  # RAS


class Registered:
    """A pair that is registered; the tests look at it and at nodes of their own."""

    def __init__(self) -> None:
        self.scene = new_scene()
        self.pair, self.logic = add_pair(), RegistrationLogic(engine())
        self.result = self.logic.register(self.pair.fixed, self.pair.moving, "lung-ct", **self.pair.judges,
                                          **{**QUICK, "iterations": [6]})


@pytest.fixture(scope="module")
def once():
    return Registered()


@pytest.fixture
def registered(once):
    slicer.mrmlScene = once.scene
    return once


# ------------------------------------------------------------------------------------------------------- points


def test_an_array_of_points_goes_to_the_moving_image_and_back(registered):
    there = registered.logic.applyToPoints(POINTS, to="moving")
    from_parent = registered.result.nodes.forward.GetTransformFromParent()
    mapped, voxel = [from_parent.TransformPoint(point) for point in POINTS], registered.result.nodes.warped.GetSpacing()
    assert np.linalg.norm(there - mapped, axis=1).max() < 0.12 * np.prod(voxel) ** (1 / 3)
    back = registered.logic.applyToPoints(there, to="fixed")
    assert np.linalg.norm(back - POINTS, axis=1).mean() < 1.0


def test_markups_come_back_as_markups_with_their_labels(registered):
    node = add_points(POINTS[:4], "nodules")
    node.SetNthControlPointLabel(2, "the third")
    carried = registered.logic.applyToPoints(node, to="moving", transform=registered.result.nodes.forward)
    assert carried is not node and carried.IsA("vtkMRMLMarkupsFiducialNode")
    assert carried.GetName() == "nodules on moving" and carried.GetNthControlPointLabel(2) == "the third"
    expected = registered.logic.applyToPoints(POINTS[:4], to="moving")
    assert np.allclose([carried.GetNthControlPointPositionWorld(n) for n in range(4)], expected, atol=1e-4)
    mine = add_points(np.zeros((1, 3)))
    assert registered.logic.applyToPoints(node, to="moving", output=mine) is mine
    assert mine.GetNumberOfControlPoints() == 4


def test_points_of_another_shape_and_other_destinations_are_refused(registered):
    with pytest.raises(NodeError, match=r"The points have the shape \(4, 2\); give \(n, 3\)"):
        registered.logic.applyToPoints(np.zeros((4, 2)))
    with pytest.raises(NodeError, match="The destination is 'forward'; use 'fixed' or 'moving'"):
        registered.logic.applyToPoints(POINTS, to="forward")


# ------------------------------------------------------------------------------------------------- segmentations


@pytest.mark.parametrize(("to", "source", "target"), [("fixed", "movingMask", "fixedMask"),
                                                      ("moving", "fixedMask", "movingMask")])
def test_segments_are_carried_to_the_other_image(registered, to, source, target):
    pair = registered.pair
    carried = registered.logic.applyToSegmentation(getattr(pair, source), to)
    volume = volume_nodes.read_volume(getattr(pair, to), to)
    here, there, before = (run_now(mask_nodes.read_mask(node, None, volume, to)) > 0
                           for node in (carried, getattr(pair, target), getattr(pair, source)))
    assert carried.GetSegmentation().GetNthSegment(0).GetName() == "lung"
    assert _dice(here, there) > 0.92 and _dice(here, there) > _dice(before, there)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_a_segmentation_that_cannot_be_carried_leaves_no_node(registered):
    before = content()
    with pytest.raises(NodeError, match="no segments"):
        registered.logic.applyToSegmentation(add_segmentation({}, np.eye(4), "empty"))
    assert content() - before == {"empty"}


# -------------------------------------------------------------------------------------------- numbers, Jacobian


def test_a_transform_is_evaluated_with_what_is_given(registered):
    pair = registered.pair
    judges = {**pair.judges, "fixedLabels": pair.fixedMask, "movingLabels": pair.movingMask}
    metrics = registered.logic.evaluate(pair.fixed, pair.moving, registered.result.nodes.forward, **judges)
    known = registered.result.metrics
    assert metrics["tre_mm"]["mean"] == pytest.approx(known["tre_mm"]["mean"], abs=1e-6)
    assert metrics["dice"]["mean"] > 0.9 and metrics["label_names"] == {"1": "lung"}
    assert metrics["similarity"]["after"]["ncc"] == pytest.approx(known["similarity"]["after"]["ncc"], abs=0.01)


def test_the_jacobian_is_made_on_the_grid_of_a_volume_in_either_form(registered):
    log = registered.logic.jacobian()
    determinant = registered.logic.jacobian(kind="determinant", reference=registered.pair.fixed)
    inverse = registered.logic.jacobian(direction="inverse")
    values, plain = (slicer.util.arrayFromVolume(node) for node in (log, determinant))
    assert np.allclose(values, np.log(plain), atol=1e-4)
    compared = slicer.util.arrayFromVolume(registered.result.nodes.logJacobian)  # 0 where nothing was
    assert np.abs(values - compared)[compared != 0].max() < 0.05
    assert inverse.GetImageData().GetDimensions() == registered.pair.moving.GetImageData().GetDimensions()
    assert registered.logic.jacobian(output=determinant) is determinant
    with pytest.raises(NodeError, match="The kind of Jacobian is 'both'"):
        registered.logic.jacobian(kind="both")


def test_a_transform_without_an_exact_map_is_refused_by_name(registered):
    with pytest.raises(NodeError, match="'somebody else' has no exact map"):
        registered.logic.jacobian(add_node("Transform", "somebody else"))
    with pytest.raises(NodeError, match="register first"):
        RegistrationLogic(engine()).jacobian()


# --------------------------------------------------------------------------------------------------------- files


def test_a_saved_transform_comes_back_as_nodes_that_map_as_before(registered, tmp_path):
    path = tmp_path / "transform.nephi"
    registered.logic.saveTransform(path)
    assert path.read_bytes() == transform_archive.load(registered.result.nodes.forward)
    fresh, pair = RegistrationLogic(engine()), registered.pair
    loaded = fresh.loadTransform(path, pair.fixed, pair.moving)
    assert loaded.warped is None and loaded.table is None
    for name in ("forward", "inverse"):
        maps = [getattr(nodes, name).GetTransformFromParent() for nodes in (registered.result.nodes, loaded)]
        assert np.allclose(*([m.TransformPoint(point) for point in POINTS] for m in maps), atol=0.1)
    assert loaded.forward.GetNodeReference("spatialRegistrationMoving") is pair.moving
    assert '"iterations": [6]' in read_provenance(loaded.forward)["options"]
    assert np.allclose(fresh.applyToPoints(POINTS), registered.logic.applyToPoints(POINTS))
    again = tmp_path / "again.nephi"
    fresh.saveTransform(again)
    assert again.read_bytes() == path.read_bytes()


def test_loading_fills_the_nodes_that_are_given(registered, tmp_path):
    path, mine = tmp_path / "transform.nephi", add_node("Transform", "mine")
    registered.logic.saveTransform(path, registered.result.nodes.forward)
    before = content()
    loaded = RegistrationLogic(engine()).loadTransform(path, outputs=Outputs(mine, createMissing=False))
    assert loaded.forward is mine and deformation(mine) is not None and content() == before


def test_a_file_is_loaded_while_the_event_loop_runs(registered, tmp_path):
    path, heard = tmp_path / "t.nephi", []
    registered.logic.saveTransform(path)
    other = RegistrationLogic(engine())
    loading = other.startLoading(path)
    loading.finished.connect(heard.append)
    assert not heard
    assert spin(lambda: bool(heard))
    assert heard == [loading] and deformation(loading.outputs.forward) is not None
    other.applyToPoints([[0.0, 0.0, 0.0]])  # it is what is meant where no transform is named
    path.write_bytes(b"nothing")
    loading = other.startLoading(path)
    loading.failed.connect(heard.append)
    assert spin(lambda: len(heard) == 2)
    assert loading.message.startswith(f"{path} cannot be loaded: ") and loading.state == "failed"


def test_a_loading_that_fails_half_way_leaves_the_scene_as_it_was(registered, tmp_path, monkeypatch):
    path, mine = tmp_path / "t.nephi", add_node("Transform", "mine")
    mine.SetMatrixTransformToParent(as_vtk(np.diag([2.0, 1.0, 1.0, 1.0])))
    registered.logic.saveTransform(path, registered.result.nodes.forward)
    before = content()

    def refuse(*_: object) -> None:
        raise NodeError("there is no room")

    monkeypatch.setattr("NePhiRegistrationLib.mrml.slab_writing.write_log_jacobian", refuse)
    with pytest.raises(NodeError, match=r"t\.nephi cannot be loaded: there is no room"):
        RegistrationLogic(engine()).loadTransform(path, outputs=Outputs(mine))
    assert content() == before and deformation(mine) is None
    assert mine.GetTransformToParent().TransformPoint(1.0, 1.0, 1.0) == (2.0, 1.0, 1.0)


def test_a_file_is_not_loaded_into_the_scene_after_the_one_it_was_for(tmp_path):
    made = Registered()
    path, heard = tmp_path / "t.nephi", []
    made.logic.saveTransform(path)
    loading = made.logic.startLoading(path)
    loading.failed.connect(heard.append)
    slicer.mrmlScene.Clear(0)
    assert spin(lambda: heard == [loading]) and loading.message == "The scene was closed; the task was stopped."
    assert content() == set() and loading.state == "cancelled"


def test_files_that_cannot_be_read_or_written_are_told_by_name(registered, tmp_path):
    before = content()
    with pytest.raises(ValueError, match="Cannot read .*nothing.nephi"):
        registered.logic.loadTransform(tmp_path / "nothing.nephi")
    (tmp_path / "other.nephi").write_bytes(b"something else")
    with pytest.raises(ValueError, match="other.nephi cannot be loaded: The transform is not a NePhi transform"):
        registered.logic.loadTransform(tmp_path / "other.nephi")
    with pytest.raises(OSError, match="Cannot write .*choose a folder with write permission"):
        registered.logic.saveTransform(tmp_path / "no folder" / "transform.nephi")
    assert content() == before


def test_a_saved_scene_goes_on_where_it_was_left(logic, tmp_path):  # noqa: F811
    fixed, moving = (add_volume(image.values.numpy(), ijk_to_ras(image.grid.to_dict()), name)
                     for image, name in ((PHANTOM.fixed, "in"), (PHANTOM.moving, "out")))
    logic.register(fixed, moving, "lung-ct", **BARE)
    expected = logic.applyToPoints(POINTS)
    path = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path, None)
    read_bundle(path)
    forward = slicer.mrmlScene.GetFirstNodeByName("out to in")
    later = RegistrationLogic(engine())
    assert np.allclose(later.applyToPoints(POINTS, transform=forward), expected)
    assert later.jacobian(forward).GetImageData() is not None


# ------------------------------------------------------------------------------------------- going on, many pairs


def test_going_on_adds_to_the_last_result_in_the_same_nodes(logic):  # noqa: F811
    pair = add_pair()
    first = logic.start(Inputs(pair.fixed, pair.moving, **pair.judges), None, "lung-ct", QUICK)
    assert first.wait() and first.state == "finished"
    before = content()
    task = logic.resume(4)
    told = Told.by(task)
    assert spin(lambda: task.done) and task.state == "finished", task.message + task.details
    assert task.outputs.forward is first.outputs.forward and content() == before
    assert len(task.transform) > len(first.transform)
    assert task.report["metrics"]["tre_mm"]["mean"] < first.report["metrics"]["tre_mm"]["mean"] + 0.5
    assert not told.reached("affine") or told.progress[0]["phase"] == "affine"
    assert told.reached("level 1/1") and told.ends == ["finished"]
    third = logic.resume(2)
    third.cancel()
    assert third.wait() and third.state == "cancelled"
    measured = task.outputs.table.GetTable().GetNumberOfRows()
    assert measured > 20 and deformation(task.outputs.forward) is not None
    assert logic.resume(1).wait() and logic._task.state == "finished"


def test_a_result_is_pulled_to_points_and_the_rest_stays(logic):  # noqa: F811
    pair = add_pair()
    logic.register(pair.fixed, pair.moving, "lung-ct", **BARE)
    fixed = add_points(POINTS[:3] * FLIP, "here")
    moving = logic.applyToPoints(fixed, to="moving")
    x, y, z = moving.GetNthControlPointPositionWorld(1)
    moving.SetNthControlPointPositionWorld(1, x + 6, y, z)
    far = POINTS[np.linalg.norm(POINTS - POINTS[1], axis=1) > 90] * FLIP
    before = logic.applyToPoints(far, to="moving")
    task = logic.pull(fixed, moving)
    told = Told.by(task)
    assert spin(lambda: task.done) and task.state == "finished", task.message + task.details
    assert told.reached("landmarks") and not told.reached("level") and task.report["runtime"]["iterations"] == 0
    wanted = np.array([moving.GetNthControlPointPositionWorld(n) for n in range(3)])
    assert np.abs(logic.applyToPoints(POINTS[:3] * FLIP, to="moving") - wanted).max() < 0.1
    through = task.outputs.forward.GetTransformFromParent().TransformPoint(*(POINTS[1] * FLIP))
    assert np.linalg.norm(np.array(through) - wanted[1]) < 0.73  # a tenth of a voxel
    assert len(far) and np.abs(logic.applyToPoints(far, to="moving") - before).max() < 0.01
    assert task.report["metrics"] is not None
    with pytest.raises(NodeError, match="no moving landmarks"):
        logic.pull(fixed, None)


def test_going_on_in_other_nodes_leaves_the_result_as_it_is(logic):  # noqa: F811
    pair = add_pair()
    first = logic.register(pair.fixed, pair.moving, "lung-ct", **BARE)
    before = read_displacement(first.nodes.forward)[0].copy()
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "longer")
    task = logic.resume(4, outputs=Outputs(forward=other))
    assert task.wait() and task.state == "finished", task.message
    assert task.outputs.forward is other and task.outputs.warped is first.nodes.warped
    assert np.array_equal(read_displacement(first.nodes.forward)[0], before)
    assert deformation(other) is not None
    with pytest.raises(NodeError, match="is chosen as moving volume and as warped volume"):
        logic.resume(4, outputs=Outputs(warped=pair.moving))


def test_outputs_that_were_deleted_are_made_anew_if_missing_ones_are_to_be_created(logic):  # noqa: F811
    pair = add_pair()
    first = logic.register(pair.fixed, pair.moving, "lung-ct", **BARE)
    slicer.mrmlScene.RemoveNode(first.nodes.table)
    task = logic.resume(1)
    assert task.wait() and task.state == "finished" and task.outputs.table is None
    slicer.mrmlScene.RemoveNode(first.nodes.forward)
    task = logic.resume(1, Outputs())
    assert task.wait() and task.state == "finished", task.message
    assert deformation(task.outputs.forward) is not None and task.outputs.warped is first.nodes.warped


def test_what_another_logic_has_registered_since_cannot_be_continued(logic):  # noqa: F811
    pair = add_pair()
    logic.register(pair.fixed, pair.moving, "lung-ct", **BARE)
    RegistrationLogic(engine()).register(pair.fixed, pair.moving, "lung-ct", **BARE)
    task = logic.resume(2)
    assert task.wait() and task.state == "failed" and "no longer in memory" in task.message


def test_pairs_are_registered_one_after_the_other_and_a_bad_one_is_passed_over(logic):  # noqa: F811
    pair, other = add_pair(), add_pair()
    slicer.util.arrayFromVolume(other.fixed).fill(0)
    seen: list[tuple[int, str]] = []
    results = logic.registerPairs(
        [(pair.fixed, pair.moving), (other.fixed, other.moving), {"fixed": pair.moving, "moving": pair.fixed},
         Inputs(pair.fixed, pair.fixed)],
        "lung-ct", onPair=lambda number, result: seen.append((number, result.error)), **BARE)
    assert [bool(result.metrics) for result in results] == [True, False, True, False]
    assert [number for number, _ in seen] == [0, 1, 2, 3]
    assert "constant" in results[1].error and "are the same" in results[3].error
    assert results[2].nodes.forward is not results[0].nodes.forward


def test_an_option_of_a_script_reaches_the_engine(logic):  # noqa: F811
    pair = add_pair()
    result = logic.register(pair.fixed, pair.moving, fixedMask=pair.fixedMask, fixedSegment="lung", seed=5, **BARE)
    assert result.report["provenance"]["seed"] == 5 and result.report["runtime"]["iterations"] == 3
    with pytest.raises(RegistrationError, match="register first"):
        RegistrationLogic(engine()).resume(3)
