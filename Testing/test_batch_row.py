"""Export as batch row: what is chosen in Slicer, as a row that the command line registers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

import panel_case  # noqa: F401  # isort: skip  (it makes `import qt` work)

import numpy as np
import qt
import slicer
from mrml_scene import add_segmentation
from nephi.cli.row_arguments import known_columns
from nephi.cohort.cohort_table import read_table
from NePhiRegistrationLib.mrml.node_error import NodeError
from NePhiRegistrationLib.session.batch_row import append_row
from NePhiRegistrationLib.session.values import Inputs
from panel_case import add_points, add_volume

pytest_plugins = ["panel_fixture"]


def _saved(name: str, folder: Path):
    """A volume with a file."""
    node = add_volume(name)
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(folder / f"{name}.nrrd"))
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.WriteData(node)
    return node


def _rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_pair_becomes_a_row_that_the_command_line_can_use(opened, tmp_path):
    fixed, moving = _saved("Fixed CT (1)", tmp_path), _saved("Moving", tmp_path)
    table = tmp_path / "cohort.csv"
    assert append_row(table, Inputs(fixed, moving), "lung-ct", {"iterations": [5, 6, 7], "seed": 3}
                      ) == "Moving_to_Fixed-CT-1"
    rows, faults = read_table(table, known_columns())
    assert not faults and rows[0].cells == {
        "fixed": str(tmp_path / "Fixed CT (1).nrrd"), "moving": str(tmp_path / "Moving.nrrd"), "preset": "lung-ct",
        "iterations": "5,6,7", "seed": "3"}


def test_rows_that_are_there_stay_and_ids_stay_apart(opened, tmp_path):
    table = tmp_path / "cohort.csv"
    table.write_text("\ufeffid,fixed,moving,tolerance\r\nB_to_A,a.nii,b.nii,0.2\r\n", encoding="utf-8")
    inputs = Inputs(_saved("A", tmp_path), _saved("B", tmp_path))
    assert append_row(table, inputs) == "B_to_A-2"
    rows = _rows(table)
    assert [row["id"] for row in rows] == ["B_to_A", "B_to_A-2"]
    assert rows[0]["tolerance"] == "0.2" and rows[0]["preset"] == "" and rows[1]["preset"] == "generic"


def test_landmarks_are_written_beside_the_table_in_the_world(opened, tmp_path):
    fixed, moving = _saved("A", tmp_path), _saved("B", tmp_path)
    append_row(tmp_path / "t.csv", Inputs(fixed, moving, landmarksFixed=add_points("F", 3),
                                          landmarksMoving=add_points("M", 3)))
    row = _rows(tmp_path / "t.csv")[0]
    text = (tmp_path / row["landmarks"]).read_text()
    assert text.startswith("fixed_x,fixed_y,fixed_z,moving_x") and text.count("\n") == 4
    assert np.loadtxt(tmp_path / row["landmarks"], delimiter=",", skiprows=1).shape == (3, 6)


def test_nodes_without_files_or_with_other_voxels_than_their_files_are_refused_in_one_sentence(opened, tmp_path):
    fixed, unsaved = _saved("A", tmp_path), add_volume("B")
    for moving, part in ((unsaved, "B has no file"), (_saved("C", tmp_path), "C has changed"),
                         (_saved("D", tmp_path), "D is under a transform")):
        if moving.GetName() == "C":
            moving.GetImageData().Modified()
            moving.Modified()
            moving.StorableModified()
        if moving.GetName() == "D":
            transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
            moving.SetAndObserveTransformNodeID(transform.GetID())
        with pytest.raises(NodeError, match=part):
            append_row(tmp_path / "t.csv", Inputs(fixed, moving))
    assert not (tmp_path / "t.csv").exists()


def test_one_segment_of_a_mask_cannot_be_a_row(opened, tmp_path):
    fixed, moving = _saved("A", tmp_path), _saved("B", tmp_path)
    with pytest.raises(NodeError, match="One segment"):
        append_row(tmp_path / "t.csv", Inputs(fixed, moving, fixedMask=add_segmentation(
            {"lung": np.ones((12, 12, 12), bool)}, np.eye(4)), fixedSegment="lung"))


def test_the_button_adds_the_choice_or_says_why_not(opened, monkeypatch, tmp_path):
    path = tmp_path / "cohort.csv"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(path))
    opened.ui.fixedSelector.setCurrentNode(_saved("A", tmp_path))
    opened.ui.movingSelector.setCurrentNode(add_volume("B"))
    opened.ui.batchRowButton.click()
    assert opened.ui.statusLabel.text == "B has no file, and a table names files; save it first."
    opened.ui.movingSelector.setCurrentNode(_saved("C", tmp_path))
    opened.ui.batchRowButton.click()
    assert opened.ui.statusLabel.text == f"Added the row C_to_A to {path}."
    assert _rows(path)[0]["moving"] == str(tmp_path / "C.nrrd")
    path.write_text("a,b\n1,2\n")
    opened.ui.batchRowButton.click()
    assert "has no columns id, fixed and moving" in opened.ui.statusLabel.text
