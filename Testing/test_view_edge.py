"""What lies at the edge of an image's field of view: it is not pulled inwards, and a template does not drift there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from nephi.align.registration import register
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.options import Options

CUT, GRID = 6, Grid.aligned((48, 48), 1.0, (0.0, 0.0))
QUICK = Options().changed(affine="none", step_back="never", resolution=(24.0, 48.0), iterations=(15, 15), hidden=16,
                          frequencies=8, device="cpu")


@pytest.mark.parametrize("similarity", ["lncc", "mind"])
def test_tissue_that_is_cut_off_by_the_field_of_view_stays_where_it_is(similarity):
    coarse = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    values = 1 + F.interpolate(coarse, size=GRID.shape, mode="bicubic")[0, 0]  # bright up to every edge
    part = slice(CUT, -CUT)
    moving = Image(values[part, part].contiguous(), GRID.window((CUT, CUT), (48 - 2 * CUT,) * 2), "part")
    for state in register(Image(values, GRID), moving, QUICK.changed(similarity=similarity)):
        transform = state.transform
    with torch.no_grad():
        shift = transform.forward.displacement_on(moving.grid)
    inwards = (shift[:, 0, 0], -shift[:, -1, 0], shift[0, :, 1], -shift[-1, :, 1])
    assert abs(float(torch.stack(inwards).mean())) < 0.15
