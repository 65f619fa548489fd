"""The report of a registration, for programs and for people."""

import base64
import json
import math
import re
import struct
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from closed_form import ClosedForm, oblique_grid, tilted_affine
from nephi.errors import InputError
from nephi.geometry import Grid, random_points
from nephi.images.image import Image
from nephi.judge.folds import folds, summary
from nephi.judge.labels import overlap, surface_distance
from nephi.judge.likeness import similarity
from nephi.judge.point_errors import inverse_consistency, tre
from nephi.judge.verdict import length
from nephi.maps.determinant import determinant_image, log_determinant
from nephi.maps.warp import warp
from nephi.report import (
    SCHEMA_VERSION,
    Pictures,
    make_report,
    peak_memory_gb,
    render_html,
    verdict,
    write_html,
    write_report,
)
from nephi.report.axes import ticks
from nephi.report.charts import factor_ticks, loss_chart
from nephi.report.memory import forget_peak
from nephi.report.planes import checkerboard, planes, png

_AXIS_ALIGNED = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)


def _grid(direction=_AXIS_ALIGNED, size=(20, 24, 16), spacing=(2.0, 1.5, 3.0)):
    return Grid(size, spacing, (-20.0, -18.0, 100.0), direction)


_RESIDUAL = {"estimate": 0.9, "median": 0.6, "p90": 2.2, "found": 0.9, "count": 40, "reach": 8.0,
             "at": [[0.0, 0.0, 110.0]], "distances": [0.6]}


def _measured(dim=3, stretch=1.5):
    """A report and its pictures, from a synthetic pair."""
    grid = _grid() if dim == 3 else Grid((40, 30), (1.0, 1.5), (0.0, 0.0), (1.0, 0, 0, 1.0))
    transform = ClosedForm(grid, stretch=stretch, wavelength=40.0)
    moving = Image(torch.sin(grid.points("cpu") / 5).sum(-1).reshape(grid.shape), grid, "moving image <m>.nrrd")
    fixed = warp(moving, transform.forward, grid)
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[(slice(3, -3),) * dim] = True
    det = determinant_image(transform.forward, grid)
    points = random_points(grid, 50, mask)
    labels = (moving.values > 0).int() * 4
    report = make_report(
        folds=_folds(transform, mask), tre=tre(transform.forward, points, transform.forward.map(points)),
        dice=overlap(labels, labels.roll(1, 0), labels),
        surface_distance=surface_distance(labels, labels.roll(1, 0), grid),
        inverse_consistency=inverse_consistency(transform, points, points),
        similarity={"before": similarity(fixed.values, moving.values), "linear": None,
                    "after": similarity(fixed.values, fixed.values)},
        residual=_RESIDUAL, voxel=2.0, overlap={"forward": 0.9, "inverse": 0.8},
        volume_change={"p01": 0.6, "median": 1.0, "p99": 1.5, "extreme_percent": 0.0},
        jacobian={"forward": summary(det)},
        runtime={"seconds": 3.2, "peak_memory_gb": peak_memory_gb(), "device": "cpu", "iterations": 30},
        provenance={"version": "0.1.0", "options": {"name": "<u>&", "rate": np.float32(0.5)}, "seed": 0})
    pictures = Pictures(grid, fixed.values, moving.values, fixed.values, log_determinant(det), mask,
                        transform.deformation.forward.map, "fixed image f.nrrd", moving.name,
                        (points, [0.5, None] * 25))
    return report, pictures


def _folds(transform, mask=None):
    forward, inverse = folds(transform.forward, mask), folds(transform.inverse, mask)
    inside, whole = ({"forward": a, "inverse": b} for a, b in zip(forward, inverse))
    return {"inside": inside, "whole": whole}


def _least():
    """The measurements that no report goes without."""
    return {"folds": _folds(ClosedForm(_grid())), "inverse_consistency": {"mean": 0.1, "p95": 0.2, "max": 0.3},
            "similarity": {"before": {"ncc": 0.5, "nmi": 1.1}, "linear": None, "after": {"ncc": 0.6, "nmi": 1.2}},
            "overlap": {"forward": 1.0, "inverse": 1.0}, "voxel": 1.0,
            "volume_change": {"p01": 0.9, "median": 1.0, "p99": 1.1, "extreme_percent": 0.0}}


class _Page(HTMLParser):
    """Which elements are open at the end, and what the page points to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "line", "rect", "path", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


# ---------------------------------------------------------------------------------------------- report.json


def test_a_report_has_every_promised_value_and_survives_a_round_trip(tmp_path):
    report, _ = _measured()
    write_report(report, tmp_path / "report.json")
    again = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert again == report and again["schema"]["version"] == SCHEMA_VERSION
    assert set(again["metrics"]["tre_mm"]) >= {"before", "mean", "median", "p95", "max"}
    assert set(again["metrics"]["dice"]) == {"before", "mean", "per_label"}
    assert again["metrics"]["dice"]["per_label"] == {"4": 1.0}
    for key in ("folds_percent", "folds_percent_whole"):
        assert again["metrics"][key]["inverse"] == {"analytic": 0.0, "finite_difference": 0.0}
    assert [f.name for f in tmp_path.iterdir()] == ["report.json"]


def test_what_was_not_measured_is_null_and_what_is_not_a_number_too(tmp_path):
    report, _ = _measured()
    bare = make_report(**_least(), provenance={"x": torch.ones(2)},
                       runtime={**report["runtime"], "peak_memory_gb": math.nan})
    assert bare["metrics"]["tre_mm"] is None and bare["metrics"]["dice"] is None
    assert bare["runtime"]["peak_memory_gb"] is None and bare["provenance"]["x"] == [1.0, 1.0]
    write_report(bare, tmp_path / "r.json")
    assert "NaN" not in (tmp_path / "r.json").read_text(encoding="utf-8")


def test_the_schema_document_names_every_key_of_a_report(request):
    document = (request.config.rootpath / "docs" / "report-schema.md").read_text(encoding="utf-8")
    report, _ = _measured()
    for group in ("metrics", "runtime", "verdict"):
        for key in report[group]:
            assert f"`{group}.{key}" in document, key
    assert f"version {SCHEMA_VERSION}" in document


# --------------------------------------------------------------------------------------------------- verdict


def test_a_sound_registration_is_called_good_with_its_key_figures():
    judged = _measured()[0]["verdict"]
    assert judged["level"] == "good" and judged["concerns"] == []
    assert re.search(r"landmark error \d\.\d\d mm → \d\.\d\d nm.*no folds.*3 s on the CPU", judged["text"])
    assert judged["reason"] == "No measurement speaks against it."
    assert {piece["level"] for piece in judged["evidence"]} == {"good"}


@pytest.mark.parametrize("level, change, words", [
    ("check", {"folds_percent": {"forward": {"analytic": 0.0, "finite_difference": 0.25}}}, "folds in up to 0.25 %"),
    ("check", {"tre_mm": {"before": 1.0, "mean": 2.0, "p95": 3.0}}, "landmark error did not improve"),
    ("check", {"tre_mm": {"before": 30.0, "mean": 8.0, "p95": 9.0}}, "the landmarks are still 4.0 voxels apart"),
    ("check", {"tre_mm": {"before": 30.0, "mean": 4.0, "p95": 13.0}}, "95 % below 13.0 mm"),
    ("check", {"dice": {"before": 0.8, "mean": 0.7}}, "label overlap did not improve"),
    ("check", {"similarity": {"before": {"nmi": 1.2}, "after": {"nmi": 1.1}}}, "similarity did not"),
    ("check", {"inverse_consistency_mm": {"mean": 2.5}}, "inverse-consistency error is 1.2 voxels"),
    ("failed", {"overlap": {"forward": 0.1, "inverse": 0.1}}, "only 10 % in common"),
    ("failed", {"volume_change": {"extreme_percent": 40.0}}, "40 % of the volume changes more than threefold"),
    ("failed", {"residual_mm": {**_RESIDUAL, "found": 0.05}}, "only 5 % of the distinctive points"),
    ("check", {"residual_mm": {**_RESIDUAL, "median": 7.0}}, "lie more than 3.5 voxels from"),
    ("check", {"residual_mm": None}, "too few distinctive points"),
])
def test_every_concern_is_named_and_graded(level, change, words):
    report, _ = _measured()
    judged = verdict({**report["metrics"], **change}, report["runtime"])
    assert judged.level == level and words in judged.concerns[0]
    assert judged.reason.lower() == f"{judged.concerns[0].lower()}."


def test_the_worst_concern_comes_first():
    report, _ = _measured()
    change = {"residual_mm": {**_RESIDUAL, "median": 7.0}, "overlap": {"forward": 0.1, "inverse": 0.1}}
    judged = verdict({**report["metrics"], **change}, report["runtime"])
    assert judged.level == "failed" and "in common" in judged.reason and len(judged.concerns) == 2


@pytest.mark.parametrize("mm, text", [(0.0, "0.00 mm"), (12.34, "12.3 mm"), (0.09, "0.090 mm"), (0.0137, "0.014 mm"),
                                      (0.1, "0.10 mm"), (0.0025, "2.50 µm"), (2.5e-6, "2.50 nm"), (5120.0, "5120 mm")])
def test_a_length_is_printed_in_a_unit_that_shows_it(mm, text):
    assert length(mm) == text


def test_a_transform_file_that_is_half_a_voxel_off_is_a_concern():
    report, _ = _measured()
    export = {"file": "f.h5", "tolerance_mm": 0.2, "error_mm": {"p999": 1.31}}  # voxels of 2 mm
    judged = verdict(report["metrics"], report["runtime"], [export])
    assert "f.h5 deviates from the map by more than 1.31 mm at one of 1000 points" in judged.concerns
    export["error_mm"]["p999"] = 0.9
    assert verdict(report["metrics"], report["runtime"], [export]).concerns == ()


def test_images_that_were_in_place_are_good_though_nothing_improved():
    report, _ = _measured()
    same = {**report["metrics"], "residual_mm": {**_RESIDUAL, "estimate": 0.0, "median": 0.0},
            "similarity": {"before": {"ncc": 1.0, "nmi": 2.0}, "after": {"ncc": 1.0, "nmi": 2.0}}}
    judged = verdict(same, report["runtime"], (), {"stepped_back": "start"})
    assert judged.level == "good" and judged.concerns == ()


# --------------------------------------------------------------------------------------------------- memory


def test_the_peak_memory_grows_with_what_is_held_and_stays_when_it_is_let_go():
    forget_peak()  # that of other tests: more than it has to be held here
    before = peak_memory_gb()
    block = np.ones(int(before * 1e9 / 8) + 10_000_000)
    held = peak_memory_gb()
    assert before > 0.05 and held > before + 0.05
    del block
    assert peak_memory_gb() == pytest.approx(held, rel=0.02)  # the system keeps the count to within a few pages


@pytest.mark.skipif(sys.platform == "win32", reason="reads getrusage")
def test_without_proc_the_peak_comes_from_getrusage(monkeypatch):
    monkeypatch.setattr("nephi.report.memory.Path.exists", lambda self: False)
    assert 0.05 < peak_memory_gb() < 1000


# ---------------------------------------------------------------------------------------------------- planes


def _marked(grid):
    """An image that is 1 in the voxel nearest to the patient's left, 2 posterior, 3 superior of the middle."""
    values = torch.zeros(grid.shape)
    for value, offset in ((1.0, (12.0, 0, 0)), (2.0, (0, 12.0, 0)), (3.0, (0, 0, 12.0))):
        index = grid.to_index(torch.tensor(grid.center + np.array(offset))).round().long().tolist()
        values[tuple(reversed(index))] = value
    return values


@pytest.mark.parametrize("direction", [
    _AXIS_ALIGNED,
    (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0),
    (1.0, 0, 0, 0, 0, -1.0, 0, -1.0, 0),
    (0, 0, -1.0, 1.0, 0, 0, 0, -1.0, 0),
    (0.98, -0.199, 0, 0.199, 0.98, 0, 0, 0, 1.0),
])
def test_slices_show_the_patient_from_the_radiologists_side_whatever_the_storage(direction):
    grid = _grid(direction, size=(21, 21, 21), spacing=(2.0, 2.0, 2.0))
    views = {view.name: view for view in planes(grid)}
    assert list(views) == ["axial", "coronal", "sagittal"]
    values = _marked(grid)

    def where(name, value):
        row, column = (views[name].cut(values) == value).nonzero()[0].tolist()
        return column - 10, row - 10

    tolerance = 2 if direction[0] == 0.98 else 0
    for name, value, expected in (("axial", 1, (6, 0)), ("axial", 2, (0, 6)), ("coronal", 1, (6, 0)),
                                  ("coronal", 3, (0, -6)), ("sagittal", 2, (6, 0)), ("sagittal", 3, (0, -6))):
        if tolerance and name != "axial" and value != 3:
            continue  # turned out of the plane
        assert np.abs(np.subtract(where(name, value), expected)).max() <= tolerance, (name, value)
    assert views["axial"].letters == "RLAP" and views["sagittal"].letters == "APSI"


@pytest.mark.parametrize("grid", [oblique_grid(), oblique_grid(2), _grid()])
def test_picture_positions_go_to_world_and_back(grid):
    for view in planes(grid):
        x, y = torch.tensor([1.0, 7.5, 20.0]), torch.tensor([2.0, 9.0, 11.0])
        back_x, back_y = view.to_picture(view.to_world(x, y))
        assert torch.allclose(back_x, x.double()) and torch.allclose(back_y, y.double())


def test_the_picture_of_a_voxel_is_where_its_world_position_says():
    grid = oblique_grid()
    for view in planes(grid):
        x, y = torch.tensor([grid.spacing[view.across] * 2.5]), torch.tensor([grid.spacing[view.down] * 4.5])
        index = grid.to_index(view.to_world(x, y))[0].round().long().tolist()
        values = torch.zeros(grid.shape)
        values[tuple(reversed(index))] = 1
        assert view.cut(values)[4, 2] == 1


def test_pixels_are_square_in_millimetres_and_slices_go_through_the_mask():
    grid = _grid()
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[2:4, 15:22, 1:9] = True
    for view in planes(grid, mask):
        rows, columns = view.pixels(torch.zeros(grid.shape)).shape
        assert rows / columns == pytest.approx(view.size_mm[1] / view.size_mm[0], rel=0.1)
        assert bool(view.cut(mask).any())


def test_pngs_are_what_a_browser_expects():
    data = png(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (4, 3)
    pytest.importorskip("PIL")
    import io

    from PIL import Image as Pillow
    colour = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Pillow.open(io.BytesIO(png(colour)))), colour)


def test_a_checkerboard_takes_turns():
    board = checkerboard(np.zeros((4, 6)), np.ones((4, 6)), 2)
    assert board[0].tolist() == [0, 0, 1, 1, 0, 0] and board[2].tolist() == [1, 1, 0, 0, 1, 1]


# ------------------------------------------------------------------------------------------------- the page


@pytest.mark.parametrize("dim, pictures_expected", [(3, 3 * (2 + 2 + 2 + 1 + 1 + 1)), (2, 2 + 2 + 2 + 1 + 1 + 1)])
def test_the_page_is_whole_self_contained_and_escaped(tmp_path, dim, pictures_expected):
    report, pictures = _measured(dim)
    history = [{"level": "8 mm", "iteration": i, "loss": 1.0 / (i + 1)} for i in range(20)]
    write_html(tmp_path / "report.html", report, pictures, history)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert page.open == []
    assert len(page.sources) == pictures_expected
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(base64.b64decode(source.split(",")[1])[:4] == b"\x89PNG" for source in page.sources)
    assert "http" not in text and "<script" not in text
    assert "&lt;m&gt;.nrrd" in text and "&lt;u&gt;&amp;" in text and "<u>" not in text
    assert "8 mm" in text and "Well aligned" in text and text.count("<circle") >= 2


def test_the_page_names_what_it_shows():
    text = render_html(*_measured())
    for words in ("Overlay", "Checkerboard", "Difference", "Volume change", "Deformation", "Loss by level",
                  "Landmark error", "Folds, % of voxels", "Inverse consistency", "Provenance", "axial", "coronal",
                  "sagittal"):
        assert words in text, words


def test_the_page_does_without_mask_grid_history_and_labels():
    report, pictures = _measured()
    report = json.loads(json.dumps(report))
    report["metrics"].update(tre_mm=None, dice=None, surface_distance_mm=None, folds_percent_whole=None, jacobian=None)
    report["runtime"]["peak_memory_gb"] = None
    bare = Pictures(pictures.grid, pictures.fixed, pictures.before, pictures.after, pictures.log_jacobian)
    text = render_html(report, bare)
    assert _Page(text).open == [] and "No loss was recorded" in text and "Deformation</h2>" not in text


def test_constant_images_and_folds_do_not_break_the_page():
    report, pictures = _measured()
    folded = pictures.log_jacobian.clone()
    folded[4:9] = math.log(1e-3)
    flat = Pictures(pictures.grid, torch.ones(pictures.grid.shape), torch.ones(pictures.grid.shape),
                    torch.ones(pictures.grid.shape), folded)
    assert _Page(render_html(report, flat)).open == []


def test_a_page_in_a_missing_folder_is_refused(tmp_path):
    report, pictures = _measured(2)
    with pytest.raises(InputError, match="missing"):
        write_html(tmp_path / "missing" / "report.html", report, pictures)


# --------------------------------------------------------------------------------------------------- charts


def test_the_loss_chart_counts_iterations_over_levels_and_skips_what_is_not_finite():
    history = [{"level": level, "iteration": i, "loss": 1.0} for level in ("coarse", "fine") for i in range(0, 50, 10)]
    chart = loss_chart([*history, {"level": "fine", "iteration": 60, "loss": math.nan}])
    assert chart.count("<polyline") == 4 and "coarse" in chart and "fine" in chart
    assert "nan" not in chart.lower()
    assert loss_chart([{"loss": 0.5}, {"loss": 0.25}]).count("<polyline") == 2


def test_ticks_are_round_and_within():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(-7, 220, 4) == pytest.approx([0, 50, 100, 150, 200])
    assert ticks(3, 3) == [3]
    for limit in (0.1, 0.3, 0.7, 1.5, 2.5):
        marks = factor_ticks(limit)
        assert 3 <= len(marks) <= 5 and max(marks) <= limit and marks == [-m for m in reversed(marks)]


def test_an_affine_in_the_report_does_not_bend_the_grid():
    grid = _grid()
    transform = ClosedForm(grid, affine=tilted_affine(), stretch=0.0, shear=0.0)
    report, pictures = _measured()
    straight = Pictures(grid, pictures.fixed, pictures.before, pictures.after, pictures.log_jacobian,
                        deform=transform.deformation.forward.map)
    path = re.search(r'<path d="M([^"]+)"', render_html(report, straight)).group(1)
    rows = np.array([[float(v) for v in pair.split()] for pair in path.split("L")])
    assert np.ptp(rows[:, 1]) < 0.15
