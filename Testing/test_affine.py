"""The linear alignment finds the map, from far away and with any field of view."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nephi.align.linear import LinearAlignment, align
from nephi.align.matching import MaskedImage, Matcher, share_met
from nephi.align.recognition import Recognition
from nephi.errors import InputError
from nephi.geometry import Grid, apply_affine, apply_matrix
from nephi.images.image import Image
from nephi.images.resampling import sample

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def blobs(grid: Grid, points: torch.Tensor, invert: bool = False, seed: int = 0) -> Image:
    """Sixty soft balls within 45 mm of the world's origin, seen at ``points``."""
    generator = np.random.default_rng(seed)
    centers = torch.tensor(generator.normal(size=(60, grid.dim)) * 18, dtype=points.dtype)
    widths = torch.tensor(generator.uniform(4, 9, 60), dtype=points.dtype)
    heights = torch.tensor(generator.uniform(0.3, 1, 60), dtype=points.dtype)
    values = torch.exp(-torch.cdist(points, centers) ** 2 / (2 * widths**2)) @ heights
    return Image((1 / (1 + values) if invert else values).float().reshape(grid.shape), grid)


def pair(matrix: np.ndarray, moving_origin=None, invert=False, dim=3):
    """A fixed image and the same balls moved by ``matrix`` (fixed to moving LPS mm)."""
    fixed_grid = Grid((40, 44, 36)[:dim], (3.0, 2.8, 3.3)[:dim], (-58.0, -60.0, -58.0)[:dim],
                      tuple(np.eye(dim).flatten().tolist()))
    if moving_origin is None:
        moving_origin = tuple(apply_matrix(matrix, np.array(fixed_grid.origin)[None])[0])
    moving_grid = Grid((44, 40, 40)[:dim], (3.0, 3.0, 3.0)[:dim], moving_origin, fixed_grid.direction)
    fixed = blobs(fixed_grid, fixed_grid.points("cpu"))
    return fixed, blobs(moving_grid, apply_affine(np.linalg.inv(matrix), moving_grid.points("cpu")), invert)


def turned(degrees: float, offset, scale: float = 1.0, dim: int = 3) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(dim + 1)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:-1, :-1] *= scale
    matrix[:-1, -1] = offset
    return matrix


def about(axis, degrees: float, offset) -> np.ndarray:
    """A turn about an axis (3) of the world, then a shift."""
    matrix = np.eye(4)
    axis = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    matrix[:3, :3] = np.reshape(sitk.VersorTransform(axis.tolist(), np.deg2rad(degrees)).GetMatrix(), (3, 3))
    matrix[:3, 3] = offset
    return matrix


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """The mean distance (mm) where the balls are."""
    points = np.random.default_rng(1).normal(size=(200, len(truth) - 1)) * 20
    return float(np.linalg.norm(apply_matrix(found, points) - apply_matrix(truth, points), axis=1).mean())


def test_voxels_that_are_no_numbers_do_not_count():
    matrix = turned(8, (6.0, -5.0, 4.0))
    fixed, moving = pair(matrix)
    spoiled = []
    for image in (fixed, moving):
        values = image.values.clone()
        values[:6] = float("nan")
        picture = Image(values, image.grid).to_sitk()
        spoiled.append(Image.from_sitk(picture))
    masks = [image.known for image in spoiled]
    found = align(*spoiled).matrix
    masked = align(*(Image(image.values, image.grid) for image in spoiled), *masks).matrix
    assert error(found, matrix) < 1 and error(masked, matrix) < 1


@pytest.mark.parametrize("kind, truth", [
    ("translation", turned(0, (5.0, -8.0, 35.0))),
    ("rigid", turned(8, (5.0, -8.0, 35.0))),
    ("similarity", turned(8, (5.0, -8.0, 35.0), 1.06)),
    ("affine", turned(6, (5.0, -8.0, 35.0)) @ np.diag([1.05, 0.96, 1.0, 1.0])),
])
def test_each_kind_recovers_a_map_of_its_own_kind(kind, truth):
    found = align(*pair(truth), kind=kind).matrix
    assert found.shape == (4, 4)
    assert error(found, truth) < 1.0


def test_a_map_stays_of_the_kind_asked_for():
    fixed, moving = pair(turned(6, (5.0, -8.0, 12.0), 1.06))
    shift = align(fixed, moving, kind="translation").matrix
    assert np.allclose(shift[:3, :3], np.eye(3))
    rigid = align(fixed, moving, kind="rigid").matrix[:3, :3]
    assert np.allclose(rigid @ rigid.T, np.eye(3), atol=1e-9)
    similar = align(fixed, moving, kind="similarity").matrix[:3, :3]
    assert np.allclose(similar @ similar.T, np.eye(3) * np.linalg.det(similar) ** (2 / 3), atol=1e-9)


def test_another_field_of_view_does_not_mislead():
    truth = turned(4, (4.0, -3.0, 35.0))
    found = align(*pair(truth, moving_origin=(-85.0, -40.0, -10.0)), kind="rigid").matrix
    assert error(found, truth) < 1.5


def test_another_contrast_does_not_mislead():
    truth = turned(5, (4.0, -3.0, 20.0))
    assert error(align(*pair(truth, invert=True), kind="rigid").matrix, truth) < 1.0


def test_two_dimensional_images_are_aligned():
    truth = turned(6, (12.0, -9.0), dim=2)
    assert error(align(*pair(truth, dim=2), kind="rigid").matrix, truth) < 1.5


@pytest.mark.parametrize("axis, degrees", [((1, 0, 0), 30), ((0, 1, 0), 90), ((0, 0, 1), 180), ((1, -2, 3), 60)])
def test_a_turned_image_is_turned_back_whatever_the_axis(axis, degrees):
    truth = about(axis, degrees, (15.0, -8.0, 25.0))
    found = align(*pair(truth, moving_origin=(-50.0, -68.0, -35.0)))
    assert error(found.matrix, truth) < 1.5
    assert found.certainty > 8 and found.shared > 1.5 * found.second and found.overlap > 0.5


@pytest.mark.parametrize("axis, degrees", [((1, -2, 3), 120), ((2, 1, -1), 150)])
def test_an_image_that_was_resampled_turned_and_lost_its_corners_is_turned_back(axis, degrees):
    truth = about(axis, degrees, (4.0, -6.0, 5.0))
    fixed, _ = pair(np.eye(4))
    cut = sample(fixed.values, fixed.grid, apply_affine(np.linalg.inv(truth), fixed.grid.points("cpu")))
    found = align(fixed, Image(cut.view(fixed.grid.shape), fixed.grid))
    assert error(found.matrix, truth) < 1.5


def test_the_turned_map_is_recognised_by_single_places_and_a_wrong_one_is_not():
    right, wrong = about((1, 2, 3), 70, (0.0, 0.0, 0.0)), about((3, 2, 1), 140, (0.0, 0.0, 0.0))
    fixed, moving = pair(right)
    recognition = Recognition.between(*[MaskedImage(image.values, torch.ones_like(image.values, dtype=torch.bool),
                                                    image.grid) for image in (fixed, moving)])
    assert error(recognition.of([wrong, right], np.eye(4)), right) < 0.5
    assert recognition.of([wrong], wrong) is None
    near = right @ about((1, 0, 0), 6, (2.0, 0.0, -2.0))
    assert error(recognition.of([near], wrong), right) < 0.3 * error(near, right)
    assert recognition.best([wrong, near, right]) is right


@pytest.mark.parametrize("axis, degrees", [((1, 2, 3), 45), ((0, 2, 1), 140)])
def test_an_organ_whose_outline_looks_alike_from_all_sides_is_turned_back(axis, degrees):
    grid = Grid((36, 36, 36), (2.4, 2.4, 2.4), (-42.0, -42.0, -42.0), IDENTITY)
    generator = np.random.default_rng(3)
    centers, heights = torch.tensor(generator.uniform(-28, 28, (90, 3))), torch.tensor(generator.uniform(-1, 1, 90))

    def organ(points: torch.Tensor) -> Image:
        inner = torch.exp(-torch.cdist(points, centers) ** 2 / 50) @ heights
        radius = (points / torch.tensor([33.0, 28.0, 36.0])).norm(dim=1)
        return Image(((1 + 0.5 * inner) * torch.sigmoid(25 * (1 - radius))).float().reshape(grid.shape), grid)

    truth, points = about(axis, degrees, (2.0, -1.5, 1.0)), grid.points("cpu", dtype=torch.float64)
    bent = apply_affine(truth, points) + 2 * torch.sin(points.flip(1) / 14)
    assert error(align(organ(bent), organ(points)).matrix, truth) < 4.0


@pytest.mark.parametrize("degrees", [30, 60, 90, 180])
def test_a_turned_flat_image_is_turned_back(degrees):
    truth = turned(degrees, (15.0, -8.0), dim=2)
    assert error(align(*pair(truth, moving_origin=(-50.0, -68.0), dim=2), kind="rigid").matrix, truth) < 1.5


@pytest.mark.parametrize("scale", [0.72, 1.4])
def test_a_turned_image_of_another_size_is_found_too(scale):
    truth = turned(75, (6.0, -8.0, 5.0), scale)
    found = align(*pair(truth, moving_origin=tuple(scale * np.array([-58.0, -60.0, -58.0]) + (6.0, -8.0, 5.0))))
    assert error(found.matrix, truth) < 2.5


def test_an_image_that_a_shift_aligns_is_not_searched():
    found = align(*pair(turned(3, (5.0, -8.0, 35.0))))
    assert not found.searched and found.shared > found.start
    assert set(found.to_dict()) == {"overlap", "shared", "second", "start", "certainty", "searched"}


def test_of_two_orientations_that_look_alike_the_one_nearer_to_the_header_wins():
    grid = Grid((32, 32, 32), (3.0,) * 3, (-46.5,) * 3, tuple(np.eye(3).flatten()))
    points = grid.points("cpu")
    half = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    alike = Image(blobs(grid, points).values + blobs(grid, points @ half).values, grid)
    found = align(alike, Image(alike.values**1.5, grid), kind="rigid")
    assert error(found.matrix, np.eye(4)) < 1


def test_images_of_three_slices_are_compared_and_refined():
    truth, slabs = turned(5, (6.0, -5.0, 0.0)), []
    for image in pair(truth):
        middle = image.grid.shape[0] // 2
        values = image.values[middle - 1 : middle + 2].contiguous()
        grid = image.grid.window((0, 0, middle - 1), (*image.grid.size[:2], 3))
        slabs.append(MaskedImage(values, torch.ones_like(values, dtype=torch.bool), grid))
    matcher, near = Matcher(*slabs, seed=0), turned(3, (5.0, -4.0, 0.0))
    refined = matcher.refine(near, "rigid")
    assert matcher.shared(refined) > matcher.shared(near) > 0
    assert error(refined, truth) < 0.5 * error(near, truth)


def test_an_image_that_shares_nothing_is_uncertain():
    fixed, _ = pair(np.eye(4))
    noise = torch.rand(fixed.grid.shape, generator=torch.Generator().manual_seed(0))
    found = align(fixed, Image(noise, fixed.grid))
    assert found.searched and found.certainty < 10 and found.second > 0.5 * found.shared


def test_a_small_mask_of_one_image_is_found_in_the_other():
    truth = turned(4, (6.0, -5.0, 9.0))
    fixed, moving = pair(truth)
    box = (fixed.grid.points("cpu").abs() < 24).all(1).reshape(fixed.grid.shape)
    assert error(align(fixed, moving, box, kind="rigid").matrix, truth) < 1.5


@pytest.fixture(scope="module")
def in_millimetres():
    """A pair and its alignment."""
    images = pair(turned(6, (5.0, -8.0, 15.0)))
    return images, align(*images, kind="affine").matrix


@pytest.mark.parametrize("scale", [0.0025, 1000.0])
def test_the_unit_of_length_does_not_matter(scale, in_millimetres):
    images, expected = in_millimetres
    scaled = [Image(image.values, Grid(image.grid.size, tuple(scale * s for s in image.grid.spacing),
                                       tuple(scale * o for o in image.grid.origin), image.grid.direction))
              for image in images]
    found = align(*scaled, kind="affine").matrix
    found[:3, 3] /= scale
    assert error(found, expected) < 0.05


def test_only_what_is_inside_the_masks_is_aligned():
    truth = turned(4, (6.0, -5.0, 9.0))
    fixed, moving = pair(truth)
    masks = [(image.values > 0.2) for image in (fixed, moving)]
    plate = fixed.grid.points("cpu")[:, 0].reshape(fixed.grid.shape) > 45  # something bright beside, only in one image
    spoiled = Image(torch.where(plate, 5.0, fixed.values), fixed.grid)
    masks[0] &= ~plate
    assert error(align(spoiled, moving, *masks, kind="rigid").matrix, truth) < 1.5


def test_a_given_start_is_refined():
    truth = turned(30, (5.0, -8.0, 35.0))
    start = turned(26, (3.0, -6.0, 32.0))
    found = align(*pair(truth), kind="rigid", initial=start).matrix
    assert error(found, truth) < 1.0 < error(start, truth)


def test_a_start_that_shows_the_moving_image_nothing_is_refused():
    with pytest.raises(InputError, match="do not overlap"):
        align(*pair(np.eye(4)), initial=turned(0, (900.0, 0.0, 0.0)))


def test_the_result_is_the_same_every_time():
    images = pair(turned(5, (4.0, -3.0, 20.0)))
    assert np.array_equal(align(*images, seed=3).matrix, align(*images, seed=3).matrix)


def test_identical_images_stay_where_they_are():
    fixed, _ = pair(np.eye(4))
    assert error(align(fixed, fixed).matrix, np.eye(4)) < 0.2


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="'elastic'.*translation, rigid, similarity, affine"):
        align(*pair(np.eye(4)), kind="elastic")


@pytest.mark.parametrize(("second", "believed"), [(0.7, True), (0.9, False)])
def test_a_turn_is_believed_only_if_it_shares_clearly_more_than_any_other(second, believed):
    assert LinearAlignment(np.eye(4), 1.0, 1.0, second, 0.1, 8.6, True).convincing == believed


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.5])
def test_how_much_of_two_images_meets_is_the_same_from_either_side(scale):
    sides = [MaskedImage(torch.rand(30, 30, 30), torch.ones(30, 30, 30, dtype=torch.bool), Grid(
        (30, 30, 30), (voxel,) * 3, (-15.0 * voxel,) * 3, tuple(np.eye(3).flatten()))) for voxel in (3.0, 2.0)]
    there = turned(20, (10.0, -8.0, 6.0), scale)
    shares = [float(share_met(torch.tensor(Matcher(*pair, seed=0).overlap(matrix)), torch.tensor(matrix[:3, :3]),
                              pair[0].volume / pair[1].volume))
              for pair, matrix in ((sides, there), (sides[::-1], np.linalg.inv(there)))]
    assert shares[0] == pytest.approx(shares[1], rel=0.03)


@pytest.mark.parametrize("larger", [0.1, 10.0])
@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_a_small_field_of_view_within_a_large_one_does_not_meet_more_for_being_stretched_or_shrunk(larger, scale):
    linear = torch.stack([torch.eye(3), scale * torch.eye(3)]).double()
    met = torch.tensor([1.0, 1.0]) if larger < 1 else torch.tensor([1.0, scale**-3]) / larger  # of the fixed image
    whole, scaled = share_met(met, linear, larger).tolist()
    assert whole == pytest.approx(1) and scaled <= 1


def test_a_map_that_shrinks_the_fixed_image_does_not_meet_more_for_it():
    share = torch.tensor([0.8, 1.0])  # of the fixed image, which sticks out of the moving one or lies in its middle
    linear = torch.stack([torch.eye(2), 0.7 * torch.eye(2)]).double()
    whole, shrunk = share_met(share, linear, 1.0).tolist()
    assert whole > shrunk
