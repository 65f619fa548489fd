"""Where a registration starts: a given transform as a matrix and, where it bends, as stages of the map to be found.

    given(x) = matrix(phi(x)),    phi(x) = matrix^-1(given(x)),

phi a pair of splines over one lattice, which is as coarse as a small measured error allows. Its inverse is found by
Newton's method, for a transform is mostly given in one direction.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Optional, Union

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Frame, Grid, apply_affine, random_points
from ..maps.determinant import determinant_image
from ..maps.framed import FramedMap
from ..maps.inverting import inverted
from ..maps.map import CPU, MapPair
from ..maps.resampled import lattice_over
from ..maps.spline import SplineMap
from ..maps.transform import Stage, Transform

log = logging.getLogger(__name__)

STEPS = (4.0, 2.0, 1.0)  # voxels between the nodes that are tried
MOST_NODES = 4_000_000
MANY_NODES = 500_000  # of which the inverse takes long enough to be said
TOLERANCE = 0.05  # voxels, the largest error of the map and of its inverse with which nodes are close enough
FINER_HELPS = 0.5  # of an error is left at most with half the step; where the map nearly folds no step is small enough
CHECK_POINTS = 8192
REACH = 0.25  # of the fixed image's side: the farthest that the lattice goes beyond it
BEYOND = 4  # nodes around the image
MOSTLY = 0.5  # of the squares of displacements, which a matrix has to explain to be taken out of them

Displace = Callable[[Grid], Tensor]
"""Displacements (*grid.shape, d), float64 mm, at the points of a grid."""


@dataclass(frozen=True)
class Start:
    """Where a registration starts.

    Attributes:
        matrix: (d + 1, d + 1) float64, fixed to moving LPS mm; None where nothing is given.
        stages: what acts before the matrix, in the fixed image's frame; none where the start is linear.
        quality: of stages that were made here: ``spacing_mm`` between the nodes, and the largest errors of the map and
            of its inverse in voxels of the fixed image, ``forward_voxels`` and ``round_trip_voxels``.
    """

    matrix: Optional[np.ndarray] = None
    stages: tuple[Stage, ...] = ()
    quality: dict[str, float] = field(default_factory=dict)

    def noted_in(self, transform: Transform) -> Transform:
        """A result with the quality of its start in its provenance, as ``initial``."""
        return replace(transform, provenance={**transform.provenance, "initial": self.quality}) if self.quality else \
            transform


def start_from_itk(transform: sitk.Transform, fixed: Grid, name: str = "transform",
                   device: Union[str, torch.device] = CPU) -> Start:
    """An ITK transform, fixed to moving points, linear or not, as a start.

    Its linear parts are multiplied and taken out. From a field without any, the matrix is taken that fits it best,
    where most of it is linear: so the fields only see what bends.

    Args:
        fixed: the fixed image's grid.
        name: for messages.

    Raises:
        InputError: it has another dimension, folds, or cannot be inverted.
    """
    if transform.GetDimension() != fixed.dim:
        raise InputError(f"The {name} is {transform.GetDimension()}D but the images are {fixed.dim}D; give one of "
                         "their dimension.")
    matrix = _linear_part(transform)
    _check_matrix(matrix, name)
    if transform.IsLinear():
        return Start(matrix)

    def displace(grid: Grid) -> Tensor:
        sampled = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, grid.size, grid.origin,
                                                    grid.spacing, grid.direction)
        return torch.from_numpy(sitk.GetArrayFromImage(sampled))

    if np.array_equal(matrix, np.eye(fixed.dim + 1)):
        matrix = _best_matrix(displace, fixed)
    points = random_points(fixed, CHECK_POINTS).double()
    moved = torch.tensor([transform.TransformPoint(point) for point in points.tolist()], dtype=torch.float64)
    return start_through(matrix, displace, (points, moved), fixed, name, torch.device(device))


def start_from(transform: Transform, fixed: Grid, name: str = "transform") -> Start:
    """An earlier registration as a start: its own stages where they are in the fixed image's frame, or splines.

    Raises:
        InputError: it has another dimension, or folds.
    """
    if transform.fixed_grid.dim != fixed.dim:
        raise InputError(f"The {name} is {transform.fixed_grid.dim}D but the images are {fixed.dim}D; give one of "
                         "their dimension.")
    if transform.fixed_grid.same_as(fixed) or not transform.stages:
        return Start(transform.affine, transform.stages)
    points = random_points(fixed, CHECK_POINTS).double()
    return start_through(transform.affine, lambda grid: transform.forward.displacement_on(grid).double(),
                         (points, transform.forward.map(points)), fixed, name, transform.forward.device)


def matrix_of(transform: sitk.Transform) -> np.ndarray:
    """The homogeneous matrix (d + 1, d + 1) of a linear SimpleITK transform, by what it does to the axes.

    It is not taken apart: of some of ITK's transforms, MatrixOffsetTransformBase among them, SimpleITK makes a
    composite of itself.
    """
    dim = transform.GetDimension()
    matrix = np.eye(dim + 1)
    matrix[:-1, -1] = transform.TransformPoint([0.0] * dim)
    for axis in range(dim):
        matrix[:-1, axis] = transform.TransformVector(list(np.eye(dim)[axis]), [0.0] * dim)
    return matrix


def to_itk(matrix: np.ndarray) -> sitk.AffineTransform:
    """A homogeneous matrix (d + 1, d + 1) as a SimpleITK transform."""
    transform = sitk.AffineTransform(len(matrix) - 1)
    transform.SetMatrix(matrix[:-1, :-1].flatten().tolist())
    transform.SetTranslation(matrix[:-1, -1].tolist())
    return transform


def _linear_part(transform: sitk.Transform) -> np.ndarray:
    """The linear parts of a transform multiplied, as if those that bend were not there."""
    if transform.IsLinear():
        return matrix_of(transform)
    matrix = np.eye(transform.GetDimension() + 1)
    composite = transform.Downcast()
    if isinstance(composite, sitk.CompositeTransform) and composite.GetNumberOfTransforms() > 1:
        for n in range(composite.GetNumberOfTransforms()):  # the last one added is the first one applied
            matrix = matrix @ _linear_part(composite.GetNthTransform(n))
    return matrix


def _check_matrix(matrix: np.ndarray, name: str) -> None:
    if not np.isfinite(matrix).all():
        raise InputError(f"The {name} has a linear part with numbers that are NaN or infinite; make it anew.")
    if not abs(np.linalg.det(matrix)) > 1e-9:
        raise InputError(f"The {name} has a linear part that cannot be inverted; give one whose matrix is regular.")


def _best_matrix(displace: Displace, fixed: Grid) -> np.ndarray:
    """The matrix that fits displacements best, where it explains most of them; else the identity."""
    grid = lattice_over(fixed, (STEPS[0] * fixed.voxel,) * fixed.dim)
    points = grid.points(CPU).double().numpy()
    shifts = displace(grid).reshape(-1, fixed.dim).numpy()
    rows = np.concatenate([points - fixed.center, np.ones((len(points), 1))], axis=1)
    fitted, *_ = np.linalg.lstsq(rows, shifts, rcond=None)
    matrix, total = np.eye(fixed.dim + 1), float((shifts**2).sum())
    if not np.isfinite(total) or ((shifts - rows @ fitted)**2).sum() > (1 - MOSTLY) * total:
        return matrix
    matrix[:-1, :-1] += fitted[:-1].T
    matrix[:-1, -1] = fitted[-1] - fitted[:-1].T @ fixed.center
    return matrix if np.linalg.det(matrix) > 1e-3 else np.eye(fixed.dim + 1)


def start_through(matrix: np.ndarray, displace: Displace, pairs: tuple[Tensor, Tensor], fixed: Grid, name: str,
                  device: torch.device) -> Start:
    """A matrix and the pair of splines that make good what it lacks, at the coarsest nodes that are close enough.

    Args:
        displace: the whole transform.
        pairs: points of the fixed image and where the whole transform takes them, (n, d) float64 LPS mm each.
    """
    back, voxel, frame = np.linalg.inv(matrix), fixed.voxel, Frame.of(fixed)
    points, bent = pairs[0], apply_affine(back, pairs[1])
    start, pair, folded, worst = None, None, 0.0, math.inf
    for step in STEPS:
        grid = lattice_over(fixed, (step * voxel,) * fixed.dim)
        if step < STEPS[0] and grid.count > MOST_NODES:
            break
        if grid.count > MANY_NODES:
            log.warning("The %s is inverted at %.1f million points, which takes up to a minute or two.", name,
                        grid.count / 1e6)
        nodes = grid.points(CPU).double()
        shifts = apply_affine(back, nodes + displace(grid).reshape_as(nodes)) - nodes
        if not bool(shifts.isfinite().all()):
            raise InputError(f"The {name} moves points to where there are no numbers (NaN or infinite); make it anew.")
        given = _extended(shifts.view(*grid.shape, grid.dim), grid)
        folded = float((determinant_image(given, grid) <= 0).double().mean())
        if folded:
            continue
        pair = _in_frame(given, grid, frame, pair and pair.inverse)
        there, again = (FramedMap(way, frame, fixed) for way in (pair.forward, pair.inverse))
        errors = [float(error.norm(dim=-1).max()) / voxel for error in (
            there.map(points) - bent, again.map(there.map(points)) - points)]
        quality = dict(zip(("spacing_mm", "forward_voxels", "round_trip_voxels"), (step * voxel, *errors)))
        start = Start(matrix, (pair,), quality)
        if max(errors) <= TOLERANCE or max(errors) > FINER_HELPS * worst:
            break
        worst = max(errors)
    if folded:
        raise InputError(f"The {name} folds in {100 * folded:.2g} % of the fixed image's voxels, where it has no "
                         "inverse; smooth it, or give its linear part alone.")
    level = logging.INFO if max(errors) <= TOLERANCE else logging.WARNING
    log.log(level, "The %s is held by splines with %.3g mm between their nodes; the largest errors are %.3g voxels, "
            "and %.3g voxels there and back.", name, *start.quality.values())
    for way in (pair.forward, pair.inverse):
        way.spline.to(device)  # in place
    return start


def _extended(shifts: Tensor, grid: Grid) -> SplineMap:
    """Displacements (*grid.shape, d) a few nodes beyond their grid too, turned about its border as a natural spline
    goes on there. Beyond those they are constant, and the bend of that does not reach the image."""
    for axis, n in enumerate(grid.shape):
        rows, more = shifts.movedim(axis, 0), min(BEYOND, n - 1)
        before, after = 2 * rows[:1] - rows[1:more + 1].flip(0), 2 * rows[-1:] - rows[-more - 1:-1].flip(0)
        shifts = torch.cat([before, rows, after]).movedim(0, axis)
    more = [min(BEYOND, n - 1) for n in grid.size]
    return SplineMap.through(shifts, grid.window([-m for m in more], [n + 2 * m for n, m in zip(grid.size, more)]))


def _in_frame(given: SplineMap, grid: Grid, frame: Frame, guess: Optional[SplineMap]) -> MapPair:
    """Displacements over a grid in the fixed image's box as two splines over a lattice of the frame, float32, which
    reaches as far beyond the box as points are moved, so that they find back."""
    step, corners = max(grid.spacing), grid.corners()
    shift = float(given.read_on(grid).norm(dim=-1).max())
    beyond = BEYOND + math.ceil(min(shift, REACH * float(grid.extent.max())) / step)
    low, high = corners.min(0) - beyond * step, corners.max(0) + beyond * step
    world = Grid.aligned((np.ceil((high - low) / step - 1e-6) + 1).tolist(), step, low.tolist())
    lattice = Grid.aligned(world.size, step / frame.scale, ((low - frame.center) / frame.scale).tolist())
    forward = SplineMap.through(given.displacement_on(world) / frame.scale, lattice)
    return MapPair(forward, inverted(forward, guess))
