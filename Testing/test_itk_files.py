"""Exported ITK files give the same points and the same warped image as the map itself."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from closed_form import ClosedForm, oblique_grid, partner_grid, tilted_affine
from nephi.errors import InputError
from nephi.files.itk import export_itk
from nephi.geometry import Grid, random_points
from nephi.images.image import Image
from nephi.maps.affine_map import AffineMap
from nephi.maps.map import Composition, Map
from nephi.maps.warp import warp


def _transform(dim: int = 3, **options) -> ClosedForm:
    transform = ClosedForm(oblique_grid(dim), affine=tilted_affine(dim), stretch=1.5, shear=0.7, **options)
    if dim == 3:
        transform.moving_grid = partner_grid(transform)
    return transform


def _through_file(path, points: torch.Tensor) -> np.ndarray:
    loaded = sitk.ReadTransform(str(path))
    return np.asarray([loaded.TransformPoint(p) for p in points.double().tolist()])


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_the_forward_file_maps_points_as_the_map_does(tmp_path, dim, suffix):
    transform = _transform(dim)
    info = export_itk(transform.forward, tmp_path / f"forward{suffix}")
    points = random_points(transform.fixed_grid, 2000, seed=77)
    distance = np.linalg.norm(_through_file(info.path, points) - transform.forward.map(points).numpy(), axis=1)
    assert distance.max() <= 0.12 * transform.fixed_grid.voxel and info.to_dict()["within_tolerance"]
    assert info.error_mm["mean"] < info.error_mm["p95"] < info.error_mm["p999"] <= info.error_mm["max"]
    assert info.error_mm["max"] <= 0.1 * transform.fixed_grid.voxel


def test_the_inverse_file_maps_moving_points_back(tmp_path):
    transform = _transform()
    info = export_itk(transform.inverse, tmp_path / "inverse.h5")
    fixed = random_points(transform.fixed_grid, 2000, seed=78)
    moving = transform.forward.map(fixed)
    moving = moving[transform.moving_grid.contains(moving)]
    expected = transform.inverse.map(moving).numpy()
    assert len(moving) > 200
    error = np.linalg.norm(_through_file(info.path, moving) - expected, axis=1).max()
    assert error <= 0.12 * transform.moving_grid.voxel


@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_simpleitk_warps_an_image_with_the_file_as_we_do(tmp_path, way):
    transform = _transform()
    source, onto = transform.moving_grid, transform.fixed_grid
    if way == "inverse":
        source, onto = onto, source
    image = Image((100 * torch.sin(source.points("cpu") / 9.0).sum(-1)).reshape(source.shape), source, "wave")
    export_itk(getattr(transform, way), tmp_path / "t.h5", tolerance=0.02)
    ours = warp(image, getattr(transform, way), onto, fill=-999.0)
    theirs = sitk.GetArrayFromImage(sitk.Resample(
        image.to_sitk(), ours.to_sitk(), sitk.ReadTransform(str(tmp_path / "t.h5")), sitk.sitkLinear, -999.0))
    both = (ours.values.numpy() != -999.0) & (theirs != -999.0)
    assert both.mean() > 0.1
    assert ((ours.values.numpy() != -999.0) != (theirs != -999.0)).mean() < 0.005
    assert np.abs(ours.values.numpy() - theirs)[both].max() < 2.0  # of a range of 600


def test_the_spacing_picked_is_the_coarsest_that_suffices(tmp_path):
    loose = export_itk(_transform().forward, tmp_path / "a.h5", tolerance=0.2)
    tight = export_itk(_transform().forward, tmp_path / "b.h5", tolerance=0.01)
    assert loose.to_dict()["within_tolerance"] and tight.to_dict()["within_tolerance"]
    assert tight.to_dict()["spacing_mm"] < loose.to_dict()["spacing_mm"]
    assert (tmp_path / "a.h5").stat().st_size < (tmp_path / "b.h5").stat().st_size


def test_a_spacing_that_is_asked_for_is_used_and_its_error_stated(tmp_path):
    info = export_itk(_transform().forward, tmp_path / "a.h5", spacing=12.0)
    assert info.to_dict()["spacing_mm"] == pytest.approx(12.0, rel=0.2)
    assert info.error_mm["max"] > info.tolerance_mm and not info.to_dict()["within_tolerance"]
    assert info.to_dict()["file"] == "a.h5"


def test_a_field_too_large_is_not_written_and_the_error_says_so(tmp_path):
    info = export_itk(_transform().forward, tmp_path / "a.h5", tolerance=1e-9, max_megabytes=0.5)
    assert (tmp_path / "a.h5").stat().st_size < 3e6  # with what it fades over
    assert not info.to_dict()["within_tolerance"]


class _HalfCalm(Map):
    """The identity on one side of a plane, a wave beyond it."""

    def __init__(self, wave: Map, edge: float) -> None:
        self.domain, self._wave, self._edge = wave.domain, wave, edge

    def map(self, points: torch.Tensor) -> torch.Tensor:
        calm = self.domain.to_index(points)[:, :1] < self._edge
        return torch.where(calm, points, self._wave.map(points))

    def with_jacobian(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError


def test_errors_are_measured_inside_the_mask(tmp_path):
    transform = _transform()
    grid = transform.fixed_grid
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[:, :, :8] = True
    jump = _HalfCalm(transform.deformation.forward, 12.0)
    map_ = Composition([jump, AffineMap(transform.affine)], grid)
    inside = export_itk(map_, tmp_path / "a.h5", spacing=4.0, mask=mask).error_mm
    everywhere = export_itk(map_, tmp_path / "a.h5", spacing=4.0).error_mm
    assert everywhere["max"] > 0.5
    assert inside["max"] < 0.3 * everywhere["max"]  # the spline rings a little across the jump


def test_beyond_the_field_the_affine_holds_without_a_jump(tmp_path):
    transform = _transform()
    info = export_itk(transform.forward, tmp_path / "a.h5")
    far = torch.from_numpy(info.grid.corners()).float() + 500.0
    expected = far.double().numpy() @ transform.affine[:-1, :-1].T + transform.affine[:-1, -1]
    assert np.abs(_through_file(info.path, far) - expected).max() < 1e-6
    start = torch.tensor(info.grid.center, dtype=torch.float32)
    outwards = 1.3 * (torch.from_numpy(info.grid.corners()[-1]).float() - start)
    line = start + torch.linspace(0, 1, 800)[:, None] * outwards
    steps = np.linalg.norm(np.diff(_through_file(info.path, line), axis=0), axis=1)
    assert steps.max() < 4 * np.median(steps)


def test_the_fading_field_does_not_fold(tmp_path):
    transform = _transform()
    info = export_itk(transform.forward, tmp_path / "a.h5")
    wide = info.grid.padded(5.0)
    reference = Image(torch.zeros(wide.shape), wide).to_sitk()
    sampler = sitk.TransformToDisplacementFieldFilter()
    sampler.SetReferenceImage(reference)
    field = sampler.Execute(sitk.ReadTransform(info.path))
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    assert determinant[1:-1, 1:-1, 1:-1].min() > 0


@pytest.mark.parametrize("name, options, words", [
    ("a.nii.gz", {}, "not an ITK transform file name"),
    ("a.h5", {"spacing": 0.0}, "not positive"),
    ("missing/a.h5", {}, "missing"),
])
def test_a_file_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path, name, options, words):
    with pytest.raises(InputError, match=words):
        export_itk(_transform().forward, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_moving_image_with_a_much_larger_field_of_view_gives_no_larger_file(tmp_path):
    transform = _transform()
    transform.moving_grid = Grid((100, 100, 100), (20.0,) * 3, (-1000.0, -1000.0, -700.0), tuple(np.eye(3).flatten()))
    info = export_itk(transform.inverse, tmp_path / "a.h5")
    assert info.to_dict()["within_tolerance"] and (tmp_path / "a.h5").stat().st_size < 25e6
