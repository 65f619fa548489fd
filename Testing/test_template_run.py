"""nephi template as it runs: what it leaves, that no image is preferred, and how it goes on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from browser import Page, chromium, opened
from distributed import LocalCluster
from nephi.cli.main import main
from nephi.files.outputs import FILES
from nephi.images.reading import read_image
from nephi.maps.transform import Transform
from nephi.storage import locked

QUICK = ["--iterations", "15", "--resolution", "12,24", "--hidden", "16", "--frequencies", "8", "--linear-rounds", "1",
         "--device", "cpu"]
RADII = (8.0, 10.0, 12.0)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Discs of three sizes with a bright spot, at different places, on scales of their own, with labels; 1 mm."""
    folder = tmp_path_factory.mktemp("images")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    axes = np.mgrid[:40, :40]
    for n, radius in enumerate(RADII):
        middle = np.array([19.5 + n, 19.5 - n])[:, None, None]
        far, spot = (np.linalg.norm(axes - middle - at, axis=0) for at in (0.0, 0.4 * radius))
        values = (n + 1) * (100 / (1 + np.exp(2 * (far - radius))) + 60 * np.exp(-(spot / 3) ** 2))
        labels = (far < radius).astype(np.uint8) + (spot < 2.5).astype(np.uint8)
        for kind, array in (("images", values.astype(np.float32)), ("labels", labels)):
            image = sitk.GetImageFromArray(array)
            image.SetOrigin((30.0 * n, 0.0))
            sitk.WriteImage(image, str(folder / kind / f"disc{n}.nrrd"))
    return folder


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with one worker, both threads of this process: they need no second torch."""
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
                      dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def made(images, scheduler, tmp_path_factory) -> tuple[Path, list[dict]]:
    """Their template of two rounds, and the events that were printed."""
    folder, out = tmp_path_factory.mktemp("made") / "study", io.StringIO()
    with contextlib.redirect_stdout(out):
        assert _run(scheduler, images / "images", folder, *_labels(images), "--rounds", "2", "--json") == 0
    return folder, [json.loads(line) for line in out.getvalue().splitlines()]


def _run(scheduler: str, images: Path, folder: Path, *flags: str) -> int:
    return main(["template", str(images), "-o", str(folder), "--scheduler", scheduler, *QUICK, *flags])


def _labels(images: Path) -> list[str]:
    return ["--labels", str(images / "labels")]


def _values(folder: Path, name: str = "template") -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz")))


def _record(folder: Path) -> dict:
    return json.loads((folder / "template.json").read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------------- results


def test_a_template_has_its_files_and_each_image_those_of_a_registration(made):
    folder, events = made
    assert {"template.nii.gz", "variance.nii.gz", "labels.nii.gz", "template.json", "template.html", "cohort.csv",
            "cohort.html"} <= set(os.listdir(folder))
    for entry in _record(folder)["images"]:
        left = {name.replace(".nii.gz", ".nrrd") for name in os.listdir(folder / entry["folder"])}
        assert {name.replace(".nii.gz", ".nrrd") for name in FILES.values()} <= left
        jacobian = read_image(next((folder / entry["folder"]).glob("log_jacobian.*")))
        assert jacobian.grid.same_as(read_image(folder / "template.nii.gz").grid)
    assert not list(folder.rglob(".nephi-*")) and events[-1]["event"] == "done" and events[-1]["failed"] == 0


def test_the_template_has_the_mean_shape_of_the_images(made):
    labels = _values(made[0], "labels")
    assert set(np.unique(labels)) == {0, 1, 2}
    radius = np.sqrt((labels > 0).sum() / np.pi)  # 1 mm pixels
    assert abs(radius - np.cbrt(np.prod(RADII))) < 0.5  # the mean of stretches is a geometric one
    assert _record(made[0])["rounds"][-1]["dice"] > 0.9


def test_the_maps_of_all_images_are_nothing_on_average_and_lead_back(made):
    grid, shifts, linear = read_image(made[0] / "template.nii.gz").grid, [], []
    points = grid.padded(-8).points("cpu", dtype=torch.float64)
    for entry in _record(made[0])["images"]:
        found = Transform.load(made[0] / entry["folder"] / "transform.nephi")
        shifts.append(found.deformation.forward.map(points) - points)
        linear.append(np.log(np.linalg.svd(found.affine[:-1, :-1], compute_uv=False)).sum())
        back = found.inverse.map(found.forward.map(points))
        assert float((back - points).norm(dim=1).mean()) < 0.3
    assert float(torch.stack(shifts).mean(0).norm(dim=1).max()) < 0.1 and abs(sum(linear)) < 1e-6


def test_intensities_are_those_of_the_images_on_average(made, images):
    tops = [np.percentile(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), 99.9)
            for path in (images / "images").iterdir()]
    assert abs(_values(made[0]).max() / np.mean(tops) - 1) < 0.1
    variance = _values(made[0], "variance")
    assert variance.min() >= 0 and variance.max() > 0


def test_each_round_tells_how_far_it_is_from_rest(made):
    rounds = _record(made[0])["rounds"]
    assert [one["kind"] for one in rounds] == ["start", "linear", "nephi", "nephi"]
    assert rounds[0]["moved_mm"] is None and rounds[-1]["moved_mm"] < rounds[1]["moved_mm"]
    assert rounds[-1]["similarity"] > rounds[0]["similarity"] and rounds[-1]["dice"] > rounds[0]["dice"]
    assert rounds[-1]["spread_percent"] < rounds[0]["spread_percent"]
    with open(made[0] / "cohort.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["status"] for row in rows} == {"done"} and all(float(row["runtime.iterations"]) > 0 for row in rows)


def test_the_template_is_the_same_whichever_image_comes_first_and_whatever_they_are_called(images, scheduler, made,
                                                                                            tmp_path):
    others = [str(shutil.copy(images / "images" / f"disc{n}.nrrd", tmp_path / f"{9 - n}.nrrd")) for n in (1, 2, 0)]
    assert main(["template", *others, "-o", str(tmp_path / "out"), "--scheduler", scheduler, *QUICK, "--rounds", "2",
                 "-q"]) == 0
    assert np.abs(_values(tmp_path / "out") - _values(made[0])).max() <= 1e-3 * np.ptp(_values(made[0]))


# ------------------------------------------------------------------------------------------------------------ going on


def test_the_same_command_again_does_nothing_twice_and_more_rounds_go_on(images, scheduler, made, tmp_path, capsys):
    folder = made[0]
    shutil.copytree(folder, tmp_path / "kept")
    before = {path: path.stat().st_mtime_ns for path in (folder / "rounds").rglob("*")}
    assert _run(scheduler, images / "images", folder, *_labels(images), "--json", "--rounds", "2") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(event["event"], event.get("finished_before")) for event in events] == [("start", 3), ("done", None)]
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "rounds").rglob("*")}
    try:
        assert _run(scheduler, images / "images", folder, *_labels(images), "--json", "--rounds", "3") == 0
        steps = [json.loads(line).get("step") for line in capsys.readouterr().out.splitlines()]
        assert steps[0] == "round 3 of 3: registering" and "round 2 of 3: registering" not in steps
        assert len(_record(folder)["rounds"]) == 5
        assert _run(scheduler, images / "images", folder, *_labels(images), "--rounds", "2") == 0
        assert np.array_equal(_values(folder), _values(tmp_path / "kept"))  # what was removed is made again, the same
    finally:
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "kept", folder)


def test_a_run_that_was_stopped_goes_on_to_the_same_template(images, scheduler, made, tmp_path, capsys):
    command = [sys.executable, "-m", "nephi", "template", str(images / "images"), "-o", str(tmp_path / "out"),
               "--workers", "1", *QUICK, *_labels(images), "--rounds", "2", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                               start_new_session=True)
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "pair" and event["step"] == "round 1 of 2: registering":
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate()
    assert process.returncode == 130 and "what is done is kept; the same command goes on" in err
    assert _run(scheduler, images / "images", tmp_path / "out", *_labels(images), "--rounds", "2", "--json") == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["step"] == "round 1 of 2: registering" and first["finished_before"] >= 1
    assert np.array_equal(_values(tmp_path / "out"), _values(made[0]))


def test_an_image_that_cannot_be_used_is_a_sentence_and_what_is_done_is_kept(images, scheduler, tmp_path, capsys):
    folder = shutil.copytree(images / "images", tmp_path / "images")
    sitk.WriteImage(sitk.Image(40, 40, sitk.sitkFloat32), str(folder / "flat.nrrd"))
    assert _run(scheduler, folder, tmp_path / "out", "--rounds", "0", "-q") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "flat: The moving image flat.nrrd is constant" in error and "mend or leave out" in error
    assert len(list((tmp_path / "out").rglob("carried.json"))) == 3
    (folder / "flat.nrrd").unlink()
    assert _run(scheduler, folder, tmp_path / "out", "--rounds", "0", "-q") == 0
    assert [one["kind"] for one in _record(tmp_path / "out")["rounds"]] == ["start", "linear"]


def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(images, scheduler, tmp_path, capsys):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        assert _run(scheduler, images / "images", tmp_path / "out", "--rounds", "0", "-q") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert "Cannot write" in error and "free space" in error and "Traceback" not in error
    assert "(File too large)" in error and ".nephi-" not in error  # the system's reason, and no temporary folder
    assert not list((tmp_path / "out").rglob("*.npy")) and not list((tmp_path / "out").rglob(".nephi-*"))


@pytest.mark.parametrize(("others", "at", "message"), [
    ((1, 2), 130.0, "disc9: The fixed image template.nrrd and the moving image disc9.nrrd do not overlap"),
    ((2,), 400.0, "No image covers any part of the template"),
])
def test_images_that_nothing_brings_together_are_a_sentence(images, scheduler, tmp_path, capsys, others, at, message):
    (tmp_path / "far").mkdir()
    for n in others:
        shutil.copy(images / "images" / f"disc{n}.nrrd", tmp_path / "far")
    far = sitk.ReadImage(str(images / "images" / "disc0.nrrd"))
    far.SetOrigin((at, 0.0))
    sitk.WriteImage(far, str(tmp_path / "far" / "disc9.nrrd"))
    assert _run(scheduler, tmp_path / "far", tmp_path / "out", "--no-affine", "--rounds", "1", "-q") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_two_runs_on_one_folder_refuse_each_other(images, tmp_path, capsys):
    command = ["template", str(images / "images"), "-o", str(tmp_path), *QUICK]
    with locked(tmp_path):
        assert main(command) == 2
    assert "Another nephi is at work" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "message"), [
    (["--spacing", "-1"], "The spacing -1 mm is not positive"), (["--rounds", "x"], "'x' is not a whole number"),
    (["--spacing", "20"], "The template would have 2 x 2 voxels.*; choose a smaller spacing than 20 mm"),
    (["--spacing", "1e-5"], "The template has .* GB of memory are free"),
    (["--scheduler", "tcp://127.0.0.1:1"], "cannot be reached"),
])
def test_what_cannot_be_asked_for_is_a_sentence(images, tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.setattr("nephi.cohort.pool._PATIENCE", "0.5s")  # nobody will answer
    assert main(["template", str(images / "images"), "-o", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error)
    assert not (tmp_path / "out" / "template.json").exists()


def test_no_image_is_replaced_by_the_template(images, tmp_path, capsys):
    folder = shutil.copytree(images / "images", tmp_path / "images")
    (folder / "disc0.nrrd").rename(folder / "template.nrrd")
    assert main(["template", str(folder), "-o", str(folder), *QUICK]) == 2
    assert "would replace an input" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------- page


@pytest.fixture(scope="module")
def page(made) -> Page:
    if chromium() is None:
        pytest.skip("no Chromium here")
    with opened() as page:
        yield page


def test_the_page_shows_the_template_round_by_round_and_leads_to_each_image(made, page):
    page.open(made[0] / "template.html")
    names = page.ask("[...document.querySelectorAll('figcaption')].map(e => e.textContent)")
    assert names == ["Start", "Linear 1", "Round 1", "Round 2"]
    assert page.ask("document.querySelectorAll('.picture img').length") == 6  # and the spread, and the labels
    page.ask("document.querySelector('.images').scrollIntoView()")
    page.until("[...document.images].every(e => e.complete && e.naturalWidth > 0)")
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")
    assert page.ask("document.querySelectorAll('.rounds circle').length") == 3 + 3 + 4 + 4 + 4
    page.click(".images a img")
    page.until("document.title.startsWith('Registration report')")
    page.open(made[0] / "template.html")
    page.click("a[href='cohort.html']")
    page.until("document.title.startsWith('Cohort') && document.querySelectorAll('#pairs tbody tr').length === 3")
