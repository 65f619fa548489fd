"""A map read through splines is the map: its displacements, its determinants, and how far off they say they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from closed_form import ClosedForm, oblique_grid, partner_grid, tilted_affine
from nephi.errors import InputError
from nephi.files.displacements import sample_displacements, sampled_map
from nephi.geometry import random_points
from nephi.maps.sampled import SampledMap, through_spline


def _transform(dim: int = 3, **options) -> ClosedForm:
    transform = ClosedForm(oblique_grid(dim), affine=tilted_affine(dim), **{"stretch": 1.5, "shear": 0.7, **options})
    if dim == 3:
        transform.moving_grid = partner_grid(transform)
    return transform


def _image(transform, direction: str):
    return transform.fixed_grid if direction == "forward" else transform.moving_grid


@pytest.mark.parametrize(("dim", "direction"), [(2, "forward"), (3, "forward"), (3, "inverse")])
def test_displacements_reproduce_the_map_to_the_tolerance_and_say_how_closely(dim, direction):
    transform = _transform(dim)
    made = sample_displacements(sampled_map(transform, direction))
    points = random_points(_image(transform, direction), 4000, seed=5)
    error = (made.map_points(points, direction) - transform.map_points(points, direction)).norm(dim=1)
    assert float(error.max()) <= 0.06
    assert made.error_mm["mean"] < made.error_mm["p999"] <= made.error_mm["max"] <= 0.05
    assert made.to_dict()["within_tolerance"] and made.values.shape == (*made.grid.shape, dim)


def test_a_looser_tolerance_gives_a_coarser_grid_and_a_size_limit_an_honest_error():
    sampled = sampled_map(_transform(), "forward")
    fine, loose = sample_displacements(sampled), sample_displacements(sampled, tolerance_mm=0.5)
    small = sample_displacements(sampled, max_megabytes=0.05)
    assert loose.grid.count < fine.grid.count
    assert small.values.nbytes <= 0.05e6 and small.error_mm["max"] > 0.05 and not small.to_dict()["within_tolerance"]
    chosen = sample_displacements(sampled, 5.0)
    assert np.allclose(chosen.grid.spacing, 5.0, rtol=0.2)


def test_displacements_of_one_direction_do_not_map_the_other_way():
    made = sample_displacements(sampled_map(_transform(), "forward"), 8.0)
    with pytest.raises(InputError, match="those of the forward map"):
        made.map_points(torch.zeros(1, 3), "inverse")


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_determinants_through_splines_are_those_of_the_fields(direction):
    transform = _transform(stretch=3.0)
    grid = _image(transform, direction)
    made = sampled_map(transform, direction).determinant_on(grid)
    exact = transform.jacobian(grid.points(), direction).det().view(grid.shape)
    assert float((made - exact).abs().max()) < 0.02 and float(exact.std()) > 0.05


def test_folds_are_counted_by_the_fields_themselves():
    transform = _transform(stretch=13.0, shear=0.0, wavelength=30.0)  # its slope reaches 2.7: it folds
    grid = transform.fixed_grid
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[2:-2, 2:-2, 2:-2] = True
    made = SampledMap(transform, grid, "forward", mask).determinant_on(grid, mask)
    exact = transform.jacobian(grid.points()).det().view(grid.shape)
    assert int((exact[mask] <= 0).sum()) > 100
    assert int((made[mask] <= 0).sum()) == int((exact[mask] <= 0).sum())


def test_far_outside_the_mask_fewer_points_are_evaluated_and_inside_it_is_as_exact():
    transform, asked = _transform(), []
    mask = torch.zeros(transform.fixed_grid.shape, dtype=torch.bool)
    middle = tuple(slice(n // 2 - 2, n // 2 + 2) for n in mask.shape)
    mask[middle] = True
    original = transform.map_points

    def map_points(points, direction="forward"):
        asked.append(len(points))
        return original(points, direction)

    transform.map_points = map_points
    everywhere = SampledMap(transform, transform.fixed_grid, "forward")
    full = sum(asked)
    asked.clear()
    near = SampledMap(transform, transform.fixed_grid, "forward", mask)
    assert sum(asked) < 0.5 * full
    grid = transform.fixed_grid
    difference = (near.displacement_on(grid) - everywhere.displacement_on(grid))[middle].norm(dim=-1)
    assert float(difference.max()) < 0.01


def test_a_spline_is_exact_for_lines_to_the_edges_of_its_box():
    grid = oblique_grid(3)
    slope = torch.tensor([[0.3], [-0.2], [0.1]], dtype=torch.float64)
    values = through_spline(lambda x: x.double() @ slope, grid)
    np.testing.assert_allclose(values.view(-1, 1), grid.points().double() @ slope, atol=1e-3)
