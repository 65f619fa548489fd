"""A given transform, linear or not, from ITK, an image or ourselves, is where a registration starts."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from closed_form import ClosedForm, oblique_grid, tilted_affine
from nephi.align.initial import start_from, start_from_itk
from nephi.align.registration import run
from nephi.cli.main import main
from nephi.errors import InputError
from nephi.files.initial_files import read_initial_transform
from nephi.geometry import Grid, apply_affine, random_points
from nephi.images.image import Image
from nephi.maps.affine_map import AffineMap
from nephi.maps.determinant import determinant_at
from nephi.maps.transform import Transform
from nephi.options import Options

CUBE = Grid((30, 26, 24), (2.0, 2.0, 2.5), (-20.0, 15.0, 300.0), tuple(np.eye(3).flatten().tolist()))
SQUARE = Grid((48, 40), (1.5, 1.5), (10.0, -20.0), (1.0, 0.0, 0.0, 1.0))
GRIDS = {2: SQUARE, 3: CUBE}
POINTS = {dim: random_points(grid, 200, seed=3).double() for dim, grid in GRIDS.items()}


def displacement_image(map_, grid: Grid) -> sitk.Image:
    """Displacements of a map at a grid's points, double."""
    return placed(map_.displacement_on(grid).double().numpy(), grid)


def placed(values: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(values, isVector=True)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def as_transform(start, grid: Grid) -> Transform:
    return Transform(grid, grid, start.matrix, start.stages)


def through_itk(transform: sitk.Transform, points: torch.Tensor) -> torch.Tensor:
    return torch.tensor([transform.TransformPoint(point) for point in points.tolist()], dtype=torch.float64)


def linear_transforms() -> list[sitk.Transform]:
    def moved(transform, *parameters):
        transform.SetParameters(parameters)
        return transform

    turn = sitk.VersorRigid3DTransform()
    turn.SetRotation((0.3, -0.2, 0.9), 0.4)
    turn.SetCenter((4.0, 5.0, 6.0))
    sides = sitk.Similarity3DTransform(1.2, (0.1, 0.9, 0.3), 0.3, (3.0, 2.0, 1.0), (9.0, 8.0, 7.0))
    affine = sitk.AffineTransform(tilted_affine()[:3, :3].flatten().tolist(), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    versor = sitk.VersorTransform()
    versor.SetRotation((0.0, 0.6, 0.8), 0.5)
    scale_versor = sitk.ScaleVersor3DTransform((1.1, 0.9, 1.2), (0.1, 0.0, 1.0), 0.2, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    skew = sitk.ScaleSkewVersor3DTransform()
    skew.SetScale((1.2, 1.1, 0.9))
    compose = sitk.ComposeScaleSkewVersor3DTransform()
    compose.SetTranslation((1.0, -2.0, 3.0))
    return [sitk.Transform(3, sitk.sitkIdentity), sitk.Transform(2, sitk.sitkIdentity),
            sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), sitk.TranslationTransform(2, (1.0, 2.0)),
            sitk.ScaleTransform(3, (1.1, 0.9, 1.2)), sitk.ScaleTransform(2, (1.1, 0.9)),
            moved(sitk.Transform(3, sitk.sitkScaleLogarithmic), 0.1, -0.1, 0.2),
            moved(sitk.Transform(3, sitk.sitkQuaternionRigid), 0.1, 0.2, -0.1, 0.97, 4.0, 5.0, 6.0),
            sitk.Euler3DTransform((10.0, -20.0, 30.0), 0.1, -0.2, 0.3, (4.0, 5.0, 6.0)),
            sitk.Euler2DTransform((10.0, -20.0), 0.1, (4.0, 5.0)), turn, sides, affine, versor, scale_versor, skew,
            compose,
            sitk.Similarity2DTransform(1.1, 0.2, (3.0, 4.0), (5.0, 6.0)),
            sitk.AffineTransform((1.1, 0.1, -0.2, 0.9), (1.0, 2.0), (3.0, 4.0)),
            sitk.CompositeTransform([affine, turn, sides])]


UNREADABLE = {".mat": ("CompositeTransform", "IdentityTransform", "ComposeScaleSkewVersor3DTransform"),
              ".h5": ("ComposeScaleSkewVersor3DTransform",)}
"""What SimpleITK does not write or read itself."""


# -------------------------------------------------------------------------------------------------------- linear


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".mat", ".h5"])
@pytest.mark.parametrize("transform", linear_transforms(), ids=lambda t: f"{t.GetName()}{t.GetDimension()}")
def test_every_linear_transform_is_read_as_a_matrix(transform, suffix, tmp_path):
    if transform.GetName() in UNREADABLE.get(suffix, ()):
        pytest.skip("SimpleITK has no such file")
    path, points = tmp_path / f"t{suffix}", POINTS[transform.GetDimension()]
    sitk.WriteTransform(transform, str(path))
    start = read_initial_transform(path, GRIDS[transform.GetDimension()])
    assert start.stages == ()
    assert torch.allclose(apply_affine(start.matrix, points), through_itk(transform, points), atol=1e-3)


MATRIX = "1.1 0.1 0 -0.2 0.9 0 0.05 0 1.2"
BY_HAND = {
    "MatrixOffsetTransformBase_double_3_3": (f"{MATRIX} 5 -6 7", "10 20 30"),
    "MatrixOffsetTransformBase_float_3_3": (f"{MATRIX} 5 -6 7", "10 20 30"),
    "AffineTransform_float_3_3": (f"{MATRIX} 5 -6 7", "10 20 30"),
    "FixedCenterOfRotationAffineTransform_double_3_3": (f"{MATRIX} 5 -6 7", "10 20 30"),
    "ScalableAffineTransform_double_3_3": (f"{MATRIX} 5 -6 7", "10 20 30"),
    "CenteredAffineTransform_double_3_3": (f"{MATRIX} 10 20 30 5 -6 7", "10 20 30"),
}


@pytest.mark.parametrize("kind", BY_HAND)
@pytest.mark.parametrize("name", ["t.txt", "t.tfm", "t.mat", "c3d.itk"])
def test_a_text_with_one_of_itks_own_types_is_read_whatever_it_is_called(kind, name, tmp_path):
    parameters, center = BY_HAND[kind]
    (tmp_path / name).write_text(f"#Insight Transform File V1.0\n#Transform 0\nTransform: {kind}\n"
                                 f"Parameters: {parameters}\nFixedParameters: {center}\n")
    expected = sitk.AffineTransform([float(n) for n in MATRIX.split()], (5.0, -6.0, 7.0), (10.0, 20.0, 30.0))
    matrix = read_initial_transform(tmp_path / name, CUBE).matrix
    assert torch.allclose(apply_affine(matrix, POINTS[3]), through_itk(expected, POINTS[3]), atol=1e-3)


@pytest.mark.parametrize("kind", ["MatrixOffsetTransformBase_double_3_3", "AffineTransform_float_3_3"])
def test_the_binary_matrix_file_of_ants_is_read(kind, tmp_path):
    parameters = [*(float(n) for n in MATRIX.split()), 5.0, -6.0, 7.0]
    number, code = ("<f4", 10) if "float" in kind else ("<f8", 0)
    with open(tmp_path / "0GenericAffine.mat", "wb") as file:
        for name, values in ((kind, parameters), ("fixed", [10.0, 20.0, 30.0])):
            data = np.asarray(values, number)
            file.write(struct.pack("<5i", code, len(data), 1, 0, len(name) + 1))
            file.write(name.encode() + b"\0" + data.tobytes())
    expected = sitk.AffineTransform(parameters[:9], (5.0, -6.0, 7.0), (10.0, 20.0, 30.0))
    matrix = read_initial_transform(tmp_path / "0GenericAffine.mat", CUBE).matrix
    assert torch.allclose(apply_affine(matrix, POINTS[3]), through_itk(expected, POINTS[3]), atol=1e-3)


def test_composites_in_composites_are_multiplied_out():
    turn, shift = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, -0.2, 0.3), sitk.TranslationTransform(3, (4.0, 5.0, 6.0))
    bent = sitk.DisplacementFieldTransform(displacement_image(ClosedForm(CUBE).forward, CUBE))
    linear = sitk.CompositeTransform([turn, sitk.CompositeTransform([shift, sitk.CompositeTransform([turn])])])
    expected = through_itk(linear, POINTS[3])
    assert torch.allclose(apply_affine(start_from_itk(linear, CUBE).matrix, POINTS[3]), expected)
    start = start_from_itk(sitk.CompositeTransform([linear, sitk.CompositeTransform([bent])]), CUBE)
    assert torch.allclose(apply_affine(start.matrix, POINTS[3]), expected) and len(start.stages) == 1


def test_a_composite_text_with_such_a_type_is_multiplied_out_last_first(tmp_path):
    (tmp_path / "t.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: CompositeTransform_double_3_3\n"
        "#Transform 1\nTransform: MatrixOffsetTransformBase_double_3_3\n"
        "Parameters: 2 0 0 0 1 0 0 0 1 1 2 3\nFixedParameters: 1 1 1\n"
        "#Transform 2\nTransform: TranslationTransform_double_3_3\nParameters: 10 20 30\nFixedParameters:\n")
    matrix = read_initial_transform(tmp_path / "t.txt", CUBE).matrix
    assert np.allclose(matrix @ [0, 0, 0, 1], [20, 22, 33, 1])


GREEDY = "1 0 0 3.5\n0 1 0 -4\n0 0 1 5e-1\n0 0 0 1\n"
OTHERS = {
    "flirt.mat": (GREEDY, r"plain matrix.*c3d_affine_tool flirt.mat -oitk.*-ref FIXED -src MOVING flirt.mat -fsl2ras"),
    "greedy.txt": (GREEDY, "c3d_affine_tool greedy.txt -oitk out.txt"),
    "matrix.tfm": ("1 0 0 3\n0 1 0 4\n0 0 1 5\n", "plain matrix"),
    "a.lta": ("# created by me\ntype      = 1\nnxforms   = 1\nmean      = 0 0 0\n", "lta_convert --inlta a.lta"),
    "TransformParameters.0.txt": ("// made\n(Transform \"EulerTransform\")\n(NumberOfParameters 6)\n",
                                  "parameter file of elastix.*ITKTransformOutputFileNameExtension"),
    "two.tfm": ("#Insight Transform File V1.0\n" + 2 * "Transform: TranslationTransform_double_3_3\nParameters: 1 2 3\n"
                "FixedParameters:\n", "holds 2 transforms"),
    "t.tfm": ("hello", "cannot be read as an ITK transform"),
    "empty.mat": ("", "cannot be read"),
    "text.nii.gz": ("hello", "cannot be read as a displacement image"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_programs_file_is_refused_with_what_to_do(name, tmp_path):
    text, message = OTHERS[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_initial_transform(tmp_path / name, CUBE)
    assert name in str(caught.value) and "\n" not in str(caught.value)


SPOILED = {
    "nan.tfm": ("Euler3DTransform", "0.1 NaN 0 0 0 0", "0 0 0 0", "Parameters hold 'NaN', which is not a finite"),
    "inf.mat": ("AffineTransform", f"{MATRIX} 5 -inf 7", "0 0 0", "Parameters hold '-inf', which is not a finite"),
    "centre.txt": ("AffineTransform", f"{MATRIX} 5 -6 7", "0 1e400 0", "FixedParameters hold '1e400'"),
    "comma.tfm": ("TranslationTransform", "1,5 2 3", "", "Parameters hold '1,5'"),
    "short.tfm": ("Euler3DTransform", "0.1 0.2 0.3 4 5", "0 0 0 0", "Euler3DTransform has 5 parameters and needs 6"),
    "none.tfm": ("VersorRigid3DTransform", "", "0 0 0", "VersorRigid3DTransform has 0 parameters and needs 6"),
}


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a composite"])
@pytest.mark.parametrize("name", SPOILED)
def test_a_text_with_numbers_that_are_missing_or_not_finite_is_refused_with_the_word(name, inside, tmp_path):
    kind, parameters, fixed, message = SPOILED[name]
    composite = "#Transform 0\nTransform: CompositeTransform_double_3_3\n" if inside else ""
    (tmp_path / name).write_text(f"#Insight Transform File V1.0\n{composite}#Transform 1\n"
                                 f"Transform: {kind}_double_3_3\n"
                                 f"Parameters: {parameters}\nFixedParameters: {fixed}\n")
    with pytest.raises(InputError, match=message):
        read_initial_transform(tmp_path / name, CUBE)


def test_a_matrix_of_no_numbers_is_called_that(tmp_path):
    sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, math.nan, 2.0)), str(tmp_path / "t.h5"))
    with pytest.raises(InputError, match="NaN or infinite"):
        read_initial_transform(tmp_path / "t.h5", CUBE)


def test_a_missing_file_another_dimension_and_a_flat_matrix_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_initial_transform(tmp_path / "none.tfm", CUBE)
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    with pytest.raises(InputError, match="is 2D but the images are 3D"):
        read_initial_transform(tmp_path / "flat.tfm", CUBE)
    sitk.WriteTransform(sitk.ScaleTransform(3, (1.0, 1.0, 0.0)), str(tmp_path / "zero.tfm"))
    with pytest.raises(InputError, match="cannot be inverted"):
        read_initial_transform(tmp_path / "zero.tfm", CUBE)


# -------------------------------------------------------------------------------------------------------- bending


def largest(differences: torch.Tensor, grid: Grid) -> float:
    """In voxels."""
    return float(differences.norm(dim=1).max()) / min(grid.spacing)


def check(start, truth, grid: Grid, voxels: float = 0.1) -> None:
    """The start and its inverse are the truth's, within so many voxels."""
    transform, points = as_transform(start, grid), POINTS[grid.dim] if grid in GRIDS.values() else \
        random_points(grid, 200, seed=5).double()
    moved = truth.forward.map(points)
    assert largest(transform.forward.map(points) - moved, grid) < voxels
    assert largest(transform.inverse.map(moved) - points, grid) < voxels
    exact = determinant_at(truth.forward, points)
    assert float((determinant_at(transform.forward, points) - exact).abs().max()) < 0.1


@pytest.mark.parametrize("name", ["1Warp.nii.gz", "field.mha", "field.nrrd", "field.h5", "field.tfm"])
def test_a_displacement_field_is_read_with_its_inverse(name, tmp_path):
    truth = ClosedForm(CUBE)
    image = displacement_image(truth.forward, CUBE)
    if name.endswith((".h5", ".tfm")):
        sitk.WriteTransform(sitk.DisplacementFieldTransform(image), str(tmp_path / name))
    else:
        sitk.WriteImage(image, str(tmp_path / name))
    start = read_initial_transform(tmp_path / name, CUBE)
    assert len(start.stages) == 1 and start.quality["round_trip_voxels"] <= 0.05
    check(start, truth, CUBE)


@pytest.mark.parametrize("grid", [oblique_grid(2), oblique_grid(3)], ids=["2D", "3D"])
def test_a_composite_keeps_its_matrix_and_bends_before_it(grid, tmp_path):
    affine = tilted_affine(grid.dim)
    truth, bent = ClosedForm(grid, affine=affine), ClosedForm(grid)
    parts = [sitk.AffineTransform(affine[:-1, :-1].flatten().tolist(), affine[:-1, -1].tolist()),
             sitk.DisplacementFieldTransform(displacement_image(bent.forward, grid.padded(4.0)))]
    sitk.WriteTransform(sitk.CompositeTransform(parts), str(tmp_path / "c.h5"))
    start = read_initial_transform(tmp_path / "c.h5", grid)
    assert np.allclose(start.matrix, affine)
    check(start, truth, grid, 0.15)


def test_a_matrix_that_acts_before_the_bending_is_part_of_the_map():
    turn = sitk.Euler3DTransform(CUBE.center.tolist(), 0.1, -0.2, 0.15, (4.0, 2.0, -3.0))
    bent = sitk.DisplacementFieldTransform(displacement_image(ClosedForm(CUBE.padded(30.0)).forward, CUBE.padded(30.0)))
    given = sitk.CompositeTransform([bent, turn])
    transform = as_transform(start_from_itk(given, CUBE), CUBE)
    assert largest(transform.forward.map(POINTS[3]) - through_itk(given, POINTS[3]), CUBE) < 0.1


def test_a_spline_transform_is_read_with_its_inverse(tmp_path):
    spline = sitk.BSplineTransformInitializer(placed(np.zeros((*CUBE.shape, 3)), CUBE), [5, 5, 5])
    spline.SetParameters(np.random.default_rng(0).normal(size=len(spline.GetParameters())).tolist())
    sitk.WriteTransform(spline, str(tmp_path / "spline.tfm"))
    transform = as_transform(read_initial_transform(tmp_path / "spline.tfm", CUBE), CUBE)
    moved = through_itk(spline, POINTS[3])
    assert largest(transform.forward.map(POINTS[3]) - moved, CUBE) < 0.1
    assert largest(transform.inverse.map(moved) - POINTS[3], CUBE) < 0.1


def test_a_field_that_is_mostly_linear_gives_its_matrix_too():
    affine = tilted_affine()
    affine[:3, 3] += (80.0, 0.0, 0.0)
    truth = ClosedForm(CUBE, affine=affine)
    start = start_from_itk(sitk.DisplacementFieldTransform(displacement_image(truth.forward, CUBE)), CUBE)
    assert np.abs((start.matrix - affine)[:3, :3]).max() < 0.1
    check(start, truth, CUBE)


def test_a_folded_field_is_refused_with_its_share(tmp_path):
    field = sitk.DisplacementFieldTransform(displacement_image(
        ClosedForm(CUBE, stretch=14.0, wavelength=60.0).forward, CUBE))
    with pytest.raises(InputError, match=r"The initial field folds in \d.*% of the fixed image's voxels"):
        start_from_itk(field, CUBE, "initial field")


def test_nodes_are_not_made_ever_finer_for_a_field_that_nearly_folds(caplog):
    grid = Grid((24, 24, 24), (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).flatten()))
    wave = 2 * np.pi / 16
    points = grid.points("cpu").view(*grid.shape, 3).double().numpy()
    errors = {}
    for steep in (0.3, 0.95):
        shifts = steep * np.sin(wave * points) / wave
        field = sitk.DisplacementFieldTransform(placed(shifts, grid))
        errors[steep] = start_from_itk(field, grid, "initial field").quality
    assert errors[0.3]["round_trip_voxels"] <= 0.05 and errors[0.95]["round_trip_voxels"] > 0.05
    assert errors[0.95]["spacing_mm"] == 2.0  # nodes half as far apart would help little and take eight times as long
    assert "the largest errors are" in caplog.text


def test_images_that_are_no_fields_and_fields_of_no_numbers_are_refused(tmp_path):
    sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkFloat32), str(tmp_path / "scalar.nii.gz"))
    with pytest.raises(InputError, match="3D image with 1 values in each voxel; give a displacement image"):
        read_initial_transform(tmp_path / "scalar.nii.gz", CUBE)
    values = np.zeros((*CUBE.shape, 3))
    values[4, 5, 6] = np.nan
    sitk.WriteImage(placed(values, CUBE), str(tmp_path / "nan.mha"))
    with pytest.raises(InputError, match="nan.mha moves points to where there are no numbers"):
        read_initial_transform(tmp_path / "nan.mha", CUBE)


# ----------------------------------------------------------------------------------------------------- registering


def textured(points: torch.Tensor, grid: Grid, name: str) -> Image:
    x, y, z = (points.double() - torch.from_numpy(CUBE.center)).unbind(1)
    texture = torch.sin(x / 3 + y / 7) + torch.cos(y / 4 - z / 5) + torch.sin(z / 4 + x / 9)
    values = torch.sigmoid((22 - torch.stack([x, y, z]).norm(dim=0)) / 2) * (texture + 3)
    return Image(values.float().reshape(grid.shape), grid, name)


@pytest.fixture(scope="module")
def case():
    """A truth, and a pair of images that it relates."""
    truth = ClosedForm(CUBE, stretch=3.0, shear=1.0, wavelength=70.0)
    points = CUBE.points("cpu")
    return truth, textured(points, CUBE, "fixed"), textured(truth.inverse.map(points.double()), CUBE, "moving")


def options(*iterations: int) -> Options:
    return Options(iterations=iterations, resolution=(12.0, 24.0)[:len(iterations)], points=4000, hidden=16,
                   frequencies=8, device="cpu")


def test_levels_go_on_from_half_of_the_truth(case):
    truth, fixed, moving = case
    half = placed(truth.forward.displacement_on(CUBE).double().numpy() / 2, CUBE)
    start = start_from_itk(sitk.DisplacementFieldTransform(half), CUBE)
    result = run(fixed, moving, options(40, 20), initial=start.matrix, start=start.stages)
    near = POINTS[3][(POINTS[3] - torch.from_numpy(CUBE.center)).norm(dim=1) < 20]
    moved = truth.forward.map(near)
    before = (as_transform(start, CUBE).forward.map(near) - moved).norm(dim=1).mean()
    assert (result.forward.map(near) - moved).norm(dim=1).mean() < 0.6 * before
    assert (result.inverse.map(moved) - near).norm(dim=1).mean() < 0.6 * before
    assert result.stages[0] is start.stages[0]


def test_the_linear_search_leaves_a_bending_start_alone(case):
    truth, fixed, moving = case
    start = start_from_itk(sitk.DisplacementFieldTransform(displacement_image(truth.forward, CUBE)), CUBE)
    result = run(fixed, moving, options(0), initial=start.matrix, start=start.stages)
    assert np.array_equal(result.affine, start.matrix)


def test_the_command_line_makes_a_given_field_part_of_every_output(case, tmp_path):
    truth, fixed, moving = case
    for image in (fixed, moving):
        sitk.WriteImage(image.to_sitk(), str(tmp_path / f"{image.name}.nii.gz"))
    sitk.WriteImage(displacement_image(truth.forward, CUBE), str(tmp_path / "1Warp.nii.gz"))
    pair = [str(tmp_path / f"{name}.nii.gz") for name in ("fixed", "moving")]

    def register(initial: str, folder: str) -> Transform:
        assert main(["register", *pair, "-o", str(tmp_path / folder), "--initial-transform", str(tmp_path / initial),
                     "--iterations", "0", "--device", "cpu", "--quiet"]) == 0
        return Transform.load(tmp_path / folder / "transform.nephi")

    first = register("1Warp.nii.gz", "first")
    (tmp_path / "1Warp.nii.gz").unlink()  # the result is enough by itself
    again = register("first/transform.nephi", "again")
    moved = truth.forward.map(POINTS[3])
    for transform, folder in ((first, "first"), (again, "again")):
        assert largest(transform.forward.map(POINTS[3]) - moved, CUBE) < 0.1
        assert largest(transform.inverse.map(moved) - POINTS[3], CUBE) < 0.1
        written = sitk.ReadTransform(str(tmp_path / folder / "forward.h5"))
        assert largest(through_itk(written, POINTS[3]) - moved, CUBE) < 0.1
    logarithm = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "first" / "log_jacobian.nii.gz")))
    exact = determinant_at(truth.forward, CUBE.points("cpu").double()).log().view(CUBE.shape).numpy()
    assert np.abs(logarithm - exact)[(slice(2, -2),) * 3].max() < 0.1
    assert first.provenance["initial"]["forward_voxels"] <= 0.05


def test_a_registration_of_another_grid_is_a_start_on_this_one(case):
    truth, *_ = case
    start = start_from_itk(sitk.DisplacementFieldTransform(displacement_image(truth.forward, CUBE)), CUBE)
    earlier = as_transform(start, CUBE)
    assert start_from(earlier, CUBE).stages is start.stages
    turned = Grid((20, 22, 18), (1.8, 1.8, 1.8), tuple((CUBE.center - 16).tolist()),
                  (math.cos(0.2), -math.sin(0.2), 0.0, math.sin(0.2), math.cos(0.2), 0.0, 0.0, 0.0, 1.0))
    other = as_transform(start_from(earlier, turned), turned)
    points = random_points(turned, 200).double()
    assert largest(other.forward.map(points) - earlier.forward.map(points), turned) < 0.1
    assert largest(other.inverse.map(other.forward.map(points)) - points, turned) < 0.1


def test_a_linear_registration_is_a_linear_start():
    earlier = Transform(CUBE, CUBE, tilted_affine())
    start = start_from(earlier, oblique_grid())
    assert np.array_equal(start.matrix, AffineMap(tilted_affine()).matrix) and start.stages == ()
