"""What must not matter does not: the same pair told otherwise is given the same map, without a truth to compare with.

Tolerances are in voxels and bound the mean distance between two maps at points inside the body. Where both runs see the
same numbers, they differ by rounding alone. Where the samples lie otherwise in the images, every run ends somewhere
else within what it can see of them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from closed_form import ClosedForm
from nephi.align.registration import run
from nephi.geometry import Grid, apply_affine, apply_matrix, random_points
from nephi.images.image import Image
from nephi.images.masks import box_of
from nephi.images.reading import read_image, read_mask
from nephi.images.writing import write_image
from nephi.options import Options
from torch import Tensor

SIDE = {2: 48, 3: 24}
RESOLUTION = {2: (12.0, 24.0), 3: (8.0, 14.0)}
BODY = 0.38  # of the field of view, radius


@dataclass(frozen=True)
class Pair:
    """Two images, their masks, and where the worlds are in which they lie: LPS mm of the plain pair to theirs."""

    fixed: Image
    moving: Image
    fixed_mask: Optional[Tensor] = None
    moving_mask: Optional[Tensor] = None
    to_world: np.ndarray = field(default_factory=lambda: np.eye(4))

    def each(self, change: Callable[[Tensor, Grid], tuple[Tensor, Grid]], roles=("fixed", "moving")) -> Pair:
        """Images and masks as a change of values and grid makes them."""
        parts = {}
        for role in roles:
            image, mask = getattr(self, role), getattr(self, f"{role}_mask")
            values, grid = change(image.values, image.grid)
            parts[role] = replace(image, values=values.contiguous(), grid=grid)
            parts[f"{role}_mask"] = None if mask is None else change(mask, image.grid)[0].contiguous()
        return replace(self, **parts)

    def map(self, points: Tensor) -> Tensor:
        """Where a registration of this pair takes points of the plain one, (n, d) LPS mm there."""
        options = Options.from_preset("generic", resolution=RESOLUTION[self.fixed.grid.dim], iterations=(12, 12),
                                      device="cpu")
        masks = {"fixed_mask": self.fixed_mask, "moving_mask": self.moving_mask}
        transform = run(self.fixed, self.moving, options, **masks)
        moved = transform.forward.map(apply_affine(self.to_world, points))
        return apply_affine(np.linalg.inv(self.to_world), moved)


def _plain(dim: int, masked: bool) -> Pair:
    """A textured body and the same, bent, turned and shifted; whole numbers, 0 outside."""
    side = SIDE[dim]
    grids = [Grid((side,) * dim, (1.5,) * dim, tuple(origin[:dim]), tuple(np.eye(dim).ravel()))
             for origin in ((12.0, -30.0, 55.0), (14.5, -28.0, 53.0))]
    truth = ClosedForm(grids[0], stretch=1.5, shear=1.0)
    generator = torch.Generator().manual_seed(dim)
    centers = torch.rand(90, dim, generator=generator, dtype=torch.float64) - 0.5
    heights = torch.randn(90, generator=generator, dtype=torch.float64)

    def image(points: Tensor, grid: Grid, name: str) -> tuple[Image, Tensor]:
        offset = (points.double() - torch.from_numpy(grids[0].center)) / (1.5 * side)
        depth = BODY - (offset * torch.tensor([1.0, 1.15, 0.9][:dim], dtype=torch.float64)).norm(dim=1)
        blobs = torch.exp(-torch.cdist(offset, centers).square() / (2 * 0.06**2)) @ heights
        values = torch.sigmoid(depth * 40) * (110 + 60 * torch.tanh(blobs))
        return Image(values.round().float().reshape(grid.shape), grid, name), (depth > 0).reshape(grid.shape)

    fixed, moving = (image(*args) for args in ((grids[0].points("cpu"), grids[0], "fixed image"), (
        truth.inverse.map(grids[1].points("cpu").double()), grids[1], "moving image")))
    masks = (fixed[1], moving[1]) if masked else (None, None)
    return Pair(fixed[0], moving[0], *masks, np.eye(dim + 1))


@dataclass(frozen=True)
class Plain:
    """The plain pair and where it is mapped: points in the body, (n, d) LPS mm, and their images."""

    pair: Pair
    points: Tensor
    mapped: Tensor

    def apart(self, other: Pair) -> Tensor:
        """How far the map of the same pair told otherwise is from the plain one, (n) voxels."""
        return (other.map(self.points) - self.mapped).norm(dim=1) / self.pair.fixed.grid.voxel


@pytest.fixture(scope="session", params=[(2, False), (2, True), (3, False), (3, True)],
                ids=["2D", "2D masked", "3D", "3D masked"])
def plain(request) -> Plain:
    dim, masked = request.param
    pair = _plain(dim, masked)
    points = random_points(pair.fixed.grid, 400, _plain(dim, True).fixed_mask).double()
    return Plain(pair, points, pair.map(points))


def _in_world(matrix: np.ndarray, scale: float = 1.0) -> Callable[[Tensor, Grid], tuple[Tensor, Grid]]:
    """The grid carried by a similarity, (d + 1, d + 1), that enlarges by ``scale``."""
    def change(values: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        origin = apply_matrix(matrix, np.asarray(grid.origin)[None])[0]
        axes = matrix[:-1, :-1] / scale @ grid.axes
        return values, Grid(grid.size, tuple(scale * s for s in grid.spacing), tuple(origin), tuple(axes.ravel()))
    return change


def _moved(pair: Pair, matrix: np.ndarray, scale: float = 1.0) -> Pair:
    return replace(pair.each(_in_world(matrix, scale)), to_world=matrix)


def _turn(dim: int, degrees: float) -> np.ndarray:
    """About an axis that is none of the world's, and the world's origin."""
    angle, matrix = math.radians(degrees), np.eye(dim + 1)
    if dim == 2:
        matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    else:
        matrix[:3, :3] = np.reshape(sitk.VersorTransform((0.48, 0.6, 0.64), angle).GetMatrix(), (3, 3))
    return matrix


def turned(pair: Pair) -> Pair:
    return _moved(pair, _turn(pair.fixed.grid.dim, 37.0))


def turned_by_right_angles(pair: Pair) -> Pair:
    matrix = np.eye(pair.fixed.grid.dim + 1)
    matrix[:2, :2] = [[0, -1], [1, 0]]
    return _moved(pair, matrix)


def far_away(pair: Pair) -> Pair:
    matrix = np.eye(pair.fixed.grid.dim + 1)
    matrix[:-1, -1] = (1e5, -9e4, 7e4)[:pair.fixed.grid.dim]
    return _moved(pair, matrix)


def in_metres(pair: Pair) -> Pair:
    return _moved(pair, np.diag([1e-3] * pair.fixed.grid.dim + [1.0]), 1e-3)


def in_micrometres(pair: Pair) -> Pair:
    return _moved(pair, np.diag([1e3] * pair.fixed.grid.dim + [1.0]), 1e3)


def _flipped(values: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    axes = grid.axes.copy()
    axes[:, 0] *= -1
    return values.flip(-1), Grid(grid.size, grid.spacing, tuple(grid.to_world(
        torch.tensor([grid.size[0] - 1.0] + [0.0] * (grid.dim - 1), dtype=torch.float64)).tolist()),
        tuple(axes.ravel()))


def _permuted(values: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    return values.movedim(0, -1), Grid(*(tuple(np.roll(part, 1)) for part in (grid.size, grid.spacing)), grid.origin,
                                       tuple(np.roll(grid.axes, 1, axis=1).ravel()))


def _padded(values: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    return torch.nn.functional.pad(values, (3, 5) * grid.dim), grid.window([-3] * grid.dim, [n + 8 for n in grid.size])


def in_reversed_order(pair: Pair) -> Pair:
    return pair.each(_flipped)


def in_another_order(pair: Pair) -> Pair:
    return pair.each(_permuted)


def fixed_in_another_order(pair: Pair) -> Pair:
    return pair.each(_permuted, ("fixed",)).each(_flipped, ("fixed",))


def padded(pair: Pair) -> Pair:
    return pair.each(_padded)


def cropped(pair: Pair) -> Pair:
    """To the bodies and a voxel around them."""
    def to_body(values: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        low, size = bodies[grid.origin]
        part = tuple(slice(a, a + n) for a, n in zip(low[::-1], size[::-1]))
        return values[part], grid.window(low, size)

    bodies = {image.grid.origin: box_of(image.values > 30) for image in (pair.fixed, pair.moving)}
    return pair.each(to_body)


def brighter(pair: Pair) -> Pair:
    return replace(pair, fixed=replace(pair.fixed, values=0.25 * pair.fixed.values - 300),
                   moving=replace(pair.moving, values=64 * pair.moving.values + 1000))


ENLARGED = 0.02  # rounding, which every step of the optimisation enlarges
REDRAWN = 0.3  # the linear alignment draws its samples in the order of the voxels
RESAMPLED = 0.5  # that too; the patches lie along the world's axes, and the frame is that of the fixed grid
RELATIONS = {
    "far away": (far_away, ENLARGED), "in metres": (in_metres, ENLARGED), "in micrometres": (in_micrometres, ENLARGED),
    "brighter": (brighter, ENLARGED),
    "turned": (turned, RESAMPLED), "turned by right angles": (turned_by_right_angles, RESAMPLED),
    "padded": (padded, RESAMPLED), "cropped": (cropped, RESAMPLED),
    "in reversed order": (in_reversed_order, REDRAWN), "in another order": (in_another_order, REDRAWN),
    "only the fixed image in another order": (fixed_in_another_order, REDRAWN),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_a_pair_told_otherwise_is_given_the_same_map(plain, name):
    relation, tolerance = RELATIONS[name]
    apart = plain.apart(relation(plain.pair))
    assert apart.mean() < tolerance


@pytest.mark.parametrize("kind", [sitk.sitkInt16, sitk.sitkUInt8, sitk.sitkFloat64], ids=["int16", "uint8", "float64"])
def test_whole_numbers_are_the_same_image_in_every_type(plain, kind):
    for image in (plain.pair.fixed, plain.pair.moving):
        cast = Image.from_sitk(sitk.Cast(image.to_sitk(), kind), image.name)
        assert torch.equal(cast.values, image.values) and cast.grid == image.grid


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", "-2.nii"])
def test_a_pair_is_the_same_from_files_of_every_format(plain, tmp_path, ending):
    pair = turned(plain.pair)  # axes that are not the world's
    for role in ("fixed", "moving"):
        image, mask = getattr(pair, role), getattr(pair, f"{role}_mask")
        path = tmp_path / f"{role}{ending}"
        (_write_nifti_2 if ending == "-2.nii" else write_image)(image.to_sitk(sitk.sitkInt16), path)
        read = read_image(path, role)
        assert torch.equal(read.values, image.values)
        assert read.grid.same_as(image.grid, 1e-4)
        if mask is not None:
            write_image(Image(mask.int(), image.grid).to_sitk(sitk.sitkUInt8), tmp_path / "mask.nrrd")
            assert torch.equal(read_mask(tmp_path / "mask.nrrd", read, role), mask)


def _write_nifti_2(image: sitk.Image, path: Path) -> None:
    """An image of int16 as NIfTI-2, which SimpleITK does not write."""
    dim, array = image.GetDimension(), sitk.GetArrayFromImage(image)
    matrix = np.eye(4)
    matrix[:dim, :dim] = np.reshape(image.GetDirection(), (dim, dim)) * image.GetSpacing()
    matrix[:dim, 3] = image.GetOrigin()
    matrix[:2] *= -1  # to RAS
    head = bytearray(544)
    struct.pack_into("<i8shh", head, 0, 540, b"n+2\0\r\n\x1a\n", 4, 16)
    struct.pack_into("<8q", head, 16, dim, *image.GetSize(), *(1,) * (7 - dim))
    struct.pack_into("<8d", head, 104, 1, *image.GetSpacing(), *(1,) * (7 - dim))
    struct.pack_into("<q2d", head, 168, 544, 1, 0)
    struct.pack_into("<2i", head, 344, 0, 1)  # no quaternion, an sform
    struct.pack_into("<12d", head, 400, *matrix[:3].ravel())
    struct.pack_into("<i", head, 500, 2)  # mm
    path.write_bytes(bytes(head) + array.astype("<i2").tobytes())
