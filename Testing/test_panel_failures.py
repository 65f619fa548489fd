"""What the worker cannot do on this machine: the panel says it in one sentence with the remedy, and stays usable."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")


import slicer
from panel_case import Opened, choose_phantom

pytest_plugins = ["panel_fixture"]

QUICK = {"iterations": [2], "resolution": [12], "points": 5000, "affine": "none"}


def scene() -> dict[str, object]:
    """What every node that a user sees holds, as far as a registration could change it."""
    nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    return {node.GetID(): slicer.util.arrayFromVolume(node).copy() if node.IsA("vtkMRMLVolumeNode") else None
            for node in nodes if not node.GetHideFromEditors()}


def choose_options(opened: Opened, **options: object) -> None:
    """Other options than before."""
    opened.parameters.options = json.dumps({**QUICK, **options})


def press(opened: Opened) -> str:
    """Press Register and wait until it can be pressed again, or goes on; what the panel says then."""
    import NePhiRegistrationScenarios as scenarios
    opened.ui.registerButton.click()
    assert opened.ui.registerButton.text == "Cancel"
    scenarios.wait(lambda: opened.ui.registerButton.text != "Cancel")
    return opened.ui.statusLabel.text


def assert_told(opened: Opened, before: dict[str, object], said: str, parts: tuple[str, ...]) -> None:
    assert said.endswith(".") and said.count(". ") == 0 and "\n" not in said and "Traceback" not in said
    for part in parts:
        assert part in said, said
    after = scene()
    assert after.keys() == before.keys(), "a node was lost or left behind"
    assert all(values is None or (values == before[name]).all() for name, values in after.items())
    assert (opened.ui.registerButton.text, opened.ui.registerButton.enabled) == ("Register", True)


def worker(opened: Opened) -> object:
    """The worker's process, once it has said hello."""
    import NePhiRegistrationScenarios as scenarios
    process = opened.logic._worker.process
    opened.logic.warmUp()
    scenarios.wait(lambda: process.client.hello is not None)
    return process


@pytest.mark.skipif(torch.cuda.is_available(), reason="This machine has CUDA; it cannot be missed here.")
def test_a_gpu_that_is_not_there_is_named_with_what_to_choose_instead(real):
    choose_phantom(real, 32, **QUICK, device="cuda")
    before = scene()
    said = press(real)
    assert_told(real, before, said, ("'cuda'", "'auto' or 'cpu'"))
    choose_options(real, device="cpu")
    assert "fold" in press(real)
    assert real.ui.registerButton.text == "Continue"
