"""Numbers: what a registration measured, as a table, a picture and files."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case  # noqa: F401  # isort: skip  (it makes `import qt` work)

import qt
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
    report = json.loads(json.dumps(REPORT))
    report["metrics"]["folds_percent"]["inverse"] = {"analytic": 0.5}
    opened.widget.panel.numbers.show(report, HISTOGRAM)
    assert ("Folds, exact derivative, inverse", "0.5 % of voxels") in cells(opened.ui.numbersTable)
    assert ("Folds, exact derivative, forward", "0 % of voxels") in cells(opened.ui.numbersTable)


def test_the_numbers_are_written_as_csv_and_the_line_says_where(opened, monkeypatch, tmp_path):
    ui, path = finished(opened), tmp_path / "numbers.csv"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(path))
    ui.csvButton.click()
    rows = list(csv.reader(path.open(encoding="utf-8")))
    assert ["Landmark error, before", "forward", "9.3", "mm"] in rows
    assert ui.statusLabel.text == f"The numbers are in {path}."


def test_a_file_that_cannot_be_written_is_told_and_breaks_nothing(opened, monkeypatch, tmp_path):
    ui = finished(opened)
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(tmp_path / "none" / "numbers.csv"))
    ui.csvButton.click()
    assert "No such file or directory" in ui.statusLabel.text
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
    assert ("saveTransform", path) in opened.logic.calls


def test_a_file_that_is_no_transform_is_told_in_a_sentence(opened, monkeypatch):
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: "/tmp/x.txt")
    opened.ui.loadTransformButton.click()
    assert opened.ui.statusLabel.text == "/tmp/x.txt is no .nephi file; choose one that NePhi wrote."
