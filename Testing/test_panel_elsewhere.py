"""Compute on: the choice in the panel, kept in the application's settings and not in the scene."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case  # isort: skip  (it makes `import qt` work)

import slicer
from panel_case import choose_phantom
from test_worker_process import spin

pytest_plugins = ["panel_fixture"]

COMMAND = "ssh gpu-box nephi worker"


def choose(opened, index: int) -> None:
    """As a user does in the list."""
    opened.ui.computeComboBox.setCurrentIndex(index)
    opened.ui.computeComboBox._q.activated.emit(index)


def enter(opened, command: str) -> None:
    opened.ui.commandLineEdit.text = command
    opened.ui.commandLineEdit._q.editingFinished.emit()


def test_this_computer_computes_and_there_is_no_command(opened):
    assert opened.ui.computeComboBox.currentText == "This computer" and not opened.ui.commandLineEdit.enabled
    assert opened.logic.place == ""


def test_another_computer_needs_a_command_which_goes_to_the_logic_and_the_settings(opened):
    choose(opened, 1)
    assert opened.ui.commandLineEdit.enabled and opened.logic.place == ""
    enter(opened, f" {COMMAND} ")
    assert opened.logic.place == COMMAND
    assert slicer.app.userSettings().value("NePhiRegistration/ComputeOn") == COMMAND
    assert not any(COMMAND in str(slicer.mrmlScene.GetNthNode(n)) for n in range(slicer.mrmlScene.GetNumberOfNodes()))
    choose(opened, 0)
    assert opened.logic.place == "" and not opened.ui.commandLineEdit.enabled
    choose(opened, 1)  # the command is still there
    assert opened.logic.place == COMMAND


def test_the_panel_shows_where_a_script_computes(opened):
    opened.logic.setComputeOn(COMMAND)
    opened.widget.parent.exit()
    opened.widget.parent.enter()
    assert opened.ui.computeComboBox.currentText == "Another computer" and opened.ui.commandLineEdit.text == COMMAND


def test_a_command_that_is_refused_is_a_sentence_and_not_remembered(opened):
    choose(opened, 1)
    opened.logic.refusal = ValueError("The command cannot be read; close its quotation marks.")
    enter(opened, "ssh 'gpu-box")
    assert opened.ui.statusLabel.text == "The command cannot be read; close its quotation marks."
    assert not slicer.app.userSettings().value("NePhiRegistration/ComputeOn")


def test_another_computer_needs_no_pytorch_here(opened, monkeypatch):
    from NePhiRegistrationLib.panel import torch_offer
    monkeypatch.setattr(torch_offer, "has_torch", lambda: False)
    opened.widget.panel.torch._present = False
    opened.choose_pair()
    opened.widget.panel.enter()
    assert not opened.ui.registerButton.enabled and opened.ui.torchFrame.isVisibleTo(opened.ui.torchFrame.parent())
    choose(opened, 1)
    enter(opened, COMMAND)
    assert opened.ui.registerButton.enabled and not opened.ui.torchFrame.isVisibleTo(opened.ui.torchFrame.parent())


def test_a_result_of_another_place_is_not_continued(opened):
    opened.choose_pair()
    opened.press().finish()
    assert opened.ui.registerButton.text == "Continue"
    choose(opened, 1)
    enter(opened, COMMAND)
    assert opened.ui.registerButton.text == "Register"


def test_where_to_compute_cannot_be_changed_while_a_registration_runs(opened):
    opened.choose_pair()
    opened.press().run()
    assert not opened.ui.computeComboBox.isEnabled()


def test_a_wrong_command_leaves_a_sentence_and_a_working_button(real):
    real.choose_pair()
    choose(real, 1)
    enter(real, f"{sys.executable} -m nephi.no_worker")
    real.ui.registerButton.click()
    task = real.widget.panel.run._task
    assert task.wait(60)
    assert "ended and started no worker" in real.ui.statusLabel.text
    assert real.ui.registerButton.text == "Register" and real.ui.registerButton.enabled


def test_a_connection_that_is_cut_is_a_sentence_and_the_same_button_registers_again(real, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(panel_case.MODULE.parent / "NePhiRegistrationLib"))
    choose_phantom(real, 32, iterations=[100000], convergence=0, resolution=[20], affine="none",
                   search="never", device="cpu")
    choose(real, 1)
    enter(real, f"{sys.executable} -m nephi worker")
    real.ui.registerButton.click()
    task = real.widget.panel.run._task
    assert spin(lambda: "iteration" in real.ui.progressLabel.text)
    os.kill(real.logic._worker.process._process.processId(), signal.SIGTERM)
    assert task.wait(60) and real.ui.statusLabel.text.startswith("The connection to the worker was lost")
    real.parameters.options = json.dumps({"iterations": [2], "resolution": [20], "points": 10000, "affine": "none",
                                          "search": "never", "device": "cpu"})
    assert real.ui.registerButton.text == "Register"
    real.ui.registerButton.click()
    task = real.widget.panel.run._task
    assert task.wait(60) and task.state == "finished"
    assert task.report["provenance"]["fixed"]["name"] == "fixed image"  # the volume's may be a patient's


def test_the_settings_say_where_the_worker_of_the_application_computes(real, monkeypatch):
    from NePhiRegistrationLib.session import compute_place, warm_worker
    compute_place.remember(COMMAND)
    monkeypatch.setattr(warm_worker, "_shared", [])
    assert warm_worker.shared().command == COMMAND
    compute_place.remember("ssh 'gpu-box")  # written by hand
    monkeypatch.setattr(warm_worker, "_shared", [])
    assert warm_worker.shared().command == ""
