"""What a template is made of: which images, on which grid, and what is taken out of their maps."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nephi.errors import InputError
from nephi.geometry import Grid, random_points
from nephi.images.image import Image
from nephi.maps.map import MapPair
from nephi.maps.spline import SplineMap
from nephi.maps.transform import Transform
from nephi.template import averages
from nephi.template.averages import majority_of, mean_and_variance, mean_of, save_array, sharpened
from nephi.template.common_grid import common_grid
from nephi.template.mean_shape import bending_update, corrected, linear_update, moved_mm, nodes_of
from nephi.template.members import members_of

GRID = Grid.aligned((24, 20, 16), 2.0, (-23.0, -19.0, -15.0))


def _image(path: Path, size: tuple[int, ...] = (8, 8, 8), value: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(size[::-1], np.float32)
    array[tuple(slice(2, 5) for _ in size)] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def _turn(degrees: float, stretch: float = 1.0, shift: tuple[float, ...] = (0.0, 0.0, 0.0)) -> np.ndarray:
    matrix, angle = np.eye(4), math.radians(degrees)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:3, :3] = matrix[:3, :3] @ np.diag([stretch, 1.0, 1.0])
    matrix[:3, 3] = shift
    return matrix


# ------------------------------------------------------------------------------------------------------------- images


def test_the_order_of_the_images_is_that_of_what_is_in_them_whatever_they_are_called(tmp_path):
    paths = [str(_image(tmp_path / f"{name}.nii.gz", value=value)) for name, value in (("a", 1), ("b", 2), ("c", 3))]
    first, second = members_of(paths, []), members_of(paths[::-1], [])
    assert first == second and [member.id for member in first] != ["a", "b", "c"]
    again = [_image(tmp_path / "again" / f"{name}.nii.gz", value=value) for name, value in (("x", 3), ("y", 1),
                                                                                              ("z", 2))]
    assert [member.digest for member in members_of(list(map(str, again)), [])] == [one.digest for one in first]


def test_images_of_one_name_are_called_by_their_folders(tmp_path):
    paths = [str(_image(tmp_path / subject / "anat" / "T1.nii.gz", value=n)) for n, subject in enumerate(
        ("sub-1", "sub-2"), start=1)]
    assert sorted(member.id for member in members_of(paths, [])) == ["sub-1_anat_T1", "sub-2_anat_T1"]


def test_labels_belong_to_the_images_by_their_names_or_by_their_order(tmp_path):
    images = [_image(tmp_path / "images" / f"{n}.nii.gz", value=n + 1) for n in range(3)]
    labels = [_image(tmp_path / "labels" / f"{n}.nrrd", value=n + 1) for n in range(3)]
    by_folder = members_of([str(tmp_path / "images")], [str(tmp_path / "labels")])
    assert {member.id: member.labels for member in by_folder} == {str(n): str(path) for n, path in enumerate(labels)}
    assert by_folder == members_of(list(map(str, images)), list(map(str, labels)))


@pytest.mark.parametrize(("images", "labels", "message"), [
    (["a"], [], "at least two images, and one was given"),
    (["empty"], [], "at least two images, and none were given"),
    (["a", "b", "a"], [], "is given twice; give each once"),
    (["a", "gone"], [], "the image .*gone.nii.gz does not exist"),
    (["a", "b", "flat"], [], "the image flat.nii.gz is 2D and others are 3D"),
    (["a", "flat"], [], "the image flat.nii.gz is 2D and others are 3D"),
    (["flat", "a"], [], "the image flat.nii.gz is 2D and others are 3D"),
    (["a", "b"], ["a"], "there are 2 images and 1 label maps"),
    (["a", "b"], ["a", "gone"], "the label map .*gone.nii.gz does not exist"),
    (["a", "b"], ["some"], "has no label map b.nii.gz"),
    (["a", "text"], [], "image text.nii.gz cannot be read"),
    (["a", "+b"], [], "the id '\\+b' cannot be the name of a folder"),
])
def test_images_that_cannot_be_used_are_one_sentence(tmp_path, images, labels, message):
    for name in ("a", "b", "some/a", "+b"):
        _image(tmp_path / f"{name}.nii.gz", value=2.0 if name == "b" else 1.0)
    _image(tmp_path / "flat.nii.gz", (8, 8))
    (tmp_path / "text.nii.gz").write_text("no image")
    (tmp_path / "empty").mkdir()
    paths = [[str(tmp_path / (name if (tmp_path / name).is_dir() else f"{name}.nii.gz")) for name in names]
             for names in (images, labels)]
    with pytest.raises(InputError, match=message) as raised:
        members_of(*paths)
    assert len(str(raised.value).splitlines()) == 1 and str(raised.value).endswith(".")


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    _image(tmp_path / "a.nii.gz")
    with pytest.raises(InputError) as raised:
        members_of([str(tmp_path / name) for name in ("a.nii.gz", "x.nii.gz", "y.nii.gz")], [])
    assert len(raised.value.faults) == 2


# --------------------------------------------------------------------------------------------------------------- grid


def test_the_grid_is_the_mean_of_the_fields_of_view_around_the_mean_of_the_centres():
    grids = [Grid.aligned((10, 20, 30), 1.0, (0.0, 0.0, 0.0)), Grid.aligned((10, 10, 10), 3.0, (100.0, 0.0, 0.0))]
    grid = common_grid(grids)
    assert np.allclose(grid.spacing, 2.0) and grid.size == (10, 12, 15)
    assert np.allclose(grid.center, np.mean([one.center for one in grids], axis=0))
    assert common_grid(grids, spacing=1.25).size == (16, 20, 24)


def test_the_grid_keeps_axes_that_all_images_share_and_is_straight_otherwise():
    turned = Grid((10, 20, 30), (1.0, 1.0, 2.0), (5.0, 5.0, 5.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    assert common_grid([turned, turned]).same_as(turned)
    straight = common_grid([turned, Grid.aligned((20, 10, 60), 1.0, (0.0, 0.0, 0.0))])
    assert straight.direction == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert np.allclose(straight.extent, (20, 10, 60), atol=1) and len(set(straight.spacing)) == 1


# ------------------------------------------------------------------------------------------------------------ averages


def _saved(folder: Path, arrays: list) -> list[Path]:
    paths = [folder / f"{number}.npy" for number in range(len(arrays))]
    for path, array in zip(paths, arrays):
        save_array(path, np.asarray(array))
    return paths


@pytest.mark.parametrize("at_once", [1, 1 << 28])
def test_averages_of_slabs_are_those_of_the_whole(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(averages, "AT_ONCE", at_once)
    values = np.random.default_rng(0).normal(size=(5, 6, 4, 3)).astype(np.float32)
    paths = _saved(tmp_path, list(values))
    mean, variance = mean_and_variance(paths, (6, 4, 3))
    assert np.allclose(mean, values.mean(0)) and np.allclose(variance, values.var(0, ddof=1))
    assert np.allclose(mean_of(paths, (6, 4, 3)), values.mean(0))


def test_what_an_image_does_not_cover_does_not_count(tmp_path):
    nan = np.nan
    paths = _saved(tmp_path, [np.float32([[1, nan, nan]]), np.float32([[3, 5, nan]])])
    mean, variance = mean_and_variance(paths, (1, 3))
    assert mean.tolist() == [[2, 5, 2]] and variance.tolist() == [[2, 0, 0]]
    with pytest.raises(InputError, match="No image covers any part"):
        mean_and_variance(_saved(tmp_path, [np.full((2, 2), np.nan)]), (2, 2))


def test_the_majority_is_the_label_of_most_and_the_smallest_of_those_that_as_many_have(tmp_path):
    paths = _saved(tmp_path, [[[0, 7, 7, 3]], [[0, 7, 3, 9]], [[2, 4, 0, 6]]])
    assert majority_of(paths, (1, 4)).tolist() == [[0, 7, 0, 3]]


def test_an_array_that_was_cut_short_is_one_sentence(tmp_path):
    (path,) = _saved(tmp_path, [np.zeros((4, 4))])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="cannot be read .*; remove its folder"):
        mean_of([path], (4, 4))
    with pytest.raises(InputError, match=re.escape("has shape (4, 4), not (5, 4)")):
        mean_of(_saved(tmp_path, [np.zeros((4, 4))]), (5, 4))


def test_a_sharpened_mean_has_steeper_edges_and_the_same_range():
    ramp = torch.sigmoid(torch.arange(16.0) - 7.5).expand(16, 16, 16).contiguous()
    image = Image(ramp, Grid.aligned((16, 16, 16), 1.0, (0.0, 0.0, 0.0)))
    sharp = sharpened(image).values
    assert float(sharp[8, 8].diff().max()) > 1.05 * float(ramp[8, 8].diff().max())
    assert float(sharp.min()) >= float(ramp.min()) and float(sharp.max()) <= float(ramp.max())


# ---------------------------------------------------------------------------------------------------------- mean shape


def test_images_in_opposite_poses_do_not_shrink_their_mean():
    update = linear_update([_turn(40), _turn(-40)], GRID)
    assert np.allclose(update.affine, np.eye(4), atol=1e-9)


def test_the_mean_pose_size_and_place_are_taken_out_of_linear_maps():
    matrices = [_turn(50, 1.5, (3, 0, 0)), _turn(10, 1.1, (5, 4, 0)), _turn(30, 0.9, (1, 2, 9))]
    update = linear_update(matrices, GRID)
    left = [matrix @ update.affine for matrix in matrices]
    assert np.allclose(linear_update(left, GRID).affine, np.eye(4), atol=1e-9)
    centre = np.append(GRID.center, 1.0)
    assert np.allclose(np.mean([matrix @ centre for matrix in left], axis=0), centre)
    volumes = [np.log(np.linalg.det(matrix)) for matrix in left]
    assert abs(np.mean(volumes)) < 1e-9


def test_displacements_corrected_by_the_inverse_of_their_mean_are_zero_on_average(tmp_path):
    nodes = nodes_of(GRID)
    axes = nodes.points("cpu", dtype=torch.float64)
    waves = [torch.stack([2.0 * torch.sin(axes[:, (k + 1) % 3] / 9 + n) + n for k in range(3)], dim=1)
             for n in range(3)]
    shifts = [wave.view(*nodes.shape, 3).float() for wave in waves]
    update = bending_update(_saved(tmp_path, [shift.numpy() for shift in shifts]), GRID)
    assert moved_mm(update, Image(torch.rand(GRID.shape), GRID)) > 1
    points = random_points(GRID, 500).double()
    points = points[(points.abs() < torch.tensor([14.0, 10.0, 6.0])).all(1)]  # whose images are inside all nodes
    there = torch.stack([SplineMap.through(shift, nodes).map(update.forward.map(points)) for shift in shifts])
    assert float((there.mean(0) - points).norm(dim=1).max()) < 0.05 * GRID.voxel
    back = update.inverse.map(update.forward.map(points))
    assert float((back - points).norm(dim=1).max()) < 0.05 * GRID.voxel


def test_a_corrected_transform_maps_both_ways_and_survives_its_file(tmp_path):
    nodes = nodes_of(GRID)
    shift = torch.stack([torch.sin(nodes.points("cpu")[:, 1] / 8)] * 3, dim=1).view(*nodes.shape, 3)
    update = bending_update(_saved(tmp_path, [shift.numpy()]), GRID)
    assert isinstance(update.stages[0], MapPair)
    corrected(Transform(GRID, GRID, _turn(20)), update).save(tmp_path / "t.nephi")
    found = Transform.load(tmp_path / "t.nephi")
    points = random_points(GRID, 200).double()
    expected = Transform(GRID, GRID, _turn(20)).forward.map(update.forward.map(points))
    assert torch.allclose(found.forward.map(points), expected, atol=1e-4)
    inner = points[(points.abs() < 8).all(1)]
    assert float((found.inverse.map(found.forward.map(inner)) - inner).norm(dim=1).max()) < 0.05 * GRID.voxel
