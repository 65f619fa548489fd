"""The scenarios that run inside Slicer, rehearsed on the double with the real logic, worker and engine."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case
import pythonqt
import slicer
from panel_case import choose_phantom
from pythonqt.slicer_module import running_slicer

pytest_plugins = ["panel_fixture"]


def test_the_scenarios_for_slicer_pass_on_the_double(capsys):
    pythonqt.slot_errors.clear()
    with running_slicer() as running:
        panel_case.new_scene(slicer.mrmlScene)
        running.load(panel_case.MODULE)
        from NePhiRegistrationLib import selftest
        selftest.run(sys.modules["NePhiRegistration"].NePhiRegistrationLogic, size=32)
        said = capsys.readouterr().out
        assert "NePhi: all scenarios passed." in said and "FAILED" not in said
    assert not pythonqt.slot_errors


def test_pressing_register_on_the_real_thing_moves_the_picture_fills_the_outputs_and_continues(real):
    from NePhiRegistrationLib import selftest
    parameters, ui = real.parameters, real.ui
    nodes = choose_phantom(real, 32, **selftest.OPTIONS, seed=3)
    parameters.continueIterations = 4
    before = slicer.util.arrayFromVolume(nodes["moving"]).copy()
    ui.registerButton.click()
    selftest.wait(lambda: real.widget.panel.review._running)
    shown = slicer.mrmlScene.GetNodeByID(slicer.mrmlScene.GetFirstNodeByClass(
        "vtkMRMLSliceCompositeNode").GetForegroundVolumeID())
    assert shown.GetParentTransformNode() is parameters.forwardTransform
    longest = selftest.wait(lambda: ui.registerButton.text == "Continue")
    assert longest < 0.5, "the event loop was blocked"
    assert "fold" in ui.statusLabel.text
    assert ui.numbersTable.rowCount > 10
    assert parameters.warpedVolume.GetImageData() is not None
    assert "Done in" in ui.progressLabel.text
    ui.registerButton.click()
    assert ui.registerButton.text == "Cancel"
    selftest.wait(lambda: ui.registerButton.text == "Continue")
    assert (slicer.util.arrayFromVolume(nodes["moving"]) == before).all()
