"""Images of every kind and type go through a transform from file to file and stay what they are, where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nephi.cli.main import main
from nephi.files.outputs import FILES, file_names
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.images.phantom import lung_phantom
from nephi.images.writing import own_format, write_image
from nephi.maps.transform import Transform

FEW = ["--iterations", "3,0,0", "--resolution", "12,24,48", "--hidden", "16", "--frequencies", "8", "--device", "cpu",
       "--grid-spacing", "30", "-q"]
TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
FAR = Grid((10, 9, 8), (0.7, 1.3, 2.1), (1e5, -1e5, 98765.4321), tuple(TURN.ravel().tolist()))
FLAT = Grid((10, 9), (0.7, 1.3), (1e5, -98765.4321), (0.6, -0.8, 0.8, 0.6))
GRIDS = {"3D": FAR, "2D": FLAT}
SUFFIXES = [".nrrd", ".mha", ".nii.gz"]
TYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, np.float32, np.float64]


def saved(array: np.ndarray, grid: Grid, path: Path, vectors: bool = False) -> str:
    """A file of (t, k, j, i, c) voxels on a grid; a fourth axis is 2.5 apart and begins at 7."""
    image = sitk.GetImageFromArray(array, isVector=vectors)
    axes = np.eye(image.GetDimension())
    axes[: grid.dim, : grid.dim] = grid.axes
    image.SetSpacing([*grid.spacing, 2.5][: len(axes)])
    image.SetOrigin([*grid.origin, 7.0][: len(axes)])
    image.SetDirection(axes.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return str(path)


def numbers(kind: type, *shape: int) -> np.ndarray:
    """Voxels of a type, its smallest and largest among them as far as float64 has them."""
    values = np.random.default_rng(5).uniform(0, 100, shape).astype(kind)
    if np.dtype(kind).kind in "iu":
        values.reshape(-1)[[3, 40]] = np.iinfo(kind).min, min(np.iinfo(kind).max, 2**53)
    return values


def apply(folder: Path, grid: Grid, source: str, out: str, *options: str, step: int = 1) -> sitk.Image:
    """What the identity makes of a file on its grid moved by some voxels along i, read back."""
    transform, reference = folder / "t.nephi", grid.window((step, *[0] * (grid.dim - 1)), grid.size)
    Transform(grid, grid, np.eye(grid.dim + 1)).save(transform)
    onto = saved(np.zeros(grid.shape, np.uint8), reference, folder / "reference.nrrd")
    assert main(["apply", str(transform), source, "-o", str(folder / out), "--reference", onto, "-q", *options]) == 0
    return sitk.ReadImage(str(folder / out))


def refused(capsys, *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 2
    return capsys.readouterr().err


def moved(array: np.ndarray, fill: float, axis: int = -1) -> np.ndarray:
    """The array one voxel along i."""
    result = np.full_like(array, fill)
    np.moveaxis(result, axis, 0)[:-1] = np.moveaxis(array, axis, 0)[1:]
    return result


# --------------------------------------------------------------------------------------- what is carried by apply


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("kind", TYPES)
def test_an_image_keeps_its_type_and_its_fill_is_of_it(tmp_path, kind, grid, suffix):
    array = numbers(kind, *grid.shape)
    back = apply(tmp_path, grid, saved(array, grid, tmp_path / f"in{suffix}"), "out.nrrd")
    found = sitk.GetArrayFromImage(back)
    assert found.dtype == kind
    spread = 0.02 * np.ptp(array.astype(np.float64))  # float32 headers put NIfTI off by a part of a voxel
    tolerance = spread if suffix == ".nii.gz" else 1e-5 * np.abs(array.astype(np.float64)).max()
    assert np.allclose(found.astype(np.float64), moved(array, array.min()).astype(np.float64), rtol=0, atol=tolerance)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind not in (np.float32, np.float64)])
def test_labels_keep_their_type_and_every_digit(tmp_path, kind, suffix):
    array = (numbers(kind, *FAR.shape) > 50).astype(kind) * kind(np.iinfo(kind).max - (np.iinfo(kind).bits == 64) *
                                                                 (np.iinfo(kind).max - 2**62 - 1))
    array[2, 3, 4:] = 1
    back = apply(tmp_path, FAR, saved(array, FAR, tmp_path / f"in{suffix}"), "out.mha", "--label-image")
    found = sitk.GetArrayFromImage(back)
    assert found.dtype == kind and np.array_equal(found, moved(array, 0))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_colours_and_vectors_are_carried_component_by_component(tmp_path, kind, suffix):
    for grid in GRIDS.values():
        array = numbers(kind, *grid.shape, 3)
        back = apply(tmp_path, grid, saved(array, grid, tmp_path / f"in{suffix}", True), f"out{suffix}")
        assert back.GetNumberOfComponentsPerPixel() == 3
        found = sitk.GetArrayFromImage(back)
        assert found.dtype == kind and np.allclose(found.astype(float), moved(array, 0, -2).astype(float), atol=3)


def test_a_picture_stays_a_picture(tmp_path):
    grid, array = Grid.aligned((10, 9), 1.0, (0.0, 0.0)), numbers(np.uint8, 9, 10, 3)
    back = apply(tmp_path, grid, saved(array, grid, tmp_path / "in.png", True), "out.png")
    assert np.array_equal(sitk.GetArrayFromImage(back), moved(array, 0, -2))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("vectors", [False, True])
def test_a_4d_image_is_carried_volume_by_volume_and_keeps_its_fourth_axis(tmp_path, vectors, suffix):
    array = numbers(np.int16, 3, *FAR.shape, *([2] if vectors else []))
    array[array == array.max()] = 100
    array[array == array.min()] = 0
    back = apply(tmp_path, FAR, saved(array, FAR, tmp_path / f"in{suffix}", vectors), f"out{suffix}")
    assert back.GetSize() == (10, 9, 8, 3)
    assert back.GetSpacing()[3] == 2.5 and back.GetOrigin()[3] == pytest.approx(7.0)
    found = sitk.GetArrayFromImage(back).astype(int)
    assert np.allclose(found, moved(array, 0, -2 if vectors else -1), atol=3)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_complex_voxels_are_carried(tmp_path, suffix, capsys):
    array = (numbers(np.float32, *FAR.shape) + 1j * numbers(np.float32, *FAR.shape)[::-1]).astype(np.complex64)
    source = saved(array, FAR, tmp_path / f"in{suffix}")
    back = apply(tmp_path, FAR, source, f"out{suffix}")
    assert back.GetPixelID() == sitk.sitkComplexFloat32
    assert np.abs(sitk.GetArrayFromImage(back) - moved(array, 0)).max() < 3
    assert "complex voxels, which uint8 cannot hold" in refused(
        capsys, "apply", tmp_path / "t.nephi", source, "-o", tmp_path / "no.nrrd", "--pixel-type", "uint8")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_constant_image_is_carried(tmp_path, shape, suffix):
    array = np.full((*shape, *FAR.shape), 4, np.int16)
    found = sitk.GetArrayFromImage(apply(tmp_path, FAR, saved(array, FAR, tmp_path / f"in{suffix}"), "out.nrrd"))
    assert found.dtype == np.int16 and found.shape == array.shape and (found == 4).all()


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".hdr"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["scalar", "vectors", "4D"])
def test_a_voxel_that_nan_has_a_part_in_is_nan_and_no_other(tmp_path, layout, kind, suffix):
    grid = Grid(FAR.size, (0.5, 1.25, 2.0), (-16.0, 8.0, 40.0), tuple(np.eye(3).ravel()))
    shape = {"scalar": grid.shape, "vectors": (*grid.shape, 3), "4D": (2, *grid.shape)}[layout]
    array, lone = numbers(kind, *shape), {"scalar": (4, 5, 6), "vectors": (4, 5, 6, 1), "4D": (1, 4, 5, 6)}[layout]
    array[lone] = np.nan
    source = saved(array, grid, tmp_path / f"in{suffix}", layout == "vectors")
    whole = sitk.GetArrayFromImage(apply(tmp_path, grid, source, "whole.nrrd", step=0))
    assert np.array_equal(np.isnan(whole), np.isnan(array))
    assert np.allclose(whole, array, atol=1e-3, equal_nan=True)
    between = grid.window((0.25, 0, 0), grid.size)
    reference = saved(np.zeros(grid.shape, np.uint8), between, tmp_path / "between.nrrd")
    back = apply(tmp_path, grid, source, "part.nrrd", "--reference", reference)
    expected = np.isnan(array)
    k, j, i = lone[-3:] if layout != "vectors" else lone[:3]
    expected[(1, k, j, i - 1) if layout == "4D" else (k, j, i - 1, *lone[3:])] = True
    assert np.array_equal(np.isnan(sitk.GetArrayFromImage(back)), expected)


def test_infinity_stays_and_an_image_of_nothing_but_nan_too(tmp_path):
    array = numbers(np.float32, *FAR.shape)
    array[2, 3, 4] = np.inf
    found = sitk.GetArrayFromImage(apply(tmp_path, FAR, saved(array, FAR, tmp_path / "i.nrrd"), "o.nrrd"))
    assert np.isposinf(found[2, 3, 3]) and np.isfinite(found).sum() == found.size - 1
    nothing = saved(np.full(FAR.shape, np.nan, np.float32), FAR, tmp_path / "n.nrrd")
    assert np.isnan(sitk.GetArrayFromImage(apply(tmp_path, FAR, nothing, "o.nrrd"))).all()


def test_a_pixel_type_is_rounded_into_and_what_is_beyond_becomes_the_nearest(tmp_path, capsys):
    array = np.linspace(-300, 300, FAR.count).reshape(FAR.shape)
    source = saved(array, FAR, tmp_path / "in.nrrd")
    back = sitk.GetArrayFromImage(apply(tmp_path, FAR, source, "o.nrrd", "--pixel-type", "uint8", "--fill", "-1"))
    assert back.dtype == np.uint8
    assert np.array_equal(back, moved(np.round(array).clip(0, 255), 0))
    array[1, 1, 1] = np.nan
    source = saved(array, FAR, tmp_path / "in.nrrd")
    line = refused(capsys, "apply", tmp_path / "t.nephi", source, "-o", tmp_path / "no.nrrd", "--pixel-type", "int16")
    assert "NaN voxels, which int16 cannot hold" in line and not (tmp_path / "no.nrrd").exists()
    line = refused(capsys, "apply", tmp_path / "t.nephi", source, "-o", tmp_path / "no.nrrd", "--pixel-type", "byte")
    assert "'byte' is not one of uint8, int8" in line


def test_a_fill_that_the_labels_own_type_cannot_hold_widens_it_and_one_that_is_no_label_is_refused(tmp_path, capsys):
    source = saved((numbers(np.uint8, *FAR.shape) > 50) * np.uint8(255), FAR, tmp_path / "l.nrrd")
    for fill, kind in ((-1, np.int16), (614454277, np.uint32), (2**40, np.uint64)):
        found = sitk.GetArrayFromImage(apply(tmp_path, FAR, source, "o.nrrd", "--label-image", "--fill", str(fill)))
        assert found.dtype == kind and np.unique(found).tolist() == sorted((0, 255, fill))
    for fill in ("0.5", "nan", "1e30"):
        assert "is no label; give a whole number" in refused(
            capsys, "apply", tmp_path / "t.nephi", source, "-o", tmp_path / "no.nrrd", "--label-image", "--fill", fill)
    assert "labels from 0 to 255, which int8 cannot hold" in refused(
        capsys, "apply", tmp_path / "t.nephi", source, "-o", tmp_path / "no.nrrd", "--label-image", "--pixel-type",
        "int8")


def test_labels_stored_as_floating_point_become_the_smallest_integers_that_hold_them(tmp_path):
    array = (numbers(np.uint8, *FAR.shape) > 50) * 614454277.0
    found = sitk.GetArrayFromImage(apply(tmp_path, FAR, saved(array, FAR, tmp_path / "l.nrrd"), "o.nrrd",
                                         "--label-image"))
    assert found.dtype == np.uint32 and np.array_equal(found, moved(array, 0))


# ------------------------------------------------------------------------------------------- what info describes


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_info_describes_every_kind_of_image(tmp_path, suffix, capsys):
    def info(array: np.ndarray, vectors: bool = False) -> dict:
        assert main(["info", saved(array, FAR, tmp_path / f"i{suffix}", vectors), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    constant = info(np.full(FAR.shape, 4, np.int16))
    assert (constant["pixel type"], constant["minimum"], constant["maximum"], constant["mean"]) == ("int16", 4, 4, 4)
    colour = info(numbers(np.uint8, *FAR.shape, 3), True)
    assert (colour["pixel type"], colour["components"], colour["grid"]["size"]) == ("uint8", 3, [10, 9, 8])
    series = info(numbers(np.float64, 3, *FAR.shape))
    assert series["grid"]["size"] == [10, 9, 8, 3] and series["grid"]["spacing"][3] == 2.5
    assert len(series["grid"]["direction"]) == 16 and len(series["grid"]["center"]) == 3
    nothing = info(np.full(FAR.shape, np.nan, np.float32))
    assert nothing["minimum"] is None and nothing["NaN or infinite"] == 720


# --------------------------------------------------------------------------------------- where images are written


@pytest.mark.parametrize("name, expected", [
    ("a.nrrd", "nrrd"), ("a.NHDR", "nrrd"), ("a.mha", "mha"), ("a.mhd", "mha"), ("a.nii", "nii.gz"),
    ("a.nii.gz", "nii.gz"), ("a.hdr", "nii.gz"), ("a.img.gz", "nii.gz"), ("a.png", "nrrd"), ("a.tif", "nrrd"),
    ("a.dcm", "nrrd"), ("series", "nrrd"), (None, "nii.gz")])
def test_images_are_written_in_the_fixed_images_own_format(name, expected):
    for dim in (2, 3):
        assert own_format(name, Grid.aligned((9,) * dim, 1.5, (-8.0,) * dim)) == expected


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_format_that_cannot_hold_the_place_of_the_voxels_is_not_chosen(grid, tmp_path, caplog):
    assert own_format("a.nii.gz", grid) == "nrrd" and own_format(None, grid) == "nrrd"
    image = Image(lung_phantom(8).fixed.values[:1, :1, :1].expand(1, 1, 1).reshape((1,) * grid.dim),
                  Grid((1,) * grid.dim, grid.spacing, grid.origin, grid.direction)).to_sitk()
    for suffix in (".nrrd", ".mha"):
        assert own_format(f"a{suffix}", grid) == suffix[1:]
        write_image(image, tmp_path / f"a{suffix}")
    assert not caplog.text
    write_image(image, tmp_path / "a.nii.gz")
    assert "a.nii.gz cannot hold the place of its voxels exactly" in caplog.text


def test_nifti_images_get_nifti_files(tmp_path):
    """Whatever the header of the fixed image, which is in single precision as the written one is."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        axes = np.linalg.qr(random.normal(size=(3, 3)))[0]
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = axes * random.uniform(0.01, 5, 3), random.normal(size=3) * 10.0 ** (seed % 6)
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), affine), tmp_path / "a.nii.gz")
        grid = Grid.from_sitk(sitk.ReadImage(str(tmp_path / "a.nii.gz")))
        assert own_format("a.nii.gz", grid) == "nii.gz"


@pytest.fixture(scope="module")
def far_pair(tmp_path_factory) -> Path:
    """A chest of whole numbers on an oblique grid far from the origin."""
    folder, phantom = tmp_path_factory.mktemp("far"), lung_phantom(28)
    for role, image in (("fixed", phantom.fixed), ("moving", phantom.moving)):
        grid = Grid(image.grid.size, image.grid.spacing, FAR.origin, FAR.direction)
        saved(image.values.numpy().round().astype(np.int16), grid, folder / f"{role}.nrrd")
    return folder


@pytest.mark.parametrize("options, suffix, kind", [
    ([], "nrrd", np.int16), (["--format", ".MHA", "--pixel-type", "float32"], "mha", np.float32)])
def test_outputs_lie_on_the_fixed_image_and_have_the_type_of_the_moving_one(far_pair, tmp_path, options, suffix, kind):
    fixed, moving = (str(far_pair / f"{role}.nrrd") for role in ("fixed", "moving"))
    assert main(["register", fixed, moving, "-o", str(tmp_path), *FEW, *options]) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["files"] == file_names(suffix)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(report["files"].values())
    wanted = sitk.ReadImage(fixed, sitk.sitkFloat32)
    for name, expected in ((f"warped.{suffix}", kind), (f"log_jacobian.{suffix}", np.float32)):
        image = sitk.ReadImage(str(tmp_path / name))
        assert sitk.GetArrayViewFromImage(image).dtype == expected
        wanted - sitk.Cast(image, sitk.sitkFloat32)  # refused by SimpleITK where it is not in the same place
    for out in ("carried.nrrd", "jacobian.nrrd"):
        command = ["apply", str(tmp_path / "transform.nephi"), moving] if out == "carried.nrrd" else \
            ["jacobian", str(tmp_path / "transform.nephi")]
        assert main([*command, "-o", str(tmp_path / out), "-q"]) == 0
        wanted - sitk.ReadImage(str(tmp_path / out), sitk.sitkFloat32)


def test_an_unknown_format_is_refused(far_pair, tmp_path, capsys):
    images = [far_pair / "fixed.nrrd", far_pair / "moving.nrrd"]
    assert "'png' is not one of nii.gz, nrrd, mha, nii" in refused(
        capsys, "register", *images, "-o", tmp_path / "out", "--format", "png")


def test_the_names_of_files_are_those_of_nifti_by_default():
    assert file_names("nii.gz") == FILES
