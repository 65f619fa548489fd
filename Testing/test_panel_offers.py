"""What the module offers beside registering: PyTorch through its extension, and sample data. Nothing unasked."""

from __future__ import annotations

import sys
import types

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

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
    assert PyTorchUtilsLogic.asked == [(True, None, ">=2.2")]
    assert without_torch.ui.registerButton.enabled
    assert not offer_shows(without_torch.ui)
    assert without_torch.ui.statusLabel.text == "PyTorch is installed."


def test_a_user_who_declines_keeps_the_offer(without_torch, monkeypatch):
    monkeypatch.setattr(PyTorchUtilsLogic, "answer", None)
    without_torch.ui.torchButton.click()
    assert offer_shows(without_torch.ui)
    assert not without_torch.ui.registerButton.enabled
    assert without_torch.ui.statusLabel.text == "PyTorch was not installed."


def test_an_installation_that_fails_says_why(without_torch, monkeypatch):
    monkeypatch.setattr(PyTorchUtilsLogic, "answer", RuntimeError("no network"))
    without_torch.ui.torchButton.click()
    assert without_torch.ui.statusLabel.text == "PyTorch could not be installed: no network"
    assert offer_shows(without_torch.ui)


def test_sample_data_are_offered_at_start_up(opened, monkeypatch):
    offered = []
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = types.SimpleNamespace(
        registerCustomSampleDataSource=lambda **source: offered.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", module)
    opened.running.app._q.startupCompleted.emit()
    brain, chest = offered
    assert brain["nodeNames"] == ["MRBrainTumor1", "MRBrainTumor2"]
    assert len(brain["uris"]) == len(brain["fileNames"]) == len(brain["checksums"]) == 2
    assert all(uri.endswith(item.partition(":")[2]) for uri, item in zip(brain["uris"], brain["checksums"]))
    assert callable(chest["customDownloader"])


def test_a_phantom_that_cannot_be_made_is_one_sentence(opened):
    from NePhiRegistrationLib.panel.samples import add_phantom
    with pytest.raises(RuntimeError, match=r"The phantom could not be made \(.*\); is PyTorch installed\?"):
        add_phantom(size=0)
