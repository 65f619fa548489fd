"""The numbers of a report are all in the table and in the CSV file, and what was not measured is in neither."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
from mrml_scene import add_node, new_scene
from NePhiRegistrationLib.mrml import doubtful_places, error_volume, metrics_table
from NePhiRegistrationLib.session.output_nodes import OutputNodes
from NePhiRegistrationLib.session.values import Inputs, Outputs

SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "report-schema.md"


@pytest.fixture(autouse=True)
def scene():
    return new_scene()


@pytest.fixture
def report() -> dict:
    """The example of the schema."""
    return json.loads(re.search(r"```json\n(.*?)```", SCHEMA.read_text(encoding="utf-8"), re.DOTALL).group(1))


def as_rows(node) -> list[tuple]:
    table = node.GetTable()
    return [tuple(table.GetValue(row, column).ToString() if column != 2 else table.GetValue(row, column).ToDouble()
                  for column in range(4)) for row in range(table.GetNumberOfRows())]


def test_the_table_holds_measure_direction_value_and_unit(report):
    node = add_node("Table", "numbers")
    metrics_table.write_metrics(node, report)
    assert [node.GetTable().GetColumnName(column) for column in range(4)] == list(metrics_table.COLUMNS)
    found = as_rows(node)
    assert ("Landmark error, mean", "forward", 1.31, "mm") in found
    assert ("Folds, finite differences", "inverse", 0.0, "% of voxels") in found
    assert ("Inverse-consistency error, mean", "both", 0.12, "mm") in found
    assert ("Normalised mutual information, after", "forward", 1.21, "") in found
    assert ("Displacement field error, largest", "forward", 0.041, "mm") in found
    assert ("Time", "", 12.4, "s") in found


def test_the_table_shows_its_titles_and_not_letters_above_the_columns(report):
    node = add_node("Table", "numbers")
    metrics_table.write_metrics(node, report)
    assert node.GetUseColumnTitleAsColumnHeader()


def test_what_was_not_measured_has_no_row(report):
    assert not any("Dice" in row.measure or "Surface" in row.measure for row in metrics_table.rows(report))
    assert metrics_table.rows({}) == []
    assert metrics_table.rows({"metrics": {"tre_mm": {"mean": None, "max": float("nan"), "count": 3}}}) == [
        metrics_table.Row("Landmarks", "forward", 3.0, "")]


def test_labels_are_called_by_their_names_where_they_have_some(report):
    report["metrics"].update(dice={"before": 0.5, "mean": 0.8, "per_label": {"1": 0.7, "2": 0.9}},
                             label_names={"1": "lung"})
    rows = {row.measure: row.value for row in metrics_table.rows(report)}
    assert (rows["Dice, lung"], rows["Dice, 2"], rows["Dice, before"]) == (0.7, 0.9, 0.5)


def test_a_second_report_replaces_the_first(report):
    node = add_node("Table", "numbers")
    metrics_table.write_metrics(node, report)
    metrics_table.write_metrics(node, {"runtime": {"seconds": 1.0}})
    assert as_rows(node) == [("Time", "", 1.0, "s")]


def test_the_file_has_the_rows_of_the_table(report):
    lines = list(csv.reader(io.StringIO(metrics_table.metrics_csv(metrics_table.rows(report)), newline="")))
    assert tuple(lines[0]) == metrics_table.COLUMNS
    assert len(lines) == 1 + len(metrics_table.rows(report))
    assert ["Landmark error, mean", "forward", "1.31", "mm"] in lines


def test_slicer_saves_and_reads_the_table(report, tmp_path):
    node, path = add_node("Table", "numbers"), str(tmp_path / "numbers.tsv")
    metrics_table.write_metrics(node, report)
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableStorageNode")
    storage.SetFileName(path)
    loaded = add_node("Table", "loaded")
    assert storage.WriteData(node) and storage.ReadData(loaded)
    assert as_rows(loaded) == as_rows(node)


def test_what_was_written_is_read_back_with_its_histogram(report):
    node, histogram = add_node("Table", "numbers"), {"edges": [0.5, 1.0, 2.0], "counts": [3, 4], "folds": 1}
    metrics_table.write_metrics(node, report, histogram)
    assert metrics_table.read_metrics(node) == (metrics_table.rows(report), histogram)
    metrics_table.write_metrics(node, report)
    assert metrics_table.read_metrics(node) == (metrics_table.rows(report), None)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"edges": [1], "counts": "x", "folds": 0}'])
def test_a_histogram_that_was_damaged_is_none(report, text):
    node = add_node("Table", "numbers")
    metrics_table.write_metrics(node, report)
    node.SetAttribute(metrics_table.HISTOGRAM, text)
    assert metrics_table.read_metrics(node) == (metrics_table.rows(report), None)


def test_a_result_that_was_not_measured_leaves_nothing_of_an_earlier_one_in_the_table(scene, report):
    node = add_node("Table", "numbers")
    outputs = OutputNodes(scene, Outputs(table=node, createMissing=False), Inputs(None, None))
    report["metrics"]["residual_mm"] = {"at": [[0.0, 0.0, 0.0]] * 2, "distances": [1.0, None], "reach": 4.0,
                                        "voxel": 1.0}
    outputs.fill_numbers(report, {"edges": [0, 1], "counts": [1], "folds": 0},
                         [{"at": [0, 0, 0], "mm": 1.0, "reason": "fold"}])
    assert error_volume.present(node) and doubtful_places.load(node) and metrics_table.read_metrics(node)[1]
    outputs.fill_numbers({"provenance": {}}, None)  # of a loaded file: nothing is said of the table
    assert error_volume.present(node)
    outputs.fill_numbers({"metrics": None, "runtime": {"seconds": 2.0}}, None)
    rows, histogram = metrics_table.read_metrics(node)
    assert [row.measure for row in rows] == ["Time"] and histogram is None
    assert not error_volume.present(node) and not doubtful_places.load(node)
