"""nephi batch given tables and folders as people have them, with names that some file systems cannot hold apart."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from nephi.cli.main import main
from nephi.cli.row_arguments import known_columns
from nephi.cohort.bids import longitudinal
from nephi.cohort.cohort_table import read_table
from nephi.cohort.image_folder import pairs_in
from nephi.cohort.rows import LONGEST_ID, wrong_id

ACCENT = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"


def _files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _refused(capsys, folder: Path, text: str, *flags: str) -> str:
    """What is said of a table; its images are there, but empty."""
    _files(folder, "a.nii", "b.nii")
    (folder / "t.csv").write_text(text, encoding="utf-8")
    assert main(["batch", str(folder / "t.csv"), "-o", str(folder / "out"), *flags]) == 2
    assert not (folder / "out").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(("text", "part"), [
    ('"id";"fixed";"moving"\n"a";"a.nii";"b.nii"\n', "are separated by ';'"),
    ("id fixed moving\na a.nii b.nii\n", "are separated by ' '"),
    ("x,a.nii,b.nii\ny,a.nii,b.nii\n", "The first row .* is 'x,a.nii,b.nii'; it must name the columns"),
    ("# my study\nid,fixed,moving\na,a.nii,b.nii\n", "are separated by ' '"),
    ("id,fixed,moving,weights\nx,a.nii,b.nii,gone.npz\n", "row 2 \\(x\\): there are no weights 'gone.npz'"),
    (f"id,fixed,moving\nx,{'y' * 5000},b.nii\n", "row 2 \\(x\\): the fixed image .* does not exist"),
    (f"id,fixed,moving\n{ACCENT},a.nii,b.nii\n{unicodedata.normalize('NFD', ACCENT)},a.nii,b.nii\n",
     "the id is that of row 2 .* too"),
])
def test_what_is_wrong_with_an_odd_table_is_one_sentence(tmp_path, capsys, text, part):
    error = _refused(capsys, tmp_path, text)
    assert error.count("\n") == 1
    assert re.search(part, error)


def test_a_flag_that_is_wrong_for_all_rows_is_told_once(tmp_path, capsys):
    error = _refused(capsys, tmp_path, "id,fixed,moving\nx,a.nii,b.nii\ny,a.nii,b.nii\n", "--preset", "fast")
    assert error.count("fast") == 1 and error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["batch", "{}.csv", "-o", "out"], ["template", "{}.nii", "a.nii", "-o", "out"],
                                       ["register", "{}.nii", "a.nii", "-o", "out"], ["info", "{}"]])
def test_a_name_that_is_too_long_for_the_file_system_is_a_sentence(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(_files(tmp_path, "a.nii"))
    assert main([argument.format("x" * 300) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nephi: error: ") and error.count("\n") == 1 and "too long" in error


@pytest.mark.parametrize("id", ["com\N{SUPERSCRIPT ONE}", "CON .txt", "\N{HIRAGANA LETTER A}" * (LONGEST_ID // 3 + 1)])
def test_ids_that_windows_or_a_file_system_refuses_are_refused(id):
    assert wrong_id(id) is not None


@pytest.mark.parametrize("id", [unicodedata.normalize("NFD", ACCENT), "\u0939\u093f\u0928\u094d\u0926\u0940"])
def test_ids_in_any_script_are_names_of_folders(id):
    assert wrong_id(id) is None


@pytest.mark.parametrize("names", [
    ("a.nii", "a.nrrd", "b.nii"), ("c.nii", "c_to_a.nii", "b.nii", "a_to_b.nii"), ("a.nii", "A.nrrd", "b.nii")])
def test_every_pair_of_a_folder_has_a_folder_of_its_own(tmp_path, names):
    rows = pairs_in(_files(tmp_path, *names), ["all"])
    assert len({row.folder.casefold() for row in rows}) == len(rows) == len(names) * (len(names) - 1) // 2


def test_in_bids_subjects_with_one_session_are_told_and_an_image_without_one_has_its_suffix(tmp_path, caplog):
    rows = longitudinal(_files(tmp_path, "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii", "sub-2/anat/sub-2_T1w.nii",
                               "sub-2/ses-2/anat/sub-2_ses-2_T1w.nii"), "T1w")
    assert [row.id for row in rows] == ["sub-2_ses-2_to_T1w"]
    assert rows[0].stems["forward"] == "sub-2_ses-2_from-ses2_to-T1w_mode-image_xfm"
    assert "Subjects with one session are left out: 1." in caplog.text


def test_a_table_without_a_last_column_is_read_as_if_its_cell_were_empty(tmp_path):
    _files(tmp_path, "a.nii", "b.nii")
    (tmp_path / "t.csv").write_text("id,fixed,moving,preset\nx,a.nii,b.nii\n")
    rows, faults = read_table(tmp_path / "t.csv", known_columns())
    assert not faults and "preset" not in rows[0].cells


def test_a_job_system_that_is_not_on_this_machine_is_a_sentence(tmp_path, capsys, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "slurm.yaml").write_text("jobqueue: {slurm: {cores: 1, memory: 1GB}}")
    _files(tmp_path, "a.nii", "b.nii")
    (tmp_path / "t.csv").write_text("id,fixed,moving\nx,a.nii,b.nii\n")
    assert main(["batch", str(tmp_path / "t.csv"), "-o", str(tmp_path / "out"), "--jobqueue",
                 str(tmp_path / "slurm.yaml")]) == 2
    error = capsys.readouterr().err
    assert "There is no command 'sbatch' here" in error and error.count("\n") == 1
