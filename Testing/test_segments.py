"""Numbers of single labels: volumes, volume change, and where the centres are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.judge.segments import segments
from nephi.maps.affine_map import AffineMap
from nephi.maps.warp import warp

GRID = Grid((40, 40, 40), (1.0, 1.0, 1.0), (-20.0, -20.0, -20.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def test_a_label_that_is_shifted_and_grown_is_measured_as_such():
    matrix = np.diag([2.0, 1.0, 1.0, 1.0])  # fixed to moving: twice as long along x
    matrix[0, 3] = 5.0
    fixed = torch.zeros(GRID.shape, dtype=torch.int32)
    fixed[15:25, 15:25, 15:21] = 3
    moving = warp(Image(fixed, GRID), AffineMap(np.linalg.inv(matrix)), GRID, mode="nearest")
    forward = AffineMap(matrix, GRID)
    after = warp(moving, forward, GRID, mode="nearest").values
    found = segments(Image(fixed, GRID), moving, after, forward, [3, 8])
    assert found[3]["volume_ml"]["fixed"] == pytest.approx(0.6)
    assert found[3]["volume_ml"]["moving"] == pytest.approx(1.2, rel=0.1)
    assert found[3]["volume_ml"]["warped"] == pytest.approx(0.6, rel=0.1)
    assert all(found[3]["jacobian"][name] == pytest.approx(2.0) for name in ("mean", "p05", "median", "p95"))
    assert found[3]["centroid_mm"]["before"] == pytest.approx(2.0) and found[3]["centroid_mm"]["after"] < 0.5
    assert found[8]["centroid_mm"] == {"before": None, "after": None} and found[8]["jacobian"]["mean"] is None
    assert found[8]["volume_ml"] == {"fixed": 0.0, "moving": 0.0, "warped": 0.0}
