"""The scenarios that run inside Slicer, rehearsed on the double with the real logic, worker and engine."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
import unittest
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case
import slicer
from panel_case import choose_phantom

pytest_plugins = ["panel_fixture"]


def test_reload_and_test_runs_the_scenarios(opened, monkeypatch):
    module, ran = sys.modules["NePhiRegistration"], []
    monkeypatch.setattr(runpy, "run_path", lambda path: ran.append(Path(path)) or {"run": ran.append})
    module.NePhiRegistrationTest().runTest()
    assert ran[0].is_file() and ran[1] is module.NePhiRegistrationLogic


@pytest.fixture
def script():
    """The file that runs in Slicer, as a module."""
    path = panel_case.MODULE.parent / "Testing" / "Python" / "NePhiRegistrationModuleTest.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scenario_through_the_panel_passes_on_the_double(real, script, monkeypatch, capsys):
    real.running.app._q._options.window = True
    monkeypatch.setattr(slicer.util, "selectModule", lambda name: None)  # it is open
    monkeypatch.setattr(script.scenarios, "SIZE", 32)
    monkeypatch.setitem(script.scenarios.OPTIONS, "iterations", [3, 3])
    case = script.NePhiRegistrationModuleTest("test_panel")
    case.setUp()
    case.test_panel()
    assert "after a reload the choices are the same" in capsys.readouterr().out


def test_where_pytorch_is_missing_the_scenarios_are_skipped_and_do_not_fail(real, script, monkeypatch, capsys):
    monkeypatch.setattr(script, "has_torch", lambda: False)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(script.NePhiRegistrationModuleTest).run(result)
    assert (len(result.skipped), result.failures, result.errors) == (2, [], [])
    script.NePhiRegistrationModuleTest().runTest()
    assert capsys.readouterr().out.count("PyTorch is not installed") == 2


def test_the_script_runs_without_a_main_window_and_ends_slicer_with_its_outcome():
    """``Slicer --no-main-window --python-script``, with the application that the double has in its place."""
    scripts = panel_case.MODULE.parent / "Testing" / "Python"
    code = f"""if True:
        import runpy, sys
        sys.path[:0] = {[str(folder) for folder in (panel_case.MODULE.parent, scripts, Path(__file__).parent)]!r}
        import panel_case
        import pythonqt
        import slicer
        from pythonqt.slicer_module import running_slicer
        with running_slicer() as running:
            panel_case.new_scene(slicer.mrmlScene)
            running.load(panel_case.MODULE)
            slicer.util.exit = sys.exit
            import NePhiRegistrationScenarios as scenarios
            scenarios.SIZE = 32
            scenarios.OPTIONS.update(points=20000, iterations=[6, 6])
            runpy.run_path({str(scripts / "NePhiRegistrationModuleTest.py")!r}, run_name="__main__")
        assert not pythonqt.slot_errors
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=300,
                          env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NePhi: all scenarios passed." in done.stdout
    assert "test_panel was skipped: there is no main window" in done.stdout
    assert re.search(r"NePhi: scripts and panel together took \d+ s", done.stdout)


def test_pressing_register_on_the_real_thing_moves_the_picture_fills_the_outputs_and_continues(real, stopwatch):
    import NePhiRegistrationScenarios as scenarios
    parameters, ui = real.parameters, real.ui
    nodes = choose_phantom(real, 32, **{**scenarios.OPTIONS, "iterations": [6, 6]}, seed=3)
    parameters.continueIterations = 4
    before = slicer.util.arrayFromVolume(nodes["moving"]).copy()
    ui.registerButton.click()
    scenarios.wait(lambda: real.widget.panel.review._running)
    shown = slicer.mrmlScene.GetNodeByID(slicer.mrmlScene.GetFirstNodeByClass(
        "vtkMRMLSliceCompositeNode").GetForegroundVolumeID())
    assert shown.GetParentTransformNode() is parameters.forwardTransform
    longest = scenarios.wait(lambda: ui.registerButton.text == "Continue")
    assert not stopwatch or longest < 0.5, "the event loop was blocked"
    assert "fold" in ui.statusLabel.text
    assert ui.numbersTable.rowCount > 10
    assert parameters.warpedVolume.GetImageData() is not None
    assert "Done in" in ui.progressLabel.text
    ui.registerButton.click()
    assert ui.registerButton.text == "Cancel"
    scenarios.wait(lambda: ui.registerButton.text == "Continue")
    assert (slicer.util.arrayFromVolume(nodes["moving"]) == before).all()
