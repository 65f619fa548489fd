"""A map that is pulled to points takes them to their partners both ways and stays as it is elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nephi.align.pulling import pulled
from nephi.errors import InputError
from nephi.files.outputs import sample_both
from nephi.geometry import Grid, random_points
from nephi.images.pair import Pair
from nephi.maps.transform import Transform

GRID = Grid((64, 56, 48), (2.0, 2.0, 2.5), (-60.0, -50.0, -40.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.fixture
def bent() -> Transform:
    """A transform with a linear part and without stages."""
    affine = np.eye(4)
    affine[:3, 3] = 5, -3, 2
    affine[0, 1] = 0.05
    return Transform(GRID, GRID, affine)


def error(transform: Transform, fixed: torch.Tensor, moving: torch.Tensor) -> float:
    return float((transform.forward.map(fixed) - moving).norm(dim=1).max())


def test_points_that_were_dragged_are_followed_both_ways_and_the_rest_stays(bent):
    fixed = torch.tensor([[0.0, 0.0, 0.0], [30.0, 10.0, 5.0], [-30.0, -20.0, 10.0]], dtype=torch.float64)
    moving = bent.forward.map(fixed) + torch.tensor([[6.0, -4.0, 3.0], [0.0, 0.0, 0.0], [-2.0, 1.0, 0.0]])
    made = pulled(bent, fixed, moving)
    assert error(made, fixed, moving) < 0.05
    assert float((made.inverse.map(moving) - fixed).norm(dim=1).max()) < 0.1  # of voxels of 2 mm
    points = random_points(GRID, 3000).double()
    change = (made.forward.map(points) - bent.forward.map(points)).norm(dim=1)
    far = torch.cdist(points, fixed).min(1).values > 60
    assert int(far.sum()) > 50 and float(change[far].max()) < 1e-3
    assert float(made.forward.jacobian(points).det().min()) > 0
    there = made.inverse.map(made.forward.map(points))
    assert float((there - points).norm(dim=1).max()) < 0.1


def test_pulling_again_goes_on_from_what_was_pulled_and_survives_its_file(bent):
    fixed = torch.tensor([[0.0, 0.0, 0.0]], dtype=torch.float64)
    once = pulled(bent, fixed, bent.forward.map(fixed) + 4)
    twice = pulled(once, fixed, bent.forward.map(fixed) - 1)
    assert error(twice, fixed, bent.forward.map(fixed) - 1) < 0.05 and len(twice.stages) == 2
    read = Transform.from_bytes(twice.to_bytes())
    points = random_points(GRID, 200).double()
    assert torch.allclose(read.forward.map(points), twice.forward.map(points), atol=1e-4)


def test_points_that_would_fold_the_map_are_refused_by_their_numbers(bent):
    fixed = torch.tensor([[40.0, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"fold between the landmarks 2 and 3 \(3\.0 mm apart"):
        pulled(bent, fixed, bent.forward.map(torch.stack([fixed[0] + 20, fixed[2] + 20, fixed[1] - 20])))


def test_in_two_dimensions_too():
    grid = Grid((60, 50), (1.0, 1.0), (0.0, 0.0), (1, 0, 0, 1))
    flat = Transform(grid, grid, np.eye(3))
    fixed = torch.tensor([[20.0, 20.0], [40.0, 30.0]], dtype=torch.float64)
    assert error(pulled(flat, fixed, fixed + 2), fixed, fixed + 2) < 0.05


def test_the_splines_of_a_pulled_map_are_those_from_before_but_where_it_moved(bent):
    start = pulled(bent, torch.zeros(1, 3, dtype=torch.float64), bent.forward.map(torch.zeros(1, 3).double()) + 3)
    before = sample_both(start, Pair())
    fixed = torch.tensor([[30.0, 30.0, 20.0]], dtype=torch.float64)
    moving = start.forward.map(fixed) + 5
    made = pulled(start, fixed, moving)
    quick = sample_both(made, Pair(), kept=(fixed, moving), before=before)
    points = random_points(GRID, 4000).double()
    for way, here, there in (("forward", fixed, moving), ("inverse", moving, fixed)):
        old, new = getattr(before, way), getattr(quick, way)
        assert float((new.map.map(here) - there).norm()) < new.tolerance_mm
        errors = (new.map.map(points) - getattr(made, way).map(points)).norm(dim=1)
        assert new.within_tolerance and float(errors.quantile(0.99)) < new.tolerance_mm
        far = points[torch.cdist(points, here)[:, 0] > 70]
        assert len(far) > 500 and float((new.map.map(far) - old.map.map(far)).norm(dim=1).max()) < 0.01
