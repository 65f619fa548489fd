"""Parts of `nephi series`: the mean of frames, and the volumes of regions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nephi.geometry import Grid
from nephi.images.frames import Frames
from nephi.images.image import Image
from nephi.images.phantom import lung_phantom
from nephi.maps.transform import Transform
from nephi.series.chained import centred, identity
from nephi.series.curves import Regions
from nephi.series.tracking import Source, mean_of


def test_the_mean_has_what_the_frames_show_where_some_end_or_have_no_voxels():
    grid = Grid.aligned((20, 20, 20), 2.0, (0.0, 0.0, 0.0))
    x = grid.points("cpu")[:, 0].view(grid.shape).float()
    moves = [np.eye(4) for _ in range(3)]
    for move, by in zip(moves, (-6.0, 0.0, 6.0)):
        move[0, 3] = by
    shown = [Image(100 + x - move[0, 3], grid) for move in moves]  # carried to the mean all are alike
    hole = torch.ones(grid.shape, dtype=torch.bool)
    hole[8:12, 8:12, 8:12] = False
    shown[1] = replace(shown[1], values=shown[1].values.where(hole, -1000.0), known=hole)
    masks = [torch.zeros(grid.shape, dtype=torch.bool) for _ in moves]
    for mask, move in zip(masks, moves):
        mask[5:9, 5:9, 8 + int(move[0, 3] / 2):12 + int(move[0, 3] / 2)] = True
    masks[2][:] = False  # drawn by two of three
    frames = Frames(("1", "2", "3"), grid, (1.0, 0.0), shown.__getitem__)
    mean = mean_of(Source(frames, masks.__getitem__), [Transform(grid, grid, move) for move in moves], 0.1)
    assert torch.allclose(mean.image.values, 100 + x, atol=0.01) and mean.image.known is None
    assert torch.equal(mean.mask, masks[1])


def test_the_mean_of_frames_that_stand_still_is_each_of_them():
    chest = lung_phantom(24)
    frames = Frames(("1", "2"), chest.fixed.grid, (1.0, 0.0), lambda number: chest.fixed)
    mean = mean_of(Source(frames, lambda number: chest.fixed_mask), centred([identity(frames.grid)] * 2), 0.1)
    assert torch.allclose(mean.image.values, chest.fixed.values, atol=0.1)
    assert torch.equal(mean.mask, chest.fixed_mask)


@pytest.mark.parametrize("shift", [0.0, 0.45, 0.55])
def test_a_region_keeps_its_volume_wherever_it_lies_between_the_voxels_of_the_reference(shift):
    grid = Grid.aligned((20, 22, 24), 2.0, (5.0, -3.0, 1.0))
    labels = torch.zeros(grid.shape, dtype=torch.int32)
    labels[4:14, 5:15, 6:16], labels[20, 20, 18] = 1, 7
    larger = np.diag([1.1, 1.1, 1.1, 1.0])  # the frame that they were drawn on, than the reference
    larger[:3, 3] = 2.0 * shift
    regions = Regions.drawn(labels, Transform(grid, grid, larger), 0.1)
    found = regions.carried(torch.full(grid.shape, 1.1 ** 3))
    assert found == pytest.approx({1: 8.0, 7: 0.008}, rel=1e-5)


def test_no_region_has_no_volume():
    grid = Grid.aligned((9, 9, 9), 1.0, (0.0, 0.0, 0.0))
    regions = Regions.drawn(torch.zeros(grid.shape, dtype=torch.int32), Transform(grid, grid, np.eye(4)), 0.1)
    assert regions.carried(torch.ones(grid.shape)) == {}
