"""The scenarios that run inside Slicer, rehearsed on the double with the real logic, worker and engine."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case
import pythonqt
import slicer
from pythonqt.slicer_module import running_slicer


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
