"""The benchmark's own arithmetic: what goes into its table, and maps known by their displacements."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nephi.geometry import Grid
from nephi.maps.displacement_map import DisplacementMap

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import judge
import pairs
import peers
import table

SHIFT = (3.0, -2.0, 4.0)
GRID = Grid((20, 18, 16), (1.5, 1.0, 2.0), (-10.0, 20.0, -30.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def run(pair: str, method: str, **values: float) -> dict:
    return {"pair": pair, "method": method, **values}


def row(runs: list[dict], measure: str) -> dict:
    return next(r for r in table.rows(runs) if r["measure"] == measure)


def test_time_is_given_as_a_fraction_of_the_median_time_of_syn():
    runs = [run("lung", "ants", seconds=s) for s in (50.0, 60.0, 100.0)] + [run("lung", "nephi", seconds=15.0)]
    found = row(runs, "fraction")
    assert found["values"]["nephi"]["value"] == 0.25
    assert found["reached"] is True


def test_without_syn_there_is_no_fraction():
    assert all(r["measure"] != "fraction" for r in table.rows([run("lung", "nephi", seconds=15.0)]))


def test_one_folded_run_is_enough_to_miss():
    runs = [run("lung", "nephi", folds_forward_analytic=f) for f in (0.0, 0.0, 0.001)]
    assert row(runs, "folds_forward_analytic")["reached"] is False


def test_the_worst_shape_counts():
    runs = [run("2D shapes", "nephi", dice=d) for d in (0.999, 0.998, 0.98)]
    assert row(runs, "dice")["reached"] is False
    assert row(runs, "dice")["values"]["nephi"]["value"] == 0.98


def test_the_table_says_what_was_missed_and_leaves_a_dash_for_what_is_not_there():
    runs = [run("lung", "nephi", tre_mean=1.5), run("lung", "ants", failed="no memory")]
    text = table.markdown(table.rows(runs), ["nephi", "ants"])
    assert text.splitlines()[2].split("|")[3:6] == [" <= 1.40    ", " 1.50 (missed) ", " -        "]


def test_a_map_known_at_voxel_centres_is_constant_outside_them():
    found = DisplacementMap(torch.tensor(SHIFT).expand(*GRID.shape, 3), GRID)
    points = torch.tensor([[0.0, 25.0, -10.0], [500.0, 25.0, -10.0]], dtype=torch.float64)
    torch.testing.assert_close(found.map(points) - points, torch.tensor([SHIFT, SHIFT], dtype=torch.float64))


def test_a_case_survives_its_file(tmp_path):
    case = next(pairs.shapes(tmp_path, size=32))
    case.save(tmp_path / "case.json", threads=2)
    assert pairs.Case.load(tmp_path / "case.json") == (case, {"threads": 2})
    assert case.read().fixed_labels.grid.size == (32, 32)


@pytest.mark.parametrize("method", ["ants", "elastix"])
def test_a_peer_finds_a_known_shift_in_the_right_direction(method, tmp_path):
    pytest.importorskip({"ants": "ants", "elastix": "itk"}[method])
    case = shifted_blobs(tmp_path)
    points = [[2.0, 28.0, -16.0], [5.0, 30.0, -12.0]]
    result = peers.METHODS[method](vars(case), {"seed": 0, "threads": 1, "points": points}, tmp_path)
    shifts = np.array(result["points"]) - points
    assert np.abs(shifts - SHIFT).max() < 1.5
    maps = judge.load_maps(tmp_path, case.read())
    start = torch.tensor(points, dtype=torch.float64)
    # The points a peer maps itself and its displacement field tell the same.
    np.testing.assert_allclose(maps["forward"].map(start).numpy(), result["points"], atol=0.05)
    if "inverse" in maps:
        back = maps["inverse"].map(maps["forward"].map(start))
        torch.testing.assert_close(back, start, atol=0.2, rtol=0)


def shifted_blobs(folder: Path) -> pairs.Case:
    """The same blobs in two images whose origins differ by SHIFT."""
    from nephi.images.image import Image
    from nephi.images.writing import write_image

    generator = torch.Generator().manual_seed(0)
    middle, half = torch.from_numpy(GRID.center).float(), torch.from_numpy(GRID.extent).float() / 4
    centers = middle + half * (2 * torch.rand(12, 3, generator=generator) - 1)
    squared = (GRID.points("cpu")[:, None] - centers).pow(2).sum(-1)
    values = torch.exp(-squared / 18).sum(1).reshape(GRID.shape)
    moved = Grid(GRID.size, GRID.spacing, tuple(a + b for a, b in zip(GRID.origin, SHIFT)), GRID.direction)
    for role, grid in (("fixed", GRID), ("moving", moved)):
        write_image(Image(values, grid).to_sitk(), folder / f"{role}.nrrd")
    return pairs.Case("shift", "generic", str(folder / "fixed.nrrd"), str(folder / "moving.nrrd"))
