"""Maps as ITK transform files, which SimpleITK, ANTs and Slicer read.

A file holds a composite of the map's affine parts, exact, and of a cubic B-spline of its deformation:

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

from ..align.initial import to_itk
from ..errors import InputError, reason
from ..geometry import POINTS_AT_ONCE, Grid, apply_matrix, random_points
from ..maps.affine_map import AffineMap
from ..maps.map import CPU, Composition, Map
from ..maps.spline import Spline
from ..storage import atomic_path
from .coarsest import CHECK_POINTS, SEED, TOLERANCE, candidates, coarsest_within, described, error_summary

SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt")
"""File types; .h5 is compact and exact, .tfm and .txt are readable text, several times larger."""

_PAD_LIMIT = 0.25


@dataclass(frozen=True)
class ExportInfo:
    """What was written and how closely it reproduces the map.

    Attributes:
        path: the file.
        grid: the nodes that the spline interpolates.
        error_mm: ``mean``, ``p95``, ``p999``, ``max`` distance between the file's map and the fields' own, measured
            through SimpleITK at random points off the nodes, inside the field of view and the mask if one was given.
        tolerance_mm: the largest error accepted.
    """

    path: str
    grid: Grid
    error_mm: dict[str, float]
    tolerance_mm: float

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"file": Path(self.path).name,
                **described(self.grid, self.error_mm, self.tolerance_mm, _megabytes(self.grid))}


def export_itk(map_: Composition, path: Union[str, Path], spacing: Optional[float] = None, tolerance: float = TOLERANCE,
               mask: Optional[Tensor] = None, max_megabytes: float = 200.0) -> ExportInfo:
    """Write one map of a transform as an ITK composite transform file.

    Args:
        map_: affine maps and one deformation, as ``Transform.forward`` and ``Transform.inverse`` are.
        path: ends in one of :data:`SUFFIXES`; written under a temporary name first.
        spacing: mm between nodes; None picks the coarsest of :func:`nephi.files.coarsest.candidates` whose largest
            measured error is within the tolerance, or else the finest that ``max_megabytes`` allows.
        tolerance: the largest error accepted when the spacing is picked, voxels of the map's domain.
        mask: (*shape) bool on the map's domain; errors are measured inside it.
        max_megabytes: the largest spline written when the spacing is picked.

    Raises:
        InputError: an unknown file type, a spacing that is not positive, an unwritable folder.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path.name} is not an ITK transform file name; end it in one of {', '.join(SUFFIXES)}.")
    if spacing is not None and not (math.isfinite(spacing) and spacing > 0):
        raise InputError(f"The grid spacing {spacing} mm is not positive; give a spacing in mm.")
    composite, grid, error = build_itk(map_, spacing, tolerance, mask, max_megabytes)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteTransform(composite, str(temporary))
        except RuntimeError as problem:
            raise InputError(f"Cannot write {path} ({reason(problem)}); choose an existing folder with write "
                             f"permission and free space.") from problem
    return ExportInfo(str(path), grid, error, tolerance * map_.domain.voxel)


def build_itk(map_: Composition, spacing: Optional[float] = None, tolerance: float = TOLERANCE,
              mask: Optional[Tensor] = None, max_megabytes: float = 200.0) -> tuple[sitk.Transform, Grid, dict]:
    """The composite transform that :func:`export_itk` writes, the spline's grid and the measured error in mm."""
    number = next(i for i, part in enumerate(map_.parts) if not isinstance(part, AffineMap))
    deformation, before = map_.parts[number], Composition(map_.parts[:number])
    shown = _shown(deformation, before, map_.domain)
    inside = _check_points(deformation, before, map_.domain, mask)
    expected = map_.map(inside).to("cpu", torch.float64).numpy()

    def build(grid: Grid) -> tuple[tuple, float]:
        composite = _composite(map_, deformation, _spline(deformation, grid, shown))
        actual = np.asarray([composite.TransformPoint(p) for p in inside.to(torch.float64).tolist()])
        error = error_summary(np.linalg.norm(actual - expected, axis=-1))
        return (composite, grid, error), error["max"]

    if spacing is not None:
        return build(_node_grid(deformation, shown, spacing))[0]
    return coarsest_within(candidates(deformation.domain), lambda step: _node_grid(deformation, shown, step), build,
                           tolerance * map_.domain.voxel, lambda grid: _megabytes(grid) <= max_megabytes, order=4)


def _check_points(deformation: Map, before: Composition, domain: Grid, mask: Optional[Tensor]) -> Tensor:
    """Random points of a map's domain, (n, d) LPS mm, that come into the deformation's field of view, if any do."""
    points = random_points(domain, CHECK_POINTS, mask, SEED)
    shared = deformation.domain.contains(before.map(points.to(torch.float64)))
    return points[shared] if bool(shared.any()) else points


def _shown(deformation: Map, before: Composition, domain: Grid) -> Grid:
    """Where the spline must hold: the deformation's field of view, and if other maps act before it, that of the domain
    as they bring it there, up to a quarter of the side beyond it."""
    own = deformation.domain
    if not before.parts:
        return own
    corners = before.map(torch.from_numpy(domain.corners())).numpy()
    index = apply_matrix(own.world_to_index, corners)
    size = np.asarray(own.size)
    room = np.ceil(_PAD_LIMIT * size)
    low = np.floor(np.clip(index.min(0), -room, 0))
    high = np.ceil(np.clip(index.max(0), size - 1, size - 1 + room))
    return own.window(low.astype(int), (high - low + 1).astype(int))


def _node_grid(deformation: Map, shown: Grid, spacing: float) -> Grid:
    """Nodes at about this spacing over the box that is shown, padded so that the deformation can fade to nothing."""
    nodes = shown.with_spacing(spacing)
    nodes = nodes.padded(1.0 * max(nodes.spacing))  # a node on each side: the outer voxels' edges are covered
    border = _border_points(nodes)
    moved = (deformation.map(border) - border).norm(dim=-1)
    limit = _PAD_LIMIT * float(shown.extent.max())
    # Twice the displacement at the border keeps the fading deformation free of folds.
    return nodes.padded(min(limit, max(2.0 * float(moved.max()), max(nodes.spacing))))


def _border_points(grid: Grid, per_side: int = 12) -> Tensor:
    """Points on the faces of a grid's box, (n, d) float32 LPS mm."""
    ticks = np.linspace(0.0, 1.0, per_side)
    unit = np.stack(np.meshgrid(*[ticks] * grid.dim, indexing="ij"), -1).reshape(-1, grid.dim)
    faces = unit[((unit == 0) | (unit == 1)).any(-1)]
    return grid.to_world(torch.from_numpy(faces * (np.asarray(grid.size) - 1))).to(torch.float32)


def _composite(map_: Composition, deformation: Map, spline: sitk.Transform) -> sitk.Transform:
    parts = [spline if part is deformation else to_itk(part.linear) for part in map_.parts]
    return sitk.CompositeTransform(parts[::-1])  # ITK applies the transform that was added last first


def _spline(deformation: Map, grid: Grid, shown: Grid) -> sitk.BSplineTransform:
    """The deformation, fading to zero between the box that is shown and the border: programs differ in what they do
    beyond a spline, and here they agree."""
    displacements = torch.cat([
        deformation.displacement_on(slab).double() * _fade(slab.points(CPU), grid, shown).view(*slab.shape, 1)
        for slab in grid.slabs(POINTS_AT_ONCE)])
    coefficients = Spline.through(displacements).coefficients.detach()
    # A spline over n nodes is carried by n + 2 coefficients, the first of them one node before the grid.
    origin = grid.to_world(torch.full((1, grid.dim), -1.0, dtype=torch.float64))[0].tolist()
    images = [sitk.GetImageFromArray(part.contiguous().numpy()) for part in coefficients.unbind(-1)]
    for image in images:
        image.SetSpacing(grid.spacing)
        image.SetOrigin(origin)
        image.SetDirection(grid.direction)
    return sitk.BSplineTransform(images, 3)


def _fade(points: Tensor, grid: Grid, shown: Grid) -> Tensor:
    """Weights (n,): 1 in the box that is shown and a node beyond it, then falling linearly to 0 at the border."""
    step = np.asarray(grid.spacing)
    low, high = (apply_matrix(grid.world_to_index, shown.corners()[[0, -1]]))
    index = grid.to_index(points)
    low = torch.from_numpy(low - 0.5 * np.asarray(shown.spacing) / step - 1).to(index)
    high = torch.from_numpy(high + 0.5 * np.asarray(shown.spacing) / step + 1).to(index)
    last = torch.tensor(grid.size).to(index) - 1
    below = index / low.clamp_min(1e-6)
    above = (last - index) / (last - high).clamp_min(1e-6)
    return torch.minimum(below, above).clamp(0, 1).min(dim=-1).values


def _megabytes(grid: Grid) -> float:
    """The size of the coefficients in double precision, which is how ITK writes them."""
    return grid.count * grid.dim * 8 / 1e6
