"""The fixture ``opened``; see panel_case.py."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import panel_case
import pytest
import pythonqt
import slicer
from panel_case import MODULE, Opened
from pythonqt.slicer_module import running_slicer, source_folder


def sources() -> list[Any]:
    """The double's own base classes, and Slicer's where its sources are at hand."""
    folder = source_folder()
    missing = pytest.mark.skip(reason="SLICER_SOURCE_DIR does not name Slicer's sources")
    return [pytest.param(None, id="double"),
            pytest.param(folder, id="slicer-sources", marks=[] if folder else [missing])]


def scripted_logic() -> types.ModuleType:
    """Takes the place of NePhiRegistrationLib.session.logic; what goes in and out is the real thing."""
    sys.path.insert(0, str(MODULE.parent))
    from NePhiRegistrationLib.session.values import Inputs, Outputs
    module = types.ModuleType("NePhiRegistrationLib.session.logic")
    module.RegistrationLogic, module.Inputs, module.Outputs = panel_case.ScriptedLogic, Inputs, Outputs
    return module


@pytest.fixture
def real() -> Iterator[Opened]:
    """The module in Slicer's double, with its own logic, worker and engine."""
    pythonqt.slot_errors.clear()
    with running_slicer() as running:
        panel_case.new_scene(slicer.mrmlScene)
        module = running.load(MODULE)
        yield Opened(running, module, running.open(module))
        slicer.modules.NePhiRegistrationWidget.cleanup()
    assert not pythonqt.slot_errors, "a slot raised; see the captured output"


@pytest.fixture(params=sources())
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """The module in Slicer's double, with a logic that does what the test says."""
    pythonqt.slot_errors.clear()
    with running_slicer(request.param) as running:
        panel_case.new_scene(slicer.mrmlScene)
        monkeypatch.setitem(sys.modules, "NePhiRegistrationLib.session.logic", scripted_logic())
        module = running.load(MODULE)
        yield Opened(running, module, running.open(module))
        slicer.modules.NePhiRegistrationWidget.cleanup()
    assert not pythonqt.slot_errors, "a slot raised; see the captured output"
