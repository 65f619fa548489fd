"""Images carried through a transform, against SimpleITK's own resampling."""

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from closed_form import ClosedForm, oblique_grid, partner_grid, tilted_affine
from nephi.device import free_memory
from nephi.errors import DeviceMemoryError, InputError
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.maps.determinant import determinant_image
from nephi.maps.warp import warp


def _smooth_image(grid: Grid) -> Image:
    points = grid.points("cpu")
    return Image(torch.sin(points / 11.0).sum(-1).reshape(grid.shape), grid, "moving image wave.nrrd")


def _other_grid() -> Grid:
    return Grid((24, 30, 20), (2.0, 1.5, 2.2), (0.0, -40.0, 250.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_the_identity_onto_another_grid_is_simpleitks_resampling(mode):
    image = _smooth_image(oblique_grid())
    reference = Image(torch.zeros(_other_grid().shape), _other_grid()).to_sitk()
    expected = sitk.GetArrayFromImage(sitk.Resample(
        image.to_sitk(), reference, sitk.Transform(), sitk.sitkLinear if mode == "linear" else sitk.sitkNearestNeighbor,
        -5.0))
    ours = warp(image, None, _other_grid(), mode=mode, fill=-5.0).values.numpy()
    assert (ours == -5.0).any() and (ours != -5.0).any()
    differing = np.abs(ours - expected) > 1e-3
    assert differing.mean() < 1e-3  # a voxel exactly between two may round either way


@pytest.mark.parametrize("dim", [2, 3])
def test_an_image_pulled_forward_has_at_each_voxel_what_the_map_points_at(dim):
    grid = oblique_grid(dim)
    transform = ClosedForm(grid, affine=np.eye(dim + 1))
    result = warp(_smooth_image(grid), transform.forward, grid)
    mapped = transform.forward.map(grid.points("cpu"))
    expected = torch.sin(mapped / 11.0).sum(-1).reshape(grid.shape)
    inner = (slice(4, -4),) * dim
    assert float((result.values - expected)[inner].abs().max()) < 0.05
    assert result.grid == grid


def test_the_inverse_map_carries_the_fixed_image_onto_the_moving_grid():
    grid = oblique_grid()
    transform = ClosedForm(grid, affine=tilted_affine())
    onto = partner_grid(transform)
    result = warp(_smooth_image(grid), transform.inverse, onto, fill=9.0)
    expected = torch.sin(transform.inverse.map(onto.points("cpu")) / 11.0).sum(-1)
    inside = result.values.flatten() != 9.0
    assert int(inside.sum()) > 100
    assert float((result.values.flatten() - expected)[inside].abs().mean()) < 0.02


def test_labels_keep_their_values():
    grid = oblique_grid()
    labels = Image((torch.rand(grid.shape, generator=torch.Generator().manual_seed(0)) * 4).floor() * 21, grid)
    warped = warp(labels, ClosedForm(grid).forward, grid, mode="nearest")
    assert set(warped.values.unique().tolist()) <= {0.0, 21.0, 42.0, 63.0}


def test_outside_is_the_images_minimum_unless_asked_otherwise():
    grid = oblique_grid()
    image = Image(torch.rand(grid.shape) - 1000.0, grid)
    far = grid.window((500, 0, 0), (3, 3, 3))
    assert torch.all(warp(image, None, far).values == image.values.min())
    assert torch.all(warp(image, None, far, mode="nearest").values == 0)


def test_chunks_do_not_show(monkeypatch):
    image, map_ = _smooth_image(oblique_grid()), ClosedForm(oblique_grid()).forward
    whole = warp(image, map_, oblique_grid()).values
    monkeypatch.setattr("nephi.maps.map.POINTS_AT_ONCE", 777)
    assert torch.allclose(warp(image, map_, oblique_grid()).values, whole, atol=1e-5)


def test_unknown_modes_and_dimensions_are_named():
    image = _smooth_image(oblique_grid())
    with pytest.raises(InputError, match="'cubic'"):
        warp(image, None, oblique_grid(), mode="cubic")
    with pytest.raises(InputError, match="2D"):
        warp(image, None, oblique_grid(2))


@pytest.mark.parametrize("way", [warp, None])
def test_a_grid_too_large_for_the_memory_is_refused_at_once_with_both_sizes(way):
    grid = oblique_grid().with_spacing(0.002)
    transform = ClosedForm(oblique_grid())
    with pytest.raises(DeviceMemoryError, match=r"A grid of \d+ x \d+ x \d+ voxels needs [\d.]+ GB and [\d.]+ GB"):
        if way is None:
            determinant_image(transform.forward, grid)
        else:
            warp(_smooth_image(oblique_grid()), transform.forward, grid)


def test_the_memory_that_is_free_is_a_positive_number_of_bytes():
    assert free_memory() > 1e8


@pytest.mark.skipif(sys.platform != "linux", reason="other systems set no such limit")
def test_a_limit_on_the_process_bounds_its_free_memory():
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as line:
        taken = int(line.read().split()[0]) * resource.getpagesize()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (taken + 2**28, before[1]))
        assert 2**26 < free_memory() <= 2**28
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_windows_is_asked_for_its_free_memory(monkeypatch):
    def tell(status: object) -> int:
        told = status._obj
        assert told.length == 64  # as Windows wants to be told, of 64 bits or 32
        told.all, told.free = 16 * 10**9, 3 * 10**9
        return 1

    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=tell)),
                        raising=False)
    assert free_memory() == 3e9
