"""Reading arrays between their voxels, against SimpleITK and by differentiation."""

import pytest
import SimpleITK as sitk
import torch
from nephi.align.volume import Volume
from nephi.geometry import Grid
from nephi.images.interpolation import linear, linear_in_unit, nearest


def _values(shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=dtype)


def _indices(shape, count, seed=0):
    last = torch.tensor([n - 1 for n in reversed(shape)], dtype=torch.float64)
    return torch.rand(count, len(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * last


def _by_sitk(values, index, interpolator):
    image = sitk.GetImageFromArray(values.numpy())
    return torch.tensor([image.EvaluateAtContinuousIndex(point, interpolator) for point in index.tolist()],
                        dtype=values.dtype)


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7)])
def test_linear_and_nearest_reads_agree_with_simpleitk(shape):
    values = _values((2, *shape))
    index = _indices(shape, 50)
    for channel in range(2):
        assert torch.allclose(linear(values, index)[channel], _by_sitk(values[channel], index, sitk.sitkLinear))
        assert torch.equal(nearest(values, index)[channel],
                           _by_sitk(values[channel], index, sitk.sitkNearestNeighbor))


@pytest.mark.parametrize("threads", [1, 3])
def test_linear_reads_do_not_depend_on_the_number_of_threads(threads, monkeypatch):
    values, index = _values((1, 5, 6, 7)), _indices((5, 6, 7), 10)
    expected = linear(values, index)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.allclose(linear(values, index), expected)
    assert linear(values, index[:1]).shape == (1, 1)


def test_beyond_the_border_the_border_is_read():
    values = _values((1, 4, 5))
    outside = torch.tensor([[-3.0, -2.0], [9.0, 1.0], [2.0, 20.0]], dtype=torch.float64)
    border = torch.tensor([[0.0, 0.0], [4.0, 1.0], [2.0, 3.0]], dtype=torch.float64)
    assert torch.allclose(linear(values, outside), linear(values, border))
    assert torch.equal(nearest(values, outside), nearest(values, border))


def test_nearest_reads_keep_labels_as_they_are():
    labels = torch.arange(20, dtype=torch.int16).reshape(1, 4, 5)
    read = nearest(labels, torch.tensor([[1.4, 2.6], [3.51, 0.2]]))
    assert read.dtype == torch.int16
    assert read.tolist() == [[3 * 5 + 1, 4]]


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_linear_reads_are_differentiable_in_values_and_positions(shape):
    values = _values((2, *shape)).requires_grad_()
    index = (_indices([n - 1 for n in shape], 4).floor() + 0.37).requires_grad_()  # off the kinks
    assert torch.autograd.gradcheck(linear, (values, index))


def test_a_volume_reads_the_frame_coordinates_of_its_grid():
    grid = Grid((7, 6, 5), (0.2, 0.2, 0.2), (-0.7, -0.5, 0.1), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    values = _values((3, 5, 6, 7))
    volume = Volume(values, grid)
    index = _indices((5, 6, 7), 12)
    points = grid.to_world(index)
    assert torch.allclose(volume.at(volume.to_unit(points)), linear(values, index))
    assert volume.at(volume.to_unit(points.view(3, 4, 3))).shape == (3, 3, 4)
    moved = volume.to_unit(points + 0.05) - volume.to_unit(points)
    assert torch.allclose(moved, (0.05 * volume.unit_scale).expand(12, 3))
    assert torch.allclose(linear_in_unit(values, volume.to_unit(points)), linear(values, index))


def test_a_volume_covers_the_points_whose_nearest_voxel_is_marked():
    mask = torch.zeros(1, 4, 5)
    mask[0, 2, 3] = 1
    grid = Grid((5, 4), (0.5, 0.5), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
    volume = Volume(torch.cat([_values((1, 4, 5), torch.float32), mask]), grid)
    points = torch.tensor([[1.5, 1.0], [1.7, 1.2], [1.8, 1.0], [1.5, 0.7], [50.0, 50.0]])
    assert volume.covers(points).tolist() == [True, True, False, False, False]
