"""Jacobian determinants against closed forms."""

import math

import numpy as np
import pytest
import torch
from closed_form import ClosedForm, oblique_grid, tilted_affine
from nephi.errors import InputError
from nephi.geometry import Grid
from nephi.judge.folds import fold_percent
from nephi.maps.affine_map import AffineMap
from nephi.maps.determinant import determinant, determinant_image, finite_difference_determinant, log_determinant
from nephi.maps.map import Map


class _Folding(Map):
    """x -> x with the first coordinate mirrored beyond 10 mm: folded there by construction."""

    def map(self, points):
        x = points.clone()
        x[:, 0] = torch.where(x[:, 0] > 10, 20 - x[:, 0], x[:, 0])
        return x

    def with_jacobian(self, points):
        raise NotImplementedError


@pytest.mark.parametrize("dim", [2, 3])
def test_the_written_out_determinant_is_that_of_linear_algebra(dim):
    matrices = torch.randn(50, dim, dim, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(determinant(matrices), torch.linalg.det(matrices), atol=1e-5)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_linear_map_has_its_own_determinant_everywhere(dim):
    matrix = tilted_affine(dim)
    det = finite_difference_determinant(AffineMap(matrix), oblique_grid(dim))
    assert det.shape == oblique_grid(dim).shape
    assert torch.allclose(det, torch.full_like(det, float(np.linalg.det(matrix))), atol=1e-3)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_finite_differences_agree_with_the_analytic_determinant_on_an_oblique_anisotropic_grid(dim, way):
    grid = oblique_grid(dim)
    map_ = getattr(ClosedForm(grid, affine=tilted_affine(dim), stretch=1.5, wavelength=80.0), way)
    inner = (slice(1, -1),) * dim
    analytic = determinant_image(map_, grid)[inner]
    differences = finite_difference_determinant(map_, grid)[inner]
    assert float(analytic.std()) > 0.03
    assert float((analytic - differences).abs().max()) < 0.02


def test_determinants_in_slabs_are_those_of_the_whole_grid(monkeypatch):
    map_ = ClosedForm(oblique_grid()).forward
    whole = finite_difference_determinant(map_, oblique_grid())
    monkeypatch.setattr("nephi.maps.determinant.POINTS_AT_ONCE", 1000)
    assert torch.allclose(finite_difference_determinant(map_, oblique_grid()), whole, atol=1e-5)


def test_the_log_determinant_of_a_volume_keeping_map_is_zero():
    still = ClosedForm(oblique_grid(), stretch=0.0, shear=0.0).forward
    assert float(log_determinant(determinant_image(still, oblique_grid())).abs().max()) < 1e-5


def test_folds_sit_at_the_floor_of_the_log_determinant():
    assert torch.allclose(log_determinant(torch.tensor([-2.0, 0.0, 1.0])), torch.tensor([math.log(1e-3)] * 2 + [0.0]))


def test_a_mirrored_half_is_counted_as_folded():
    grid = Grid((21, 9), (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
    det = finite_difference_determinant(_Folding(), grid)
    assert fold_percent(det) == pytest.approx(100 * 11 / 21)
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[:, :5] = True
    assert fold_percent(det, mask) == 0.0


def test_a_determinant_that_is_not_a_number_counts_as_a_fold():
    assert fold_percent(torch.tensor([1.0, math.nan])) == 50.0


def test_counting_folds_in_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="no voxel"):
        fold_percent(torch.ones(4), torch.zeros(4, dtype=torch.bool))


def test_differences_along_an_axis_of_one_voxel_are_refused():
    grid = Grid((5, 5, 1), (1.0,) * 3, (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    with pytest.raises(InputError, match="two voxels"):
        finite_difference_determinant(_Folding(), grid)
