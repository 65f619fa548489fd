"""How long Slicer's window waits at most: the longest step on its thread, for a CT of 512 x 512 x 300 voxels.

    python benchmarks/window.py [SIZE_I SIZE_J SIZE_K]

Runs on slicer-core, without the window itself: what is timed is this project's code between two turns of the event
loop. Prints a line of a Markdown table for each piece of work: its steps, its time, and its longest step.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import slicer

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "NePhiRegistration"), str(ROOT / "Testing")]

import pythonqt  # noqa: E402

pythonqt.install()

from mrml_scene import add_segmentation, add_volume, new_scene  # noqa: E402
from NePhiRegistrationLib.mrml import (  # noqa: E402
    comparison_volumes,
    deformation_display,
    mask_nodes,
    slab_writing,
    transform_nodes,
    volume_nodes,
)

SPACING = np.diag([0.7, 0.7, 1.0, 1.0])


def timed(name: str, steps) -> object:
    """Do all steps; print how long they took and the longest; their result."""
    count, longest, started = 0, 0.0, time.perf_counter()
    while True:
        before = time.perf_counter()
        try:
            next(steps)
        except StopIteration as end:
            longest = max(longest, time.perf_counter() - before)
            total = time.perf_counter() - started
            print(f"| {name} | {count + 1} | {total:.2f} s | {1000 * longest:.0f} ms |", flush=True)
            return end.value
        count += 1
        longest = max(longest, time.perf_counter() - before)


def once(action):
    """A piece of work that is one step."""
    action()
    return
    yield


def main() -> None:
    size = tuple(int(argument) for argument in sys.argv[1:4]) or (512, 512, 300)
    shape = tuple(reversed(size))
    new_scene()
    k, j, i = np.ogrid[[slice(-1, 1, n * 1j) for n in shape]]
    body = ((i / 0.9) ** 2 + (j / 0.7) ** 2 < 1) & (k > -2)
    lungs = (((np.abs(i) - 0.4) / 0.3) ** 2 + (j / 0.5) ** 2 + (k / 0.9) ** 2 < 1)
    values = np.where(body, np.where(lungs, -850, 30), -1000).astype(np.int16)
    values += np.random.default_rng(0).integers(-30, 30, shape, dtype=np.int16)
    fixed, moving = (add_volume(values, SPACING, name) for name in ("fixed", "moving"))
    left, right = lungs & (i < 0), lungs & (i >= 0)
    segmentation = add_segmentation({"left": left, "right": right}, SPACING, "lungs")
    label_map = add_volume((left + 2 * right).astype(np.int16), SPACING, "labels", kind="LabelMapVolume")
    print(f"{size[0]} x {size[1]} x {size[2]} voxels\n\n| work | steps | time | longest step |\n|---|---|---|---|")
    data = timed("reading a volume", volume_nodes.read_volume_gradually(fixed, "fixed"))
    timed("reading a mask from a segmentation", mask_nodes.read_mask(segmentation, None, data, "fixed"))
    timed("reading a mask from a label map", mask_nodes.read_mask(label_map, None, data, "fixed"))
    first = timed("reading labels from a segmentation", mask_nodes.read_labels(segmentation, data, "fixed"))
    timed("reading labels from a label map", mask_nodes.read_labels(label_map, data, "fixed"))
    timed("matching labels", mask_nodes.match_labels(first, first))
    forward = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    coarse = {**data.geometry, "size": [max(2, n // 6) for n in size],
              "spacing": [6 * step for step in data.geometry["spacing"]]}
    field = np.zeros((*reversed(coarse["size"]), 3), np.float32)
    timed("a preview of the forward transform",
          once(lambda: transform_nodes.write_displacement(forward, field, coarse)))
    shown = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    timed("showing the moving volume through it", deformation_display.show_moving(shown, moving, forward))
    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    shift = np.linspace(0, 5, len(field), dtype=np.float32)[:, None, None, None]
    transform_nodes.write_displacement(parent, field + shift, coarse)
    moving.SetAndObserveTransformNodeID(parent.GetID())
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    timed("showing it when it lies under a transform that bends it",
          deformation_display.show_moving(bent, moving, forward))
    moving.SetAndObserveTransformNodeID(None)
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    timed("a checkerboard", comparison_volumes.write_checkerboard(target, fixed, shown))
    warped = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    timed("writing the warped volume", slab_writing.write_volume(warped, values, data.geometry, moving))
    jacobian = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    change = np.zeros(shape, np.float32)
    timed("writing the log-Jacobian volume", slab_writing.write_log_jacobian(jacobian, change, data.geometry))


if __name__ == "__main__":
    main()
