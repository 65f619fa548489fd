"""What is checked inside a running Slicer, on the made-up chest; each scenario prints what it found."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Callable, Optional

import numpy as np
import slicer
import vtk
from NePhiRegistrationLib.mrml import landmark_nodes, transform_nodes, volume_nodes
from NePhiRegistrationLib.panel.sample_data import add_phantom
from NePhiRegistrationLib.session.values import Inputs, Outputs
from NePhiRegistrationLib.session.warm_worker import shared
from vtk.util import numpy_support

SIZE = 48
OPTIONS = {"resolution": [16, 28], "iterations": [12, 12], "points": 60000}
PATIENCE = 60.0  # s


class Failed(AssertionError):
    """Something is not as it should be."""


def run(make: Callable[[], Any], size: Optional[int] = None, python: Optional[str] = None) -> None:
    """All scenarios, in under a minute on a laptop.

    Args:
        make: gives the module's logic.
        size: voxels along the phantom's sides; by default SIZE.
        python: the interpreter that makes the phantom; by default the application's own.

    Raises:
        Failed: what is wrong.
    """
    started = time.monotonic()
    nodes = add_phantom(size or SIZE, python=python)
    logic = make()
    try:
        outputs = registers(logic, nodes)
        warped_equals_hardened(nodes, outputs)
        inverse_undoes_forward(outputs)
        points_follow(logic, nodes, outputs)
        what_belongs_follows(logic, nodes, outputs)
        saves_and_loads(logic, outputs)
        cancels(logic, nodes)
        refuses(logic, nodes)
        tells_of_memory(logic, nodes)
        survives_a_killed_worker(logic, nodes)
        survives_a_closed_scene(logic, nodes)
    finally:
        logic.close()
    seconds = time.monotonic() - started
    print(f"NePhi: all of it took {seconds:.0f} s")
    print("NePhi: all scenarios passed.")


def registers(logic: Any, nodes: dict[str, Any]) -> Outputs:
    """A registration with previews, through the event loop."""
    seen: dict[str, list] = {"phases": [], "moved": [], "ended": []}

    def progress(fields: dict) -> None:
        seen["phases"].append(fields["phase"])
        forward = task.outputs.forward
        if forward is not None and transform_nodes.grid_transform(forward) is not None:
            seen["moved"].append(fields["step"])

    task = logic.start(_inputs(nodes), Outputs(), "lung-ct", OPTIONS)
    task.progress.connect(progress)
    _connect_ends(task, seen["ended"])
    longest = wait(lambda: bool(seen["ended"]))
    check(task.state == "finished", f"the registration ended as {task.state}: {task.message}")
    error = task.report["metrics"]["tre_mm"]
    check(error["mean"] < 0.5 * error["before"], f"landmark error {error['before']:.1f} -> {error['mean']:.1f} mm")
    check(len(set(seen["phases"])) > 2, f"progress told of {', '.join(sorted(set(seen['phases'])))}")
    check(len(seen["moved"]) > 0, f"the forward transform was seen {len(seen['moved'])} times before the end")
    print(f"NePhi: the event loop waited {1000 * longest:.0f} ms at most between two turns")
    return task.outputs


def warped_equals_hardened(nodes: dict[str, Any], outputs: Outputs) -> None:
    """The warped volume is the moving volume hardened with the forward transform, away from the border."""
    fixed = volume_nodes.read_volume(outputs.warped, "warped")
    reslice = vtk.vtkImageReslice()
    matrix, to_world = vtk.vtkMatrix4x4(), vtk.vtkGeneralTransform()
    nodes["moving"].GetRASToIJKMatrix(matrix)
    to_world.PostMultiply()
    grid = vtk.vtkMatrix4x4()
    outputs.warped.GetIJKToRASMatrix(grid)
    to_world.Concatenate(grid)
    to_world.Concatenate(outputs.forward.GetTransformFromParent())
    to_world.Concatenate(matrix)
    reslice.SetInputData(nodes["moving"].GetImageData())
    reslice.SetResliceTransform(to_world)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(0, fixed.array.shape[2] - 1, 0, fixed.array.shape[1] - 1, 0, fixed.array.shape[0] - 1)
    reslice.SetInterpolationModeToLinear()
    reslice.SetOutputScalarType(vtk.VTK_FLOAT)
    reslice.Update()
    scalars = numpy_support.vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars())
    hardened = scalars.reshape(fixed.array.shape)
    inside = (slice(6, -6),) * 3
    difference = np.abs(hardened - fixed.array)[inside]
    share = float(np.percentile(difference, 99)) / float(np.ptp(fixed.array))
    check(share < 0.005, f"warped and hardened differ by {100 * share:.2f} % of the range (99th percentile)")


def inverse_undoes_forward(outputs: Outputs) -> None:
    """There and back again leads to where it began."""
    points = np.random.default_rng(0).uniform(-60, 60, (200, 3))
    there = _through(outputs.forward, points)
    distance = np.linalg.norm(_through(outputs.inverse, there) - points, axis=1)
    check(float(np.median(distance)) < 2.0, f"there and back again: {np.median(distance):.2f} mm (median)")


def points_follow(logic: Any, nodes: dict[str, Any], outputs: Outputs) -> None:
    """applyToPoints takes landmarks along."""
    mapped = logic.applyToPoints(nodes["fixedLandmarks"], to="moving", transform=outputs.forward)
    true = landmark_nodes.read_points(nodes["movingLandmarks"])
    error = np.linalg.norm(landmark_nodes.read_points(mapped) - true, axis=1)
    check(float(error.mean()) < 8.0, f"applyToPoints: landmarks are {error.mean():.1f} mm from the true ones")


def what_belongs_follows(logic: Any, nodes: dict[str, Any], outputs: Outputs) -> None:
    """applyTo takes volumes, segmentations and markups along, and hardening is undone."""
    volume, lungs, points = (nodes[name] for name in ("moving", "movingMask", "movingLandmarks"))
    carried = logic.applyTo([volume, lungs, points], transform=outputs.forward)
    check(not any(one.problem for one in carried), "applyTo: a volume, a segmentation and points were carried")
    hardened = logic.applyTo([lungs, points], transform=outputs.forward, harden=True)
    places = landmark_nodes.read_points(points), landmark_nodes.read_points(carried[2].node)
    check(bool(np.allclose(*places, atol=0.01)), "applyTo: hardened points are where the new ones are")
    for one in hardened:
        one.undo()
    check(not np.allclose(landmark_nodes.read_points(points), places[0], atol=0.01), "applyTo: hardening was undone")
    for one in carried:
        slicer.mrmlScene.RemoveNode(one.node)


def saves_and_loads(logic: Any, outputs: Outputs) -> None:
    """The transform as a file."""
    path = os.path.join(slicer.app.temporaryPath, "nephi-selftest.nephi")
    logic.saveTransform(path, outputs.forward)
    loaded = logic.loadTransform(path)
    points = np.random.default_rng(1).uniform(-50, 50, (100, 3))
    distance = np.linalg.norm(_through(loaded.forward, points) - _through(outputs.forward, points), axis=1)
    os.remove(path)
    check(float(distance.max()) < 0.2, f"a saved and loaded transform differs by {distance.max():.3f} mm at most")


def cancels(logic: Any, nodes: dict[str, Any]) -> None:
    """A cancelled registration leaves the scene as it was, within a second."""
    before, ended = slicer.mrmlScene.GetNumberOfNodes(), []
    task = _running(logic, nodes, ended)
    started = time.monotonic()
    task.cancel()
    wait(lambda: bool(ended))
    seconds, left = time.monotonic() - started, slicer.mrmlScene.GetNumberOfNodes() - before
    check(task.state == "cancelled", f"cancelled after {seconds:.2f} s")
    check(left == 0, f"{left} nodes were left behind")


def refuses(logic: Any, nodes: dict[str, Any]) -> None:
    """Inputs that cannot be registered are refused in a sentence, and nothing is left of the attempt."""
    size = nodes["fixed"].GetImageData().GetDimensions()[0]
    holed = np.zeros((size,) * 3, np.float32)
    holed[size // 2, size // 2, size // 2] = np.nan
    bad = {"the same volume twice": Inputs(nodes["fixed"], nodes["fixed"]),
           "no moving volume": Inputs(nodes["fixed"]),
           "NaN voxels": Inputs(nodes["fixed"], _volume(holed)),
           "a single slice": Inputs(nodes["fixed"], _volume(np.ones((1, size, size), np.float32))),
           "a label map": Inputs(nodes["fixed"], _volume(np.ones((size,) * 3, np.uint8), "LabelMapVolume")),
           "an empty mask": Inputs(nodes["fixed"], nodes["moving"], fixedMask=_volume(
               np.zeros((size,) * 3, np.uint8), "LabelMapVolume"))}
    before = slicer.mrmlScene.GetNumberOfNodes()
    for what, inputs in bad.items():
        try:
            task = logic.start(inputs, Outputs(), "lung-ct", OPTIONS)
            wait(lambda task=task: task.done)
            said = task.message if task.failure == "input" else ""
        except ValueError as error:
            said = str(error)
        check(said.endswith("."), f"refused: {said or what + ' was not'}")
    left = slicer.mrmlScene.GetNumberOfNodes() - before
    check(left == 0, f"{left} nodes were left behind by what was refused")


def tells_of_memory(logic: Any, nodes: dict[str, Any]) -> None:
    """A registration that needs more memory than there is ends with a sentence."""
    ended: list = []
    task = logic.start(_inputs(nodes), Outputs(gridSpacing=0.01), "lung-ct", {**OPTIONS, "iterations": [1, 1]})
    _connect_ends(task, ended)
    wait(lambda: bool(ended))
    check(task.failure == "memory", f"too much memory: {task.message}")


def survives_a_killed_worker(logic: Any, nodes: dict[str, Any]) -> None:
    """A worker that is killed ends its task with a sentence, and the next registration works."""
    before, ended = slicer.mrmlScene.GetNumberOfNodes(), []
    task = _running(logic, nodes, ended)
    os.kill(shared().process.client.hello["pid"], getattr(signal, "SIGKILL", signal.SIGTERM))
    wait(lambda: bool(ended))
    check(task.failure == "died", f"the worker was killed: {task.message}")
    check(slicer.mrmlScene.GetNumberOfNodes() == before, "the scene is as it was")
    again = logic.register(nodes["fixed"], nodes["moving"], "lung-ct", Outputs(createMissing=False, forward=_node(
        "vtkMRMLTransformNode")), **{**OPTIONS, "iterations": [3, 3]})
    check(not again.error, "the next registration works")


def survives_a_closed_scene(logic: Any, nodes: dict[str, Any]) -> None:
    """Closing the scene stops the task."""
    ended: list = []
    task = _running(logic, nodes, ended)
    slicer.mrmlScene.Clear(0)
    wait(lambda: bool(ended))
    check(task.state == "cancelled", f"the scene was closed: {task.message}")


def check(holds: bool, said: str) -> None:
    """Print what was found.

    Raises:
        Failed: it does not hold.
    """
    print(f"NePhi: {'ok    ' if holds else 'FAILED'} {said}")
    if not holds:
        raise Failed(said)


def wait(condition: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Let the event loop run; the longest that one of its turns took, in seconds."""
    end, longest = time.monotonic() + seconds, 0.0
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"Nothing came in {seconds:.0f} s.")
        started = time.monotonic()
        slicer.app.processEvents()
        longest = max(longest, time.monotonic() - started)
        time.sleep(0.002)
    return longest


def _running(logic: Any, nodes: dict[str, Any], ended: list) -> Any:
    """A task that has begun to align; ``ended`` gets it when it has ended."""
    running: list = []
    task = logic.start(_inputs(nodes), Outputs(), "lung-ct", {**OPTIONS, "iterations": [1000, 1000]})
    task.progress.connect(running.append)
    _connect_ends(task, ended)
    wait(lambda: bool(ended) or any("level" in fields["phase"] for fields in running))
    check(not ended, f"a registration is running{task.message and ': ' + task.message}")
    return task


def _connect_ends(task: Any, ended: list) -> None:
    """``ended`` gets the task when it has ended."""
    task.finished.connect(ended.append)
    task.failed.connect(ended.append)


def _volume(values: np.ndarray, kind: str = "ScalarVolume") -> Any:
    node = _node(f"vtkMRML{kind}Node")
    volume_nodes.write_volume(node, values, {"size": list(values.shape[::-1]), "spacing": [6.0] * 3,
                                        "origin": [-140.0] * 3, "direction": np.eye(3).ravel().tolist()})
    return node


def _node(kind: str) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass(kind)


def _inputs(nodes: dict[str, Any]) -> Inputs:
    return Inputs(nodes["fixed"], nodes["moving"], fixedMask=nodes["fixedMask"], movingMask=nodes["movingMask"],
                  landmarksFixed=nodes["fixedLandmarks"], landmarksMoving=nodes["movingLandmarks"])


def _through(node: Any, points: np.ndarray) -> np.ndarray:
    transform = node.GetTransformFromParent()
    return np.array([transform.TransformPoint(point) for point in points.tolist()])
