"""How long a user of the module waits, from the click to the result and to its numbers, and how large the scene is.

    python benchmarks/session.py FIXED MOVING [--masks FIXED MOVING] [--landmarks CSV] [--preset NAME] [--resume N]

Runs the module's logic and worker on slicer-core with a real event loop, without the window itself. Prints a line of a
Markdown table for a registration, and one for going on from it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "NePhiRegistration"), str(ROOT / "Testing")]

import pythonqt  # noqa: E402

pythonqt.install()

import qt  # noqa: E402
from mrml_scene import add_points, new_scene  # noqa: E402
from NePhiRegistrationLib.mrml import volume_nodes  # noqa: E402
from NePhiRegistrationLib.mrml.node_geometry import FLIP  # noqa: E402
from NePhiRegistrationLib.session.logic import Inputs, RegistrationLogic  # noqa: E402

HEAD = """| what | registering | result shown | numbers | longest step | transforms | scene |
|---|---|---|---|---|---|---|"""


def load(path: str, kind: str = "ScalarVolume"):
    """An image file as a volume node."""
    image = sitk.ReadImage(path)
    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", Path(path).name.partition(".")[0])
    volume_nodes.write_volume(node, sitk.GetArrayFromImage(image), {
        "size": image.GetSize(), "spacing": image.GetSpacing(), "origin": image.GetOrigin(),
        "direction": image.GetDirection()})
    return node


def watch(task) -> dict[str, float]:
    """Run the event loop until the task has ended; when each thing happened, s, and the longest turn of the loop."""
    started = time.perf_counter()
    seen: dict[str, float] = {"longest": 0.0}

    def note(name: str) -> None:
        seen.setdefault(name, time.perf_counter() - started)

    task.progress.connect(lambda fields: note("registered") if fields["phase"] == "outputs" else None)
    if hasattr(task, "shown"):
        task.shown.connect(lambda _task: note("shown"))
    while not task.done:
        before = time.perf_counter()
        qt.QCoreApplication.processEvents()
        seen["longest"] = max(seen["longest"], time.perf_counter() - before)
        time.sleep(0.001)
    assert task.state == "finished", task.message + task.details
    note("shown")
    note("numbers")
    return seen


def scene_megabytes() -> float:
    """The size of the scene as Slicer saves it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "scene.mrb")
        assert slicer.mrmlScene.WriteToMRB(path, None)
        return os.path.getsize(path) / 1e6


def print_line(name: str, task) -> None:
    """A line of the table."""
    seen, exports = watch(task), task.report["transforms"]
    sizes = " + ".join(f"{entry['megabytes']:.1f} MB (p99.9 {entry['error_mm']['p999']:.3f} mm)" for entry in exports)
    print(f"| {name} | {seen['registered']:.1f} s | {seen['shown']:.1f} s | {seen['numbers']:.1f} s | "
          f"{1000 * seen['longest']:.0f} ms | {sizes} | {scene_megabytes():.0f} MB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs=2, metavar=("FIXED", "MOVING"))
    parser.add_argument("--masks", nargs=2, metavar=("FIXED", "MOVING"))
    parser.add_argument("--landmarks", metavar="CSV")
    parser.add_argument("--preset", default="generic")
    parser.add_argument("--resume", type=int, default=30, help="iterations to go on for")
    arguments = parser.parse_args()
    new_scene()
    given = {}
    if arguments.masks:
        given.update(zip(("fixedMask", "movingMask"), (load(path, "LabelMapVolume") for path in arguments.masks)))
    if arguments.landmarks:
        points = np.loadtxt(arguments.landmarks, delimiter=",", skiprows=1)
        given.update(landmarksFixed=add_points(points[:, :3] * FLIP), landmarksMoving=add_points(points[:, 3:] * FLIP))
    fixed, moving = (load(path) for path in arguments.images)
    logic = RegistrationLogic()
    logic.warmUp()
    while not logic._worker.process.client.hello:
        qt.QCoreApplication.processEvents()
    print(HEAD, flush=True)
    print_line("register", logic.start(Inputs(fixed, moving, **given), None, arguments.preset))
    print_line(f"{arguments.resume} more iterations", logic.resume(arguments.resume))
    print_line("pulled to one landmark", pull(logic, fixed))
    logic.close()


def pull(logic, fixed):
    """Drag the partner of the fixed volume's centre by 5 mm and take the map there."""
    bounds = [0.0] * 6
    fixed.GetRASBounds(bounds)
    here = add_points([[(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)]])
    there = logic.applyToPoints(here, to="moving")
    x, y, z = there.GetNthControlPointPositionWorld(0)
    there.SetNthControlPointPositionWorld(0, x + 3, y - 4, z)
    return logic.pull(here, there)


if __name__ == "__main__":
    main()
