"""The mean of maps from a template to its images, and the map that takes it out: then the template has the mean shape.

Linear parts are averaged as a rotation and a stretch, so that images in many poses do not shrink their mean. What bends
is averaged as displacements at the template's points, before the linear parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..align.initial import CHECK_POINTS, start_through
from ..geometry import Grid, apply_matrix, random_points
from ..images.image import Image
from ..images.masks import region
from ..maps.map import MapPair
from ..maps.resampled import lattice_every
from ..maps.spline import SplineMap
from ..maps.transform import Transform
from .averages import mean_of

EVERY = 2.0
"""Voxels of the template between the points at which displacements are averaged."""
_ENOUGH, _MOST = 1e-12, 50


def nodes_of(grid: Grid) -> Grid:
    """The points of a template at which displacements are averaged."""
    return lattice_every(grid, EVERY)


def corrected(transform: Transform, update: Transform) -> Transform:
    """A map from a template to an image as one from the template that an update has made of it.

    Args:
        update: of the new template's points to the old one's; linear where the map is, and without a linear part
            where that bends.
    """
    return Transform(transform.fixed_grid, transform.moving_grid, transform.affine @ update.affine,
                     (*transform.stages, *update.stages), transform.provenance)


def linear_update(matrices: Sequence[np.ndarray], grid: Grid) -> Transform:
    """What takes the mean out of linear maps: corrected by it they turn, stretch and shift by nothing on average.

    Args:
        matrices: (d + 1, d + 1) from the template to each image, LPS mm.
    """
    update = np.eye(grid.dim + 1)
    for _ in range(_MOST):
        mean = _mean_matrix([matrix @ update for matrix in matrices], grid.center)
        update = update @ np.linalg.inv(mean)
        if np.abs(mean - np.eye(grid.dim + 1)).max() < _ENOUGH:
            break
    return Transform(grid, grid, update)


def bending_update(shifts: Sequence[Path], grid: Grid) -> Transform:
    """What takes the mean out of maps that bend: the exact inverse of their mean, as splines.

    Args:
        shifts: files of displacements (*nodes.shape, d) mm at :func:`nodes_of` the grid.

    Raises:
        InputError: the mean folds.
    """
    nodes = nodes_of(grid)
    mean = SplineMap.through(torch.from_numpy(mean_of(shifts, (*nodes.shape, grid.dim))), nodes)
    points = random_points(grid, CHECK_POINTS).double()
    start = start_through(np.eye(grid.dim + 1), lambda where: mean.displacement_on(where).double(),
                          (points, mean.map(points)), grid, "mean deformation", torch.device("cpu"))
    pair = start.stages[0]
    return Transform(grid, grid, start.matrix, (MapPair(pair.inverse, pair.forward),))


def moved_mm(update: Transform, template: Image) -> float:
    """How far an update moves the points of what a template shows: the root of the mean square, mm."""
    points = random_points(template.grid, CHECK_POINTS, region(template, None)).double()
    return float((update.forward.map(points) - points).square().sum(-1).mean().sqrt())


def _mean_matrix(matrices: Sequence[np.ndarray], center: np.ndarray) -> np.ndarray:
    """The mean rotation after the mean stretch, and the mean of where the centre goes."""
    dim = len(center)
    turns, logarithms = [], []
    for matrix in matrices:
        u, lengths, v = np.linalg.svd(matrix[:-1, :-1])
        turns.append(u @ v)
        logarithms.append(v.T @ np.diag(np.log(lengths)) @ v)
    u, _, v = np.linalg.svd(np.mean(turns, axis=0))
    values, axes = np.linalg.eigh(np.mean(logarithms, axis=0))
    mean = np.eye(dim + 1)
    mean[:-1, :-1] = u @ v @ axes @ np.diag(np.exp(values)) @ axes.T
    places = [apply_matrix(matrix, center[None])[0] for matrix in matrices]
    mean[:-1, -1] = np.mean(places, axis=0) - mean[:-1, :-1] @ center
    return mean
