"""nephi batch before it runs: the table, the folders that stand for one, and all that can be wrong with them."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nephi.cli.main import main
from nephi.cli.row_arguments import known_columns
from nephi.cohort.bids import longitudinal, to_template
from nephi.cohort.cohort_table import read_table
from nephi.cohort.image_folder import pairs_in
from nephi.cohort.peak_memory import estimated_peak, rounds
from nephi.errors import InputError


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder with three small images and a table of two pairs of them."""
    folder = tmp_path / "study"
    folder.mkdir()
    for name in ("scan2", "scan10", "scan1"):
        values = np.random.default_rng(len(name)).normal(size=(12, 12, 12)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / f"{name}.nii.gz"))
    (folder / "table.csv").write_text("id,fixed,moving\na,scan1.nii.gz,scan2.nii.gz\nb,scan1.nii.gz,scan10.nii.gz\n")
    return folder


def _refused(capsys, folder: Path, *arguments: object) -> str:
    """Run a batch that must be refused before anything is written; what it says."""
    output = folder.parent / "results"
    assert main(["batch", *map(str, arguments), "-o", str(output)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("nephi: error: ") and not output.exists()
    return err


def _table(folder: Path, text: str, encoding: str = "utf-8", name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_everything_that_is_wrong_with_a_table_is_in_one_list_in_the_order_of_its_rows(images, capsys):
    table = _table(images, "id,fixed,moving,iterations,mask_margin,iteratons,fixed_mask\n"
                   "a,scan1.nii.gz,gone.nii.gz,x,,,\nA,scan1.nii.gz,scan2.nii.gz,,3,,none.nii.gz\n"
                   "../c,scan1.nii.gz,scan2.nii.gz,,,,\n,scan1.nii.gz,,,,,\n")
    lines = _refused(capsys, images, table).splitlines()
    assert "for 9 reasons" in lines[0]
    for line, parts in zip(lines[1:], (
            ("'iteratons'", "is it iterations?"), ("row 2 (a)", "moving image", "gone.nii.gz does not exist"),
            ("row 2 (a)", "iterations: 'x' is not a list"), ("row 3 (A)", "the id is that of row 2"),
            ("row 3 (A)", "fixed mask", "none.nii.gz does not exist"), ("row 3 (A)", "mask_margin was in mm"),
            ("row 4 (../c)", "cannot be the name of a folder"), ("row 5", "the id is missing"),
            ("row 5", "the moving image is missing")), strict=True):
        assert all(part in line for part in parts), line


@pytest.mark.parametrize(("text", "part"), [
    ("", "is empty"), ("\n\n", "is empty"), ("id,fixed,moving\n", "has a head but no rows"),
    ("id;fixed;moving\na;scan1.nii.gz;scan2.nii.gz\n", "are separated by ';'"),
    ("id,fixed\na,scan1.nii.gz\n", "the column moving is missing"),
    ("fixed,moving\nscan1.nii.gz,scan2.nii.gz\n", "the column id is missing"),
    ("id,fixed,moving,seed,seed\na,scan1.nii.gz,scan2.nii.gz,1,2\n", "there are 2 columns 'seed'"),
    ("id,fixed,moving\na,scan1.nii.gz,scan2.nii.gz,5\n", "it has 4 cells, and the head has 3"),
    ('id,fixed,moving\n"a,scan1.nii.gz,scan2.nii.gz\n', "cannot be read as CSV"),
    ("id,fixed,moving\na\0b,scan1.nii.gz,scan2.nii.gz\n", "is not text"),
    ("id,fixed,moving,json\na,scan1.nii.gz,scan2.nii.gz,1\n", "there is no option for the column 'json'"),
    ("id,fixed,moving,output\na,scan1.nii.gz,scan2.nii.gz,/tmp\n", "there is no option for the column 'output'"),
    ("id,fixed,moving,preset\na,scan1.nii.gz,scan2.nii.gz,fast\n", "Unknown preset 'fast'"),
    ("id,fixed,moving,labels\na,scan1.nii.gz,scan2.nii.gz,3\n", "give fixed_labels and moving_labels"),
])
def test_a_table_that_cannot_be_used_is_refused_in_one_sentence(images, capsys, text, part):
    error = _refused(capsys, images, _table(images, text))
    assert part.lower() in error.lower() and error.count("\n") == 1


@pytest.mark.parametrize("id", ["a/b", "a\\b", "..", ".hidden", "-x", "=1+1", "a:b", "con", "x.", "a\tb", "x" * 151])
def test_an_id_that_cannot_be_the_name_of_a_folder_is_refused(images, capsys, id):
    error = _refused(capsys, images, _table(images, f'id,fixed,moving\n"{id}",scan1.nii.gz,scan2.nii.gz\n'))
    assert error.count("\n") == 1 and "id" in error


@pytest.mark.parametrize(("text", "encoding"), [
    ("id,fixed,moving\r\na,scan1.nii.gz,scan2.nii.gz\r\n", "utf-8-sig"),
    ("id\tfixed\tmoving\r\na\tscan1.nii.gz\tscan2.nii.gz\r\n", "utf-16"),
    ("ID, Fixed ,moving,,Fixed-Mask\n\n a , scan1.nii.gz,scan2.nii.gz,,\n,,,,\n", "utf-8"),
])
def test_what_spreadsheets_do_to_a_table_does_not_matter(images, text, encoding):
    rows, faults = read_table(_table(images, text, encoding), known_columns())
    assert not faults and [row.id for row in rows] == ["a"]
    assert rows[0].cells == {role: str(images / f"scan{n}.nii.gz") for role, n in (("fixed", 1), ("moving", 2))}


def test_the_flags_of_the_command_hold_for_rows_that_have_none_of_their_own(images, capsys):
    table = _table(images, "id,fixed,moving,iterations\na,scan1.nii.gz,scan2.nii.gz,5\nb,scan1.nii.gz,scan2.nii.gz,\n")
    error = _refused(capsys, images, table, "--iterations", "5,5")
    assert "row 3 (b)" in error and "row 2" not in error


def test_the_example_is_a_table_that_would_run_if_its_files_were_there(images, capsys):
    example = images / "example.tsv"
    assert main(["batch", "--make-template", str(example)]) == 0
    rows, faults = read_table(example, known_columns())
    assert len(rows) == 3 and not faults
    for row in rows:
        for role, cell in row.cells.items():
            if role not in ("preset", "smoothness"):
                Path(cell).parent.mkdir(exist_ok=True)
                Path(cell).touch()
    Path(rows[0].cells["fixed"]).unlink()
    error = _refused(capsys, images, example)
    assert "row 2 (subject-01): the fixed image" in error and error.count("\n") == 1
    assert main(["batch", "--make-template", str(example)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_folder_makes_all_pairs_or_neighbours_or_all_to_one(images):
    def ids(*which: str) -> list[str]:
        return [row.id for row in pairs_in(images, which)]

    assert ids("all") == ["scan2_to_scan1", "scan10_to_scan1", "scan10_to_scan2"]
    assert ids("neighbours") == ["scan2_to_scan1", "scan10_to_scan2"]
    assert ids("to") == ids("to", "first") == ids("to", "scan1.nii.gz") == ["scan2_to_scan1", "scan10_to_scan1"]
    assert ids("to", "scan10") == ["scan1_to_scan10", "scan2_to_scan10"]
    for which, part in ((("some",), "choose all, neighbours, or to FIRST"), (("to", "scan"), "No image")):
        with pytest.raises(InputError, match=part):
            pairs_in(images, which)
    with pytest.raises(InputError, match="has 1 image; at least two"):
        pairs_in(images.parent, ("all",))  # its one folder holds files, and is one image


def test_the_rows_of_a_folder_can_be_written_as_a_table(images):
    made = images / "made.csv"
    assert main(["batch", "--pairs", "neighbours", str(images), "--make-template", str(made)]) == 0
    with open(made, newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["scan2_to_scan1", "scan10_to_scan2"]


@pytest.mark.parametrize(("arguments", "part"), [
    (("{f}",), "is a folder; give a table, or --pairs"), ((), "A table of pairs and -o"),
    (("{f}/table.csv", "--suffix", "T1w"), "--suffix belongs to --bids"),
    (("{f}/table.csv", "--bids", "{f}"), "stands in the place of a table"), (("--bids", "{f}"), "no image in"),
    (("{f}/table.csv", "--workers", "0"), "not a whole number"), (("{f}/gone.csv",), "cannot be read"),
    (("{f}/table.csv", "--scheduler", "tcp://x:1", "--jobqueue", "x"), "mutually exclusive"),
    (("{f}/table.csv", "--scheduler", "tcp://x:1", "--workers", "2"), "--workers has no meaning"),
    (("{f}/table.csv", "--jobqueue", "{f}/gone.yaml"), "cannot be read"),
    (("{f}/table.csv", "--jobqueue", "{f}/table.csv"), "one section of settings"),
    (("{f}/table.csv", "--scheduler-file", "{f}/gone.json"), "start the scheduler with"),
    (("{f}/table.csv", "--scheduler-file", "{f}/table.csv"), "has written"),
])
def test_arguments_that_do_not_fit_together_are_refused(images, capsys, arguments, part):
    error = _refused(capsys, images, *(argument.format(f=images) for argument in arguments))
    assert part in error and error.count("\n") == 1


def test_without_dask_one_sentence_says_what_to_install(images, capsys, monkeypatch):
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.split(".")[0] == "distributed":
            raise ModuleNotFoundError("No module named 'distributed'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install nephi-registration[batch]" in _refused(capsys, images, images / "table.csv")


def _bids(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_in_bids_each_later_session_goes_to_the_first_and_results_are_named_as_derivatives(tmp_path, caplog):
    folder = _bids(tmp_path / "study", "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
                   "sub-01/ses-2/anat/sub-01_ses-2_run-1_T1w.nii.gz", "sub-01/ses-2/anat/sub-01_ses-2_run-2_T1w.nii.gz",
                   "sub-01/ses-10/anat/sub-01_ses-10_T1w.nii", "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
                   "sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz")
    rows = longitudinal(folder, "T1w")
    assert [row.id for row in rows] == ["sub-01_ses-2_to_ses1", "sub-01_ses-10_to_ses1"]
    assert rows[0].cells["moving"].endswith("run-1_T1w.nii.gz") and "left out: 1." in caplog.text
    assert rows[1].folder == "sub-01/ses-10/anat"
    assert rows[0].stems["forward"] == "sub-01_ses-2_from-ses2_to-ses1_mode-image_xfm"
    assert rows[0].stems["warped"] == "sub-01_ses-2_space-ses1_desc-nephi_T1w"
    with pytest.raises(InputError, match="No subject in .* of two sessions; give --template"):
        longitudinal(folder, "T2w")


def test_in_bids_one_image_of_each_subject_goes_to_a_template(tmp_path):
    folder = _bids(tmp_path / "study", "sub-b/anat/sub-b_T1w.nii.gz", "sub-a/ses-1/anat/sub-a_ses-1_T1w.nii.gz",
                   "sub-a/ses-2/anat/sub-a_ses-2_T1w.nii.gz")
    rows = to_template(folder, "T1w", tmp_path / "MNI_152.nii.gz")
    assert [row.id for row in rows] == ["sub-a_ses-1_to_MNI152", "sub-b_to_MNI152"]
    assert rows[1].stems["inverse"] == "sub-b_from-MNI152_to-T1w_mode-image_xfm"


def test_pairs_that_run_side_by_side_fit_into_memory_together():
    assert rounds([1.0, 1.0, 1.0], 2, 4.0) == [(2, [0, 1, 2])]
    assert rounds([1.0, 3.0, 1.0, 9.0], 4, 4.0) == [(2, [0, 2]), (1, [1, 3])]
    assert rounds([2.0, 2.0, 2.0], 3, 4.5) == [(2, [0, 1, 2])]
    assert rounds([], 2, 4.0) == []


def test_larger_images_are_expected_to_take_more_memory(images):
    sitk.WriteImage(sitk.Image(100, 100, 100, sitk.sitkInt16), str(images / "large.nii.gz"))
    small, large = ({"fixed": str(images / f"{name}.nii.gz"), "moving": str(images / "scan1.nii.gz")}
                    for name in ("scan2", "large"))
    assert estimated_peak(large) - estimated_peak(small) == pytest.approx(50 * (100**3 - 12**3))


def test_all_that_a_registration_can_be_told_may_be_a_column():
    columns = known_columns()
    assert {"fixed_mask", "moving_exclude", "landmarks", "initial_transform", "preset", "smoothness", "fixed_series",
            "grid_spacing", "outputs", "weights"} <= set(columns)
    assert not {"json", "output", "quiet", "no_affine", "stems", "thumbnails"} & set(columns)
    assert json.dumps(columns)
