"""The error that is left is found from the images alone, in any contrast, at points that cannot be mistaken."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.judge.distinctive_points import distinctive_points
from nephi.judge.residual import residual
from nephi.maps.affine_map import AffineMap


def grid(dim, spacing=2.0):
    return Grid((40,) * dim, (spacing,) * dim, (0.0,) * dim, tuple(np.eye(dim).ravel()))


def blobs(where, seed=0):
    """A picture full of structure, as a function of the world: the same on whatever grid."""
    g = torch.Generator().manual_seed(seed)
    dim, extent = where.dim, float(where.extent[0])
    points = where.points("cpu")
    centers, widths = torch.rand(60, dim, generator=g) * extent, (0.03 + 0.05 * torch.rand(60, generator=g)) * extent
    heights = torch.randn(60, generator=g)
    squared = (points[:, None] - centers).square().sum(-1)
    return Image((heights * torch.exp(-squared / (2 * widths**2))).sum(1).view(where.shape), where, "image")


def shift(where, *voxels):
    matrix = np.eye(where.dim + 1)
    matrix[:-1, -1] = np.array(voxels) * where.spacing[0]
    return AffineMap(matrix, where)


@pytest.mark.parametrize("dim, wrong", [(2, (1.5, -1.0)), (3, (1.0, -1.0, 0.5))])
@pytest.mark.parametrize("recoloured", [lambda v: v, lambda v: -v, torch.abs], ids=["same", "inverted", "folded"])
def test_a_wrong_map_is_estimated_wrong_by_as_much_whatever_the_contrast(dim, wrong, recoloured):
    fixed = blobs(grid(dim))
    moving = Image(recoloured(fixed.values), fixed.grid, "moving")
    found = residual(fixed, moving, shift(fixed.grid, *wrong)).to_dict()
    assert found["median"] / 2.0 == pytest.approx(math.hypot(*wrong), abs=0.35)
    assert found["found"] > 0.6 and len(found["at"]) == len(found["distances"]) == found["count"]


@pytest.mark.parametrize("dim", [2, 3])
def test_a_right_map_leaves_next_to_nothing(dim):
    fixed = blobs(grid(dim))
    found = residual(fixed, fixed, shift(fixed.grid, *(0.0,) * dim)).to_dict()
    assert found["median"] < 0.2 and found["found"] > 0.95


def test_what_is_found_lies_where_the_shift_put_it():
    fixed = blobs(grid(3))
    found = residual(fixed, fixed, shift(fixed.grid, 2.0, 0.0, 0.0))
    middle = found.displacements[found.found].median(0).values
    assert middle.tolist() == pytest.approx([-4.0, 0.0, 0.0], abs=0.4)


@pytest.mark.parametrize("dim", [2, 3])
def test_in_an_unrelated_image_hardly_a_point_is_found(dim):
    fixed, other = blobs(grid(dim)), blobs(grid(dim), seed=1)
    found = residual(fixed, other, shift(fixed.grid, *(0.0,) * dim))
    assert found.to_dict()["found"] < 0.4 and float(found.agreement.mean()) < 0.2


def test_the_estimate_does_not_depend_on_the_unit_of_length():
    estimates = []
    for spacing in (2e-3, 2.0, 2e3):
        fixed = blobs(grid(3, spacing))
        estimates.append(residual(fixed, fixed, shift(fixed.grid, 1.0, 0.0, 0.0)).to_dict()["median"] / spacing)
    assert estimates == pytest.approx([estimates[1]] * 3, rel=0.02)


def test_points_outside_the_moving_image_are_not_judged():
    fixed = blobs(grid(3))
    window = fixed.grid.window((20, 0, 0), (20, 40, 40))
    moving = Image(fixed.values[..., 20:].contiguous(), window, "half")
    found = residual(fixed, moving, shift(fixed.grid, 0.0, 0.0, 0.0))
    assert 0.2 < float(found.seen.float().mean()) < 0.8
    assert min(x for x, _, _ in found.to_dict()["at"]) >= 38.0
    assert float(found.agreement[~found.seen].max()) == 0.0


def test_images_without_points_have_no_estimate():
    plain = Image(torch.arange(40.0).expand(40, 40, 40).contiguous(), grid(3), "ramp")
    assert residual(plain, plain, shift(plain.grid, 0.0, 0.0, 0.0)) is None
    fixed = blobs(grid(3))
    assert residual(fixed, fixed, shift(fixed.grid, 100.0, 0.0, 0.0)) is None


def test_corners_are_distinctive_and_edges_and_planes_are_not():
    values = torch.zeros(30, 30, 30)
    values[8:20, 8:20, 8:20] = 1.0
    found = distinctive_points(values, torch.ones(30, 30, 30, dtype=torch.bool), 8)
    corners = {(a, b, c) for a in (8, 19) for b in (8, 19) for c in (8, 19)}
    assert len(found) == 8
    assert {min(corners, key=lambda corner: math.dist(corner, point)) for point in found.tolist()} == corners
    inside = torch.zeros(30, 30, 30, dtype=torch.bool)
    inside[:14] = True
    assert int(distinctive_points(values, inside, 100)[:, 0].max()) < 14
