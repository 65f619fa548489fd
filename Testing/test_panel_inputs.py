"""Inputs that cannot be: the panel says which, why and what to do, in the words of the real logic, and stays usable."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case  # isort: skip  (it makes `import qt` work)

import pythonqt
import qt
import slicer
from mrml_scene import add_points, add_segmentation
from panel_case import Opened, add_volume
from pythonqt.slicer_module import running_slicer


@pytest.fixture
def real(monkeypatch):
    """The panel over the real logic, whose worker is never started."""
    pythonqt.slot_errors.clear()
    with running_slicer() as running:
        panel_case.new_scene(slicer.mrmlScene)
        module = running.load(panel_case.MODULE)
        from NePhiRegistrationLib.worker.worker_process import WorkerProcess
        monkeypatch.setattr(WorkerProcess, "start", lambda self: None)
        yield Opened(running, module, running.open(module))
        slicer.modules.NePhiRegistrationWidget.cleanup()
    assert not pythonqt.slot_errors
    assert "NePhiRegistration" not in sys.modules


def told(opened: Opened) -> str:
    """Press Register, unless what is chosen is refused at once, and wait for what the panel says."""
    names = {slicer.mrmlScene.GetNthNode(n).GetID() for n in range(slicer.mrmlScene.GetNumberOfNodes())}
    opened.ui.registerButton.click()
    end = time.monotonic() + 10
    while opened.ui.registerButton.text != "Register" and time.monotonic() < end:
        qt.QCoreApplication.processEvents()
    after = {slicer.mrmlScene.GetNthNode(n).GetID() for n in range(slicer.mrmlScene.GetNumberOfNodes())}
    assert after == names, "something was left in the scene"
    assert opened.ui.registerButton.text == "Register"
    return opened.ui.statusLabel.text


def give(node, array) -> None:
    slicer.util.updateVolumeFromArray(node, array)


def only_nan(opened):
    give(opened.parameters.movingVolume, np.full((12, 12, 12), np.nan, "f4"))


def one_slice(opened):
    give(opened.parameters.fixedVolume, np.random.default_rng(0).normal(size=(1, 20, 20)).astype("f4"))


def constant(opened):
    give(opened.parameters.fixedVolume, np.full((12, 12, 12), 7.0, "f4"))


def vector(opened):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Colours")
    slicer.util.updateVolumeFromArray(node, np.random.default_rng(0).normal(size=(12, 12, 12, 3)).astype("f4"))
    opened.parameters.movingVolume = node


def label_map(opened):
    opened.parameters.movingVolume = add_volume("Labels", kind="LabelMapVolume")


def empty_mask(opened):
    opened.parameters.fixedMask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Nothing")


def mask_elsewhere(opened):
    far = np.eye(4)
    far[:3, 3] = 500
    opened.parameters.fixedMask = add_segmentation({"far": np.ones((5, 5, 5), bool)}, far, "Far away")


def landmarks_elsewhere(opened):
    opened.parameters.fixedLandmarks = add_points(np.full((2, 3), 500.0), "Far points")
    opened.parameters.movingLandmarks = add_points(np.full((2, 3), 3.0), "Near points")


def empty_start(opened):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Empty")
    grid = slicer.vtkOrientedGridTransform()
    node.SetAndObserveTransformFromParent(grid)
    opened.parameters.initialTransform = node


@pytest.mark.parametrize("spoil, parts", [
    (only_nan, ("Moving", "NaN")),
    (one_slice, ("Fixed",)),
    (constant, ("Fixed", "7")),
    (vector, ("Colours", "vector")),
    (label_map, ("Labels", "label map")),
    (empty_mask, ("Nothing",)),
    (mask_elsewhere, ("Far away",)),
    (landmarks_elsewhere, ("Far points",)),
    (empty_start, ("Empty", "no displacements")),
], ids=lambda item: getattr(item, "__name__", ""))
def test_an_input_that_cannot_be_is_told_in_one_sentence(real, spoil, parts):
    real.choose_pair()
    spoil(real)
    sentence = told(real)
    assert sentence.endswith(".") and "\n" not in sentence and "Traceback" not in sentence
    for part in parts:
        assert part in sentence, sentence


def test_a_user_can_put_it_right_and_goes_on(real):
    real.choose_pair()
    only_nan(real)
    told(real)
    real.parameters.movingVolume = add_volume("Good")
    assert real.ui.statusLabel.text == ""
    assert real.ui.registerButton.enabled
