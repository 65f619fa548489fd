"""Images are read, refused, written and sampled as the manual says."""

from __future__ import annotations

import os
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nephi import storage
from nephi.align.registration import register
from nephi.errors import InputError
from nephi.geometry import Grid
from nephi.images.image import Image, normalise
from nephi.images.masks import dilate, region
from nephi.images.pair import check_overlap, check_pair, check_sizes
from nephi.images.reading import read_image, read_labels, read_mask
from nephi.images.resampling import downsample, highest_within, sample
from nephi.images.writing import write_image
from nephi.storage import atomic_path

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def picture(shape=(12, 10, 9), spacing=None, origin=None, seed=0) -> sitk.Image:
    """Noise as a SimpleITK image; the shape is (k, j, i)."""
    image = sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=shape).astype("float32"))
    image.SetSpacing(spacing or [1.0] * len(shape))
    image.SetOrigin(origin or [0.0] * len(shape))
    return image


def saved(image, path) -> str:
    sitk.WriteImage(image, str(path))
    return str(path)


def cube(low, high, shape=(12, 10, 9), **where) -> sitk.Image:
    array = np.zeros(shape, "uint8")
    array[low:high, low:high, low:high] = 3
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(picture(shape, **where))
    return mask


def oblique_image(seed=0) -> Image:
    image = picture((14, 11, 9), (0.8, 1.7, 2.9), (-70.0, 33.0, -900.0), seed)
    image.SetDirection(np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0].flatten().tolist())
    return Image.from_sitk(image)


# ---------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    image = picture(spacing=(0.9, 1.1, 2.5), origin=(-3.0, 7.0, 11.0))
    write_image(image, tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(back.values.numpy(), sitk.GetArrayFromImage(image))
    assert back.grid.same_as(Grid.from_sitk(image))
    assert back.name == f"fixed image a{suffix}"


def test_an_image_goes_to_simpleitk_and_back_unchanged():
    image = oblique_image()
    back = Image.from_sitk(image.to_sitk())
    assert torch.equal(back.values, image.values)
    assert back.grid == image.grid


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        read_image(path, "moving")
    assert "\n" not in str(caught.value)
    assert os.path.basename(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    refused(str(tmp_path / "nothing.nii.gz"), "does not exist")


@pytest.mark.parametrize("name", ["text.nii", "text.nrrd", "text.txt", "text.nii.gz"])
def test_a_file_that_is_no_image_is_refused(tmp_path, name):
    (tmp_path / name).write_text("not an image\n" * 100)
    refused(str(tmp_path / name), "cannot be read")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = saved(picture((20, 20, 20)), tmp_path / f"cut{suffix}")
    content = (tmp_path / f"cut{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) // 2])
    refused(path, "truncated|cannot be read")


def test_a_colour_image_is_refused(tmp_path):
    refused(saved(sitk.Image([9, 9, 9], sitk.sitkVectorUInt8, 3), tmp_path / "rgb.nrrd"), "3 values per voxel")


def test_a_four_dimensional_image_is_refused(tmp_path):
    refused(saved(sitk.Image([9, 9, 9, 3], sitk.sitkFloat32), tmp_path / "time.nii.gz"), "4D")


def spoiled() -> sitk.Image:
    """Three voxels of :func:`picture` are no numbers."""
    array = sitk.GetArrayFromImage(picture())
    array[1, 2, 3:5], array[4, 4, 4] = np.nan, np.inf
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(picture(spacing=(1.5, 1.25, 3.0), origin=(-7.0, 5.0, 40.0)))
    return image


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".hdr", ".img", ".nrrd", ".mha", ".vtk"])
def test_voxels_that_are_no_numbers_are_counted_and_left_out_in_every_format(tmp_path, suffix, caplog):
    image = read_image(saved(spoiled(), tmp_path / f"nan{suffix}"), "moving")
    assert f"moving image nan{suffix} has 3 NaN or infinite voxels of 1080" in caplog.text
    expected = torch.from_numpy(np.isfinite(sitk.GetArrayFromImage(spoiled())))
    assert torch.equal(image.known, expected)
    assert torch.equal(image.values[expected], torch.from_numpy(sitk.GetArrayFromImage(picture()))[expected])
    assert (image.values[~expected] == image.values[expected].min()).all()
    assert torch.equal(region(image, None), expected)
    left = torch.zeros(expected.shape, dtype=torch.bool)
    left[:2] = True
    assert torch.equal(region(image, left), left & expected)
    with pytest.raises(InputError, match="holds only NaN"):
        region(image, ~expected)


def test_an_image_without_any_number_is_refused(tmp_path):
    refused(saved(picture() * float("nan"), tmp_path / "nan.nrrd"), "only NaN or infinite voxels")


def test_labels_with_voxels_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="3 NaN or infinite voxels of 1080"):
        read_labels(saved(spoiled(), tmp_path / "l.nii.gz"))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_2_is_read_as_nifti_1_is(tmp_path, suffix, order):
    affine = np.array([[0.0, -1.5, 0, 7], [-1.25, 0, 0, -5], [0, 0, 3, 40], [0, 0, 0, 1]])
    values = np.random.default_rng(1).integers(0, 900, (9, 10, 12)).astype("int16")
    values[2, 3, 4] = 901
    kinds = (nib.Nifti1Pair, nib.Nifti2Pair) if suffix == ".img" else (nib.Nifti1Image, nib.Nifti2Image)
    for version, kind in enumerate(kinds, start=1):
        image = kind(values, affine, kind.header_class(endianness=order))
        image.header.set_slope_inter(0.5, -100)
        image.header.set_xyzt_units("mm")
        nib.save(image, tmp_path / f"v{version}{suffix}")
    one, two = (read_image(tmp_path / f"v{version}{suffix}") for version in (1, 2))
    assert torch.equal(one.values, two.values)
    assert one.grid.same_as(two.grid)
    assert float(two.values.max()) == 901 * 0.5 - 100


def test_a_truncated_nifti_2_is_refused(tmp_path):
    nib.save(nib.Nifti2Image(np.arange(1000, dtype="f4").reshape(10, 10, 10), np.eye(4)), tmp_path / "cut.nii")
    (tmp_path / "cut.nii").write_bytes((tmp_path / "cut.nii").read_bytes()[:3000])
    refused(str(tmp_path / "cut.nii"), "truncated")


def test_a_nifti_image_without_its_header_is_refused(tmp_path):
    saved(picture(), tmp_path / "a.img")
    (tmp_path / "a.hdr").unlink()
    refused(str(tmp_path / "a.img"), "lacks its other file, a.hdr")


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), -8.0])
def test_a_voxel_offset_that_is_none_is_refused(tmp_path, offset):
    path = tmp_path / "a.nii"
    saved(picture(), path)
    content = bytearray(path.read_bytes())
    content[108:112] = struct.pack("<f", offset)
    path.write_bytes(content)
    refused(str(path), "voxel offset")


def test_the_format_of_freesurfer_is_named_with_its_remedy(tmp_path):
    (tmp_path / "T1.mgz").write_bytes(b"any")
    refused(str(tmp_path / "T1.mgz"), "mri_convert T1.mgz T1.nii.gz")


def test_a_constant_image_is_refused(tmp_path):
    refused(saved(picture() * 0 + 7, tmp_path / "flat.nii.gz"), r"constant \(7 everywhere\)")


def nifti_with_spacing(path, value) -> str:
    saved(picture(), path)
    content = bytearray(path.read_bytes())
    content[80:84] = struct.pack("<f", value)  # pixdim[1]
    content[252:256] = struct.pack("<2h", 1, 0)  # geometry from the quaternion
    path.write_bytes(content)
    return str(path)


def meta_image(path, spacing="1 1 1", matrix="1 0 0 0 1 0 0 0 1") -> str:
    header = (f"ObjectType = Image\nNDims = 3\nBinaryData = True\nTransformMatrix = {matrix}\nOffset = 0 0 0\n"
              f"ElementSpacing = {spacing}\nDimSize = 9 9 9\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n")
    path.write_bytes(header.encode() + np.random.default_rng(0).normal(size=729).astype("<f4").tobytes())
    return str(path)


@pytest.mark.parametrize("spacing", ["0 1 1", "-1 1 1"])
def test_spacing_that_is_not_positive_is_refused(tmp_path, spacing):
    refused(meta_image(tmp_path / "bad.mha", spacing=spacing), "spacing .*not all positive")


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
def test_spacing_in_a_nifti_header_that_is_not_positive_is_refused(tmp_path, spacing):
    refused(nifti_with_spacing(tmp_path / "bad.nii", spacing), rf"spacing \({spacing:g}, 1, 1\)")


def test_a_singular_direction_is_refused(tmp_path):
    refused(meta_image(tmp_path / "bad.mha", matrix="1 0 0 1 0 0 0 0 1"), "singular direction")


def test_two_and_three_dimensions_are_not_registered_to_each_other():
    with pytest.raises(InputError, match="2D .* 3D"):
        check_pair(Image.from_sitk(picture((20, 20))), Image.from_sitk(picture()))


def test_an_axis_shorter_than_eight_voxels_is_refused():
    with pytest.raises(InputError, match="9 x 10 x 7 voxels.* at least 8"):
        check_pair(Image.from_sitk(picture()), Image.from_sitk(picture((7, 10, 9))))


@pytest.mark.parametrize("values", [torch.rand(9, 8, 8).double(), torch.ones(9, 8, 8).short(), torch.rand(8, 8, 9)],
                         ids=["double", "integer", "another shape"])
def test_values_that_a_script_gives_in_another_type_or_shape_are_refused(values):
    grid = Grid.aligned((8, 8, 9), 1.0, (0.0,) * 3)
    sound, odd = Image(torch.rand(9, 8, 8), grid), Image(values, grid, "moving image")
    check_pair(sound, sound)
    with pytest.raises(InputError, match="moving image has values of torch"):
        check_pair(sound, odd)


def test_images_that_do_not_overlap_are_refused_unless_a_matrix_brings_them_together():
    here, there = Image.from_sitk(picture()), Image.from_sitk(picture(origin=(500.0, 0.0, 0.0)))
    with pytest.raises(InputError, match="do not overlap .*500 mm"):
        check_overlap(here, there)
    matrix = np.eye(4)
    matrix[0, 3] = 500
    check_overlap(here, there, matrix)


# ------------------------------------------------------------------------------------------- masks and labels


def test_any_label_image_is_a_mask(tmp_path):
    image = Image.from_sitk(picture())
    mask = read_mask(saved(cube(2, 6), tmp_path / "m.nii.gz"), image)
    assert mask.dtype == torch.bool
    assert int(mask.sum()) == 64
    assert mask[2:6, 2:6, 2:6].all()


def test_an_empty_mask_is_refused(tmp_path):
    with pytest.raises(InputError, match="moving mask m.nii.gz is empty"):
        read_mask(saved(cube(0, 0), tmp_path / "m.nii.gz"), Image.from_sitk(picture()), "moving")


def test_a_mask_on_another_grid_is_resampled_when_it_overlaps(tmp_path):
    path = saved(cube(2, 6, (20, 20, 20), origin=(1.0, 2.0, 3.0)), tmp_path / "m.nii.gz")
    mask = read_mask(path, Image.from_sitk(picture()))
    expected = torch.zeros(12, 10, 9, dtype=torch.bool)
    expected[5:9, 4:8, 3:7] = True
    assert torch.equal(mask, expected)


def test_a_mask_that_does_not_overlap_its_image_is_refused(tmp_path):
    path = saved(cube(2, 6, origin=(300.0, 0.0, 0.0)), tmp_path / "m.nii.gz")
    with pytest.raises(InputError, match="does not overlap"):
        read_mask(path, Image.from_sitk(picture()))


def test_a_mask_of_another_dimension_is_refused(tmp_path):
    path = saved(sitk.Image([9, 9], sitk.sitkUInt8) + 1, tmp_path / "m.nii.gz")
    with pytest.raises(InputError, match="2D .* 3D"):
        read_mask(path, Image.from_sitk(picture()))


def test_labels_that_are_not_whole_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="not whole numbers"):
        read_labels(saved(picture(), tmp_path / "l.nii.gz"))


KINDS = {np.uint8: 255, np.int8: -128, np.uint16: 65535, np.int16: -32768, np.uint32: 2**32 - 1, np.int32: 614454277,
         np.uint64: 2**63 - 1, np.int64: -2**53 - 1}
"""Integer type -> a label that float32, or another integer type of that size, would change."""


def ids(kind) -> sitk.Image:
    """Two neighbouring labels, one of them the largest of its type or nearly so."""
    array, label = np.zeros((8, 9, 10), kind), KINDS[kind]
    array[2:5, 2:6, 2:7], array[5:7, 2:6, 2:7] = label, label - 1 if label > 0 else label + 1
    return sitk.GetImageFromArray(array)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_read_and_written_in_their_own_type_and_to_the_last_digit(tmp_path, kind, suffix):
    image = ids(kind)
    write_image(read_labels(saved(image, tmp_path / f"in{suffix}")).stored(), tmp_path / f"out{suffix}")
    back = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    assert back.GetPixelID() == image.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_where_the_labels_are_whatever_their_type(tmp_path, kind):
    image = ids(kind)
    mask = read_mask(saved(image, tmp_path / "m.nrrd"), Image.from_sitk(picture((8, 9, 10))))
    assert np.array_equal(mask.numpy(), sitk.GetArrayFromImage(image) != 0)


def test_labels_too_large_for_a_signed_integer_are_refused(tmp_path):
    array = np.full((8, 9, 10), 2**63, np.uint64)
    with pytest.raises(InputError, match="9223372036854775808, beyond signed 64-bit"):
        read_labels(saved(sitk.GetImageFromArray(array), tmp_path / "l.nrrd"))


@pytest.mark.parametrize("version", [1, 2])
def test_a_nifti_file_is_read_and_not_the_uncompressed_one_of_its_name_beside_it(tmp_path, version):
    """ITK reads the voxels of a.nii for a.nii.gz."""
    affine, values = np.diag([1.5, 1.25, 3.0, 1.0]), np.random.default_rng(2).normal(size=(9, 10, 12))
    kind = (nib.Nifti1Image, nib.Nifti2Image)[version - 1]
    for suffix, factor in ((".nii.gz", 1.0), (".nii", -2.0)):
        nib.save(kind((factor * values).astype("float32"), affine), tmp_path / f"a{suffix}")
    for suffix, factor in ((".nii.gz", 1.0), (".nii", -2.0)):
        image = read_image(tmp_path / f"a{suffix}")
        assert np.allclose(image.values.numpy().T, factor * values) and image.grid.spacing == (1.5, 1.25, 3.0)


# ---------------------------------------------------------------------------------------------------- writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="Cannot write .*No such file or directory"):
        write_image(picture(), tmp_path / "nowhere" / "a.nii.gz")


def test_a_folder_without_write_permission_is_named(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage.tempfile, "TemporaryDirectory", denied)
    with pytest.raises(InputError, match="Cannot write .*Permission denied"):
        write_image(picture(), tmp_path / "a.nii.gz")


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(InputError, match="Cannot write .*a.xyz"):
        write_image(picture(), tmp_path / "a.xyz")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_full_disk_leaves_no_half_image(tmp_path, suffix):
    resource = pytest.importorskip("resource")  # a limit on the size of files stands for a full disk
    signal = pytest.importorskip("signal")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"Cannot write [^()]*\([^()]*\); .*free space"):  # one reason, in short
            write_image(picture((40, 40, 40)), tmp_path / f"a{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------- operations


@pytest.mark.parametrize("mode, how", [("linear", sitk.sitkLinear), ("nearest", sitk.sitkNearestNeighbor)])
def test_sampling_is_simpleitks_resampling(mode, how):
    image = oblique_image()
    onto = Grid((13, 12, 11), (1.1, 1.3, 2.3), tuple(image.grid.center - 12), IDENTITY)
    reference = sitk.Image(list(onto.size), sitk.sitkFloat32)
    reference.SetSpacing(onto.spacing)
    reference.SetOrigin(onto.origin)
    expected = sitk.GetArrayFromImage(sitk.Resample(image.to_sitk(), reference, sitk.Transform(), how, -9.0))
    got = sample(image.values, image.grid, onto.points("cpu"), mode, fill=-9.0).reshape(onto.shape).numpy()
    assert 0 < (expected == -9).sum() < expected.size
    assert np.abs(got - expected).max() < 2e-3


def test_channels_and_any_number_of_points_are_sampled():
    image = oblique_image()
    both = torch.stack([image.values, -image.values])
    for n in (1, 2, 7):
        got = sample(both, image.grid, image.grid.points("cpu")[:n])
        assert torch.allclose(got, both.flatten(1)[:, :n], atol=2e-3)


def test_two_dimensional_images_are_sampled():
    image = Image.from_sitk(picture((12, 9), (0.5, 2.0), (3.0, -8.0)))
    for mode in ("linear", "nearest"):
        got = sample(image.values, image.grid, image.grid.points("cpu"), mode)
        assert torch.allclose(got, image.values.flatten(), atol=1e-4)


def test_linear_sampling_is_differentiable_in_the_points():
    grid = Grid((9, 10, 12), (1.0, 1.5, 2.0), (0.0, 0.0, 0.0), IDENTITY)
    values = (grid.points("cpu").double() @ torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)).reshape(grid.shape)
    points = torch.tensor([[3.3, 4.1, 5.7], [6.2, 8.8, 9.9]], dtype=torch.float64, requires_grad=True)
    sample(values, grid, points).sum().backward()
    assert torch.allclose(points.grad, torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64).expand(2, 3))


def test_normalised_intensities_do_not_depend_on_which_columns_equal_steps_would_see():
    """Equal steps through this image see its even columns only, which are 0 but for one voxel."""
    values = torch.linspace(100, 200, 1000 * 400).reshape(1000, 400)
    values[:, ::2] = 0
    values[0, 0] = 1e6
    result = normalise(values)
    assert float(result[:, 1::2].min()) > 0.45
    assert torch.allclose(result, normalise(values.T).T, atol=1e-2)


def test_normalised_intensities_lie_between_zero_and_one_inside_the_mask():
    values = torch.linspace(-1000, 3000, 100_000)
    mask = values < 1000
    result = normalise(values, mask)
    assert float(result.min()) == 0
    assert float(result.max()) == 1
    assert float(result[mask].median()) == pytest.approx(0.5, abs=0.01)


def test_a_few_bright_voxels_on_black_are_still_an_image():
    values = torch.zeros(100_000)
    values[:5] = 4.0
    assert float(normalise(values).max()) == 1


def test_an_image_that_is_constant_inside_its_mask_is_refused():
    with pytest.raises(InputError, match="constant"):
        normalise(torch.arange(10.0), torch.arange(10) == 3)


def test_downsampling_keeps_a_ramp_where_it_was():
    grid = Grid((40, 30, 36), (1.0, 1.0, 2.0), (5.0, -7.0, 11.0), IDENTITY)
    values = grid.points("cpu")[:, 0].reshape(grid.shape)
    coarse, onto = downsample(values, grid, 3.0)
    expected = onto.points("cpu")[:, 0].reshape(onto.shape)
    assert coarse.shape == onto.shape == (24, 10, 13)
    assert torch.allclose(coarse[..., 2:-2], expected[..., 2:-2], atol=1e-3)


def test_downsampling_removes_what_the_new_grid_cannot_show():
    grid = Grid((64, 8, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    stripes = (grid.points("cpu")[:, 0] % 2).reshape(grid.shape)
    coarse, _ = downsample(stripes, grid, 4.0)
    assert torch.allclose(coarse[..., 1:-1], torch.full_like(coarse[..., 1:-1], 0.5), atol=0.002)


@pytest.mark.parametrize("mm", [0.0, 2.4, 3.0, 7.5])
@pytest.mark.parametrize("dim", [2, 3])
def test_a_mask_is_dilated_by_millimetres(dim, mm):
    grid = Grid((21, 25, 15)[:dim], (1.0, 0.8, 2.5)[:dim], (0.0,) * dim, tuple(np.eye(dim).flatten().tolist()))
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[(7, 12, 10)[3 - dim:]] = mask[(2, 3, 4)[3 - dim:]] = True
    points = grid.points("cpu").double()
    expected = torch.cdist(points, points[mask.flatten()]).amin(1) <= mm + 1e-6
    assert torch.equal(dilate(mask, grid, mm).flatten(), expected)


@pytest.mark.parametrize("spacing", [1.0, 0.8, 0.1])
def test_a_margin_of_three_voxels_is_three_voxels(spacing):
    grid = Grid((15, 15, 15), (spacing,) * 3, (0.0, 0.0, 0.0), IDENTITY)
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[7, 7, 7] = True
    line = dilate(mask, grid, float(f"{3 * spacing:g}"))[7, 7]
    assert line.nonzero().flatten().tolist() == list(range(4, 11))


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
def test_a_margin_does_not_depend_on_the_unit_of_length(unit):
    mask = torch.zeros((15, 16, 17), dtype=torch.bool)
    mask[3:6, 8, 2:9] = mask[12, 3, 3] = True
    grids = (Grid((17, 16, 15), (0.8 * k, 1.7 * k, 2.9 * k), (5 * k, -900 * k, 0.0), IDENTITY) for k in (1.0, unit))
    plain, other = (dilate(mask, grid, 3 * grid.spacing[1]) for grid in grids)
    assert torch.equal(plain, other) and plain.sum() > 3 * mask.sum()


def test_a_mask_of_all_voxels_or_of_none_stays_as_it_is():
    grid = Grid((9, 9, 9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    for mask in (torch.ones(grid.shape, dtype=torch.bool), torch.zeros(grid.shape, dtype=torch.bool)):
        assert torch.equal(dilate(mask, grid, 3.0), mask)


@pytest.mark.parametrize("shape", [(5, 9), (1, 7), (6, 4, 8)])
def test_the_highest_value_within_a_reach_is_that_of_a_box_cut_at_the_border(shape):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5
    pool = torch.nn.functional.max_pool3d if len(shape) == 3 else torch.nn.functional.max_pool2d
    assert torch.equal(highest_within(values, 2), pool(values[None, None], 5, 1, 2)[0, 0])


@pytest.mark.parametrize("metres", ["fixed", "moving"])
def test_images_in_different_units_are_refused_with_both_lengths(metres):
    spacing = {"fixed": (1.0, 1.0, 1.0), "moving": (1.0, 1.0, 1.0), metres: (1e-3, 1e-3, 1e-3)}
    fixed, moving = (Image(torch.rand(12, 12, 12), Grid((12, 12, 12), spacing[name], (0.0,) * 3, IDENTITY), name)
                     for name in ("fixed", "moving"))
    with pytest.raises(InputError, match="check the units"):
        check_sizes(fixed, moving)
    with pytest.raises(InputError, match="check the units"):
        next(register(fixed, moving))
    factor = 1e3 if metres == "fixed" else 1e-3
    check_sizes(fixed, moving, np.diag([factor, factor, factor, 1.0]))
