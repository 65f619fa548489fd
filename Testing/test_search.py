"""The search before the levels: far displacements are found by looking at all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nephi.align.levels import AlignedPair, level_spacings
from nephi.align.registration import register, run
from nephi.align.search import STRIDE, level_options, searchable, searched
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.images.interpolation import linear
from nephi.images.phantom import shapes_2d
from nephi.maps.map import MapPair
from nephi.maps.neural import NePhi
from nephi.maps.transform import Transform
from nephi.options import Options

SIDE = 48
FAR = (9.0, -6.0, 5.0)  # mm, three times the width of what the images show
OPTIONS = Options.from_preset(affine="none", device="cpu", step_back="never", similarity="lncc",
                              resolution=(8.0, 16.0, 24.0, 32.0), iterations=(4, 4, 4, 4), points=20000)


def _speckled(shift: np.ndarray | tuple[float, ...] = (0.0, 0.0, 0.0), size: int = SIDE) -> Image:
    """Spots of about 3 voxels within a ball, moved by ``shift`` mm."""
    grid = Grid((size,) * 3, (1.0,) * 3, (-20.0, 7.0, 100.0), tuple(np.eye(3).flatten()))
    noise = torch.randn(1, 1, *(size // 3,) * 3, generator=torch.Generator().manual_seed(3))
    spots = torch.nn.functional.interpolate(noise, size=grid.shape, mode="trilinear")[0]
    index = grid.to_index(grid.points("cpu") - torch.tensor(shift, dtype=torch.float32))
    ball = ((index - (size - 1) / 2).norm(dim=1) < 0.33 * size).float()
    return Image((ball * (linear(spots, index)[0] + 3)).view(grid.shape), grid)


def _pair(fixed: Image, moving: Image) -> AlignedPair:
    masks = [image.values > 0 for image in (fixed, moving)]
    return AlignedPair(*(replace(image, values=image.values / image.values.max()) for image in (fixed, moving)), *masks,
                       np.eye(4), None)


@pytest.fixture(scope="module")
def far() -> tuple[Image, Image, torch.Tensor]:
    """A pair whose moving image is the fixed one moved far, and points in the fixed image."""
    fixed = _speckled()
    inside = torch.nonzero((fixed.values > 0).flatten())[:, 0]
    return fixed, _speckled(FAR), fixed.grid.points("cpu", dtype=torch.float64)[inside[::97]]


def test_a_far_displacement_is_found_to_a_cell_both_ways(far):
    fixed, moving, points = far
    pair, still = _pair(fixed, moving), Transform(fixed.grid, moving.grid, np.eye(4))
    found = replace(still, stages=(searched(pair, still, OPTIONS),))
    cell = STRIDE * fixed.grid.voxel
    moved = points + torch.tensor(FAR)
    assert (found.forward.map(points) - moved).norm(dim=1).mean() < cell
    assert (found.inverse.map(moved) - points).norm(dim=1).mean() < cell


def test_images_at_their_place_are_left_there(far):
    fixed, _, points = far
    still = Transform(fixed.grid, fixed.grid, np.eye(4))
    found = replace(still, stages=(searched(_pair(fixed, fixed), still, OPTIONS),))
    assert (found.forward.map(points) - points).norm(dim=1).max() < 0.01


def test_levels_alone_are_caught_on_the_way_where_a_search_is_not(far):
    fixed, moving, points = far
    errors = {how: float((run(fixed, moving, OPTIONS.changed(search=how)).forward.map(points)
                          - points - torch.tensor(FAR)).norm(dim=1).mean()) for how in ("auto", "never")}
    assert errors["auto"] < 1.0 < 3.0 < errors["never"]


def test_a_field_of_view_that_is_cut_off_does_not_mislead_the_rest():
    fixed = _speckled()
    cut = Image(_speckled(FAR).values[:, :, :40].contiguous(), Grid((40, SIDE, SIDE), *[
        getattr(fixed.grid, name) for name in ("spacing", "origin", "direction")]))
    pair, still = _pair(fixed, cut), Transform(fixed.grid, cut.grid, np.eye(4))
    found = replace(still, stages=(searched(pair, still, OPTIONS),))
    points = fixed.grid.points("cpu", dtype=torch.float64)[((fixed.values > 0).flatten()).nonzero()[::97, 0]]
    seen = cut.grid.contains(points + torch.tensor(FAR))
    error = (found.forward.map(points) - points - torch.tensor(FAR)).norm(dim=1)[seen]
    assert error.median() < 0.25 * np.linalg.norm(FAR)


def test_the_search_takes_the_place_of_the_levels_whose_samples_are_coarser_than_its_cells(far):
    pair = _pair(*far[:2])
    assert len(level_spacings(pair, OPTIONS)) > len(level_spacings(pair, level_options(pair, OPTIONS))) >= 1
    coarse = OPTIONS.changed(resolution=(6.0,), iterations=(4,))
    assert level_options(pair, coarse) == coarse  # some level has to go on from it


def test_a_registration_begins_with_the_search_unless_told_never_to(far):
    fixed, moving, _ = far
    brief = OPTIONS.changed(iterations=1)
    *_, last = register(fixed, moving, brief)
    assert isinstance(last.transform.stages[0], MapPair)
    assert all(isinstance(stage, NePhi) for stage in run(fixed, moving, brief.changed(search="never")).stages)


def test_nothing_is_searched_in_2d_or_where_no_level_follows(far):
    fixed, moving, *_ = shapes_2d(32)
    flat = AlignedPair(fixed, moving, None, None, np.eye(3), None)
    assert not searchable(flat, OPTIONS)
    assert not searchable(_pair(*far[:2]), OPTIONS.changed(iterations=0))
