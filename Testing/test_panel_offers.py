"""What the module offers beside registering: PyTorch through its extension, and sample data. Nothing unasked."""

from __future__ import annotations

import subprocess
import sys
import time
import types

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case  # noqa: F401  # isort: skip  (it makes `import qt` work)

import qt
import slicer

pytest_plugins = ["panel_fixture"]


class PyTorchUtilsLogic:
    """Remembers how it was asked, and does what the test says."""

    asked: list = []  # noqa: RUF012
    answer: object = object()

    def installTorch(self, *args):
        self.asked.append(args)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def without_torch(opened, monkeypatch):
    """The panel of a Slicer that has the PyTorch extension, but not yet PyTorch."""
    from NePhiRegistrationLib.panel import torch_offer
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    PyTorchUtilsLogic.asked = []
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    slicer.modules.pytorchutils = object()
    present = []
    monkeypatch.setattr(torch_offer, "has_torch", lambda: bool(present))
    opened.widget.panel.torch._present = False
    opened.choose_pair()
    opened.widget.panel.enter()
    opened.present = present
    return opened


def offer_shows(ui) -> bool:
    return ui.torchFrame.isVisibleTo(ui.torchFrame.parent())


def test_with_torch_there_is_no_offer(opened):
    assert not offer_shows(opened.ui)


def test_torch_is_not_installed_before_the_user_asks(without_torch):
    assert offer_shows(without_torch.ui)
    assert PyTorchUtilsLogic.asked == []
    assert without_torch.ui.torchButton.text == "Install PyTorch…"


def test_the_extension_installs_torch_asks_once_more_and_register_works_then(without_torch, monkeypatch):
    monkeypatch.setattr(PyTorchUtilsLogic, "answer", object())
    without_torch.present.append(True)
    without_torch.ui.torchButton.click()
    assert PyTorchUtilsLogic.asked == [(True, None, ">=2.3")]
    assert without_torch.ui.registerButton.enabled
    assert not offer_shows(without_torch.ui)
    assert without_torch.ui.statusLabel.text == "PyTorch is installed."


@pytest.mark.parametrize(("torch", "numpy", "sentence", "asked"), [
    ("1.13.1+cu117", "1.26.4", "PyTorch 1.13 is too old; install version 2.2 or newer with the button above.", ">=2.2"),
    ("2.2.2", "2.0.1", "PyTorch 2.2 cannot work with NumPy 2.0; install PyTorch 2.3 or newer with the button above, or "
     "NumPy 1.", ">=2.3")])
def test_a_pytorch_that_cannot_be_used_is_told_and_a_newer_one_offered(without_torch, monkeypatch, torch, numpy,
                                                                       sentence, asked):
    from NePhiRegistrationLib.panel import torch_offer
    installed = {"torch": torch, "numpy": numpy}
    monkeypatch.setattr(torch_offer.importlib.metadata, "version", lambda name: installed[name])
    without_torch.present.append(True)
    without_torch.widget.panel.enter()
    assert offer_shows(without_torch.ui) and not without_torch.ui.registerButton.enabled
    assert without_torch.ui.statusLabel.text == sentence
    installed["torch"] = "2.13.0" if numpy.startswith("2") else "2.2.2"
    without_torch.ui.torchButton.click()
    assert PyTorchUtilsLogic.asked == [(True, None, asked)]
    assert without_torch.ui.registerButton.enabled and not offer_shows(without_torch.ui)


def test_a_user_who_declines_keeps_the_offer(without_torch, monkeypatch):
    monkeypatch.setattr(PyTorchUtilsLogic, "answer", None)
    without_torch.ui.torchButton.click()
    assert offer_shows(without_torch.ui)
    assert not without_torch.ui.registerButton.enabled
    assert without_torch.ui.statusLabel.text == "PyTorch was not installed."


@pytest.mark.parametrize(("error", "reason"), [
    (RuntimeError("no network"), "no network"),
    (subprocess.CalledProcessError(1, "pip"), "Command 'pip' returned non-zero exit status 1.")])
def test_an_installation_that_fails_says_why(without_torch, monkeypatch, error, reason):
    monkeypatch.setattr(PyTorchUtilsLogic, "answer", error)
    without_torch.ui.torchButton.click()
    assert without_torch.ui.statusLabel.text == f"PyTorch could not be installed: {reason}"
    assert offer_shows(without_torch.ui)


class ExtensionsManagerModel:
    """The one method of qSlicerExtensionsManagerModel that is called, with its C++ parameters."""

    def __init__(self, answer: bool) -> None:
        self.answer, self.asked = answer, []

    def installExtensionFromServer(self, extensionName, restart=True, update=False):
        self.asked.append((extensionName, restart, update))
        return self.answer


@pytest.mark.parametrize(("answer", "line"), [
    (True, "Restart Slicer, then install PyTorch here."),
    (False, "The extension PyTorch was not installed; use Slicer's Extensions Manager.")])
def test_a_missing_extension_is_offered_and_slicer_is_not_restarted_under_the_user(
        without_torch, monkeypatch, answer, line):
    model = ExtensionsManagerModel(answer)
    monkeypatch.setattr(slicer, "app", types.SimpleNamespace(extensionsManagerModel=lambda: model,
                                                             translate=slicer.app.translate))
    del slicer.modules.pytorchutils
    without_torch.widget.panel.torch.update()
    assert without_torch.ui.torchButton.text == "Install the extension…"
    without_torch.ui.torchButton.click()
    assert model.asked == [("PyTorch", False, False)]
    assert without_torch.ui.statusLabel.text == line
    assert not without_torch.ui.registerButton.enabled


@pytest.fixture
def offered(opened, monkeypatch) -> list[dict]:
    """What was registered with Slicer's Sample Data at start-up."""
    sources: list[dict] = []
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = types.SimpleNamespace(
        registerCustomSampleDataSource=lambda **source: sources.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", module)
    opened.running.app._q.startupCompleted.emit()
    return sources


def test_sample_data_are_offered_at_start_up(offered):
    brain, chest = offered
    assert brain["nodeNames"] == ["MRBrainTumor1", "MRBrainTumor2"]
    assert len(brain["uris"]) == len(brain["fileNames"]) == len(brain["checksums"]) == 2
    assert all(uri.endswith(item.partition(":")[2]) for uri, item in zip(brain["uris"], brain["checksums"]))
    assert callable(chest["customDownloader"])


def test_a_phantom_that_cannot_be_made_is_one_sentence(opened):
    from NePhiRegistrationLib.panel.sample_data import add_phantom
    with pytest.raises(RuntimeError, match=r"The phantom could not be made \(.*\); is PyTorch installed\?"):
        add_phantom(size=0)


def test_the_phantom_without_pytorch_is_told_to_the_user_and_leaves_the_scene_alone(offered, monkeypatch, tmp_path):
    from NePhiRegistrationLib.panel import sample_data
    program, told = tmp_path / "phantom.py", []
    program.write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    monkeypatch.setattr(sample_data, "PROGRAM", str(program))
    monkeypatch.setattr(slicer.util, "errorDisplay", told.append)
    before = slicer.mrmlScene.GetNumberOfNodes()
    offered[1]["customDownloader"](None)  # Slicer ignores what it raises
    assert told == ["The phantom could not be made (ModuleNotFoundError: No module named 'torch'); is PyTorch "
                    "installed?"]
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_the_window_answers_while_the_phantom_is_made(offered, monkeypatch, stopwatch):
    from NePhiRegistrationLib.panel import sample_data
    monkeypatch.setattr(sample_data, "add_phantom", lambda make=sample_data.add_phantom: make(16))
    ticks, timer = [], qt.QTimer()
    timer.setInterval(10)
    timer.connect("timeout()", lambda: ticks.append(time.monotonic()))
    timer.start()
    offered[1]["customDownloader"](None)
    timer.stop()
    assert not stopwatch or max(second - first for first, second in zip(ticks, ticks[1:])) < 0.5
    assert len(ticks) > 10 and slicer.mrmlScene.GetFirstNodeByName("Chest, inspiration") is not None


def test_the_phantom_is_shown_in_fitted_views_with_its_lungs_as_outlines_and_its_points_without_labels(opened):
    from NePhiRegistrationLib.panel.sample_data import add_phantom
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    view.SetLayoutName("Red")
    nodes = add_phantom(16)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {node.GetBackgroundVolumeID() for node in composites} == {nodes["fixed"].GetID()}
    assert 288 <= view.GetFieldOfView()[0] < 320
    lungs, points = nodes["fixedMask"].GetDisplayNode(), nodes["movingLandmarks"].GetDisplayNode()
    assert lungs.GetVisibility2DOutline() and not lungs.GetVisibility2DFill() and not lungs.GetVisibility3D()
    assert not points.GetPointLabelsVisibility()
