"""The maps as ITK transform files, which SimpleITK, ANTs and Slicer read.

A file holds a composite of an affine and a cubic B-spline of the deformation in the fixed image's space:

    forward = affine o deformation,    inverse = deformation' o affine^-1,

so that the spline stays small and smooth and the affine still holds outside it. The spacing of its nodes is the
coarsest whose measured error is within a tolerance. A displacement field, which is linear between its nodes, needs some
ten times as many for the same error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError, reason
from ..geometry import Grid, apply_affine, apply_matrix, random_points
from ..maps.spline import LatentCode
from ..storage import atomic_path
from .displacements import candidates, coarsest_within, summary

SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt")
"""File types; .h5 is compact and exact, .tfm and .txt are readable text, several times larger."""

_PAD_LIMIT = 0.25
_CHECK_POINTS = 8192
_SEED = 1
_POINTS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class ExportInfo:
    """What was written and how closely it reproduces the map.

    Attributes:
        path: the file.
        direction: "forward" or "inverse".
        spacing: mm between the spline's nodes.
        grid: those that it interpolates, in the fixed image's space.
        error_mm: ``mean``, ``p95``, ``p999``, ``max`` distance between the file's map and the fields' own, measured
            through SimpleITK at random points off the nodes, inside the field of view and the mask if one was given.
        tolerance_mm: the largest error asked for.
        megabytes: size of the coefficients in the file (as .h5).
    """

    path: str
    direction: str
    spacing: float
    grid: Grid
    error_mm: dict[str, float]
    tolerance_mm: float
    megabytes: float

    @property
    def within_tolerance(self) -> bool:
        """Whether the largest measured error is within the tolerance."""
        return self.error_mm["max"] <= self.tolerance_mm

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"file": Path(self.path).name, "direction": self.direction, "spacing_mm": self.spacing,
                "size": list(self.grid.size), "error_mm": dict(self.error_mm), "tolerance_mm": self.tolerance_mm,
                "within_tolerance": self.within_tolerance, "megabytes": self.megabytes}


def export_itk(transform, path: Union[str, Path], direction: str = "forward", spacing: Optional[float] = None,
               tolerance_mm: float = 0.05, mask: Optional[Tensor] = None, max_megabytes: float = 200.0) -> ExportInfo:
    """Write one direction of a transform as an ITK composite transform file.

    Args:
        transform: anything with ``nonlinear(points, direction)``, ``map_points``, ``affine``, ``fixed_grid`` and
            ``moving_grid``.
        path: ends in one of :data:`SUFFIXES`; written under a temporary name first.
        direction: "forward" (fixed points to moving points: resamples the moving image) or "inverse".
        spacing: mm between nodes; None picks the coarsest of :func:`nephi.files.displacements.candidates` whose largest
            measured error is within the tolerance, or else the finest that ``max_megabytes`` allows.
        tolerance_mm: the largest error accepted when the spacing is picked.
        mask: (*shape) bool on the grid the direction starts from; errors are measured inside it.
        max_megabytes: the largest spline written when the spacing is picked.

    Raises:
        InputError: an unknown direction or file type, a spacing that is not positive, an unwritable folder.
    """
    path = Path(path)
    _check_arguments(path, direction, spacing)
    composite, grid, error = build_itk(transform, direction, spacing, tolerance_mm, mask, max_megabytes)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteTransform(composite, str(temporary))
        except RuntimeError as problem:
            raise InputError(f"Cannot write {path} ({reason(problem)}); choose an existing folder with write "
                             f"permission and free space.") from problem
    return ExportInfo(str(path), direction, float(np.mean(grid.spacing)), grid, error, tolerance_mm, _megabytes(grid))


def build_itk(transform, direction: str = "forward", spacing: Optional[float] = None, tolerance_mm: float = 0.05,
              mask: Optional[Tensor] = None, max_megabytes: float = 200.0) -> tuple[sitk.Transform, Grid, dict]:
    """The composite transform that :func:`export_itk` writes, the spline's grid and the measured error in mm."""
    inside = _check_points(transform, direction, mask)
    kept = _domain(transform, direction)
    if spacing is not None:
        grid = _node_grid(transform, kept, spacing, direction)
        return _measured(transform, grid, kept, direction, inside)

    def build(grid: Grid) -> tuple[tuple, float]:
        made = _measured(transform, grid, kept, direction, inside)
        return made, made[-1]["max"]

    return coarsest_within(candidates(transform), lambda step: _node_grid(transform, kept, step, direction), build,
                           tolerance_mm, lambda grid: _megabytes(grid) <= max_megabytes, order=4)


def _check_arguments(path: Path, direction: str, spacing: Optional[float]) -> None:
    if direction not in ("forward", "inverse"):
        raise InputError(f"Unknown direction {direction!r}; use 'forward' or 'inverse'.")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path.name} is not an ITK transform file name; end it in one of {', '.join(SUFFIXES)}.")
    if spacing is not None and not (math.isfinite(spacing) and spacing > 0):
        raise InputError(f"The grid spacing {spacing} mm is not positive; give a spacing in mm.")


def _check_points(transform, direction: str, mask: Optional[Tensor]) -> Tensor:
    """Random points of the image the direction starts from, (n, d) LPS mm; for the inverse, moving points that the
    affine places in the fixed field of view."""
    fixed, moving = transform.fixed_grid, transform.moving_grid
    if direction == "forward":
        return random_points(fixed, _CHECK_POINTS, mask, _SEED)
    if mask is None:
        points = apply_affine(transform.affine, random_points(fixed, _CHECK_POINTS, seed=_SEED))
        shared = moving.contains(points)
    else:
        points = random_points(moving, _CHECK_POINTS, mask, _SEED)
        shared = fixed.contains(apply_affine(np.linalg.inv(transform.affine), points.to(torch.float64)))
    return points[shared] if bool(shared.any()) else points


def _domain(transform, direction: str) -> Grid:
    """The part of the fixed image's space in which the file must hold: the fixed field of view, and for the inverse
    the moving one as the affine brings it there, up to a quarter of the fixed image's side beyond it."""
    fixed = transform.fixed_grid
    if direction == "forward":
        return fixed
    corners = apply_matrix(np.linalg.inv(transform.affine), transform.moving_grid.corners())
    index = apply_matrix(fixed.world_to_index, corners)
    size = np.asarray(fixed.size)
    room = np.ceil(_PAD_LIMIT * size)
    low = np.floor(np.clip(index.min(0), -room, 0))
    high = np.ceil(np.clip(index.max(0), size - 1, size - 1 + room))
    return fixed.window(low.astype(int), (high - low + 1).astype(int))


def _node_grid(transform, kept: Grid, spacing: float, direction: str) -> Grid:
    """Nodes at about this spacing over the kept box, padded so that the deformation can fade to nothing."""
    nodes = kept.with_spacing(spacing)
    nodes = nodes.padded(1.0 * max(nodes.spacing))  # a node on each side: the outer voxels' edges are covered
    border = _border_points(nodes)
    moved = (transform.nonlinear(border, direction).cpu() - border).norm(dim=-1)
    limit = _PAD_LIMIT * float(kept.extent.max())
    # Twice the displacement at the border keeps the fading deformation free of folds.
    return nodes.padded(min(limit, max(2.0 * float(moved.max()), max(nodes.spacing))))


def _border_points(grid: Grid, per_side: int = 12) -> Tensor:
    """Points on the faces of a grid's box, (n, d) float32 LPS mm."""
    ticks = np.linspace(0.0, 1.0, per_side)
    unit = np.stack(np.meshgrid(*[ticks] * grid.dim, indexing="ij"), -1).reshape(-1, grid.dim)
    faces = unit[((unit == 0) | (unit == 1)).any(-1)]
    return grid.to_world(torch.from_numpy(faces * (np.asarray(grid.size) - 1))).to(torch.float32)


def _measured(transform, grid: Grid, kept: Grid, direction: str, inside: Tensor) -> tuple[sitk.Transform, Grid, dict]:
    """The composite over this node grid and its error at the check points."""
    composite = _composite(transform, grid, kept, direction)
    expected = transform.map_points(inside, direction).to("cpu", torch.float64).numpy()
    actual = np.asarray([composite.TransformPoint(p) for p in inside.to(torch.float64).tolist()])
    distance = np.linalg.norm(actual - expected, axis=-1)
    return composite, grid, summary(distance)


def _composite(transform, grid: Grid, kept: Grid, direction: str) -> sitk.Transform:
    dim = grid.dim
    spline = _spline(transform, grid, kept, direction)
    matrix = np.asarray(transform.affine, dtype=np.float64)
    matrix = matrix if direction == "forward" else np.linalg.inv(matrix)
    linear = sitk.AffineTransform(dim)
    linear.SetMatrix(matrix[:-1, :-1].flatten().tolist())
    linear.SetTranslation(matrix[:-1, -1].tolist())
    # ITK applies the transform that was added last first.
    return sitk.CompositeTransform([linear, spline] if direction == "forward" else [spline, linear])


def _spline(transform, grid: Grid, kept: Grid, direction: str) -> sitk.BSplineTransform:
    """The deformation in the fixed image's space, fading to zero between the kept box and the border: programs differ
    in what they do beyond a spline, and here they agree."""
    parts = []
    for chunk in grid.chunks(_POINTS_AT_ONCE):
        points = grid.points(*chunk)
        moved = (transform.nonlinear(points, direction).cpu() - points).double()
        parts.append(moved * _fade(points, grid, kept)[:, None])
    values = torch.cat(parts).view(*grid.shape, grid.dim)
    coefficients = LatentCode.through(values, (0.0,) * grid.dim, 1.0).local.detach()
    # A spline over n nodes is carried by n + 2 coefficients, the first of them one node before the grid.
    origin = grid.to_world(torch.full((1, grid.dim), -1.0, dtype=torch.float64))[0].tolist()
    images = [sitk.GetImageFromArray(part.contiguous().numpy()) for part in coefficients.unbind(-1)]
    for image in images:
        image.SetSpacing(grid.spacing)
        image.SetOrigin(origin)
        image.SetDirection(grid.direction)
    return sitk.BSplineTransform(images, 3)


def _fade(points: Tensor, grid: Grid, kept: Grid) -> Tensor:
    """Weights (n,): 1 in the kept box and a node beyond it, from there falling linearly to 0 at the outermost nodes."""
    step = np.asarray(grid.spacing)
    low, high = (apply_matrix(grid.world_to_index, kept.corners()[[0, -1]]))
    index = grid.to_index(points)
    low = torch.from_numpy(low - 0.5 * np.asarray(kept.spacing) / step - 1).to(index)
    high = torch.from_numpy(high + 0.5 * np.asarray(kept.spacing) / step + 1).to(index)
    last = torch.tensor(grid.size).to(index) - 1
    below = index / low.clamp_min(1e-6)
    above = (last - index) / (last - high).clamp_min(1e-6)
    return torch.minimum(below, above).clamp(0, 1).min(dim=-1).values


def _megabytes(grid: Grid) -> float:
    """The size of the coefficients in double precision, which is how ITK writes them."""
    return grid.count * grid.dim * 8 / 1e6
