"""The worker registers, answers, stops when told and says what went wrong, over a real pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from closed_form import ClosedForm
from nephi.errors import InputError
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.images.pair import Pair
from nephi.images.phantom import lung_phantom
from nephi.maps.affine_map import AffineMap
from nephi.maps.map import Composition
from nephi.maps.spline import SplineMap
from nephi.maps.transform import Transform
from nephi.maps.warp import warp
from nephi.options import Options
from NePhiRegistrationLib.worker.messages import Message, encode
from NePhiRegistrationLib.worker.registration_job import Job, align
from NePhiRegistrationLib.worker.registration_outputs import show
from NePhiRegistrationLib.worker.request_decoding import read_pair
from worker_pipe import AT_ONCE, BARE, ENDLESS, PHANTOM, PROGRAM, QUICK, Pipe, Watched, pair

UNIX = pytest.mark.skipif(os.name != "posix", reason="signals and limits of Unix")


@pytest.fixture(scope="module")
def pipe():
    made = Pipe().ready()
    yield made
    made.close()


@pytest.fixture(scope="module")
def registered(pipe):
    """A finished registration, and what was seen of it."""
    request = pipe.client.request("register", *pair())
    watched = Watched.of(request)
    pipe.finish(request)
    assert request.state == "finished", request.message + request.details
    return request, watched


@pytest.fixture(scope="module")
def transform(registered) -> Transform:
    """The engine's own, from the bytes that came."""
    return Transform.from_bytes(registered[0].seen.arrays["transform"].tobytes())


def splines(message, way: str) -> Composition:
    """The map as it was sent."""
    sent = message.fields[way]
    nodes = Grid.from_dict(sent["geometry"])
    lattice = nodes.window([1] * 3, [n - 2 for n in nodes.size])
    map_ = SplineMap.from_coefficients(torch.from_numpy(message.arrays[way].copy()).double(), lattice)
    return Composition([map_, AffineMap(np.array(sent["linear"]))], PHANTOM.fixed.grid)


def running(pipe: Pipe, phase: str, options: dict) -> tuple:
    """A registration that has reached a phase."""
    request = pipe.client.request("register", *pair(options))
    watched = Watched.of(request)
    assert pipe.pump(lambda: request.done or any(phase in f["phase"] for f in watched.progress))
    assert not request.done, request.message + request.details
    return request, watched


# ------------------------------------------------------------------------------------------------- registering


def test_the_worker_says_what_it_is(pipe):
    hello = pipe.client.hello
    assert hello["missing"] is None and "cpu" in hello["devices"] and hello["torch"]
    assert hello["pid"] == pipe.process.pid


def test_the_engine_sets_up_threads_that_do_not_stall_each_other_before_torch_reads_it(capfd):
    made = Pipe(environment={"PYTHONPROFILEIMPORTTIME": "1"}).ready()
    made.process.kill()
    made.process.wait()
    loaded = [line.rpartition("|")[2].strip() for line in capfd.readouterr().err.splitlines()]
    assert loaded.index("nephi.threads") < loaded.index("torch")


def test_a_registration_shows_its_phases_its_loss_and_its_map_on_the_way(registered):
    request, watched = registered
    assert watched.phases() == ["affine", "search", "level 1/1", "done", "outputs"]
    level = [fields for fields in watched.progress if fields["phase"] == "level 1/1"]
    assert level[-1]["step"] == level[-1]["steps"] == 3
    assert all(np.isfinite(fields["loss"]) and fields["iterations_per_second"] > 0 for fields in level)
    steps = [fields["name"] for fields in watched.progress if fields["phase"] == "outputs"]
    assert steps[0] == "transforms" and steps[-1] == "numbers" and len(steps) == 6
    assert watched.outcomes == ["finished"] and request.done


def test_the_last_preview_is_the_map_on_a_coarse_grid_around_the_fixed_image(registered, transform):
    preview = registered[1].previews[-1]
    grid = Grid.from_dict(preview.fields["geometry"])
    assert grid.contains(torch.from_numpy(PHANTOM.fixed.grid.corners())).all()
    inside = grid.window([4] * 3, [n - 8 for n in grid.size])
    shown = preview.arrays["displacement"][(slice(4, -4),) * 3].reshape(-1, 3)
    exact = (transform.forward.map(inside.points("cpu")) - inside.points("cpu")).numpy()
    assert np.percentile(np.linalg.norm(shown - exact, axis=1), 95) < 0.5
    logarithm = preview.arrays["log_jacobian"]
    assert logarithm.shape == grid.shape and np.isfinite(logarithm).all() and np.abs(logarithm).max() > 0.1


@pytest.mark.parametrize(("direction", "points"), [("forward", PHANTOM.landmarks_fixed),
                                                   ("inverse", PHANTOM.landmarks_moving)])
def test_the_splines_map_points_as_the_engine_does(registered, transform, direction, points):
    reply = registered[0].reply
    made = splines(registered[0].seen, direction)
    error = (made.map(points) - getattr(transform, direction).map(points)).norm(dim=1)
    image = PHANTOM.fixed if direction == "forward" else PHANTOM.moving
    assert float(error.max()) <= 0.12 * image.grid.voxel
    exports = {entry["direction"]: entry for entry in reply.fields["report"]["transforms"]}
    assert exports[direction]["error_mm"]["max"] <= 0.1 * image.grid.voxel
    assert made.parts[0].lattice.contains(torch.from_numpy(image.grid.corners())).all()


def test_the_warped_volume_is_the_moving_one_through_the_forward_splines(registered):
    seen = registered[0].seen
    expected = warp(Image(PHANTOM.moving.values, PHANTOM.moving.grid), splines(seen, "forward"),
                    PHANTOM.fixed.grid).values.numpy()
    assert np.abs(seen.arrays["warped"] - expected).max() <= 0.001 * np.ptp(expected)


def test_the_report_judges_by_landmarks_and_counts_the_determinants(registered):
    fields = registered[0].reply.fields
    tre = fields["report"]["metrics"]["tre_mm"]
    assert tre["mean"] < 0.5 * tre["before"] and tre["count"] == len(PHANTOM.landmarks_fixed)
    assert {entry["direction"] for entry in fields["report"]["transforms"]} == {"forward", "inverse"}
    histogram = fields["histogram"]
    compared = registered[0].reply.arrays["compared"]
    assert sum(histogram["counts"]) + histogram["folds"] == int(compared.sum()) > 0.9 * int(PHANTOM.fixed_mask.sum())
    assert not (compared & ~PHANTOM.fixed_mask.numpy()).any()
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert [record["iteration"] for record in fields["history"]] == [1, 2, 3]


def test_the_log_jacobian_is_that_of_the_fields(registered, transform):
    inside = PHANTOM.fixed_mask.flatten()
    exact = transform.forward.jacobian(PHANTOM.fixed.grid.points("cpu")[inside]).det().log().numpy()
    made = registered[0].reply.arrays["log_jacobian"].reshape(-1)[inside.numpy()]
    assert np.percentile(np.abs(made - exact), 95) < 0.02


def test_going_on_starts_from_the_last_map_and_adds_to_it(pipe, registered, transform):
    request = pipe.finish(pipe.client.request("continue", {"iterations": 2, "of": registered[0].task}))
    assert request.state == "finished", request.message
    assert len(request.reply.fields["history"]) == 2
    before, after = (r.fields["report"]["metrics"]["tre_mm"]["mean"] for r in (registered[0].reply, request.reply))
    assert after < before + 0.5
    assert request.seen.arrays["transform"].size > 1.5 * registered[0].seen.arrays["transform"].size
    gone = pipe.finish(pipe.client.request("continue", {"iterations": 2, "of": registered[0].task}))
    assert gone.failure == "gone" and "no longer in memory" in gone.message


def test_only_what_is_wanted_is_made_and_measured(pipe):
    fields, arrays = pair({**BARE, "iterations": [1]}, outputs=["warped"])
    request = pipe.finish(pipe.client.request("register", fields, arrays))
    assert request.state == "finished", request.message + request.details
    assert set(request.seen.arrays) == {"transform", "warped"} and not request.reply.arrays
    report = request.reply.fields["report"]
    assert report["metrics"] is None and [entry["direction"] for entry in report["transforms"]] == ["forward"]
    request = pipe.finish(pipe.client.request("register", {**fields, "outputs": ["colour"]}, arrays))
    assert request.failure == "input" and "Unknown output 'colour'" in request.message


def test_what_was_shown_can_be_kept_without_its_numbers(pipe):
    request = pipe.client.request("register", *pair(BARE))
    request.shown.connect(lambda _message: pipe.client.cancel(request, True))
    pipe.finish(request)
    assert request.state == "finished", request.message + request.details
    assert request.reply.fields["report"]["metrics"] is None and len(request.reply.fields["history"]) == 3
    further = pipe.finish(pipe.client.request("continue", {"iterations": 1, "of": request.task}))
    assert further.state == "finished", further.message


def test_a_map_that_was_pulled_to_landmarks_can_be_kept_without_its_numbers(pipe):
    first = pipe.finish(pipe.client.request("register", *pair(BARE)))
    points = {f"guide_{side}": np.array([PHANTOM.fixed.grid.center]) for side in ("fixed", "moving")}
    request = pipe.client.request("continue", {"iterations": 0, "of": first.task}, points)
    request.progress.connect(lambda fields: fields["phase"] == "landmarks" and pipe.client.cancel(request, True))
    pipe.finish(request)
    assert request.state == "finished", request.message + request.details
    assert request.reply.fields["report"]["metrics"] is None


@pytest.mark.parametrize(("role", "number"), [("fixed", 1), ("moving", 2)])
def test_landmarks_outside_their_image_do_not_pull_the_map_there(pipe, role, number):
    first = pipe.finish(pipe.client.request("register", *pair({**BARE, "iterations": [1]}, outputs=["forward"])))
    points = {f"guide_{side}": np.array([PHANTOM.fixed.grid.center] * 2) for side in ("fixed", "moving")}
    points[f"guide_{role}"][number - 1, 0] += 5000.0
    fields = {"iterations": 0, "of": first.task, "outputs": ["forward"]}
    request = pipe.finish(pipe.client.request("continue", fields, points))
    assert request.failure == "input"
    assert request.message == (f"1 of 2 {role} landmarks lie outside the {role} image, number {number} first; "
                               "correct or delete them.")
    points[f"guide_{role}"][number - 1, 0] -= 5000.0
    assert pipe.finish(pipe.client.request("continue", fields, points)).state == "finished"


def test_a_map_that_goes_on_from_a_prediction_still_says_what_predicted():
    phantom, weights = lung_phantom(24), {"name": "some", "sha256": "0"}
    judged = Pair(phantom.fixed, phantom.moving, phantom.fixed_mask, phantom.moving_mask)
    job = Job(judged, Options.from_preset("lung-ct", **{**BARE, "resolution": [10]}))
    first = align(job, lambda *_: None, lambda: None).transform
    first = replace(first, provenance={**first.provenance, "weights": weights})
    assert align(job.continued(first, 1), lambda *_: None, lambda: None).transform.provenance["weights"] == weights


@pytest.mark.parametrize("differ", [True, False])
def test_going_on_compares_the_images_as_the_registration_did(differ):
    """What a pair shows once the first map has deformed it is not asked again, nor after a second time."""
    phantom = lung_phantom(24)
    job = Job(Pair(phantom.fixed, phantom.moving), Options.from_preset("generic"))
    first = Transform(phantom.fixed.grid, phantom.moving.grid, np.eye(4), (),
                      {"contrasts": {"differ": differ}, "weights": None})
    once = job.continued(first, 3)
    assert once.options == job.options.for_images(differ, 3).changed(affine="none", resolution=100.0, iterations=3)
    again = once.continued(replace(first, provenance={"contrasts": None, "weights": None}), 3)
    assert again.options == once.options


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_the_warped_volume_has_the_integer_type_of_the_moving_one(kind):
    fields, arrays = pair()
    whole = {**arrays, "moving": arrays["moving"].astype(kind)}
    job = Job(read_pair(Message("register", fields, whole)), Options.from_preset("lung-ct", **BARE))
    sent = {}
    shown = show(job, align(job, lambda *_: None, lambda: None), lambda kind, _fields, arrays: sent.update(
        {kind: arrays}))
    warped = sent["shown"]["warped"]
    assert shown.both.forward.within_tolerance
    assert warped.dtype == kind and np.ptp(warped) > 0.5 * np.ptp(whole["moving"])


# ------------------------------------------------------------------------------------- questions about a transform


def test_points_and_jacobians_come_through_a_given_transform(pipe, registered, transform):
    given = {"transform": registered[0].seen.arrays["transform"]}
    points = PHANTOM.landmarks_fixed.numpy()
    grid = PHANTOM.fixed.grid.with_spacing(20.0)

    def ask(kind, fields, **arrays):
        request = pipe.finish(pipe.client.request(kind, fields, {**given, **arrays}))
        assert request.state == "finished", request.message + request.details
        return request.reply.arrays

    mapped = ask("map_points", {"direction": "inverse"}, points=points)["points"]
    expected = transform.inverse.map(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(mapped, expected, atol=1e-3)
    values = ask("jacobian", {"geometry": grid.to_dict(), "quantity": "determinant"})["values"]
    expected = transform.forward.jacobian(grid.points("cpu")).det().numpy()
    np.testing.assert_allclose(values.reshape(-1), expected, atol=1e-3)


def test_a_given_transform_comes_back_as_the_maps_of_its_result(pipe, registered):
    seen = registered[0].seen
    request = pipe.finish(pipe.client.request("maps", {}, {"transform": seen.arrays["transform"]}))
    assert request.state == "finished", request.message + request.details
    points = PHANTOM.landmarks_fixed
    both = [splines(message, "forward").map(points) for message in (seen, request.reply)]
    assert float((both[0] - both[1]).norm(dim=1).max()) < 0.1
    assert request.reply.arrays["log_jacobian"].shape == PHANTOM.fixed.grid.shape
    provenance = request.reply.fields["provenance"]
    assert Grid.from_dict(provenance["fixed"]) == PHANTOM.fixed.grid and provenance["options"]


def test_a_given_transform_is_evaluated_by_labels(pipe, registered):
    fields, arrays = pair()
    arrays = {name: arrays[name] for name in ("fixed", "moving")}
    arrays |= {"fixed_labels": PHANTOM.fixed_mask.numpy().astype(np.int16), "transform":
               registered[0].seen.arrays["transform"], "moving_labels": PHANTOM.moving_mask.numpy().astype(np.int16)}
    request = pipe.finish(pipe.client.request("evaluate", fields, arrays))
    assert request.state == "finished", request.message + request.details
    metrics = request.reply.fields["metrics"]
    assert metrics["dice"]["mean"] > metrics["dice"]["before"] and metrics["tre_mm"] is None
    fields["fixed"] = {**fields["fixed"], "origin": [0, 0, 0]}
    request = pipe.finish(pipe.client.request("evaluate", fields, arrays))
    assert request.failure == "input" and "another geometry" in request.message


@pytest.mark.parametrize("kind", [np.uint32, np.int64, np.float64])
def test_labels_reach_the_engine_with_their_own_numbers(kind):
    fields, arrays = pair()
    numbers = PHANTOM.fixed_mask.numpy().astype(kind) * 4000000001
    request = Message("evaluate", fields, {**arrays, "fixed_labels": numbers, "moving_labels": numbers})
    assert read_pair(request).fixed_labels.values.unique().tolist() == [0, 4000000001]
    with pytest.raises(InputError, match="fixed labels has .* voxels that are not whole numbers"):
        read_pair(Message("evaluate", fields, {**arrays, "fixed_labels": numbers / 2, "moving_labels": numbers}))


# --------------------------------------------------------------------------------------------------- cancelling


@pytest.mark.parametrize("phase", ["affine", "level", "outputs"])
def test_a_cancelled_task_ends_within_a_second_wherever_it_is(pipe, phase, stopwatch):
    request, _ = running(pipe, phase, {"affine": ENDLESS, "level": AT_ONCE, "outputs": QUICK}[phase])
    started = time.perf_counter()
    pipe.client.cancel(request)
    pipe.finish(request, 5)
    assert request.state == "cancelled" and request.reply is None
    assert not stopwatch or time.perf_counter() - started < 1.0


def test_a_task_cancelled_to_keep_ends_with_the_map_so_far(pipe, stopwatch):
    request, watched = running(pipe, "level", ENDLESS)
    assert pipe.pump(lambda: watched.progress[-1]["step"] > 10)
    started = time.perf_counter()
    pipe.client.cancel(request, True)
    assert pipe.pump(lambda: watched.progress[-1]["phase"] == "outputs", 5)
    assert not stopwatch or time.perf_counter() - started < 1.0
    pipe.finish(request)
    tre = request.reply.fields["report"]["metrics"]["tre_mm"]
    assert tre["mean"] < 0.5 * tre["before"] and len(request.reply.fields["history"]) > 10


def test_outputs_that_are_kept_can_still_be_cancelled(pipe):
    request, watched = running(pipe, "level", AT_ONCE)
    pipe.client.cancel(request, True)
    assert pipe.pump(lambda: watched.progress[-1]["phase"] == "outputs", 5)
    pipe.client.cancel(request)
    assert pipe.finish(request, 5).state == "cancelled"


def test_after_a_cancel_the_next_registration_is_as_if_nothing_had_been(pipe, registered):
    request, _ = running(pipe, "level", AT_ONCE)
    pipe.client.cancel(request)
    pipe.finish(request)
    again = pipe.finish(pipe.client.request("register", *pair()))
    np.testing.assert_array_equal(again.seen.arrays["forward"], registered[0].seen.arrays["forward"])


def test_a_cancel_that_comes_too_late_or_to_nobody_changes_nothing(pipe):
    request = pipe.finish(pipe.client.request("ping"))
    pipe.client.cancel(request)
    for piece in encode("cancel", {"task": "nobody", "keep": False}):
        pipe.process.stdin.write(piece)
    assert pipe.finish(pipe.client.request("register", *pair(BARE))).state == "finished"


def test_previews_come_at_least_once_a_second(pipe):
    request, watched = running(pipe, "level", ENDLESS)
    pipe.pump(lambda: False, 3)
    seen = len(watched.previews)
    pipe.client.cancel(request)
    pipe.finish(request)
    assert seen >= 4  # two of the affine, the first of the level, and at least one for each whole second but the last


# --------------------------------------------------------------------------------------------- two at a time


def test_a_second_registration_while_one_runs_is_refused_with_a_sentence(pipe):
    request, _ = running(pipe, "level", AT_ONCE)
    second = pipe.client.request("register", *pair())
    assert second.state == "failed" and second.message == \
        "A registration is running; wait until it has finished, or cancel it."
    other = pipe.client.request("map_points", {}, {"points": np.zeros((1, 3))})
    assert other.state == "failed" and not request.done
    pipe.client.cancel(request)
    assert pipe.finish(request).state == "cancelled"


def test_the_worker_itself_refuses_what_does_not_fit_beside_a_registration(pipe):
    request, _ = running(pipe, "level", AT_ONCE)
    refused = []
    pipe.client._open["77"] = type("Stub", (), {"_end": lambda self, message: refused.append(message),
                                                "kind": "map_points", "done": False})()
    for piece in encode("map_points", {"task": "77"}, {"points": np.zeros((1, 3))}):
        pipe.process.stdin.write(piece)
    assert pipe.pump(lambda: bool(refused), 5)
    assert "busy (register)" in refused[0].fields["message"]
    pipe.client.cancel(request)
    pipe.finish(request)


def test_short_questions_may_queue(pipe, registered):
    given = {"transform": registered[0].seen.arrays["transform"]}
    asked = [pipe.client.request("map_points", {}, {"points": np.full((1, 3), float(n)), **given}) for n in range(5)]
    assert [pipe.finish(request).state for request in asked] == ["finished"] * 5


# ---------------------------------------------------------------------------------------------------- bad input


def _spoilt(name: str, value) -> dict:
    arrays = pair()[1]
    return {**arrays, name: value(arrays[name].copy())}


def _only_nan(array):
    return np.full_like(array, np.nan)


@pytest.mark.parametrize(("changes", "arrays", "words"), [
    ({"preset": "spleen"}, None, "Unknown preset 'spleen'"),
    ({"options": {"itertions": 3}}, None, "Unknown option 'itertions'"),
    ({"options": {"device": "abacus"}}, None, "device"),
    ({"grid_spacing": -1}, None, "grid spacing is -1"),
    ({"initial": [[1, 0], [0, 1]]}, None, "4 x 4"),
    ({}, _spoilt("fixed", np.zeros_like), "fixed image in is constant"),
    ({}, _spoilt("moving", _only_nan), "only NaN or infinite voxels"),
    ({}, _spoilt("fixed_mask", np.zeros_like), "mask of the fixed image is empty"),
    ({}, _spoilt("fixed_mask", lambda a: a[1:]), "mask of the fixed image has an array of shape"),
    ({}, {**pair()[1], "fixed_exclude": np.ones_like(pair()[1]["fixed_mask"])}, "leaves nothing of it"),
    ({}, {**pair()[1], "moving_exclude": np.zeros_like(pair()[1]["moving_mask"])},
     "exclusion mask of the moving image is empty"),
    ({}, _spoilt("landmarks_fixed", lambda a: a[1:]), "59 fixed landmarks points and 60 moving ones"),
    ({"fixed": {"size": [40, 40, 40]}}, None, "needs a geometry 'fixed'"),
    ({}, {name: array for name, array in pair()[1].items() if "moving" not in name}, "moving"),
])
def test_bad_input_is_refused_in_a_sentence(pipe, changes, arrays, words):
    fields, good = pair(**changes)
    request = pipe.finish(pipe.client.request("register", fields, good if arrays is None else arrays))
    assert request.state == "failed" and request.failure == "input"
    assert words in request.message and request.message.endswith(".") and "\n" not in request.message


def test_an_unknown_request_a_damaged_transform_and_a_missing_array_are_refused(pipe, registered):
    points, transform = np.zeros((1, 3)), registered[0].seen.arrays["transform"]
    for kind, fields, arrays, words in (
            ("dance", {}, {}, "Unknown request 'dance'"),
            ("map_points", {}, {"points": points, "transform": np.zeros(9, np.uint8)}, "not a NePhi transform"),
            ("map_points", {}, {}, "needs the array 'points'"),
            ("map_points", {}, {"points": points}, "There is no transform"),
            ("map_points", {"direction": "up"}, {"points": points, "transform": transform}, "direction 'up'")):
        request = pipe.finish(pipe.client.request(kind, fields, arrays))
        assert request.failure == "input" and words in request.message


# ----------------------------------------------------------------------------------------- accidents, own workers


@UNIX
def test_a_killed_worker_fails_its_task_and_another_takes_its_place():
    pipe = Pipe().ready()
    request, watched = running(pipe, "level", AT_ONCE)
    os.kill(pipe.client.hello["pid"], signal.SIGKILL)
    pipe.finish(request, 5)
    assert (request.state, request.failure, watched.outcomes) == ("failed", "died", ["failed"])
    assert not pipe.client.connected
    assert pipe.client.request("ping").message == "The worker is not running; start it first."
    pipe.start()
    assert pipe.finish(pipe.client.request("register", *pair(BARE))).state == "finished"
    pipe.close()


@UNIX
def test_running_out_of_memory_is_told_as_such_and_the_worker_lives_on(pipe, registered):
    resource = pytest.importorskip("resource")
    used = int(Path(f"/proc/{pipe.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pipe.process.pid, resource.RLIMIT_AS, (used + (150 << 20), resource.RLIM_INFINITY))
    request = pipe.finish(pipe.client.request("maps", {"grid_spacing": 0.1},
                                              {"transform": registered[0].seen.arrays["transform"]}))
    resource.prlimit(pipe.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (request.state, request.failure) == ("failed", "memory"), request.message + request.details
    assert "memory" in request.message
    assert pipe.finish(pipe.client.request("register", *pair(BARE))).state == "finished"


def test_garbage_from_the_application_ends_the_worker_with_a_sentence():
    pipe = Pipe().ready()
    pipe.process.stdin.write(b"this is no message, and no start of one")
    assert pipe.process.wait(10) == 0
    pipe.close()


@UNIX
def test_a_worker_whose_application_is_killed_ends_while_it_works(tmp_path):
    parent = textwrap.dedent(f"""
        import subprocess, sys, time
        worker = subprocess.Popen([sys.executable, {str(PROGRAM)!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        worker.stdin.write(open({str(tmp_path / "request")!r}, "rb").read())
        worker.stdin.flush()
        seen = b""
        while b"level 1/1" not in seen:
            seen += worker.stdout.read(100)
        print(worker.pid, flush=True)
        while True:
            worker.stdout.read(1)
        """)
    fields, arrays = pair(AT_ONCE)
    (tmp_path / "request").write_bytes(b"".join(bytes(p) for p in encode("register", {**fields, "task": "1"}, arrays)))
    application = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, "OMP_NUM_THREADS": "1"})
    pid = int(application.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    application.kill()
    application.wait()
    application.stdout.close()
    end = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_libraries_print_does_not_reach_the_wire(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent("""
        import os, sys, threading, time
        def chatter():
            while sys.stdout is not sys.stderr:
                time.sleep(0.001)
            while True:
                print("printed"); os.write(1, b"written"); os.system("echo echoed")
                time.sleep(0.05)
        threading.Thread(target=chatter, daemon=True).start()
        """))
    pipe = Pipe(environment={"PYTHONPATH": str(tmp_path)}).ready()
    assert pipe.finish(pipe.client.request("register", *pair(BARE))).state == "finished"
    pipe.close()


def test_without_torch_the_worker_says_so_and_refuses_to_register(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    pipe = Pipe(environment={"PYTHONPATH": str(tmp_path)}).ready()
    assert pipe.client.hello["missing"] == \
        "PyTorch cannot be loaded (No module named 'torch'); install or repair it and try again."
    request = pipe.client.request("register", *pair())
    assert request.failure == "missing" and request.message == pipe.client.hello["missing"]
    pipe.close()


@UNIX
def test_ctrl_c_in_the_applications_terminal_is_not_for_the_worker(pipe):
    request, _ = running(pipe, "level", AT_ONCE)
    os.kill(pipe.process.pid, signal.SIGINT)
    assert pipe.finish(pipe.client.request("ping"), 5).state == "finished" and not request.done
    pipe.client.cancel(request)
    assert pipe.finish(request).state == "cancelled"


def test_a_task_cancelled_while_the_worker_still_starts_never_runs():
    pipe = Pipe()
    request = pipe.client.request("register", *pair(ENDLESS))
    watched = Watched.of(request)
    pipe.client.cancel(request)
    assert pipe.finish(request).state == "cancelled" and not watched.progress
    pipe.close()


def test_displacements_to_start_from_are_part_of_the_result_both_ways(pipe):
    truth = ClosedForm(PHANTOM.fixed.grid, stretch=6.0, shear=3.0, wavelength=240.0)
    grid = PHANTOM.fixed.grid.padded(10.0)
    fields, arrays = pair({**QUICK, "iterations": [0]}, initial_grid=grid.to_dict())
    arrays["initial_displacement"] = truth.forward.displacement_on(grid).numpy()
    request = pipe.finish(pipe.client.request("register", fields, arrays))
    assert request.state == "finished", request.message
    result = Transform.from_bytes(request.seen.arrays["transform"].tobytes())
    moved = truth.forward.map(PHANTOM.landmarks_fixed.double())
    assert (result.forward.map(PHANTOM.landmarks_fixed.double()) - moved).norm(dim=1).max() < 0.5
    assert (result.inverse.map(moved) - PHANTOM.landmarks_fixed).norm(dim=1).max() < 0.5
    assert request.reply.fields["report"]["provenance"]["initial"]["round_trip_voxels"] < 0.1
    arrays["initial_displacement"] = arrays["initial_displacement"][1:]
    request = pipe.finish(pipe.client.request("register", fields, arrays))
    assert request.state == "failed" and "initial displacements have shape" in request.message
