"""A map read through splines is the map: its displacements, its determinants, and how far off they say they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from closed_form import ClosedForm, oblique_grid, partner_grid, tilted_affine
from nephi.files.displacements import sample_displacements
from nephi.geometry import Grid, random_points
from nephi.maps.affine_map import AffineMap
from nephi.maps.determinant import determinant, determinant_image
from nephi.maps.displacement_map import DisplacementMap
from nephi.maps.map import Map
from nephi.maps.resampled import exact_where_suspect, lattice_over, through_splines
from nephi.maps.sampled import megabytes, sampled


def _transform(dim: int = 3, **options) -> ClosedForm:
    transform = ClosedForm(oblique_grid(dim), affine=tilted_affine(dim), **{"stretch": 1.5, "shear": 0.7, **options})
    if dim == 3:
        transform.moving_grid = partner_grid(transform)
    return transform


def _sampled(transform, way: str = "forward", *arguments, **options):
    exact = getattr(transform, way)
    return sample_displacements(exact, sampled(exact, tolerance=0.02).map, *arguments, **options)


@pytest.mark.parametrize(("dim", "way"), [(2, "forward"), (3, "forward"), (3, "inverse")])
def test_displacements_reproduce_the_map_to_the_tolerance_and_say_how_closely(dim, way):
    transform = _transform(dim)
    exact, made = getattr(transform, way), _sampled(transform, way)
    points = random_points(exact.domain, 4000, seed=5)
    error = (made.map.map(points) - exact.map(points)).norm(dim=1)
    assert float(error.quantile(0.999)) <= 0.12 * exact.domain.voxel
    assert made.error_mm["mean"] < made.error_mm["p999"] <= 0.1 * exact.domain.voxel
    assert made.to_dict()["within_tolerance"] and made.map.values.shape == (*made.map.grid.shape, dim)


def test_a_looser_tolerance_gives_a_coarser_grid_and_a_size_limit_an_honest_error():
    transform = _transform()
    fine, loose = _sampled(transform), _sampled(transform, tolerance=0.5)
    small = _sampled(transform, tolerance=0.02, max_megabytes=0.05)
    assert loose.map.grid.count < fine.map.grid.count
    assert small.map.values.nbytes <= 0.05e6 and small.error_mm["max"] > small.tolerance_mm
    assert not small.to_dict()["within_tolerance"]
    assert np.allclose(_sampled(transform, "forward", 5.0).map.grid.spacing, 5.0, rtol=0.2)


@pytest.mark.parametrize(("dim", "way"), [(2, "forward"), (3, "forward"), (3, "inverse")])
def test_a_sampled_map_keeps_the_tolerance_at_999_of_1000_points_and_says_how_closely(dim, way):
    exact = getattr(_transform(dim), way)
    made = sampled(exact)
    points = random_points(exact.domain, 4000, seed=5)
    error = (made.map.map(points) - exact.map(points)).norm(dim=1)
    assert float(error.quantile(0.999)) <= 0.12 * exact.domain.voxel
    assert made.error_mm["p999"] <= made.tolerance_mm == 0.1 * exact.domain.voxel
    assert made.within_tolerance and made.to_dict()["within_tolerance"]


def test_a_sampled_map_has_the_coarsest_nodes_that_suffice_or_the_finest_that_fit():
    exact = _transform().forward
    loose, fine = sampled(exact, tolerance=0.5), sampled(exact, tolerance=0.02)
    assert loose.lattice.count < fine.lattice.count and fine.within_tolerance
    small = sampled(exact, tolerance=1e-6, max_megabytes=0.1)
    assert megabytes(small.lattice) <= 0.1 and not small.within_tolerance
    assert np.allclose(sampled(exact, spacing=6.0).lattice.spacing, 6.0, rtol=0.25)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_displacement_map_is_linear_between_its_nodes_with_the_jacobian_of_the_cell(dim):
    grid = oblique_grid(dim)
    affine = AffineMap(tilted_affine(dim))
    made = DisplacementMap(affine.displacement_on(grid), grid)
    points = random_points(grid, 200)
    assert torch.allclose(made.map(points), affine.map(points), atol=1e-3)
    assert torch.allclose(made.jacobian(points), affine.jacobian(points), atol=1e-3)
    wavy = DisplacementMap(torch.randn(*grid.shape, dim, generator=torch.Generator().manual_seed(1)).double(), grid)
    points, step = random_points(grid, 50, seed=2).double(), 1e-6
    index = grid.to_index(points)
    points = grid.to_world(index.floor() + 0.2 + 0.6 * (index - index.floor()))  # within the cells
    for axis in range(dim):
        shift = step * torch.eye(dim, dtype=torch.float64)[axis]
        difference = (wavy.map(points + shift) - wavy.map(points - shift)) / (2 * step)
        assert torch.allclose(wavy.jacobian(points)[:, :, axis], difference, atol=1e-4)


def test_beyond_its_nodes_a_displacement_map_goes_on_as_at_its_border():
    grid = oblique_grid(3)
    made = DisplacementMap(torch.randn(*grid.shape, 3, generator=torch.Generator().manual_seed(1)), grid)
    corner = torch.from_numpy(grid.corners()[-1:]).float()
    far = corner + 5 * (corner - torch.tensor(grid.center).float())
    assert torch.allclose(made.map(far) - far, made.map(corner) - corner, atol=1e-3)
    assert torch.allclose(made.jacobian(far)[0], torch.eye(3), atol=1e-5)


@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_determinants_through_splines_are_those_of_the_fields(way):
    transform = _transform(stretch=3.0)
    exact = getattr(transform, way)
    splines = through_splines(exact, exact.domain)
    grid = exact.domain
    made = determinant_image(splines, grid)
    expected = determinant(exact.jacobian(grid.points("cpu"))).view(grid.shape)
    within = (slice(3, -3),) * 3  # at its ends a natural spline has no curvature
    assert float((made - expected)[within].abs().max()) < 0.02 and float(expected.std()) > 0.05


def test_folds_are_counted_by_the_fields_themselves():
    transform = _transform(stretch=13.0, shear=0.0, wavelength=30.0)  # its slope reaches 2.7: it folds
    grid = transform.fixed_grid
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[2:-2, 2:-2, 2:-2] = True
    splines = through_splines(transform.forward, grid, mask)
    made = exact_where_suspect(determinant_image(splines, grid), transform.forward, grid, mask)
    exact = determinant_image(transform.forward, grid)
    assert int((exact[mask] <= 0).sum()) > 100
    assert int((made[mask] <= 0).sum()) == int((exact[mask] <= 0).sum())


class _Counted(Map):
    """A map that counts the points it is asked for."""

    def __init__(self, inner: Map) -> None:
        self.inner, self.domain, self.count = inner, inner.domain, 0

    @property
    def linear(self) -> np.ndarray:
        return self.inner.linear

    def map(self, points: torch.Tensor) -> torch.Tensor:
        self.count += len(points)
        return self.inner.map(points)

    def with_jacobian(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner.with_jacobian(points)


def test_far_outside_the_mask_fewer_points_are_evaluated_and_inside_it_is_as_exact():
    grid = oblique_grid()
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    middle = tuple(slice(n // 2 - 2, n // 2 + 2) for n in mask.shape)
    mask[middle] = True
    whole, part = (_Counted(_transform().forward) for _ in range(2))
    everywhere, near = through_splines(whole, grid), through_splines(part, grid, mask)
    assert part.count < 0.5 * whole.count
    difference = (near.displacement_on(grid) - everywhere.displacement_on(grid))[middle].norm(dim=-1)
    assert float(difference.max()) < 0.01


def test_a_linear_map_through_splines_is_exact_to_the_edges_of_the_image():
    grid = oblique_grid(3)
    exact = AffineMap(tilted_affine(3), grid)
    made = through_splines(exact, grid)
    assert torch.allclose(made.displacement_on(grid), exact.displacement_on(grid), atol=1e-3)
    assert torch.allclose(determinant_image(made, grid), determinant_image(exact, grid), atol=1e-4)


def test_the_lattice_reaches_from_the_first_to_the_last_voxel_along_every_axis():
    grid = Grid((9, 6, 1), (1.0, 2.0, 5.0), (3.0, 4.0, 5.0), oblique_grid(3).direction)
    lattice = lattice_over(grid, (2.0, 4.0, 5.0))
    assert lattice.size == (5, 4, 1)
    assert np.allclose(lattice.corners()[[0, -1]], grid.corners()[[0, -1]])
