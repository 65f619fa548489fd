"""Grids whose axes are not at right angles: turned where that is rounding, resampled where it is a shear."""

from __future__ import annotations

import itertools
import logging
from typing import Optional

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..geometry import Grid

log = logging.getLogger(__name__)

ROUNDING = 0.25  # voxels: if turning the axes to right angles moves no voxel further, they were rounded and not sheared
RIGHT = 1e-4  # cosines between axes that are at right angles; headers with enough digits are this far off in practice
_LARGEST = 8  # times the voxels: a shear that needs more is a mistake in a header


def at_right_angles(image: sitk.Image, name: str, how: int = sitk.sitkLinear) -> sitk.Image:
    """The image on a grid at right angles, which everything else takes for granted.

    Axes as they come from rounded cosines are turned to the nearest that are at right angles, about the middle of the
    image, if that moves no voxel by more than :data:`ROUNDING`. Otherwise the image is resampled once. Either is
    logged.

    Args:
        image: 2D or 3D, with a sound header.
        name: what messages call the image.
        how: interpolation, ``sitk.sitkNearestNeighbor`` for labels, which then keep their type.

    Returns:
        The same image where nothing is to be done; after :func:`straightened` it has NaN, or label 0, at its edges.

    Raises:
        InputError: a shear that needs many times the voxels.
    """
    grid = Grid.from_sitk(image)
    turned = _turned(grid, name)
    if turned is None:
        return straightened(image, name, how)
    if turned is grid:
        return image
    result = sitk.Image(image)
    result.SetSpacing(turned.spacing)
    result.SetOrigin(turned.origin)
    result.SetDirection(turned.direction)
    return result


def grid_at_right_angles(grid: Grid, name: str) -> Grid:
    """The grid that an image on this grid is brought onto by :func:`at_right_angles`.

    Raises:
        InputError: a shear that needs many times the voxels.
    """
    turned = _turned(grid, name)
    return _around(grid, name) if turned is None else turned


def straightened(image: sitk.Image, name: str, how: int = sitk.sitkLinear) -> sitk.Image:
    """A sheared image resampled once onto a grid at right angles that holds all of it.

    The first axis stays, and so does the plane of the first two: a stack of slices that lie at right angles among
    themselves is only shifted within each slice.

    Returns:
        float32, NaN where the image has nothing; with nearest neighbours the image's own type, and 0.

    Raises:
        InputError: a shear that needs many times the voxels.
    """
    grid, labels = _around(Grid.from_sitk(image), name), how == sitk.sitkNearestNeighbor
    return sitk.Resample(image, grid.size, sitk.Transform(grid.dim, sitk.sitkIdentity), how, grid.origin, grid.spacing,
                         grid.direction, 0.0 if labels else float("nan"),
                         image.GetPixelID() if labels else sitk.sitkFloat32)


def grid_from(matrix: np.ndarray, size: tuple[int, ...]) -> Grid:
    """The grid of a matrix (d + 1, d + 1) from voxel indices (i, j, k) to LPS mm."""
    steps = matrix[:-1, :-1]
    spacing = np.linalg.norm(steps, axis=0)
    return Grid(tuple(size), tuple(spacing.tolist()), tuple(matrix[:-1, -1].tolist()),
                tuple((steps / spacing).ravel().tolist()))


def farthest(first: Grid, second: Grid) -> float:
    """How far apart two grids of one size have the same voxel at most, in voxels of the first."""
    apart = np.linalg.norm(first.corners() - second.corners(), axis=1).max()  # it is linear: largest at a corner
    return float(apart / np.linalg.norm(first.index_to_world[:-1, :-1], axis=0).min())


def _turned(grid: Grid, name: str) -> Optional[Grid]:
    """The grid with the nearest axes at right angles, itself if they are; None where it is sheared."""
    steps = grid.index_to_world[:-1, :-1]
    lengths = np.linalg.norm(steps, axis=0)
    cosines = steps / lengths
    left, _, right = np.linalg.svd(cosines)
    matrix = np.eye(grid.dim + 1)
    matrix[:-1, :-1] = left @ right * lengths
    matrix[:-1, -1] = grid.center - matrix[:-1, :-1] @ ((np.asarray(grid.size) - 1) / 2)
    turned = grid_from(matrix, grid.size)
    moved, off = farthest(grid, turned), np.abs(cosines.T @ cosines - np.eye(grid.dim)).max()
    if off <= RIGHT:
        return grid if np.allclose(lengths, grid.spacing, rtol=RIGHT) else turned
    angle = np.degrees(np.arcsin(min(1.0, off)))
    if moved <= ROUNDING:
        log.warning("The %s has axes up to %.2g degrees off right angles, as rounding leaves them: they are turned to "
                    "right angles, which moves no voxel by more than %.2g voxels.", name, angle, moved)
        return turned
    log.warning("The %s has sheared axes, up to %.2g degrees off right angles: it is resampled once onto a grid at "
                "right angles, which it does not fill.", name, angle)
    return None


def _around(grid: Grid, name: str) -> Grid:
    """A grid at right angles around a sheared one, with its first axis and the plane of its first two."""
    axes, mm = np.linalg.qr(grid.index_to_world[:-1, :-1])
    signs = np.sign(np.diag(mm))
    axes, mm = axes * signs, mm * signs[:, None]
    spacing = np.diag(mm)
    ends = np.asarray(list(itertools.product(*[(0, n - 1) for n in grid.size])))
    corners = ends @ (mm / spacing[:, None]).T
    low, high = np.floor(corners.min(0) + 1e-6), np.ceil(corners.max(0) - 1e-6)
    size = high - low + 1
    if size.prod() > _LARGEST * grid.count:
        raise InputError(f"The {name} is so sheared that a grid at right angles around it has "
                         f"{size.prod() / grid.count:.0f} times its voxels; correct its header or resample it.")
    matrix = np.eye(grid.dim + 1)
    matrix[:-1, :-1] = axes * spacing
    matrix[:-1, -1] = np.asarray(grid.origin) + matrix[:-1, :-1] @ low
    return grid_from(matrix, tuple(size.astype(int).tolist()))
