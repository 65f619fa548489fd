"""The command line: what it writes, what it refuses, how it is interrupted."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nephi.cli.main import main
from nephi.errors import InputError
from nephi.files.outputs import FILES, ON_REQUEST
from nephi.images.phantom import lung_phantom
from nephi.storage import atomic_path, staged_folder

FEW = ["--iterations", "6,0,0", "--resolution", "12,24,48", "--hidden", "16", "--frequencies", "8", "--device", "cpu"]


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> Path:
    """A folder with a small lung pair, its masks, labels and landmarks."""
    folder = tmp_path_factory.mktemp("pair")
    phantom = lung_phantom(28)
    for role, image, mask in (("fixed", phantom.fixed, phantom.fixed_mask),
                              ("moving", phantom.moving, phantom.moving_mask)):
        sitk.WriteImage(image.to_sitk(), str(folder / f"{role}.nii.gz"))
        labels = sitk.GetImageFromArray(mask.numpy().astype(np.uint8) * 3)
        labels.CopyInformation(image.to_sitk())
        sitk.WriteImage(labels, str(folder / f"{role}_labels.nii.gz"))
    header = [f"{side}_{axis}" for side in ("fixed", "moving") for axis in "xyz"]
    rows = np.concatenate([phantom.landmarks_fixed, phantom.landmarks_moving], axis=1)
    np.savetxt(folder / "landmarks.csv", rows, delimiter=",", header=",".join(header), comments="")
    return folder


@pytest.fixture(scope="session")
def registered(pair, tmp_path_factory) -> Path:
    """The outputs of one short registration with everything that can be given."""
    folder = tmp_path_factory.mktemp("registered") / "made" / "here"
    assert main(["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "-o", str(folder), "--quiet",
                 "--preset", "lung-ct", "--landmarks", str(pair / "landmarks.csv"),
                 "--fixed-mask", str(pair / "fixed_labels.nii.gz"), "--moving-mask", str(pair / "moving_labels.nii.gz"),
                 "--fixed-labels", str(pair / "fixed_labels.nii.gz"),
                 "--moving-labels", str(pair / "moving_labels.nii.gz"), *FEW]) == 0
    return folder


def _report(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def _refused(capsys, folder: Path, *arguments: object) -> str:
    """Run a command that must fail as bad input; its one line."""
    before = _files(folder)
    assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nephi: error: ") and err.count("\n") == 1
    assert _files(folder) == before
    return err


# ------------------------------------------------------------------------------------------------------- outputs


def test_register_leaves_every_output_and_nothing_else(registered):
    assert sorted(FILES.values()) == _files(registered)
    assert _files(registered.parent) == sorted([*FILES.values(), registered.name])


def test_the_report_has_the_numbers_the_schema_promises(registered):
    report = _report(registered / "report.json")
    metrics, runtime = report["metrics"], report["runtime"]
    assert set(metrics["tre_mm"]) >= {"before", "mean", "median", "p95", "max"}
    assert set(metrics["dice"]) >= {"before", "mean", "per_label"} and set(metrics["dice"]["per_label"]) == {"3"}
    assert metrics["tre_mm"]["mean"] < metrics["tre_mm"]["before"]
    assert metrics["dice"]["mean"] > metrics["dice"]["before"]
    assert runtime["device"] == "cpu" and runtime["iterations"] == 6 and runtime["seconds"] > 0
    assert report["provenance"]["options"]["hidden"] == 16
    assert Path(report["provenance"]["sources"]["fixed"]).name == "fixed.nii.gz"


def test_the_warped_image_is_what_simpleitk_makes_of_the_forward_file(pair, registered):
    fixed, moving = (sitk.ReadImage(str(pair / f"{role}.nii.gz"), sitk.sitkFloat32) for role in ("fixed", "moving"))
    minimum = float(sitk.GetArrayFromImage(moving).min())
    transform = sitk.ReadTransform(str(registered / "forward.h5"))
    expected = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, minimum)
    warped = sitk.ReadImage(str(registered / "warped.nii.gz"))
    difference = np.abs(sitk.GetArrayFromImage(expected) - sitk.GetArrayFromImage(warped))
    assert np.percentile(difference, 99.9) < 5.0  # HU, for fields that agree to a fraction of a voxel


def test_an_output_folder_keeps_its_other_files(pair, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "report.json").write_text("old")
    assert main(["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "-o", str(folder), "-q", *FEW,
                 "--grid-spacing", "30", "--iterations", "1,0,0"]) == 0
    assert _files(folder) == sorted([*FILES.values(), "notes.txt"])
    assert (folder / "notes.txt").read_text() == "mine"
    assert _report(folder / "report.json")["transforms"][0]["spacing_mm"] == pytest.approx(30, rel=0.1)


@pytest.mark.parametrize(("wanted", "measured"), [("transform", False), ("warped,forward", False),
                                                  ("report,log_jacobian", True), ("error_map", True)])
def test_only_the_files_that_are_asked_for_are_written(wanted, measured, pair, tmp_path, capsys):
    assert main(["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "-o", str(tmp_path / "o"),
                 "--outputs", wanted, "--affine", "none", *FEW]) == 0
    assert _files(tmp_path / "o") == sorted({**FILES, **ON_REQUEST}[role] for role in wanted.split(","))
    assert ("Not measured" in capsys.readouterr().out) != measured


def test_json_progress_is_one_object_a_line_and_ends_with_the_result(pair, tmp_path, capsys):
    assert main(["register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "-o", str(tmp_path / "out"),
                 "--json", "--no-affine", "--grid-spacing", "30", *FEW, "--iterations", "2,0,0"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"affine", "search", "level 1/1", "done"} == {e["phase"] for e in events if e["event"] == "progress"}
    assert "similarity" in next(e for e in events if e.get("phase") == "level 1/1")["terms"]
    assert events[-1]["event"] == "done" and events[-1]["files"] == FILES


def test_apply_carries_an_image_either_way_onto_any_grid(pair, registered, tmp_path):
    transform, fixed, moving = (str(path) for path in (registered / "transform.nephi", pair / "fixed.nii.gz",
                                                       pair / "moving.nii.gz"))
    out = tmp_path / "carried.nrrd"
    assert main(["apply", transform, fixed, "-o", str(out), "--direction", "inverse", "-q"]) == 0
    assert sitk.ReadImage(str(out)).GetOrigin() == sitk.ReadImage(moving).GetOrigin()
    assert main(["apply", transform, moving, "-o", str(out), "--spacing", "40", "-q"]) == 0
    assert sitk.ReadImage(str(out)).GetSize() == (7, 7, 7)


def test_apply_keeps_labels_whole(pair, registered, tmp_path):
    out = tmp_path / "labels.nii.gz"
    assert main(["apply", str(registered / "transform.nephi"), str(pair / "moving_labels.nii.gz"), "-o", str(out),
                 "--label-image", "--reference", str(pair / "fixed.nii.gz"), "-q"]) == 0
    image = sitk.ReadImage(str(out))
    assert image.GetPixelID() == sitk.sitkUInt8
    assert set(np.unique(sitk.GetArrayFromImage(image))) == {0, 3}


def test_apply_takes_points_there_and_back_in_both_formats(registered, tmp_path):
    transform = str(registered / "transform.nephi")
    start, there, back = tmp_path / "a.csv", tmp_path / "b.mrk.json", tmp_path / "c.csv"
    start.write_text("x,y,z,label\n10,20,30,apex\n-15,0,5,base\n")
    assert main(["apply", transform, str(start), "-o", str(there), "-q"]) == 0
    assert main(["apply", transform, str(there), "-o", str(back), "--direction", "inverse", "-q"]) == 0
    rows = list(csv.DictReader(io.StringIO(back.read_text())))
    assert [row["label"] for row in rows] == ["apex", "base"]
    assert [float(rows[0][axis]) for axis in "xyz"] == pytest.approx([10, 20, 30], abs=1.0)


def test_jacobian_writes_the_determinant_or_its_logarithm(registered, tmp_path, capsys):
    plain, log = tmp_path / "det.nii.gz", tmp_path / "log.nii.gz"
    assert main(["jacobian", str(registered / "transform.nephi"), "-o", str(plain)]) == 0
    assert "folds" in capsys.readouterr().out
    assert main(["jacobian", str(registered / "transform.nephi"), "-o", str(log), "--log", "-q"]) == 0
    values = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (plain, log)]
    assert np.allclose(np.log(values[0]), values[1], atol=1e-4)


def test_evaluate_agrees_with_the_report(pair, registered, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    assert main(["evaluate", str(registered / "transform.nephi"), "--landmarks", str(pair / "landmarks.csv"),
                 "--fixed-labels", str(pair / "fixed_labels.nii.gz"),
                 "--moving-labels", str(pair / "moving_labels.nii.gz"), "-o", str(out)]) == 0
    assert "landmark error, mean" in capsys.readouterr().out
    metrics, expected = json.loads(out.read_text())["metrics"], _report(registered / "report.json")["metrics"]
    assert metrics["tre_mm"]["mean"] == pytest.approx(expected["tre_mm"]["mean"], abs=1e-3)
    assert metrics["dice"]["per_label"] == pytest.approx(expected["dice"]["per_label"], abs=2e-3)
    assert metrics["similarity"] == dict.fromkeys(("before", "linear", "after"))


def test_labels_of_an_atlas_are_carried_and_measured_by_their_own_numbers(pair, registered, tmp_path, capsys):
    transform, atlas, out = str(registered / "transform.nephi"), tmp_path / "atlas.nrrd", tmp_path / "carried.nrrd"
    image = sitk.ReadImage(str(pair / "moving_labels.nii.gz"))
    array = sitk.GetArrayFromImage(image)
    ids = np.where(array == 0, 0, np.where(np.arange(array.shape[0])[:, None, None] % 2, 614454277, 4000000001))
    numbered = sitk.GetImageFromArray(ids.astype(np.uint32))
    numbered.CopyInformation(image)
    sitk.WriteImage(numbered, str(atlas))
    assert main(["apply", transform, str(atlas), "-o", str(out), "--label-image", "-q"]) == 0
    carried = sitk.ReadImage(str(out))
    assert carried.GetPixelID() == sitk.sitkUInt32
    assert set(np.unique(sitk.GetArrayFromImage(carried)).tolist()) == {0, 614454277, 4000000001}
    assert main(["evaluate", transform, "--fixed-labels", str(out), "--moving-labels", str(atlas), "--json",
                 "--labels", "4000000001"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert metrics["dice"]["per_label"] == {"4000000001": 1.0}
    assert metrics["surface_distance_mm"]["per_label"] == {"4000000001": {"mean": 0.0, "hd95": 0.0}}


@pytest.mark.parametrize("name", ["transform.nephi", "warped.nii.gz", None])
def test_info_describes_transforms_images_and_the_installation(name, registered, capsys):
    assert main(["info", "--json", *([str(registered / name)] if name else [])]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "presets" in facts if name is None else facts["file"].endswith(name)


# ----------------------------------------------------------------------------------------------------- bad input


def _image(folder: Path, values: np.ndarray, name: str = "bad.nii.gz", vector: bool = False, **header) -> Path:
    image = sitk.GetImageFromArray(values, isVector=vector)
    for key, value in header.items():
        getattr(image, f"Set{key}")(value)
    sitk.WriteImage(image, str(folder / name))
    return folder / name


def _ramp(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def _nan(folder: Path) -> Path:
    return _image(folder, np.full((10, 10, 10), np.nan, np.float32))


def _text(folder: Path) -> Path:
    (folder / "bad.nii.gz").write_text("not an image")
    return folder / "bad.nii.gz"


def _meta(folder: Path, **header: str) -> Path:
    """A MetaImage with header fields that no writer would write."""
    lines = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "ElementSpacing": "1 1 1", "DimSize": "8 8 8",
             "ElementType": "MET_FLOAT", **header, "ElementDataFile": "LOCAL"}
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    (folder / "bad.mha").write_bytes(text.encode() + _ramp(8, 8, 8).tobytes())
    return folder / "bad.mha"


BAD_IMAGES = {
    "missing": (lambda folder: folder / "nowhere.nii.gz", "does not exist"),
    "no image": (_text, "cannot be read"),
    "colour": (lambda folder: _image(folder, np.ones((9, 9, 9, 3), np.uint8), "rgb.nrrd", True), "3 values per voxel"),
    "4D": (lambda folder: _image(folder, _ramp(2, 8, 8, 8)), "4D"),
    "not a number": (_nan, "only NaN or infinite voxels"),
    "constant": (lambda folder: _image(folder, np.full((9, 9, 9), 4, np.float32)), "constant (4 everywhere)"),
    "negative spacing": (lambda folder: _meta(folder, ElementSpacing="1 -2 1"), "spacing"),
    "zero spacing": (lambda folder: _meta(folder, ElementSpacing="1 0 1"), "spacing"),
    "singular": (lambda folder: _meta(folder, TransformMatrix="1 0 0 1 0 0 0 0 1"), "singular"),
    "2D": (lambda folder: _image(folder, _ramp(20, 20)), "2D"),
    "thin": (lambda folder: _image(folder, _ramp(5, 20, 20)), "at least 8"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_an_image_that_cannot_be_registered_is_refused(role, case, pair, tmp_path, capsys):
    make, words = BAD_IMAGES[case]
    paths = {"fixed": pair / "fixed.nii.gz", "moving": pair / "moving.nii.gz", role: make(tmp_path)}
    line = _refused(capsys, tmp_path, "register", paths["fixed"], paths["moving"], "-o", tmp_path / "out")
    assert words in line and paths[role].name in line and role in line


def _far(pair: Path, folder: Path) -> Path:
    image = sitk.ReadImage(str(pair / "moving.nii.gz"))
    image.SetOrigin((5000.0, 0.0, 0.0))
    sitk.WriteImage(image, str(folder / "far.nii.gz"))
    return folder / "far.nii.gz"


def test_images_that_do_not_overlap_are_refused_without_an_affine(pair, tmp_path, capsys):
    line = _refused(capsys, tmp_path, "register", pair / "fixed.nii.gz", _far(pair, tmp_path), "-o", tmp_path / "out",
                    "--no-affine")
    assert "do not overlap" in line and "far.nii.gz" in line


def _empty(pair: Path, folder: Path) -> Path:
    return _image(folder, np.zeros((9, 9, 9), np.uint8), "mask.nii.gz")


def _elsewhere(pair: Path, folder: Path) -> Path:
    return _image(folder, np.ones((9, 9, 9), np.uint8), "mask.nii.gz", Origin=(5000.0, 0.0, 0.0))


def _two_voxels(pair: Path, folder: Path) -> Path:
    image = sitk.Cast(sitk.ReadImage(str(pair / "fixed.nii.gz")) * 0, sitk.sitkUInt8)
    image[3, 3, 3] = image[9, 9, 9] = 1
    sitk.WriteImage(image, str(folder / "mask.nii.gz"))
    return folder / "mask.nii.gz"


def _landmarks(text: str):
    def write(pair: Path, folder: Path) -> Path:
        (folder / "points.csv").write_text("fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n" + text)
        return folder / "points.csv"
    return write


def _everything(pair: Path, folder: Path) -> Path:
    image = sitk.ReadImage(str(pair / "fixed.nii.gz"))
    sitk.WriteImage(sitk.Cast(image * 0 + 1, sitk.sitkUInt8), str(folder / "mask.nii.gz"))
    return folder / "mask.nii.gz"


BAD_OPTIONS = {
    "empty exclusion": (["--fixed-exclude", _empty], "fixed exclusion mask mask.nii.gz is empty"),
    "everything excluded": (["--fixed-exclude", _everything], "leaves nothing"),
    "empty mask": (["--fixed-mask", _empty], "is empty"),
    "mask of two voxels": (["--fixed-mask", _two_voxels], "only 2 voxels"),
    "mask elsewhere": (["--moving-mask", _elsewhere], "does not overlap"),
    "mask missing": (["--moving-mask", "nowhere.nrrd"], "does not exist"),
    "landmarks outside": (["--landmarks", _landmarks("1,2,3,900,5,6\n")], "outside the moving image"),
    "landmarks unequal": (["--landmarks", _landmarks("1,2,3,4,5,6\n1,2,3\n")], "line 3"),
    "landmarks missing": (["--guide-landmarks", "nowhere.csv"], "nowhere.csv"),
    "half the labels": (["--fixed-labels", lambda pair, folder: pair / "fixed_labels.nii.gz"], "no moving ones"),
    "labels that are not there": (["--fixed-labels", lambda pair, folder: pair / "fixed_labels.nii.gz",
                                   "--moving-labels", lambda pair, folder: pair / "moving_labels.nii.gz",
                                   "--labels", "77"], "77"),
    "labels without label maps": (["--labels", "3"], "give --fixed-labels and --moving-labels"),
    "labels that are no numbers": (["--labels", "a,b"], "not a list of label numbers"),
    "unknown preset": (["--preset", "lungs"], "lung-ct"),
    "unknown option": (["--no-such-option", "3"], "--no-such-option 3; see 'nephi register --help'"),
    "unknown value": (["--similarity", "ssd"], "mind"),
    "value out of range": (["--seed", "-1"], "seed"),
    "no number": (["--hidden", "wide"], "'wide'"),
    "levels that do not match": (["--iterations", "3,3"], "2 iterations for 6 levels"),
    "no such device": (["--device", "tpu"], "cuda"),
    "affine requested and skipped": (["--no-affine", "--affine", "rigid"], "mutually exclusive"),
    "grid spacing": (["--grid-spacing", "0"], "not positive"),
    "no transform": (["--initial-transform", lambda pair, folder: pair / "landmarks.csv"], "cannot be read"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_an_option_that_cannot_be_used_is_refused(case, pair, tmp_path, capsys):
    given, words = BAD_OPTIONS[case]
    given = [a(pair, tmp_path) if callable(a) else a for a in given]
    line = _refused(capsys, tmp_path, "register", pair / "fixed.nii.gz", pair / "moving.nii.gz", "-o",
                    tmp_path / "out", *([*FEW, *given] if "--iterations" not in given else given))
    assert words in line


def test_an_output_that_would_replace_an_input_is_refused(pair, registered, tmp_path, capsys):
    image = sitk.ReadImage(str(pair / "moving.nii.gz"))
    sitk.WriteImage(image, str(tmp_path / "warped.nii.gz"))
    before = (tmp_path / "warped.nii.gz").read_bytes()
    assert "would replace an input" in _refused(capsys, tmp_path, "register", pair / "fixed.nii.gz",
                                                tmp_path / "warped.nii.gz", "-o", tmp_path, *FEW)
    assert "would replace an input" in _refused(capsys, tmp_path, "apply", registered / "transform.nephi",
                                                tmp_path / "warped.nii.gz", "-o", tmp_path / "warped.nii.gz")
    assert (tmp_path / "warped.nii.gz").read_bytes() == before


def test_an_image_that_looks_like_labels_is_carried_with_a_warning(pair, registered, tmp_path, capsys):
    for name, warned in (("moving_labels", True), ("moving", False)):
        assert main(["apply", str(registered / "transform.nephi"), str(pair / f"{name}.nii.gz"), "-o",
                     str(tmp_path / "o.nii.gz")]) == 0
        assert ("looks like a label map" in " ".join(capsys.readouterr().err.split())) == warned


def test_an_output_folder_that_is_a_file_is_refused(pair, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    for folder in (tmp_path / "out", tmp_path / "out" / "below"):
        line = _refused(capsys, tmp_path, "register", pair / "fixed.nii.gz", pair / "moving.nii.gz", "-o", folder)
        assert "is a file, not a folder" in line


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody can write, as Linux has")
def test_an_unwritable_output_folder_is_refused(pair, tmp_path, capsys):
    line = _refused(capsys, tmp_path, "register", pair / "fixed.nii.gz", pair / "moving.nii.gz", "-o", "/proc/self/out")
    assert "Cannot write the output folder" in line


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files, as POSIX has")
def test_a_full_disk_leaves_nothing_behind(pair, tmp_path):
    limited = ("import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
               "from nephi.cli.main import main; sys.exit(main(sys.argv[1:]))")
    command = [sys.executable, "-c", limited, "register", pair / "fixed.nii.gz", pair / "moving.nii.gz",
               "-o", tmp_path / "out", "-q", *FEW]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("nephi: error: Cannot write") and done.stderr.count("\n") == 1
    assert _files(tmp_path) == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "newer", "not ours"])
def test_a_transform_that_cannot_be_trusted_is_refused(damage, registered, tmp_path, capsys):
    path = tmp_path / "bad.nephi"
    data = (registered / "transform.nephi").read_bytes()
    if damage == "truncated":
        path.write_bytes(data[:len(data) // 2])
    elif damage == "newer":
        with np.load(io.BytesIO(data)) as archive:
            arrays = dict(archive)
        header = {**json.loads(arrays["header"].tobytes()), "version": 99}
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        with open(path, "wb") as file:
            np.savez(file, **arrays)
    elif damage == "not ours":
        path.write_bytes(b"cos\nsystem\n(S'echo unsafe'\ntR.")
    for command in (["info", path], ["evaluate", path], ["jacobian", path, "-o", tmp_path / "det.nii.gz"],
                    ["apply", path, registered / "warped.nii.gz", "-o", tmp_path / "out.nii.gz"]):
        assert "bad.nephi" in _refused(capsys, tmp_path, *command)


def test_apply_refuses_what_does_not_belong_to_the_pair(pair, registered, tmp_path, capsys):
    transform, flat = registered / "transform.nephi", _image(tmp_path, _ramp(20, 20))
    (tmp_path / "flat.csv").write_text("x,y\n1,2\n")
    out = tmp_path / "out.nii.gz"
    assert "2D" in _refused(capsys, tmp_path, "apply", transform, flat, "-o", out)
    assert "2D" in _refused(capsys, tmp_path, "apply", transform, tmp_path / "flat.csv", "-o", tmp_path / "out.csv")
    moving = pair / "moving.nii.gz"
    assert "2D" in _refused(capsys, tmp_path, "apply", transform, moving, "-o", out, "--reference", flat)
    assert "not positive" in _refused(capsys, tmp_path, "apply", transform, moving, "-o", out, "--spacing", "-1")
    assert "larger than the image" in _refused(capsys, tmp_path, "apply", transform, moving, "-o", out,
                                               "--spacing", "1e9")
    assert "whole numbers" in _refused(capsys, tmp_path, "apply", transform, moving, "-o", out, "--label-image")
    assert "Cannot write" in _refused(capsys, tmp_path, "apply", transform, moving, "-o", tmp_path / "no" / "a.nii.gz")
    assert "Cannot write" in _refused(capsys, tmp_path, "apply", transform, moving, "-o", tmp_path / "out.xyz")


def test_no_command_is_bad_input(tmp_path, capsys):
    assert "COMMAND" in _refused(capsys, tmp_path)


# ------------------------------------------------------------------------------------------------- interruption


def _running(pair: Path, folder: Path) -> subprocess.Popen:
    """A registration of many iterations that has begun to iterate."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nephi", "register", pair / "fixed.nii.gz", pair / "moving.nii.gz", "-o", folder,
         "--json", *FEW, "--iterations", "50000,0,0", "--convergence", "0"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for line in process.stdout:
        if '"level 1/1"' in line:
            return process
    pytest.fail(process.stderr.read())


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a process are a POSIX matter")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_registration_leaves_nothing(number, code, pair, tmp_path):
    process = _running(pair, tmp_path / "out")
    for _ in range(3):  # the later ones do not disturb its ending
        process.send_signal(number)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == ("nephi: interrupted; nothing was written\n" if number == signal.SIGINT else "")
    assert _files(tmp_path) == []


FALLS_INTO_A_FINALIZER = """
import signal, time
from nephi.cli import main as cli

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.{number})

def command():
    Finalized()
    try:
        time.sleep(10)
    except (KeyboardInterrupt, SystemExit):
        return 7
    return 0

cli.main = command
cli.program()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a process are a POSIX matter")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_falls_into_a_finalizer_comes_again(number):
    done = subprocess.run([sys.executable, "-c", FALLS_INTO_A_FINALIZER.format(number=number)], capture_output=True,
                          text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (7, "")


def test_a_file_that_cannot_be_written_is_named_where_it_would_come_to_lie(tmp_path):
    with pytest.raises(InputError) as failed, staged_folder(tmp_path / "out") as folder, \
            atomic_path(folder / "missing" / "a.txt"):
        pass
    assert str(failed.value).startswith(f"Cannot write {tmp_path / 'out' / 'missing' / 'a.txt'} (")


def test_a_folder_is_filled_completely_or_not_at_all(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("new")
        raise KeyboardInterrupt
    assert _files(tmp_path) == ["a.txt", "out"] and (tmp_path / "out" / "a.txt").read_text() == "old"


@pytest.mark.parametrize(("set_by_user", "expected"), [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"),
                                                       ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")])
def test_threads_are_told_not_to_spin_for_long_before_torch_is_there_unless_the_user_has_decided(tmp_path, set_by_user,
                                                                                                 expected):
    (tmp_path / "torch.py").write_text("import os; print(os.environ.get('GOMP_SPINCOUNT'), flush=True); os._exit(0)")
    clean = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    clean["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-c", "import nephi"], env={**clean, **set_by_user}, capture_output=True,
                          text=True)
    assert done.stdout.strip() == expected
