"""nephi batch as it runs: what it leaves, how it goes on, and what happens when workers or people stop it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from distributed import Client, LocalCluster
from nephi.cli.main import build_parser, main
from nephi.cli.row_arguments import jobs_of, known_columns, register_row
from nephi.cohort import finished as finished_pairs
from nephi.cohort.cohort_table import read_table
from nephi.cohort.finished import finished
from nephi.cohort.one_pair import run_pair
from nephi.cohort.pool import Place, connected
from nephi.cohort.rows import Job, folder_of
from nephi.cohort.run_cohort import run_in
from nephi.files.outputs import FILES
from nephi.storage import locked

QUICK = ["--iterations", "3,0,0", "--resolution", "8,16,32", "--hidden", "8", "--frequencies", "4", "--search", "never",
         "--affine", "translation", "--device", "cpu"]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Images of a blob at different places, one that is constant, and a table of pairs; pair "flat" cannot work."""
    folder = tmp_path_factory.mktemp("study")
    axes = np.mgrid[:16, :16, :16]
    for number in range(4):
        blob = np.exp(-((axes - 7 - 0.4 * number) ** 2).sum(0) / 20)
        sitk.WriteImage(sitk.GetImageFromArray((100 * blob).astype(np.float32)), str(folder / f"{number}.nii.gz"))
    sitk.WriteImage(sitk.Image(16, 16, 16, sitk.sitkFloat32), str(folder / "flat.nii.gz"))
    (folder / "table.csv").write_text("id,fixed,moving,seed\none,0.nii.gz,1.nii.gz,\nflat,flat.nii.gz,0.nii.gz,\n"
                                      "two,1.nii.gz,2.nii.gz,5\n")
    (folder / "six.csv").write_text("id,fixed,moving\n" + "".join(
        f"p{n},{n % 3}.nii.gz,{n % 3 + 1}.nii.gz\n" for n in range(6)))
    return folder


@pytest.fixture(scope="module")
def results(study, tmp_path_factory) -> tuple[Path, list[dict]]:
    """The results of the table, by two workers on this machine, and the events that were printed."""
    folder = tmp_path_factory.mktemp("results") / "made" / "here"
    ran = subprocess.run(_command(study / "table.csv", folder, "--workers", "2", "--json"), capture_output=True,
                         text=True, env=_environment())
    assert ran.returncode == 0 and ran.stderr == ""
    return folder, [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture
def scheduler(tmp_path) -> Iterator[Path]:
    """The file of a scheduler with one worker, both threads of this process: they need no second torch."""
    file = tmp_path / "scheduler.json"
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
                      dashboard_address=None, scheduler_kwargs={"scheduler_file": str(file)}):
        yield file


@pytest.fixture
def job(study, tmp_path) -> Iterator[Job]:
    """One pair, to be run here; the threads of this process stay as they are."""
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    threads = torch.get_num_threads()
    yield _job(copy / "table.csv", tmp_path / "out")
    torch.set_num_threads(threads)


def _job(table: Path, folder: Path, *flags: str) -> Job:
    rows, _ = read_table(table, known_columns())
    given = build_parser().parse_args(["batch", str(table), "-o", str(folder), *QUICK, *flags])
    del given.run
    return jobs_of(rows, given, folder, 1)[0][0]


def _environment() -> dict:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}


def _command(table: Path, folder: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "nephi", "batch", str(table), "-o", str(folder), *QUICK, *flags]


def _batch(table: Path, folder: Path, *flags: str) -> int:
    return main(["batch", str(table), "-o", str(folder), *QUICK, *flags])


def _rows(folder: Path) -> dict[str, dict]:
    with open(folder / "cohort.csv", newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


# ------------------------------------------------------------------------------------------------------------ results


def test_each_pair_has_a_folder_with_all_that_a_registration_writes(results):
    folder, _ = results
    for id in ("one", "two"):
        assert {*FILES.values(), "pair.json", "before.png", "after.png"} == set(os.listdir(folder / folder_of(id)))
    assert not (folder / folder_of("flat")).exists() and not list(folder.rglob(".nephi-*"))


def test_a_pair_that_fails_leaves_its_sentence_and_stops_nothing(results):
    rows = _rows(results[0])
    assert [row["status"] for row in rows.values()] == ["done", "failed", "done"]
    assert "constant" in rows["flat"]["error"] and rows["one"]["error"] == ""
    page = (results[0] / "cohort.html").read_text(encoding="utf-8")
    assert rows["flat"]["error"].split("(")[0] in page and f'{folder_of("one")}/report.html' in page


def test_the_table_has_every_number_of_the_reports(results):
    for id, row in _rows(results[0]).items():
        if row["status"] == "done":
            report = json.loads((results[0] / row["folder"] / "report.json").read_text())
            assert float(row["metrics.similarity.after.nmi"]) == report["metrics"]["similarity"]["after"]["nmi"]
            assert float(row["metrics.jacobian.inverse.p99"]) == report["metrics"]["jacobian"]["inverse"]["p99"]
            assert row["verdict"] == report["verdict"]["level"] and row["runtime.device"] == "cpu"
            assert report["provenance"]["seed"] == {"one": 0, "two": 5}[id]


def test_the_numbers_are_those_of_a_registration_by_itself(results, tmp_path):
    row = _rows(results[0])["two"]
    assert main(["register", row["fixed"], row["moving"], "-o", str(tmp_path), *QUICK, "--seed", "5", "--quiet"]) == 0
    alone, among = (json.loads((folder / "report.json").read_text()) for folder in
                    (tmp_path, results[0] / row["folder"]))
    assert alone["metrics"] == among["metrics"]


def test_progress_for_machines_tells_of_each_pair(results):
    events = results[1]
    assert events[0] == {"event": "start", "pairs": 3, "finished_before": 0}
    pairs = [event for event in events if event["event"] == "pair"]
    assert {event["id"] for event in pairs} == {"one", "two", "flat"}
    assert (pairs[-1]["done"], pairs[-1]["failed"], pairs[-1]["running"]) == (2, 1, 0)
    assert pairs[0]["workers"] == 2 and pairs[0]["dashboard"].startswith("http://127.0.0.1:")
    assert events[-1]["event"] == "done" and events[-1]["failed"] == 1


def test_where_no_pair_can_be_registered_the_command_fails(study, scheduler, tmp_path, capsys):
    (tmp_path / "t.csv").write_text(f"id,fixed,moving\nflat,{study}/flat.nii.gz,{study}/0.nii.gz\n")
    assert _batch(tmp_path / "t.csv", tmp_path / "out", "-q", "--scheduler-file", str(scheduler)) == 2
    assert "None of the 1 pairs could be registered" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ resuming


def test_a_finished_pair_is_known_until_its_inputs_settings_or_version_change(job, monkeypatch):
    assert finished(job) is None
    told = run_pair(job, register_row)
    assert finished(job) == told == json.loads((Path(job.folder) / "pair.json").read_text())
    fixed = Path(job.files["fixed"])
    os.utime(fixed, (1, 1))
    assert finished(job) == told  # another time, the same voxels
    table = fixed.parent / "table.csv"
    assert finished(_job(table, Path(job.folder).parents[2], "--smoothness", "3")) is None
    with monkeypatch.context() as patch:
        patch.setattr(finished_pairs, "__version__", "0.0.1")
        assert finished(job) is None
    shutil.copy(fixed.parent / "3.nii.gz", fixed)
    assert finished(job) is None


def test_a_pair_whose_results_were_taken_away_is_not_finished(job):
    run_pair(job, register_row)
    (Path(job.folder) / "warped.nii.gz").unlink()
    assert finished(job) is None


def test_a_finished_pair_is_not_run_again_where_its_worker_died_before_it_told(job):
    told = run_pair(job, register_row)
    assert run_pair(job, lambda *_: pytest.fail("it ran again")) == told


def test_a_pair_is_given_up_after_the_third_death_of_its_worker(job):
    for number in range(3):
        (Path(job.folder) / f".nephi-{number}").mkdir(parents=True)
    told = run_pair(job, lambda *_: pytest.fail("it ran again"))
    assert told["id"] == job.id and "died, 3 times" in told["error"]
    assert not Path(job.folder).exists()
    (Path(job.folder) / ".nephi-0").mkdir(parents=True)
    assert "error" not in run_pair(job, register_row) and not list(Path(job.folder).glob(".nephi-*"))


def test_a_file_that_vanishes_while_the_batch_runs_is_a_sentence(job):
    Path(job.files["moving"]).unlink()
    told = run_pair(job, register_row)
    assert "moving" in told["error"] and "cannot be read" in told["error"] and not Path(job.folder).exists()


def test_a_folder_that_cannot_be_made_is_a_sentence(job, tmp_path):
    (tmp_path / "out").write_text("a file")
    assert "Cannot make the folder" in run_pair(job, register_row)["error"]


def test_what_the_engine_warns_of_is_told_with_the_result(job):
    def warns(arguments: dict, check: Callable[[], None]) -> dict:
        logging.getLogger("nephi.images.reading").warning("The %s is turned.", "image")
        return register_row(arguments, check)

    assert run_pair(job, warns)["warnings"] == ["The image is turned."]


def test_the_same_command_again_does_nothing_twice(results, study, capsys):
    folder = results[0]
    (study / "good.csv").write_text("id,fixed,moving,seed\none,0.nii.gz,1.nii.gz,\ntwo,1.nii.gz,2.nii.gz,5\n")
    before = {path: path.stat().st_mtime_ns for path in (folder / "pairs").rglob("*")}
    assert main(["batch", str(study / "good.csv"), "-o", str(folder), "--json", *QUICK]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["start", "done"] and events[0]["finished_before"] == 2
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "pairs").rglob("*")}


def test_two_runs_on_one_folder_refuse_each_other(study, tmp_path, capsys):
    with locked(tmp_path):
        assert main(["batch", str(study / "table.csv"), "-o", str(tmp_path), *QUICK]) == 2
    assert "Another nephi is at work" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- stopped on the way


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(study, scheduler, tmp_path, capsys):
    command = _command(study / "six.csv", tmp_path / "out", "--workers", "1", "--json")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment(),
                               start_new_session=True)
    first = next(json.loads(line) for line in process.stdout if '"pair"' in line)
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does; the later ones find it ending
        time.sleep(0.3)
    _, err = process.communicate()
    assert process.returncode == 130 and err.count("\n") == 1
    assert "of 6 pairs have ended; the same command goes on" in err
    done = [id for id, row in _rows(tmp_path / "out").items() if row["status"] == "done"]
    assert first["id"] in done and len(done) < 6 and not list((tmp_path / "out").rglob(".nephi-*"))
    assert _batch(study / "six.csv", tmp_path / "out", "--scheduler-file", str(scheduler), "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["finished_before"] == len(done)
    assert len([event for event in events if event["event"] == "pair"]) == 6 - len(done)


def _worker(scheduler: Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "dask", "worker", "--scheduler-file", str(scheduler), "--nthreads",
                             "2", "--no-nanny", "--local-directory", str(scheduler.parent)],
                            env={**_environment(), **environment}, stderr=subprocess.DEVNULL)


def test_the_pair_of_a_worker_that_is_killed_runs_elsewhere_and_none_runs_twice(study, scheduler, tmp_path):
    killed, ended = _worker(scheduler), []

    class Told(io.StringIO):
        def write(self, line: str) -> int:
            event = json.loads(line) if line.strip() else {}
            if event.get("event") == "pair":
                assert event["running"] <= event["workers"]
                ended.append(event["id"])
                killed.kill()
            return len(line)

    try:
        with Client(scheduler_file=str(scheduler), set_as_default=False) as client:
            client.wait_for_workers(2)
        with contextlib.redirect_stdout(Told()):
            assert _batch(study / "six.csv", tmp_path / "out", "--json", "--scheduler-file", str(scheduler)) == 0
    finally:
        killed.kill()
        killed.wait()
    assert sorted(ended) == [f"p{n}" for n in range(6)]
    assert {row["status"] for row in _rows(tmp_path / "out").values()} == {"done"}
    assert not list((tmp_path / "out").rglob(".nephi-*"))


def _stranger(scheduler: Path, folder: Path) -> subprocess.Popen:
    """A worker of another version of the program."""
    (folder / "other" / "nephi").mkdir(parents=True)
    (folder / "other" / "nephi" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    return _worker(scheduler, PYTHONPATH=os.pathsep.join([str(folder / "other"), *filter(None, sys.path)]))


def test_workers_of_another_version_are_refused(study, scheduler, tmp_path, capsys):
    worker = _stranger(scheduler, tmp_path)
    try:
        with Client(scheduler_file=str(scheduler), set_as_default=False) as client:
            client.wait_for_workers(2)
        assert _batch(study / "six.csv", tmp_path / "out", "--scheduler-file", str(scheduler)) == 2
    finally:
        worker.kill()
        worker.wait()
    error = capsys.readouterr().err
    assert "has version 0.0.1 of this program" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_where_only_workers_of_another_version_come_the_command_ends(study, tmp_path, capsys):
    file = tmp_path / "scheduler.json"
    with LocalCluster(n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None,
                      scheduler_kwargs={"scheduler_file": str(file)}):
        worker = _stranger(file, tmp_path)
        try:
            assert _batch(study / "six.csv", tmp_path / "out", "--scheduler-file", str(file)) == 2
        finally:
            worker.kill()
            worker.wait()
    error = capsys.readouterr().err
    assert "has version 0.0.1 of this program" in error and not (tmp_path / "out").exists()


def test_a_worker_of_another_version_that_comes_later_is_told_and_gets_no_pairs(study, scheduler, tmp_path, caplog):
    jobs = [_job(study / "six.csv", tmp_path / "out")]
    with connected(Place(scheduler_file=str(scheduler))) as client:
        worker = _stranger(scheduler, tmp_path)
        try:
            client.wait_for_workers(2)
            states = list(run_in(client, jobs, register_row))
        finally:
            worker.kill()
            worker.wait()
    assert {state.workers for state in states} == {1} and states[-1].ended["verdict"]
    assert caplog.text.count("has version 0.0.1 of this program") == 1


def test_jobs_of_a_cluster_can_be_the_workers(study, tmp_path):
    (tmp_path / "jobs.yaml").write_text("jobqueue:\n  local: {cores: 1, processes: 1, memory: 2GB}\n")
    jobs = ["--workers", "1", "--jobqueue", str(tmp_path / "jobs.yaml")]
    assert _batch(study / "table.csv", tmp_path / "out", *jobs) == 0
    assert [row["status"] for row in _rows(tmp_path / "out").values()] == ["done", "failed", "done"]


def test_what_travels_is_paths_options_and_numbers(job):
    assert len(json.dumps(dataclasses.asdict(job))) < 4000
