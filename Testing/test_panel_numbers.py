"""Numbers: what a registration measured, as a table, a picture and files."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case  # noqa: F401  # isort: skip  (it makes `import qt` work)

import qt
import slicer
from panel_case import HISTOGRAM, REPORT

pytest_plugins = ["panel_fixture"]


def cells(table) -> list[tuple[str, str]]:
    return [(table.item(row, 0).text(), table.item(row, 1).text()) for row in range(table.rowCount)]


def finished(opened):
    opened.choose_pair()
    opened.press().finish()
    return opened.ui


def test_before_a_result_there_is_nothing_to_show_or_save(opened):
    ui = opened.ui
    assert ui.numbersTable.rowCount == 0
    assert not (ui.csvButton.enabled or ui.saveTransformButton.enabled)
    assert not ui.histogramLabel.isVisibleTo(ui.histogramLabel.parent())
    assert ui.loadTransformButton.enabled


def test_a_result_fills_the_table_with_units(opened):
    table = finished(opened).numbersTable
    assert ("Landmark error, before", "9.3 mm") in cells(table)
    assert ("Normalised cross-correlation, after", "0.93") in cells(table)


def test_where_both_directions_were_measured_each_is_named(opened):
    from NePhiRegistrationLib.mrml import metrics_table
    report = json.loads(json.dumps(REPORT))
    report["metrics"]["folds_percent"]["inverse"] = {"analytic": 0.5}
    opened.widget.panel.numbers.show(metrics_table.rows(report), HISTOGRAM)
    assert ("Folds, exact derivative, inverse", "0.5 % of voxels") in cells(opened.ui.numbersTable)
    assert ("Folds, exact derivative, forward", "0 % of voxels") in cells(opened.ui.numbersTable)


def test_the_numbers_are_written_as_csv_and_the_line_says_where(opened, monkeypatch, tmp_path):
    ui, path = finished(opened), tmp_path / "numbers.csv"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(path))
    ui.csvButton.click()
    rows = list(csv.reader(path.open(encoding="utf-8")))
    assert ["Landmark error, before", "forward", "9.3", "mm"] in rows
    assert ui.statusLabel.text == f"Saved the metrics to {path}."


def test_a_file_that_cannot_be_written_is_told_and_breaks_nothing(opened, monkeypatch, tmp_path):
    ui = finished(opened)
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(tmp_path / "none" / "numbers.csv"))
    ui.csvButton.click()
    assert ui.statusLabel.text.endswith("choose a folder with write permission and free space.")
    assert "No such file or directory" in ui.statusLabel.text and not list(tmp_path.iterdir())
    assert ui.registerButton.enabled


def test_no_file_chosen_means_nothing_happens(opened, monkeypatch):
    ui = finished(opened)
    before = ui.statusLabel.text
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: "")
    ui.csvButton.click()
    ui.saveTransformButton.click()
    assert ui.statusLabel.text == before
    assert not [call for call in opened.logic.calls if call[0] == "saveTransform"]


def test_the_transform_is_saved_through_the_logic(opened, monkeypatch, tmp_path):
    ui, path = finished(opened), str(tmp_path / "t.nephi")
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: path)
    ui.saveTransformButton.click()
    assert ("saveTransform", path, opened.parameters.forwardTransform) in opened.logic.calls


def test_another_result_that_is_chosen_is_the_one_that_is_shown_and_saved(opened, monkeypatch):
    from NePhiRegistrationLib.mrml import metrics_table, transform_archive
    ui = finished(opened)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Other")
    transform_archive.store(other, b"other")
    numbers = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Other numbers")
    metrics_table.write_metrics(numbers, {"runtime": {"seconds": 7.0}})
    opened.parameters.forwardTransform = other
    opened.parameters.metricsTable = numbers
    assert cells(ui.numbersTable) == [("Time", "7 s")]
    assert not ui.histogramLabel.isVisibleTo(ui.histogramLabel.parent())
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: "t.nephi")
    ui.saveTransformButton.click()
    assert opened.logic.calls[-1] == ("saveTransform", "t.nephi", other)


def test_a_table_of_another_kind_shows_no_numbers(opened):
    ui = finished(opened)
    opened.parameters.metricsTable = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Ages")
    assert ui.numbersTable.rowCount == 0 and not ui.csvButton.enabled


def test_a_scene_that_is_opened_again_shows_its_numbers_histogram_preset_and_can_be_saved(opened, tmp_path):
    opened.parameters.preset = "lung-ct"
    ui = finished(opened)
    shown = cells(ui.numbersTable)
    table = opened.parameters.metricsTable
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableStorageNode")
    table.SetAndObserveStorageNodeID(storage.GetID())
    storage.SetFileName(str(tmp_path / "numbers.tsv"))
    assert storage.WriteData(table)
    scene = slicer.mrmlScene
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    scene.Clear(0)
    assert ui.numbersTable.rowCount == 0 and not ui.saveTransformButton.enabled
    scene.SetURL(str(tmp_path / "scene.mrml"))
    scene.Import()
    assert cells(ui.numbersTable) == shown
    assert ui.histogramLabel.isVisibleTo(ui.histogramLabel.parent())
    assert ui.csvButton.enabled and ui.saveTransformButton.enabled
    assert (opened.parameters.preset, ui.presetComboBox.currentText) == ("lung-ct", "Lung CT")


def test_a_transform_that_was_loaded_can_be_saved_and_old_numbers_are_not_shown_with_it(opened, monkeypatch):
    ui = finished(opened)
    table = opened.parameters.metricsTable
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: "/tmp/x.nephi")
    ui.loadTransformButton.click()
    assert (ui.statusLabel.text, ui.loadTransformButton.enabled) == ("Loading /tmp/x.nephi…", False)
    opened.logic.loadings[-1].finish()
    assert (ui.statusLabel.text, ui.loadTransformButton.enabled) == (
        "Loaded /tmp/x.nephi into the outputs.", True)
    assert ui.numbersTable.rowCount == 0 and ui.saveTransformButton.enabled
    assert table.GetScene() is slicer.mrmlScene and table.GetTable().GetNumberOfRows() > 0


def test_a_file_is_not_read_into_an_input(opened, monkeypatch):
    opened.choose_pair()
    opened.parameters.logJacobian = opened.parameters.fixedVolume
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: "/tmp/x.nephi")
    opened.ui.loadTransformButton.click()
    assert "is chosen as fixed volume and as log-Jacobian volume" in opened.ui.statusLabel.text
    assert opened.ui.loadTransformButton.enabled and opened.logic.loadings == []


def test_a_file_that_is_no_transform_is_told_in_a_sentence(opened, monkeypatch):
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: "/tmp/x.txt")
    opened.ui.loadTransformButton.click()
    assert opened.ui.statusLabel.text == "/tmp/x.txt is no .nephi file; choose one that NePhi wrote."


def test_a_file_that_cannot_be_loaded_is_told_when_it_shows_and_the_numbers_stay(opened, monkeypatch):
    ui = finished(opened)
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: "/tmp/x.nephi")
    ui.loadTransformButton.click()
    opened.logic.loadings[-1].fail("/tmp/x.nephi cannot be loaded: it is damaged; choose another.")
    assert ui.statusLabel.text == "/tmp/x.nephi cannot be loaded: it is damaged; choose another."
    assert ui.loadTransformButton.enabled and ui.numbersTable.rowCount > 0


def test_a_file_that_is_read_after_its_scene_was_closed_does_no_harm(opened, monkeypatch):
    ui = finished(opened)
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: "/tmp/x.nephi")
    ui.loadTransformButton.click()
    slicer.mrmlScene.Clear(0)
    opened.logic.loadings[-1].finish()
    assert ui.loadTransformButton.enabled
    assert opened.parameters.forwardTransform is None


def test_a_transform_without_an_exact_map_cannot_be_saved_under_the_last_results_name(opened):
    ui = finished(opened)
    assert ui.saveTransformButton.enabled
    opened.parameters.forwardTransform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Linear")
    assert not ui.saveTransformButton.enabled
    opened.parameters.forwardTransform = None
    assert ui.saveTransformButton.enabled


def test_after_a_file_was_loaded_there_is_nothing_to_continue(opened, monkeypatch):
    ui = finished(opened)
    assert ui.registerButton.text == "Continue"
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: "/tmp/x.nephi")
    ui.loadTransformButton.click()
    opened.logic.loadings[-1].finish()
    assert ui.registerButton.text == "Register"


def test_a_panel_that_was_closed_hears_nothing_of_its_task_and_file(opened, monkeypatch):
    ui = finished(opened)
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: "/tmp/x.nephi")
    ui.loadTransformButton.click()
    opened.parameters.continueIterations = 5
    task = opened.press()
    task.run()
    opened.widget.cleanup()
    said = ui.statusLabel.text
    opened.logic.loadings[-1].finish()
    opened.logic.loadings[-1].fail("late")
    task.fail("late", "cancelled")
    assert ui.statusLabel.text == said


def test_the_next_doubtful_place_takes_the_views_there_the_worst_first_and_says_why(opened):
    from NePhiRegistrationLib.mrml import doubtful_places
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    opened.choose_pair()
    task = opened.press()
    assert not opened.ui.doubtButton.enabled
    task.finish()
    assert not opened.ui.doubtButton.enabled and opened.ui.doubtLabel.text == ""
    doubts = [{"at": [1.0, 2.0, 3.0], "mm": 7.25, "reason": "images disagree"},
              {"at": [4.0, 5.0, 6.0], "mm": 2.0, "reason": "fold"}]
    doubtful_places.store(opened.parameters.metricsTable, doubts)
    opened.widget.onParametersModified()
    texts, slices = [], []
    for _ in range(3):
        opened.ui.doubtButton.click()
        texts.append(opened.ui.doubtLabel.text)
        slices.append(view.GetSliceToRAS().GetElement(2, 3))
    assert texts == ["1 of 2: the images disagree, 7.2 mm", "2 of 2: the map folds, 2.0 mm",
                     "1 of 2: the images disagree, 7.2 mm"] and slices == [3.0, 6.0, 3.0]
    assert doubtful_places.load(opened.parameters.metricsTable)[0].ras == (-1.0, -2.0, 3.0)
    opened.parameters.metricsTable.SetAttribute(doubtful_places.ATTRIBUTE, '[{"at": 3}]')
    opened.widget.onParametersModified()
    assert not opened.ui.doubtButton.enabled


def test_doubtful_places_become_a_point_list_that_says_why_and_is_filled_again(opened):
    from NePhiRegistrationLib.mrml import doubtful_places
    finished(opened)
    assert not opened.ui.doubtPointsButton.enabled
    doubts = [{"at": [1.0, 2.0, 3.0], "mm": 7.25, "reason": "images disagree"},
              {"at": [4.0, 5.0, 6.0], "mm": 2.0, "reason": "fold"}]
    doubtful_places.store(opened.parameters.metricsTable, doubts)
    opened.widget.onParametersModified()
    opened.ui.doubtPointsButton.click()
    assert opened.ui.doubtLabel.text == "2 places are in 'Doubtful places'."
    node = slicer.mrmlScene.GetFirstNodeByName("Doubtful places")
    labels = [node.GetNthControlPointLabel(n) for n in range(2)]
    assert labels == ["7.2 mm: the images disagree", "2.0 mm: the map folds"]
    assert tuple(node.GetNthControlPointPositionWorld(0)) == (-1.0, -2.0, 3.0) and node.GetNthControlPointLocked(0)
    doubtful_places.store(opened.parameters.metricsTable, doubts[1:])
    assert doubtful_places.points(opened.parameters.metricsTable) is node and node.GetNumberOfControlPoints() == 1
