"""Run inside Slicer, by ctest or by hand:

    Slicer --testing --no-main-window --additional-module-paths NePhiRegistration \\
        --python-script NePhiRegistration/Testing/Python/NePhiRegistrationModuleTest.py
"""

import json
import os
import sys
import time
import traceback
import unittest

import slicer
from NePhiRegistrationLib.panel.sample_data import add_phantom
from NePhiRegistrationLib.panel.torch_offer import has_torch

from NePhiRegistration import NePhiRegistrationLogic

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import NePhiRegistrationScenarios as scenarios


class NePhiRegistrationModuleTest(unittest.TestCase):
    """The same scenarios from a script and through the panel."""

    def setUp(self):
        if not has_torch():
            self.skipTest("PyTorch is not installed; open the module and press Install PyTorch, then run this again")
        slicer.mrmlScene.Clear()

    def test_scripts(self):
        scenarios.run(NePhiRegistrationLogic)

    def test_panel(self):
        """Choose two volumes and press Register, as a person does."""
        if slicer.app.commandOptions().noMainWindow:
            self.skipTest("there is no main window to show the panel in")
        slicer.util.selectModule("NePhiRegistration")
        widget = slicer.modules.NePhiRegistrationWidget
        nodes = add_phantom(scenarios.SIZE)
        parameters, ui = widget._parameterNode, widget.ui
        parameters.fixedVolume, parameters.movingVolume = nodes["fixed"], nodes["moving"]
        parameters.fixedMask, parameters.movingMask = nodes["fixedMask"], nodes["movingMask"]
        parameters.preset = "lung-ct"
        parameters.options = json.dumps(scenarios.OPTIONS)
        scenarios.check(ui.registerButton.enabled, f"the button says {ui.registerButton.text!r}")
        ui.registerButton.click()
        scenarios.check(ui.registerButton.text == "Cancel", "while running it cancels")
        scenarios.wait(lambda: ui.registerButton.text != "Cancel")
        scenarios.check(ui.registerButton.text == "Continue", f"at the end: {ui.statusLabel.text}")
        scenarios.check(ui.numbersTable.rowCount > 0, f"{ui.numbersTable.rowCount} numbers are shown")
        scenarios.check(parameters.warpedVolume is not None, "the outputs were made and chosen")
        slicer.util.reloadScriptedModule("NePhiRegistration")
        again = slicer.modules.NePhiRegistrationWidget
        scenarios.check(again is not widget and again.ui.movingSelector.currentNode() is nodes["moving"],
                       "after a reload the choices are the same")
        scenarios.check(again.ui.registerButton.enabled, f"and the button says {again.ui.registerButton.text!r}")

    def runTest(self):
        """All of them; slicer.testing.runUnitTest finds the tests by itself."""
        started = time.monotonic()
        for name in ("test_scripts", "test_panel"):
            try:
                self.setUp()
                getattr(self, name)()
            except unittest.SkipTest as skipped:
                print(f"NePhi: {name} was skipped: {skipped}")
        seconds = time.monotonic() - started
        print(f"NePhi: scripts and panel together took {seconds:.0f} s")


if __name__ == "__main__":
    try:
        NePhiRegistrationModuleTest().runTest()
    except Exception:
        traceback.print_exc()
        sys.stdout.flush()
        slicer.util.exit(1)
    else:
        slicer.util.exit(0)
