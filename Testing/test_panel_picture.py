"""The panel as people see it, drawn without a screen; NEPHI_PICTURES=1 keeps the picture for the docs.

What it shows was measured: the made-up chest is registered by the real logic, worker and engine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import slicer
from mrml_scene import add_points as add_place_list
from mrml_scene import add_segmentation, add_volume
from nephi.images.phantom import breathing_series
from NePhiRegistrationLib.mrml.node_geometry import FLIP, ijk_to_ras
from panel_case import Opened, add_points, choose_phantom
from PySide6 import QtCore, QtWidgets

pytest_plugins = ["panel_fixture"]

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images" if os.environ.get("NEPHI_PICTURES") else None
WIDTH = 440
QUICK = {"resolution": [16, 28], "iterations": [3, 3], "points": 20000, "affine": "none", "search": "never"}


def drawn(opened: Opened) -> QtWidgets.QWidget:
    native = opened.widget.parent._q
    native.show()
    for _ in range(3):  # layouts settle from the inside out
        QtWidgets.QApplication.processEvents()
        native.resize(WIDTH, native.layout().totalSizeHint().height())
    QtWidgets.QApplication.processEvents()
    return native


def colors_of(label) -> set[int]:
    image = label._q.pixmap().toImage()
    return {image.pixel(x, y) for x in range(image.width()) for y in range(image.height())}


def section_drawn(opened: Opened, name: str, folder: Path) -> None:
    """One section of the panel as a picture of its own."""
    native, section = drawn(opened), getattr(opened.ui, f"{name}CollapsibleButton")._q
    room = QtCore.QRect(section.mapTo(native, QtCore.QPoint(0, 0)), section.size()).adjusted(-8, -8, 8, 8)
    assert native.grab(room).save(str(folder / f"panel-{name}.png"))
    assert native.minimumSizeHint().width() <= WIDTH


def test_the_panel_fits_its_width_and_shows_the_curve_the_numbers_and_the_histogram(real, tmp_path):
    import NePhiRegistrationScenarios as scenarios
    drawn(real)
    if PICTURES:
        choose_phantom(real, 96)
    else:
        choose_phantom(real, 32, **QUICK)
    real.ui.registerButton.click()
    scenarios.wait(lambda: real.ui.registerButton.text == "Continue", 120)
    native = drawn(real)
    assert native.width() == WIDTH
    wide = native.minimumSizeHint().width()
    last = real.ui.advancedCollapsibleButton._q
    end = last.mapTo(native, last.rect().bottomLeft()).y() + 22  # as much room as above the first section
    assert native.grab(QtCore.QRect(0, 0, WIDTH, end)).save(str((PICTURES or tmp_path) / "panel.png"))
    assert wide <= WIDTH
    for label in (real.ui.lossLabel, real.ui.histogramLabel):
        assert len(colors_of(label)) > 3
    real.ui.doubtButton.click()
    assert real.ui.doubtLabel.text and real.ui.errorMapCheckBox.enabled
    for name in ("review", "landmarks"):
        getattr(real.ui, f"{name}CollapsibleButton").collapsed = False
        section_drawn(real, name, PICTURES or tmp_path)
    assert real.ui.landmarksTable.rowCount > 3


def test_another_computer_is_chosen_in_two_lines_that_fit(real, tmp_path):
    ui = real.ui
    ui.advancedCollapsibleButton.collapsed = False
    ui.computeComboBox.setCurrentIndex(1)
    ui.commandLineEdit.enabled, ui.commandLineEdit.text = True, "ssh gpu-box nephi worker"
    native = drawn(real)
    first, last = ui.computeComboBoxLabel._q, ui.commandLineEdit._q
    top, bottom = (widget.mapTo(native, QtCore.QPoint(0, 0)).y() for widget in (first, last))
    room = QtCore.QRect(0, top - 40, WIDTH, bottom + last.height() + 48 - top)
    assert native.grab(room).save(str((PICTURES or tmp_path) / "panel-compute.png"))
    assert native.minimumSizeHint().width() <= WIDTH


def test_the_table_of_what_belongs_shows_names_and_reasons_whole(real, tmp_path):
    import NePhiRegistrationScenarios as scenarios
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Tumour box")
    choose_phantom(real, 32, **QUICK)
    add_points("Nodules", 3)
    real.ui.registerButton.click()
    scenarios.wait(lambda: real.ui.registerButton.text == "Continue", 120)
    real.ui.applyCollapsibleButton.collapsed, table = False, real.ui.applyTable
    names = [table.item(row, 0).text() for row in range(table.rowCount)]
    assert names == ["Lungs, expiration", "Nodules", "Tumour box", "Vessels, expiration"]
    table.item(1, 0)._q.setCheckState(QtCore.Qt.Checked)
    section_drawn(real, "apply", PICTURES or tmp_path)
    assert table._q.rowHeight(2) > 2 * table._q.rowHeight(1)  # the reason is wrapped


def test_the_section_of_a_series_fits_and_its_result_can_be_played(real, tmp_path):
    import NePhiRegistrationScenarios as scenarios
    slicer.mrmlScene.RegisterNodeClass(slicer.vtkMRMLSequenceBrowserNode())
    parameters, ui = real.parameters, real.ui
    breath = breathing_series(32, 4)
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    for phase, frame in enumerate(breath.frames):
        volume = add_volume(frame.values.numpy(), ijk_to_ras(frame.grid.to_dict()), f"phase {phase}")
        sequence.SetDataNodeAtValue(volume, str(phase))
        slicer.mrmlScene.RemoveNode(volume)
    lungs = add_segmentation({"lungs": breath.masks[0].numpy()}, ijk_to_ras(breath.frames[0].grid.to_dict()), "Lungs")
    forks = add_place_list(breath.landmarks[0].numpy() * FLIP, "Forks")
    parameters.preset, parameters.options = "lung-ct", json.dumps(scenarios.OPTIONS)
    parameters.seriesMask, parameters.seriesCycle = lungs, True
    parameters.seriesSequence, parameters.seriesPoints = sequence, forks
    ui.seriesCollapsibleButton.collapsed = False
    ui.seriesButton.click()
    scenarios.wait(lambda: ui.seriesProgressBar.value > 0 or ui.seriesButton.text != "Cancel", 120)
    scenarios.wait(lambda: ui.seriesButton.text == "Register series", 120)
    assert ui.seriesLabel.text.startswith("4 frames"), ui.seriesLabel.text
    assert slicer.mrmlScene.GetFirstNodeByName("4D CT aligned").GetNumberOfSynchronizedSequenceNodes(True) == 4
    native, section = drawn(real), ui.seriesCollapsibleButton._q
    room = QtCore.QRect(section.mapTo(native, QtCore.QPoint(0, 0)), section.size()).adjusted(-8, -8, 8, 8)
    assert native.grab(room).save(str((PICTURES or tmp_path) / "panel-series.png"))
    assert native.minimumSizeHint().width() <= WIDTH


def test_the_panel_does_not_become_narrower_when_sections_close(real):
    from qt import QCoreApplication
    native = drawn(real)
    sections = [widget for name, widget in vars(real.ui).items() if name.endswith(("CollapsibleButton", "GroupBox"))]
    widths = []
    for closed in (False, True, False):
        for section in sections:
            section.collapsed = closed
            for _ in range(3):
                QCoreApplication.processEvents()
        widths.append(native.minimumSizeHint().width())
    assert widths[0] == widths[1] == widths[2]
