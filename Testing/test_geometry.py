"""Grids agree with SimpleITK, wherever and however the voxels lie."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nephi.errors import InputError
from nephi.geometry import Frame, Grid, apply_matrix, some_of


def oblique(dim: int = 3) -> Grid:
    """An anisotropic grid that is turned, flipped and far from the origin."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(dim, dim)))[0].flatten().tolist()
    return Grid((11, 17, 23)[:dim], (0.7, 1.9, 3.1)[:dim], (-151.0, 80.5, -1434.5)[:dim], tuple(turn))


def as_sitk(grid: Grid) -> sitk.Image:
    image = sitk.Image(list(grid.size), sitk.sitkFloat32)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


@st.composite
def grids(draw) -> Grid:
    dim = draw(st.sampled_from([2, 3]))
    size = draw(st.tuples(*[st.integers(1, 40)] * dim))
    spacing = draw(st.tuples(*[st.floats(0.1, 10)] * dim))
    origin = draw(st.tuples(*[st.floats(-2000, 2000)] * dim))
    turn = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 999))).normal(size=(dim, dim)))[0]
    return Grid(size, spacing, origin, tuple(turn.flatten().tolist()))


@pytest.mark.parametrize("dim", [2, 3])
def test_voxels_lie_where_simpleitk_puts_them(dim):
    grid = oblique(dim)
    image = as_sitk(grid)
    index = np.random.default_rng(0).uniform(-5, 30, (20, dim))
    expected = [image.TransformContinuousIndexToPhysicalPoint(i) for i in index.tolist()]
    assert np.allclose(grid.to_world(torch.tensor(index)).numpy(), expected, atol=1e-9)
    back = [image.TransformPhysicalPointToContinuousIndex(p) for p in expected]
    assert np.allclose(grid.to_index(torch.tensor(expected, dtype=torch.float64)).numpy(), back, atol=1e-9)


def test_points_come_in_the_order_of_the_array():
    grid = oblique()
    image = as_sitk(grid)
    points = grid.points("cpu").numpy().reshape(*grid.shape, 3)
    for i, j, k in [(0, 0, 0), (10, 0, 0), (3, 16, 5), (10, 16, 22)]:
        assert np.allclose(points[k, j, i], image.TransformIndexToPhysicalPoint((i, j, k)), atol=1e-3)
    assert torch.equal(torch.cat([grid.points("cpu", *c) for c in grid.chunks(1000)]), grid.points("cpu"))


@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(0, 999))
def test_index_to_world_and_back_is_the_identity(grid, seed):
    index = torch.from_numpy(np.random.default_rng(seed).uniform(-50, 50, (10, grid.dim)))
    assert torch.allclose(grid.to_index(grid.to_world(index)), index, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(grids())
def test_a_grid_survives_json_and_simpleitk(grid):
    assert Grid.from_dict(grid.to_dict()) == grid
    assert Grid.from_sitk(as_sitk(grid)).same_as(grid)


@settings(max_examples=60, deadline=None)
@given(grids(), st.floats(0.5, 20))
def test_another_spacing_keeps_the_outer_box(grid, spacing):
    other = grid.with_spacing(spacing)
    assert np.allclose(other.extent, grid.extent)
    assert np.allclose(other.center, grid.center, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(grids())
def test_the_frame_is_centred_isotropic_and_inverts(grid):
    frame = Frame.of(grid)
    assert np.allclose(frame.to_frame_matrix @ frame.to_world_matrix, np.eye(grid.dim + 1))
    assert np.allclose(apply_matrix(frame.to_frame_matrix, grid.center[None]), 0, atol=1e-9)
    linear = frame.to_frame_matrix[:-1, :-1]
    assert np.allclose(linear, np.eye(grid.dim) / frame.scale)
    assert np.linalg.norm(apply_matrix(frame.to_frame_matrix, grid.corners()), axis=1).max() <= np.sqrt(grid.dim)


@settings(max_examples=60, deadline=None)
@given(grids(), st.floats(0, 30))
def test_padding_adds_whole_voxels_on_every_side(grid, mm):
    padded = grid.padded(mm)
    shift = grid.to_index(torch.tensor(padded.origin, dtype=torch.float64))
    assert torch.allclose(shift, shift.round(), atol=1e-6)
    assert (padded.extent - grid.extent >= 2 * mm - 1e-6).all()
    assert np.allclose(padded.center, grid.center, atol=1e-6)


def test_a_grid_contains_its_voxels_out_to_their_edges():
    grid = oblique()
    last = torch.tensor(grid.size, dtype=torch.float64) - 1
    assert grid.contains(grid.points("cpu")).all()
    assert grid.contains(grid.to_world(last + 0.49))
    assert not grid.contains(grid.to_world(last + 0.51))
    assert not grid.contains(grid.to_world(torch.full((3,), -0.51, dtype=torch.float64)))


@pytest.mark.parametrize("change, word", [
    ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
    ({"spacing": (1.0, -1.0, 1.0)}, "spacing"),
    ({"spacing": (1.0, float("nan"), 1.0)}, "spacing"),
    ({"direction": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)}, "singular"),
    ({"origin": (0.0, float("inf"), 0.0)}, "origin"),
    ({"size": (4, 0, 4)}, "no voxels"),
    ({"size": (4, 4, 4, 4)}, "2 or 3 axes"),
])
def test_geometry_that_means_nothing_is_refused(change, word):
    values = {"size": (4, 4, 4), "spacing": (1.0,) * 3, "origin": (0.0,) * 3, "direction": tuple(np.eye(3).flatten())}
    with pytest.raises(InputError, match=word):
        Grid(**{**values, **change})


def test_some_of_many_voxels_are_spread_over_all_rows_and_columns():
    rows, columns = 700, 512
    chosen = some_of(rows * columns, 1400)
    assert len(chosen) == 1400 and bool((chosen.diff() > 0).all()) and int(chosen[-1]) < rows * columns
    assert len((chosen // columns).unique()) == rows
    assert len((chosen % columns).unique()) > 0.85 * columns
    assert torch.equal(some_of(5, 9), torch.arange(5))
