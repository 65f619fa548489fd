"""`nephi series`: frames read, tracked, composed, measured, written, and gone on with after a stop."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nephi import InputError, Options, run
from nephi.align.registration import follow
from nephi.cli.main import main
from nephi.geometry import Grid, random_points
from nephi.images.frames import read_frames
from nephi.images.image import Image
from nephi.images.phantom import BreathingSeries, breathing_series
from nephi.maps.map import MapPair
from nephi.maps.neural import NePhi
from nephi.maps.spline import SplineMap
from nephi.maps.transform import Transform
from nephi.series.chained import centred, chained, chained_all, closed, linear_stage
from nephi.series.series_file import read_series
from nephi.series.series_verdict import series_verdict
from nephi.series.steps import Steps
from nephi.series.tracking import MEAN, PREVIOUS, Motion, Plan, closure, drift, track
from nephi.storage import locked
from PIL import Image as Picture

PHASES = 4
QUICK = {"iterations": (12, 12), "resolution": (20, 34), "hidden": 16, "frequencies": 8, "device": "cpu",
         "affine": "none", "step_back": "never", "search": "never", "latent_ratio": 4.0}
FLAGS = ["--preset", "lung-ct", "--iterations", "12,12", "--resolution", "20,34", "--hidden", "16", "--frequencies",
         "8", "--device", "cpu", "--affine", "none", "--search", "never", "--step-back", "never", "--latent-ratio", "4"]


@pytest.fixture(scope="module")
def breath() -> BreathingSeries:
    return breathing_series(36, PHASES)


@pytest.fixture(scope="module")
def files(breath, tmp_path_factory) -> Path:
    """A folder with the breath and its masks as 4D files, points and regions."""
    folder = tmp_path_factory.mktemp("breath")
    for name, images, kind in (("ct", breath.frames, sitk.sitkInt16),
                               ("lungs", [replace(frame, values=mask.int()) for frame, mask in zip(
                                   breath.frames, breath.masks)], sitk.sitkUInt8)):
        sitk.WriteImage(sitk.JoinSeries([image.to_sitk(kind) for image in images]), str(folder / f"{name}.nii.gz"))
    grid = breath.frames[0].grid
    sides = breath.masks[0].int() * (1 + (grid.points("cpu")[:, 0] > 0).int().view(grid.shape))
    sitk.WriteImage(Image(sides, grid).to_sitk(sitk.sitkUInt8), str(folder / "sides.nii.gz"))
    np.savetxt(folder / "points.csv", breath.landmarks[0].numpy(), delimiter=",", header="x,y,z", comments="")
    return folder


@pytest.fixture(scope="module")
def tracked(files, tmp_path_factory) -> Path:
    """The folder of a series with everything that can be asked for."""
    folder = tmp_path_factory.mktemp("tracked") / "out"
    assert main(["series", str(files / "ct.nii.gz"), "-o", str(folder), "--masks", str(files / "lungs.nii.gz"),
                 "--track-points", str(files / "points.csv"), "--regions", str(files / "sides.nii.gz"), "--cycle",
                 "--ventilation", "--quiet", *FLAGS]) == 0
    return folder


def _finished(work) -> Motion:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def _table(path: Path) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _refused(arguments: list[str], capsys) -> str:
    assert main(["series", *arguments]) == 2
    return capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- the phantom


def test_the_breath_begins_and_ends_at_its_first_frame_and_goes_out_on_another_way_than_in(breath):
    points = breath.landmarks[0]
    assert torch.equal(breath.to_frame[0](points), points)
    out, back = (breath.to_frame[n](points) - points for n in (1, 3))
    assert float((out - back).norm(dim=1).mean()) > 1
    for there, again in zip(breath.to_frame, breath.from_frame):
        assert torch.allclose(again(there(points)), points, atol=1e-6)


def test_the_lungs_of_the_breath_keep_their_mass(breath):
    mass = [float((frame.values[mask] + 1000).double().sum()) for frame, mask in zip(breath.frames, breath.masks)]
    volumes = [int(mask.sum()) for mask in breath.masks]
    assert volumes[2] < 0.9 * volumes[0] and mass[2] > 0.93 * mass[0]


# ---------------------------------------------------------------------------------------------- following on


def test_a_frame_goes_on_with_the_codes_of_its_neighbour(breath):
    options = Options.from_preset("lung-ct", **QUICK)
    first = run(breath.frames[0], breath.frames[1], options, fixed_mask=breath.masks[0], moving_mask=breath.masks[1])
    *_, last = follow(breath.frames[0], breath.frames[2], first, options, breath.masks[0], breath.masks[2])
    assert last.transform.provenance["followed"] and len(last.transform.stages) == len(first.stages)
    for old, new in zip(first.stages, last.transform.stages):
        assert isinstance(new, NePhi)
        weights = [torch.cat([part.flatten() for part in one.fields[0].parameters()]) for one in (old, new)]
        assert torch.nn.functional.cosine_similarity(*weights, dim=0) > 0.9  # of two random starts it is near 0
    anew = run(breath.frames[0], breath.frames[2], options, fixed_mask=breath.masks[0], moving_mask=breath.masks[2])
    points = breath.landmarks[0]
    errors = [float((t.forward.map(points) - breath.landmarks[2]).norm(dim=1).mean())
              for t in (last.transform, anew)]
    assert errors[0] < 1.1 * errors[1] + 0.2


def test_a_frame_to_which_its_neighbours_result_does_not_fit_is_registered_anew(breath):
    options = Options.from_preset("lung-ct", **QUICK)
    grid = breath.frames[0].grid
    far = np.eye(4)
    far[2, 3] = 60
    first = run(breath.frames[0], breath.frames[1], options, fixed_mask=breath.masks[0], moving_mask=breath.masks[1])
    wrong = replace(first, stages=(linear_stage(far, grid), *first.stages))
    *_, last = follow(breath.frames[0], breath.frames[2], wrong, options, breath.masks[0], breath.masks[2])
    assert "followed" not in last.transform.provenance


# ---------------------------------------------------------------------------------------------- composition


def _bent(breath, seed: int) -> Transform:
    """A transform with a turn and a bend."""
    options = Options.from_preset("lung-ct", **QUICK)
    found = run(breath.frames[0], breath.frames[1], replace(options, seed=seed, iterations=(4, 0)))
    angle = 0.05 + 0.02 * seed
    matrix = np.eye(4)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:3, 3] = [3, -2, seed]
    return replace(found, affine=matrix)


def test_transforms_are_put_together_exactly_both_ways(breath, tmp_path):
    first, then = (_bent(breath, seed) for seed in (0, 1))
    both = chained(first, then)
    points = random_points(first.fixed_grid, 500)
    assert torch.allclose(both.forward.map(points), then.forward.map(first.forward.map(points)), atol=1e-3)
    assert torch.allclose(both.inverse.map(points), first.inverse.map(then.inverse.map(points)), atol=1e-3)
    both.save(tmp_path / "both.nephi")
    again = Transform.load(tmp_path / "both.nephi")
    assert torch.equal(again.forward.map(points), both.forward.map(points))


def test_the_mean_of_centred_maps_is_the_identity(breath):
    new = centred([_bent(breath, seed) for seed in (0, 1, 2)])
    points = random_points(new[0].fixed_grid, 500)
    mean = sum(transform.forward.map(points) for transform in new) / 3
    assert float((mean - points).norm(dim=1).max()) < 0.05 * new[0].fixed_grid.voxel


@pytest.mark.parametrize("reference", [MEAN, PREVIOUS])
def test_a_series_can_be_tracked_to_its_mean_and_from_frame_to_frame(breath, files, tmp_path, reference):
    frames = read_frames(files / "ct.nii.gz")
    steps = Steps(tmp_path, Options.from_preset("lung-ct", **QUICK))
    motion = _finished(track(frames, lambda number: breath.masks[number], Plan(reference, True, rounds=1), steps))
    first = motion.transforms[0].inverse.map(breath.landmarks[0])
    voxel = breath.frames[0].grid.voxel
    for transform, truth in zip(motion.transforms, breath.landmarks):
        assert float((transform.forward.map(first) - truth).norm(dim=1).mean()) < 0.6 * voxel
    assert float(closure(motion, first).mean()) < 0.25 * voxel
    assert drift(motion, first) is None if reference == MEAN else 0 < float(drift(motion, first).mean()) < voxel
    if reference == MEAN:
        mean = sum(transform.forward.map(first) for transform in motion.transforms) / PHASES
        assert float((mean - first).norm(dim=1).max()) < 0.1 * voxel


def test_the_drift_of_steps_around_a_cycle_is_shared_out_among_them():
    grid = breathing_series(24, 2).frames[0].grid
    count = 5
    nodes = Grid.aligned((9,) * 3, 0.4, (-1.6,) * 3)
    bend = 0.05 * torch.sin(nodes.points("cpu").roll(1, -1)).view(*nodes.shape, 3).float()  # of each step

    def step(size: float) -> Transform:
        return Transform(grid, grid, np.eye(4), (MapPair(*(SplineMap.through(sign * size * bend, nodes)
                                                           for sign in (1, -1))),))

    steps, small = chained_all([step(0.5)] * count), torch.zeros(grid.shape, dtype=torch.bool)
    small[10:12, 8:11, 12:14] = True
    for region in (None, small):
        points = random_points(grid, 300, region)
        before, after = (max(float((made.forward.map(points) - points).norm(dim=1).mean()) for made in maps)
                         for maps in (steps, closed(steps, region)))
        assert after < 0.3 * before  # where nothing moves all that the steps find is drift
    folding = chained_all([step(20.0), step(20.0)])
    assert closed(folding, None) == folding


def test_a_frame_can_be_drawn_to_the_middle_between_its_neighbours(breath, tmp_path, files):
    frames, points, paths = read_frames(files / "ct.nii.gz"), breath.landmarks[0], []
    for weight in (0.0, 1.0):
        steps = Steps(tmp_path, Options.from_preset("lung-ct", **QUICK))
        motion = _finished(track(frames, lambda number: breath.masks[number],
                                 Plan(0, True, time_smoothness=weight), steps))
        paths.append(torch.stack([transform.forward.map(points) for transform in motion.transforms]))
    middle = (paths[0][1] + paths[0][3]) / 2
    before, after = (float((path[2] - middle).norm(dim=1).mean()) for path in paths)
    assert after < 0.3 * before
    assert torch.equal(paths[0][0], paths[1][0])  # the reference stays


def test_without_a_cycle_the_ends_have_no_middle_between_neighbours(files, tmp_path):
    steps = Steps(tmp_path, Options.from_preset("lung-ct", **{**QUICK, "iterations": (2, 0)}))
    _finished(track(read_frames(files / "ct.nii.gz"), lambda number: None, Plan(time_smoothness=1.0), steps))
    assert sorted(path.name for path in tmp_path.glob("*_in_time.nephi")) == [
        f"frame_{number}_of_{PHASES}_in_time.nephi" for number in range(2, PHASES)]


def test_without_a_cycle_the_composed_maps_are_compared_with_a_direct_one(breath, files, tmp_path):
    frames = read_frames(files / "ct.nii.gz")
    steps = Steps(tmp_path, Options.from_preset("lung-ct", **QUICK))
    motion = _finished(track(frames, lambda number: None, Plan(PREVIOUS), steps))
    found = drift(motion, breath.landmarks[0])
    assert motion.direct is not None and 0 < float(found.mean()) < breath.frames[0].grid.voxel
    assert closure(motion, breath.landmarks[0]) is None


# -------------------------------------------------------------------------------------------------- the command


def test_the_points_of_a_series_are_followed_through_all_frames(tracked, breath):
    rows = _table(tracked / "points.csv")
    places = np.array([[float(row[axis]) for axis in "xyz"] for row in rows]).reshape(PHASES, -1, 3)
    for found, truth in zip(places, breath.landmarks):
        assert np.linalg.norm(found - truth.numpy(), axis=1).mean() < 0.6 * breath.frames[0].grid.voxel


def test_volumes_and_ventilation_follow_the_lungs(tracked, breath):
    rows, sides = _table(tracked / "frames.csv"), _table(tracked / "volumes.csv")
    truth = [float(mask.sum()) * breath.frames[0].grid.voxel ** 3 / 1000 for mask in breath.masks]
    for number, row in enumerate(rows):
        assert float(row["lungs_ml"]) == pytest.approx(truth[number], rel=0.04)
        both = sum(float(side["volume_ml"]) for side in sides if int(side["frame"]) == number + 1)
        assert both == pytest.approx(float(row["lungs_ml"]), rel=1e-4)
    assert float(rows[2]["ventilation_density"]) == pytest.approx(float(rows[2]["ventilation_jacobian"]), rel=0.4)
    assert float(rows[2]["ventilation_density"]) < -0.05


def test_the_volume_of_a_region_is_right_through_the_mean_too(breath, files, tmp_path):
    assert main(["series", str(files / "ct.nii.gz"), "-o", str(tmp_path), "--masks", str(files / "lungs.nii.gz"),
                 "--regions", str(files / "sides.nii.gz"), "--cycle", "--reference", "mean", "--rounds", "1",
                 "--quiet", *FLAGS]) == 0
    truth = float(breath.masks[0].sum()) * breath.frames[0].grid.voxel ** 3 / 1000
    found = sum(float(row["volume_ml"]) for row in _table(tmp_path / "volumes.csv") if row["frame"] == "1")
    assert found == pytest.approx(truth, rel=0.01)


def test_a_series_leaves_images_over_time_transforms_and_a_film(tracked, files):
    report = json.loads((tracked / "report.json").read_text(encoding="utf-8"))
    assert all((tracked / name).is_file() for name in report["files"].values())
    ct = sitk.ReadImage(str(files / "ct.nii.gz"))
    for name in ("warped", "jacobian", "ventilation"):
        assert sitk.ReadImage(str(tracked / f"{name}.nii.gz")).GetSize() == ct.GetSize()
    assert sitk.ReadImage(str(tracked / "warped.nii.gz")).GetPixelID() == ct.GetPixelID()
    own, all_ = Transform.load(tracked / "frame_3.nephi"), read_series(tracked / "series.nephi")
    points = random_points(own.fixed_grid, 50)
    assert list(all_) == ["1", "2", "3", "4"]
    assert torch.equal(all_["3"].forward.map(points), own.forward.map(points))
    film = Picture.open(tracked / "film.png")
    assert film.n_frames == PHASES and film.is_animated
    page = (tracked / "report.html").read_text(encoding="utf-8")
    assert "Well aligned" in page and "data:image/png" in page and page.count("<svg") >= 6
    assert "4 frames, each aligned with frame 1, 1, a cycle" in page
    assert report["plan"] == {"reference": 1, "cycle": True, "rounds": None, "time_smoothness": 0.0}
    assert report["metrics"]["closure_mm"]["mean"] < 0.3 * report["metrics"]["voxel_mm"]


def test_the_frames_of_the_warped_series_stand_still(tracked):
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(tracked / "warped.nii.gz"))).astype(float)
    rows = _table(tracked / "frames.csv")
    assert float(rows[2]["ncc_after"]) > float(rows[2]["ncc_before"]) + 0.1
    assert np.isfinite(values).all()


def test_the_same_command_goes_on_where_it_was_interrupted(files, tmp_path, monkeypatch, capsys):
    import nephi.series.steps as module

    arguments = ["series", str(files / "ct.nii.gz"), "-o", str(tmp_path / "out"), "--masks",
                 str(files / "lungs.nii.gz"), "--quiet", *FLAGS]
    done, real = [], module.follow

    def stopped(*given, **named):
        done.append(given[1].name)
        if len(done) == 2:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(module, "follow", stopped)
    assert main(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "steps").glob("*.nephi"))) == 2
    assert not (tmp_path / "out" / "report.html").exists()
    monkeypatch.setattr(module, "follow", real)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "steps").iterdir()}
    assert main(arguments) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "steps").iterdir()}
    assert len(after) == PHASES - 1 and all(after[name] == before[name] for name in before)


def test_a_full_disk_keeps_the_frames_that_are_done(files, tmp_path, capsys):
    resource = pytest.importorskip("resource")  # a limit on the size of files stands for a full disk
    folder = tmp_path / "out"
    arguments = [str(files / "ct.nii.gz"), "-o", str(folder), "--masks", str(files / "lungs.nii.gz"), "--quiet", *FLAGS]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        message = _refused(arguments, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "Cannot write" in message and message.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == [".nephi.lock", "steps"]
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "steps").iterdir()}
    assert len(before) == PHASES - 1
    assert main(["series", *arguments]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "steps").iterdir()} == before


def test_two_runs_on_one_folder_refuse_each_other(files, tmp_path, capsys):
    with locked(tmp_path):
        message = _refused([str(files / "ct.nii.gz"), "-o", str(tmp_path), *FLAGS], capsys)
    assert "Another nephi is at work" in message and message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [".nephi.lock"]


def test_info_tells_what_the_file_of_a_series_holds(tracked, tmp_path, capsys):
    assert main(["info", "--json", str(tracked / "series.nephi")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["number of frames"] == PHASES and list(facts["frames"]) == ["1", "2", "3", "4"]
    motion = [frame["mean motion mm"] for frame in facts["frames"].values()]
    assert motion[0] == 0 and max(motion) == motion[2] > 1
    assert facts["reference grid"] == facts["frame grid"] and facts["provenance"]["options"]
    assert main(["info", str(tracked / "series.nephi")]) == 0
    assert "number of frames" in capsys.readouterr().out
    whole = (tracked / "series.nephi").read_bytes()
    (tmp_path / "cut.nephi").write_bytes(whole[:-100_000])
    assert main(["info", str(tmp_path / "cut.nephi")]) == 2
    assert "cut.nephi is not" in capsys.readouterr().err


def test_another_option_registers_the_frames_again(files, tmp_path):
    steps = [Steps(tmp_path, Options.from_preset("lung-ct", **{**QUICK, "iterations": (count, 0)})) for count in (2, 3)]
    frames = read_frames(files / "ct.nii.gz")
    found = [_finished(track(frames, lambda number: None, Plan(), one)) for one in steps]
    assert all(a.provenance["step"] != b.provenance["step"] for a, b in zip(
        found[0].transforms[1:], found[1].transforms[1:]))


# ------------------------------------------------------------------------------------------------------ frames


def _volume(value: float, size: tuple[int, ...] = (9, 10, 11)) -> sitk.Image:
    values = np.full(size[::-1], value, np.float32)
    values[0, ...] = 0
    return sitk.GetImageFromArray(values)


def test_the_volumes_of_a_folder_are_frames_in_the_order_of_the_numbers_in_their_names(tmp_path):
    for number in (1, 2, 10):
        sitk.WriteImage(_volume(number), str(tmp_path / f"phase{number}.nrrd"))
    (tmp_path / "notes.txt").write_text("not a volume")
    (tmp_path / "._phase3.nrrd").write_text("what macOS leaves")
    frames = read_frames(tmp_path)
    assert frames.names == ("phase1.nrrd", "phase2.nrrd", "phase10.nrrd")
    assert [float(frames.read(n).values.max()) for n in range(3)] == [1, 2, 10]


def test_an_image_with_a_value_for_each_time_is_a_series_as_slicer_writes_it(tmp_path):
    together = sitk.Compose([_volume(1), _volume(2), _volume(3), _volume(4), _volume(5)])
    sitk.WriteImage(together, str(tmp_path / "beat.seq.nrrd"))
    frames = read_frames(tmp_path / "beat.seq.nrrd")
    assert len(frames) == 5 and float(frames.read(4).values.max()) == 5


def test_pictures_in_the_plane_can_be_a_series(tmp_path):
    for number in range(3):
        sitk.WriteImage(_volume(number + 1, (20, 12)), str(tmp_path / f"{number}.mha"))
    assert read_frames(tmp_path).grid.dim == 2


@pytest.mark.parametrize(("sizes", "sentence"), [
    (((9, 10, 11),), "has 1 frame; give at least two"),
    (((9, 10, 11), (9, 10, 12)), "has 9 x 10 x 12 voxels and the first frame 9 x 10 x 11"),
    (((9, 10, 11), (9, 10)), "is 2D and the first frame 3D"),
    (((4, 10, 11), (4, 10, 11)), "every axis needs at least 8"),
])
def test_frames_that_make_no_series_are_refused_in_one_sentence(tmp_path, capsys, sizes, sentence):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, size in enumerate(sizes):
        sitk.WriteImage(_volume(number + 1, size), str(folder / f"{number}.mha"))
    message = _refused([str(folder), "-o", str(tmp_path / "out"), "--quiet"], capsys)
    assert sentence in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("role", ["series", "masks"])
def test_a_folder_without_images_is_refused_in_one_sentence(files, tmp_path, capsys, role):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "notes.txt").write_text("no image")
    given = [str(tmp_path / "nothing")] if role == "series" else [str(files / "ct.nii.gz"), "--masks",
                                                                  str(tmp_path / "nothing")]
    assert f"The {role} nothing holds neither volumes" in _refused([*given, "-o", str(tmp_path / "out")], capsys)


def test_a_single_volume_is_no_series(tmp_path, capsys):
    sitk.WriteImage(_volume(1), str(tmp_path / "one.mha"))
    assert "has 1 frame" in _refused([str(tmp_path / "one.mha"), "-o", str(tmp_path / "out")], capsys)


def test_frames_in_other_places_are_refused(tmp_path):
    for number in range(2):
        image = _volume(number + 1)
        image.SetOrigin((0, 0, 5.0 * number))
        sitk.WriteImage(image, str(tmp_path / f"{number}.mha"))
    with pytest.raises(InputError, match=r"1\.mha has its voxels elsewhere than the first frame"):
        read_frames(tmp_path)


def test_what_does_not_belong_to_the_series_is_refused_before_the_work(files, tmp_path, capsys):
    start = [str(files / "ct.nii.gz"), "-o", str(tmp_path / "out"), "--quiet"]
    assert "There is no frame 9" in _refused([*start, "--reference", "9"], capsys)
    assert "not a frame's number" in _refused([*start, "--reference", "0"], capsys)
    assert "Smoothness in time needs one reference" in _refused(
        [*start, "--reference", "previous", "--time-smoothness", "1"], capsys)
    assert "give their masks" in _refused([*start, "--ventilation"], capsys)
    (tmp_path / "far.csv").write_text("x,y,z\n900,0,0\n")
    assert "outside" in _refused([*start, "--track-points", str(tmp_path / "far.csv")], capsys)
    two = sitk.ReadImage(str(files / "lungs.nii.gz"))[..., :2]
    sitk.WriteImage(two, str(tmp_path / "two.nii.gz"))
    sitk.WriteImage(sitk.ReadImage(str(files / "lungs.nii.gz")), str(tmp_path / "ct.nii.gz"))
    assert "no lungs in Hounsfield units" in _refused(
        [str(tmp_path / "ct.nii.gz"), *start[1:], "--ventilation", "--masks", str(files / "lungs.nii.gz")], capsys)
    assert "There are 2 masks and 4 frames" in _refused([*start, "--masks", str(tmp_path / "two.nii.gz")], capsys)
    assert not (tmp_path / "out").exists()


def test_a_series_does_not_replace_its_own_frames(files, tmp_path, capsys):
    sitk.WriteImage(sitk.ReadImage(str(files / "ct.nii.gz")), str(tmp_path / "warped.nii.gz"))
    assert "would replace an input" in _refused([str(tmp_path / "warped.nii.gz"), "-o", str(tmp_path)], capsys)


def test_a_verdict_names_frames_that_are_worse_than_before():
    rows = [{"frame": n, "mean_mm": 2.0, "folds_percent": 0.0, "ncc_before": 0.9, "ncc_after": after}
            for n, after in ((1, 1.0), (2, 0.95), (3, 0.5))]
    runtime = {"seconds": 3.0, "device": "cpu"}
    metrics = {"voxel_mm": 2.0, "closure_mm": {"mean": 0.5}, "drift_mm": {"mean": 4.0}}
    judged = series_verdict(rows, metrics, runtime)
    assert judged.level == "check" and "frame 3 no more like the reference" in judged.concerns[0]
    assert judged.concerns[1:] == ("the mean drift of its steps is 2.0 voxels",)
    assert series_verdict(rows[:2], {**metrics, "drift_mm": None}, runtime).level == "good"
    small = series_verdict([{**rows[0], "mean_mm": 0.0024}], {**metrics, "drift_mm": {"mean": 0.0013}}, runtime)
    assert "up to 2.40 µm" in small.text and "steps 1.30 µm" in small.text
