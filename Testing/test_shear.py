"""Axes off right angles: rounding is turned back, a shear resampled once, and everything stays where it is."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nephi.cli.main import main
from nephi.errors import InputError
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.images.masks import mask_on
from nephi.images.reading import read_grid, read_image, read_labels, read_mask
from nephi.images.shear import grid_at_right_angles
from nephi.maps.transform import Transform

SIZE = (20, 18, 22)
TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]


def wave(points):
    """Smooth intensities at points (..., 3) LPS mm."""
    return 100 + 20 * np.sin(points / (9.0, 11.0, 13.0)).sum(-1)


def matrix(kind):
    """(4, 4) from voxel indices to LPS mm."""
    steps = {"rounded": np.round(TURN, 3) * (1.5, 2.0, 1.2), "sheared": (TURN @ [[1, 0, 0], [0, 1, 0.3], [0, 0, 1]])
             * (1.5, 2.0, 1.2), "right": TURN * (1.5, 2.0, 1.2)}[kind]
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = steps, (10.0, -25.0, 40.0)
    return result


def voxels(kind):
    """(k, j, i) intensities, as they are at the voxels' places."""
    index = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), -1)
    return wave(index @ matrix(kind)[:3, :3].T + matrix(kind)[:3, 3]).T.astype("float32")


def as_sitk(kind, values=None):
    image = sitk.GetImageFromArray(voxels(kind) if values is None else values)
    lengths = np.linalg.norm(matrix(kind)[:3, :3], axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetOrigin(matrix(kind)[:3, 3].tolist())
    image.SetDirection((matrix(kind)[:3, :3] / lengths).ravel().tolist())
    return image


def write_nifti(path, kind, values=None, sform=1, qform=0, make=nib.Nifti1Image):
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix(kind)
    image = make((voxels(kind) if values is None else values).T, ras)
    image.set_sform(ras, sform)
    image.set_qform(ras, qform, strip_shears=True)
    nib.save(image, str(path))
    return path


def write(folder, kind, suffix):
    if suffix.startswith(".nii"):
        return write_nifti(folder / f"{kind}{suffix}", kind)
    sitk.WriteImage(as_sitk(kind), str(folder / f"{kind}{suffix}"))
    return folder / f"{kind}{suffix}"


def check_place(image: Image, tolerance=2.5):
    """Intensities are where they are in the world, and the axes at right angles."""
    assert np.allclose(image.grid.axes.T @ image.grid.axes, np.eye(3), atol=1e-6)
    points = image.grid.points("cpu").numpy()
    known = np.ones(len(points), bool) if image.known is None else image.known.flatten().numpy()
    assert known.mean() > 0.5
    assert np.abs(image.values.flatten().numpy() - wave(points))[known].max() < tolerance


@pytest.mark.parametrize("kind", ["rounded", "sheared"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_an_image_lies_where_its_header_says_on_a_grid_at_right_angles(tmp_path, kind, suffix, caplog):
    image = read_image(write(tmp_path, kind, suffix))
    check_place(image)
    assert ("resampled once" if kind == "sheared" else "turned to right angles") in caplog.text
    assert kind == "sheared" or image.grid.size == SIZE


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
def test_axes_at_right_angles_are_left_as_they_are_without_a_word(tmp_path, suffix, caplog):
    path = write(tmp_path, "right", suffix)
    assert read_image(path).grid == Grid.from_sitk(sitk.ReadImage(str(path)))
    assert not caplog.text


@pytest.mark.parametrize("make", [nib.Nifti1Image, nib.Nifti1Pair, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 0), (2, 0), (1, 1), (2, 1)])
def test_a_sheared_sform_holds_beside_a_qform_that_is_the_same_without_the_shear(tmp_path, make, codes):
    path = tmp_path / ("image.img" if make is nib.Nifti1Pair else "image.nii")
    check_place(read_image(write_nifti(path, "sheared", None, *codes, make=make)))


def test_a_qform_of_the_scanner_holds_beside_an_sform_of_another_space(tmp_path):
    image = nib.Nifti1Image(voxels("right").T, np.eye(4))
    image.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]) + np.eye(4, k=3) * 90, 4)
    image.set_qform(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix("right"), 1)
    nib.save(image, str(tmp_path / "image.nii"))
    check_place(read_image(tmp_path / "image.nii"))


def test_an_sform_whose_voxel_size_is_not_that_of_the_header_holds(tmp_path, caplog):
    image = nib.load(str(write_nifti(tmp_path / "first.nii", "right")))
    image.header["pixdim"][1:4] = 1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), str(tmp_path / "image.nii"))
    check_place(read_image(tmp_path / "image.nii"))
    assert "as its sform says" in caplog.text


def test_nan_voxels_of_a_sheared_nifti_stay_unknown(tmp_path):
    values = voxels("sheared")
    values[8:14, 6:12, 6:12] = np.nan
    image = read_image(write_nifti(tmp_path / "image.nii.gz", "sheared", values))
    check_place(image)
    i, j, k, _ = np.round(image.grid.world_to_index @ matrix("sheared") @ (9, 9, 11, 1)).astype(int)
    assert not image.known[k, j, i]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_labels_and_masks_of_a_sheared_image_lie_on_it(tmp_path, suffix):
    inside = (voxels("sheared") > 105).astype("uint8") * 3
    path = tmp_path / f"labels{suffix}"
    write_nifti(path, "sheared", inside) if suffix == ".nii.gz" else \
        sitk.WriteImage(as_sitk("sheared", inside), str(path))
    image, labels = read_image(write(tmp_path, "sheared", ".mha")), read_labels(path)
    assert set(labels.values.unique().tolist()) == {0, 3}
    assert labels.grid.same_as(image.grid)
    for found in (labels.values > 0, read_mask(path, image)):
        sure = image.known & ((image.values - 105).abs() > 4)
        assert (found == (image.values > 105))[sure].all()


@pytest.mark.parametrize("kind", ["rounded", "sheared"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_reference_gives_the_grid_that_its_image_would_have(tmp_path, kind, suffix, caplog):
    path = write(tmp_path, kind, suffix)
    assert read_grid(path).same_as(read_image(path).grid)
    assert "reference" in caplog.text


def test_a_picture_in_two_dimensions_is_straightened_too(caplog):
    picture = sitk.GetImageFromArray(np.random.default_rng(1).normal(size=(30, 40)).astype("float32"))
    picture.SetDirection([1.0, 0.3, 0.0, 1.0])
    image = Image.from_sitk(picture)
    assert "resampled once" in caplog.text
    assert np.allclose(image.grid.axes.T @ image.grid.axes, np.eye(2), atol=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_what_is_rounding_does_not_depend_on_the_unit_of_length(unit):
    for kind, size in (("rounded", SIZE), ("sheared", None)):
        grid = Grid.from_sitk(as_sitk(kind))
        found = grid_at_right_angles(Grid(grid.size, tuple(s * unit for s in grid.spacing),
                                          tuple(o * unit for o in grid.origin), grid.direction), "image")
        expected = grid_at_right_angles(grid, "image")
        assert found.size == expected.size and (size is None or found.size == size)
        assert np.allclose(np.asarray(found.spacing) / unit, expected.spacing)


def test_a_shear_that_would_take_many_times_the_memory_is_refused():
    image = as_sitk("right")
    image.SetSpacing((0.05, 2.0, 2.0))
    image.SetDirection([1.0, 0.9, 0.0, 0.0, 0.43, 0.0, 0.0, 0.0, 1.0])
    with pytest.raises(InputError, match="times its voxels"):
        Image.from_sitk(image, "fixed image")


def test_the_command_line_carries_a_sheared_image_to_where_it_is(tmp_path):
    path = write(tmp_path, "sheared", ".nii.gz")
    right = read_image(write(tmp_path, "right", ".nrrd"))
    Transform(right.grid, read_image(path).grid, np.eye(4), (), {}).save(tmp_path / "t.nephi")
    assert main(["apply", str(tmp_path / "t.nephi"), str(path), "-o", str(tmp_path / "out.nrrd"), "-q"]) == 0
    out = read_image(tmp_path / "out.nrrd")
    inner = (slice(6, -6),) * 3
    points = out.grid.points("cpu").numpy().reshape(*out.grid.shape, 3)[inner]
    assert np.median(np.abs(out.values[inner].numpy() - wave(points))) < 0.5


# ------------------------------------------------------------------------------------- headers that were lost


def box(size, spacing=1.0, origin=(0.0, 0.0, 0.0), flip=False):
    """A label image with a box in its middle half."""
    array = np.zeros(size[::-1], "uint8")
    array[tuple(slice(n // 4, n - n // 4) for n in size[::-1])] = 1
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing] * len(size))
    image.SetOrigin(origin)
    if flip:
        image.SetDirection([-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0])
    return image


def placed(size=(20, 24, 28), spacing=3.0, origin=(-60.0, -70.0, -80.0)) -> Image:
    array = np.random.default_rng(2).normal(size=size[::-1]).astype("float32")
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([spacing] * 3)
    image.SetOrigin(origin)
    return Image.from_sitk(image, "fixed image a.nrrd")


def read(mask, folder, image):
    sitk.WriteImage(mask, str(folder / "m.nii.gz"))
    return read_mask(folder / "m.nii.gz", image)


@pytest.mark.parametrize("spacing", [1.0, 3.0])
@pytest.mark.parametrize("flip", [False, True])  # an identity in RAS, as nibabel writes it, and in LPS
def test_a_mask_that_lost_its_header_is_taken_voxel_by_voxel_with_a_warning(tmp_path, spacing, flip, caplog):
    image, mask = placed(), box((20, 24, 28), spacing, flip=flip)
    assert np.array_equal(read(mask, tmp_path, image).numpy(), sitk.GetArrayFromImage(mask) > 0)
    assert "voxel by voxel" in caplog.text and "m.nii.gz" in caplog.text


def test_a_lost_header_with_the_axes_in_another_order_is_refused(tmp_path):
    with pytest.raises(InputError, match="another order"):
        read(box((28, 24, 20)), tmp_path, placed())


@pytest.mark.parametrize("size", [(10, 12, 14), (20, 24, 24)])
def test_a_lost_header_with_another_size_is_refused(tmp_path, size):
    with pytest.raises(InputError, match="lost its header.*another size than"):
        read(box(size), tmp_path, placed())


def test_a_mask_whose_header_says_something_is_resampled_where_it_says(tmp_path, caplog):
    image = placed()
    for mask in (box((30, 30, 30), 2.0, (-60.0, -65.0, -75.0)), box((20, 24, 28), 3.0, (-57.0, -70.0, -80.0)),
                 box((12, 12, 12), 1.0, (-30.0, -30.0, -30.0))):
        mask_there = read(mask, tmp_path, image)
        share = sitk.GetArrayViewFromImage(mask).sum() * np.prod(mask.GetSpacing())
        assert float(mask_there.sum()) * 27 == pytest.approx(share, rel=0.35)
    assert "voxel by voxel" not in caplog.text


@pytest.mark.parametrize("origin", [(60.0, 70.0, -80.0), (-60.0, -70.0, 5.0)])
def test_a_mask_that_lies_mostly_outside_its_image_is_refused(tmp_path, origin):
    with pytest.raises(InputError, match="lies mostly outside|does not overlap"):
        read(box((20, 24, 28), 3.0, origin), tmp_path, placed())


def test_a_mask_of_the_images_own_voxels_near_the_origin_is_no_lost_one(tmp_path, caplog):
    image = placed(spacing=1.0, origin=(2.0, -1.0, 1.0))
    assert int(read(box((20, 24, 28)), tmp_path, image).sum()) > 0
    assert "voxel by voxel" not in caplog.text


def test_lost_headers_of_labels_are_found_out_too(tmp_path, caplog):
    image = placed()
    Transform(image.grid, image.grid, np.eye(4), (), {}).save(tmp_path / "t.nephi")
    sitk.WriteImage(box((20, 24, 28)), str(tmp_path / "labels.nii.gz"))
    labels = ["--fixed-labels", str(tmp_path / "labels.nii.gz"), "--moving-labels", str(tmp_path / "labels.nii.gz")]
    with caplog.at_level("WARNING"):
        assert main(["evaluate", str(tmp_path / "t.nephi"), *labels]) == 0
    assert caplog.text.count("voxel by voxel") == 2


def test_a_mask_on_a_sheared_grid_is_brought_onto_its_image():
    grid = Grid.from_sitk(as_sitk("sheared"))
    image = Image.from_sitk(as_sitk("sheared"), "image")
    found = mask_on(Image(torch.from_numpy(voxels("sheared") > 105), grid, "mask"), image)
    sure = image.known & ((image.values - 105).abs() > 4)
    assert (found == (image.values > 105))[sure].all()
