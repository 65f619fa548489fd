"""A registration fills the user's nodes with what the worker found, in the scene's own terms."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from logic_case import PATIENCE, PHANTOM, QUICK, Told, add_pair, content, engine, logic, spin  # noqa: F401
from mrml_scene import add_linear, add_node, new_scene, turn_matrix
from NePhiRegistrationLib.mrml import log_jacobian_display, transform_archive
from NePhiRegistrationLib.mrml.deformation_nodes import deformation
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.mrml.node_geometry import FLIP, ijk_to_ras
from NePhiRegistrationLib.mrml.vtk_images import onto, oriented, volume_matrix
from NePhiRegistrationLib.session.logic import Inputs, Outputs, RegistrationError, RegistrationLogic
from written_nodes import read_provenance

POINTS = PHANTOM.landmarks_fixed.numpy()  # LPS, within the lungs


class Registered:
    """The whole pair registered while the event loop ran; the scene is left as it is."""

    def __init__(self) -> None:
        self.scene = new_scene()
        self.pair = add_pair()
        self.before = content()
        self.logic = RegistrationLogic(engine())
        self.early: dict = {}
        inputs = Inputs(self.pair.fixed, self.pair.moving, **self.pair.judges, fixedLabels=self.pair.fixedMask,
                        movingLabels=self.pair.movingMask)
        self.task = self.logic.start(inputs, None, "lung-ct", QUICK)
        self.told = Told.by(self.task)
        self.rows: list[int] = []
        self.task.shown.connect(lambda task: self.rows.append(task.outputs.table.GetNumberOfRows()))
        self.outputs = self.task.outputs
        assert spin(self.watch), self.task.state
        assert self.task.state == "finished", self.task.message + self.task.details

    def watch(self) -> bool:
        """Keep what the outputs held when the first preview had come."""
        field = deformation(self.outputs.forward)
        if not self.early and field is not None and not self.task.done and self.outputs.logJacobian.GetImageData():
            self.early = {"size": field.image.GetDimensions(),
                          "jacobian": self.outputs.logJacobian.GetImageData().GetDimensions(),
                          "warped": self.outputs.warped.GetImageData()}
        return self.task.done


@pytest.fixture(scope="module")
def once():
    return Registered()


@pytest.fixture
def registered(once):
    slicer.mrmlScene = once.scene
    return once


def test_all_outputs_are_made_named_after_the_volumes_and_filled(registered):
    made = registered.outputs
    assert content() - registered.before == {"out to in", "in to out", "out warped", "out log-Jacobian", "out metrics"}
    assert all(deformation(node) is not None for node in (made.forward, made.inverse))
    assert made.warped.GetImageData().GetDimensions() == registered.pair.fixed.GetImageData().GetDimensions()
    assert made.logJacobian.GetImageData().GetDimensions() == made.warped.GetImageData().GetDimensions()
    assert made.table.GetNumberOfRows() > 20


def test_the_moving_volume_settles_into_place_before_the_result_is_there(registered):
    assert registered.early["warped"] is None
    assert registered.early["size"] != deformation(
        registered.outputs.forward).image.GetDimensions()
    assert registered.early["jacobian"] == registered.early["size"]


def test_progress_is_told_phase_by_phase_and_the_end_once(registered):
    phases = list(dict.fromkeys(fields["phase"] for fields in registered.told.progress))
    assert phases[0] == "affine" and phases[-1] == "outputs" and "level 1/1" in phases
    assert registered.told.ends == ["finished"]
    assert any("Linear alignment" in line for line in registered.told.lines)


@pytest.mark.parametrize(("output", "direction"), [("forward", "forward"), ("inverse", "inverse")])
def test_each_transform_node_maps_points_as_the_exact_map_does(registered, output, direction):
    node = getattr(registered.outputs, output)
    exact = engine().ask("map_points", {"direction": direction}, {
        "points": POINTS, "transform": np.frombuffer(registered.task.transform, np.uint8)}).arrays["points"]
    from_parent = node.GetTransformFromParent()
    mapped = np.array([from_parent.TransformPoint(point) for point in POINTS * FLIP]) * FLIP
    voxel = np.prod(registered.pair.fixed.GetSpacing()) ** (1 / 3)
    assert np.linalg.norm(mapped - exact, axis=1).max() < 0.12 * voxel


def test_the_warped_volume_is_what_slicer_makes_of_the_moving_one_with_the_forward_transform(registered):
    """Hardening does the same onto a lattice of its own choice (test_mrml_transforms)."""
    moving, warped = registered.pair.moving, slicer.util.arrayFromVolume(registered.outputs.warped)
    image = oriented(moving.GetImageData(), volume_matrix(moving))
    resliced = onto(image, PHANTOM.fixed.grid.to_dict(), registered.outputs.forward.GetTransformToParent(), linear=True)
    inner = (slice(8, -8),) * 3
    assert np.abs(warped - resliced)[inner].max() < 0.005 * np.ptp(warped)
    before = slicer.util.arrayFromVolume(moving)
    assert np.abs(warped - PHANTOM.fixed.values.numpy())[inner].mean() < 0.75 * np.abs(
        before - PHANTOM.fixed.values.numpy())[inner].mean()


def test_the_numbers_are_in_the_task_and_in_the_table_after_the_result_was_shown(registered):
    assert registered.rows == [0]
    metrics = registered.task.report["metrics"]
    assert metrics["tre_mm"]["mean"] < metrics["tre_mm"]["before"]
    assert metrics["dice"]["mean"] > 0.9 and metrics["label_names"] == {"1": "lung"}
    assert sum(registered.task.histogram["counts"]) > 1000
    assert len(registered.task.history) == registered.task.report["runtime"]["iterations"] > 1
    table = registered.outputs.table.GetTable()
    measures = [table.GetValue(row, 0).ToString() for row in range(table.GetNumberOfRows())]
    assert {"lung: volume, moving", "lung: Jacobian, mean", "lung: centroid shift, after"} <= set(measures)
    assert "Dice, lung" in measures and "Landmark error, mean" in measures


def test_nodes_say_what_they_come_from_and_the_exact_map_stays_with_them(registered):
    made, pair = registered.outputs, registered.pair
    for node in (made.forward, made.inverse):
        assert node.GetNodeReference("spatialRegistrationFixed") is pair.fixed
        assert node.GetNodeReference("spatialRegistrationMoving") is pair.moving
    assert '"iterations": [3]' in read_provenance(made.warped)["options"]
    assert transform_archive.load(made.forward) == registered.task.transform


def test_the_jacobian_volume_has_colours_of_its_own(registered):
    volume = registered.outputs.logJacobian
    assert volume.GetDisplayNode().GetColorNode().GetAttribute(log_jacobian_display.ROLE) is not None
    values = slicer.util.arrayFromVolume(volume)
    assert np.isfinite(values).all() and np.abs(values).max() > 0.01


def test_inputs_are_not_changed(registered):
    assert np.array_equal(slicer.util.arrayFromVolume(registered.pair.fixed), PHANTOM.fixed.values.numpy())
    assert registered.pair.moving.GetParentTransformNode() is None


# ------------------------------------------------------------------------------------------------ the user's nodes


def test_nodes_that_are_given_are_filled_and_only_they(logic):  # noqa: F811
    pair = add_pair()
    forward, warped = add_node("Transform", "mine"), add_node("ScalarVolume", "mine, too")
    before = content()
    result = logic.register(pair.fixed, pair.moving, "lung-ct", Outputs(forward=forward, warped=warped,
                                                                        createMissing=False, gridSpacing=20.0), **QUICK)
    assert result.nodes.forward is forward and result.nodes.inverse is None
    assert content() == before
    grid = deformation(forward).image
    assert grid.GetSpacing() == pytest.approx((20.0,) * 3, rel=0.1)
    assert warped.GetImageData() is not None


def test_parent_transforms_of_both_volumes_are_part_of_the_world(logic):  # noqa: F811
    pair = add_pair()
    turned = turn_matrix(20, (30, -20, 10))
    for node in (pair.fixed, pair.moving):
        node.SetAndObserveTransformNodeID(add_linear(turned).GetID())
    result = logic.register(pair.fixed, pair.moving, "lung-ct", **QUICK)
    expected = turned @ ijk_to_ras(PHANTOM.fixed.grid.to_dict())
    assert np.allclose(volume_matrix(result.nodes.warped), expected, atol=1e-4)
    assert result.metrics["similarity"]["after"]["ncc"] > result.metrics["similarity"]["before"]["ncc"]


def test_an_initial_transform_is_where_the_registration_starts(logic):  # noqa: F811
    pair = add_pair()
    initial = add_linear(turn_matrix(4, (8, -6, 5)))
    options = {**QUICK, "affine": "none", "weights": "none", "search": "never", "iterations": [1]}
    result = logic.register(pair.fixed, pair.moving, "lung-ct", initialTransform=initial, **options)
    point = [10.0, 20.0, -5.0]
    expected = np.linalg.inv(turn_matrix(4, (8, -6, 5))) @ [*point, 1.0]
    mapped = result.nodes.forward.GetTransformFromParent().TransformPoint(point)
    assert np.linalg.norm(np.array(mapped) - expected[:3]) < 4.0


def test_a_nonlinear_initial_transform_is_part_of_the_result(logic):  # noqa: F811
    pair = add_pair()
    options = {**QUICK, "weights": "none"}
    first = logic.register(pair.fixed, pair.moving, "lung-ct", **options)
    second = logic.register(pair.fixed, pair.moving, "lung-ct", initialTransform=first.nodes.forward,
                            **{**options, "iterations": [0]})
    points = PHANTOM.landmarks_fixed.numpy() * FLIP
    there = [logic.applyToPoints(points, to="moving", transform=result.nodes.forward) for result in (first, second)]
    assert np.linalg.norm(there[0] - points, axis=1).mean() > 1.0
    assert np.linalg.norm(there[0] - there[1], axis=1).max() < 0.5
    back = logic.applyToPoints(there[1], to="fixed", transform=second.nodes.forward)
    assert np.linalg.norm(back - points, axis=1).max() < 0.5


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("change", "message"), [
    ({"moving": None}, "Choose a moving volume"),
    ({"moving": "fixed"}, "The fixed and the moving volume are the same"),
    ({"landmarksMoving": None}, "There are fixed landmarks but no moving landmarks"),
    ({"fixedLabels": "fixedMask"}, "Labels are chosen for one volume only"),
    ({"initialTransform": "landmarksFixed"}, "forks in is not a transform")])
def test_what_can_be_seen_at_once_is_refused_at_once(logic, change, message):  # noqa: F811
    pair = add_pair()
    chosen = {"fixed": pair.fixed, "moving": pair.moving, **pair.judges,
              **{name: getattr(pair, value) if isinstance(value, str) else value for name, value in change.items()}}
    before = content()
    with pytest.raises(NodeError, match=message):
        logic.start(Inputs(**chosen))
    assert content() == before


def test_nodes_of_another_kind_are_refused(logic):  # noqa: F811
    pair = add_pair()
    with pytest.raises(NodeError, match="forks in is not a table; choose another node for the table"):
        logic.start(Inputs(pair.fixed, pair.moving), Outputs(table=pair.landmarksFixed))
    with pytest.raises(NodeError, match="mask is not a scalar volume"):
        logic.start(Inputs(pair.fixed, pair.moving), Outputs(warped=add_node("LabelMapVolume", "mask")))


def test_a_transform_that_an_input_lies_under_is_not_overwritten(logic):  # noqa: F811
    pair = add_pair()
    forward = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "old")
    pair.moving.SetAndObserveTransformNodeID(forward.GetID())
    with pytest.raises(NodeError, match="the moving volume, lies under old, which is to be overwritten"):
        logic.start(Inputs(pair.fixed, pair.moving), Outputs(forward=forward))


def test_an_input_as_output_is_refused(logic):  # noqa: F811
    pair = add_pair()
    with pytest.raises(NodeError, match="in is chosen as fixed volume and as warped volume"):
        logic.start(Inputs(pair.fixed, pair.moving), Outputs(warped=pair.fixed))
    with pytest.raises(NodeError, match="No output is chosen"):
        logic.start(Inputs(pair.fixed, pair.moving), Outputs(createMissing=False))


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda pair: slicer.util.arrayFromVolume(pair.moving).fill(3), "moving volume 'out' is constant"),
    (lambda pair: slicer.util.arrayFromVolume(pair.fixed).fill(np.nan), "only voxels that are not numbers"),
    (lambda pair: pair.fixedMask.GetSegmentation().RemoveAllSegments(), "has no segments")])
def test_what_shows_in_the_voxels_fails_the_task_and_leaves_nothing(logic, spoil, message):  # noqa: F811
    pair = add_pair()
    spoil(pair)
    before = content()
    task = logic.start(Inputs(pair.fixed, pair.moving, fixedMask=pair.fixedMask))
    told = Told.by(task)
    assert spin(lambda: task.done, PATIENCE)
    assert (task.state, task.failure, told.ends) == ("failed", "input", ["failed"])
    assert message in task.message
    assert content() == before
    with pytest.raises(NodeError, match=message):
        logic.register(pair.fixed, pair.moving, fixedMask=pair.fixedMask)


def test_an_unknown_option_or_preset_is_refused_by_name(logic):  # noqa: F811
    pair = add_pair()
    before = content()
    with pytest.raises(NodeError, match="iteration"):
        logic.register(pair.fixed, pair.moving, iteration=[3])
    with pytest.raises(NodeError, match="nonsense"):
        logic.register(pair.fixed, pair.moving, "nonsense")
    assert content() == before


def test_there_is_nothing_to_continue_before_a_registration(logic):  # noqa: F811
    with pytest.raises(RegistrationError, match="register first"):
        logic.resume(5)
