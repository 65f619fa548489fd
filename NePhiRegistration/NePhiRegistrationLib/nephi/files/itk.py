"""Maps as ITK transform files, which SimpleITK, ANTs and Slicer read.

A file holds a composite: a cubic B-spline over the image the map starts from, then the map's linear part, exact. So the
spline stays small and smooth, and the linear part still holds outside it. The spline is the one everything else is read
from (:mod:`nephi.maps.sampled`). A displacement field, which is linear between its nodes, needs some ten times as many
for the same error.
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
from ..geometry import Grid
from ..maps.coarsest import TOLERANCE, described
from ..maps.map import Map
from ..maps.sampled import LARGEST, SampledMap, megabytes, sampled
from ..maps.spline import SplineMap
from ..storage import atomic_path

SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt")
"""File types; .h5 is compact and exact, .tfm and .txt are readable text, several times larger."""

ROOM = 1.5  # of the displacement across a side of the image: over how far the spline fades beyond it
_PAD_LIMIT = 0.08  # of the longest side: how far that is at most


@dataclass(frozen=True)
class ExportInfo:
    """What was written and how closely it reproduces the map.

    Attributes:
        path: the file.
        grid: the nodes of the spline, with those beyond the image over which it fades.
        error_mm: ``mean``, ``p95``, ``p999``, ``max`` distance between the spline's map and the fields' own at random
            points off the nodes, inside the field of view and the mask if one was given.
        tolerance_mm: the error that all but one point in a thousand may have.
    """

    path: str
    grid: Grid
    error_mm: dict[str, float]
    tolerance_mm: float

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"file": Path(self.path).name,
                **described(self.grid, self.error_mm, self.tolerance_mm, megabytes(self.grid))}


def export_itk(map_: Map, path: Union[str, Path], spacing: Optional[float] = None, tolerance: float = TOLERANCE,
               mask: Optional[Tensor] = None, max_megabytes: float = LARGEST) -> ExportInfo:
    """Write one map of a transform as an ITK composite transform file.

    Args:
        map_: as ``Transform.forward`` and ``Transform.inverse`` are.
        path: ends in one of :data:`SUFFIXES`; written under a temporary name first.
        spacing, tolerance, mask, max_megabytes: as :func:`nephi.maps.sampled.sampled` takes them.

    Raises:
        InputError: an unknown file type, a spacing that is not positive, an unwritable folder.
    """
    _check_path(Path(path))
    if spacing is not None and not (math.isfinite(spacing) and spacing > 0):
        raise InputError(f"The grid spacing {spacing} mm is not positive; give a spacing in mm.")
    return write_itk(sampled(map_, mask, tolerance, spacing, max_megabytes), path)


def write_itk(made: SampledMap, path: Union[str, Path]) -> ExportInfo:
    """Write a map that has been sampled as an ITK composite transform file.

    Raises:
        InputError: an unknown file type, an unwritable folder.
    """
    path = Path(path)
    _check_path(path)
    outward = faded(made.map.parts[0])
    with atomic_path(path) as temporary:
        try:
            sitk.WriteTransform(_composite(outward, made.map.linear), str(temporary))
        except RuntimeError as problem:
            raise InputError(f"Cannot write {path} ({reason(problem)}); choose an existing folder with write "
                             f"permission and free space.") from problem
    return ExportInfo(str(path), outward.lattice, made.error_mm, made.tolerance_mm)


def faded(splines: SplineMap) -> SplineMap:
    """The same splines on their lattice; beyond it they fade to zero, for programs differ in what they do beyond a
    spline, and where it is zero they agree.

    Over the displacement across a side times ROOM the fading map does not fold.
    """
    values, lattice = splines.spline.coefficients.detach(), splines.lattice
    limit, start, size = _PAD_LIMIT * float(lattice.extent.max()), [0] * lattice.dim, list(lattice.size)
    for axis, step in enumerate(lattice.spacing):
        normal, position = torch.from_numpy(lattice.axes[:, axis].copy()).to(values), lattice.dim - 1 - axis
        rows = values.movedim(position, 0)
        across = [float((rows[end] @ normal).abs().max()) for end in (0, -1)]
        before, after = (math.ceil(min(ROOM * most, limit) / step) + 2 for most in across)
        ramps = [torch.arange(n, 0, -1).to(values) / (n + 1) for n in (before, after)]
        weights = torch.cat([ramps[0].flip(0), torch.ones(len(rows)).to(values), ramps[1]])
        rows = torch.cat([rows[:1].expand(before, *rows.shape[1:]), rows, rows[-1:].expand(after, *rows.shape[1:])])
        values = (rows * weights.view(-1, *[1] * (rows.dim() - 1))).movedim(0, position)
        start[axis], size[axis] = -before, size[axis] + before + after
    return SplineMap.from_coefficients(values, lattice.window(start, size))


def _check_path(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path.name} is not an ITK transform file name; end it in one of {', '.join(SUFFIXES)}.")


def _composite(splines: SplineMap, linear: np.ndarray) -> sitk.Transform:
    grid = splines.lattice
    # A spline over n nodes is carried by n + 2 coefficients, the first of them one node before the grid.
    origin = grid.to_world(torch.full((1, grid.dim), -1.0, dtype=torch.float64))[0].tolist()
    images = [sitk.GetImageFromArray(part.contiguous().numpy())
              for part in splines.spline.coefficients.detach().double().unbind(-1)]
    for image in images:
        image.SetSpacing(grid.spacing)
        image.SetOrigin(origin)
        image.SetDirection(grid.direction)
    # ITK applies the transform that was added last first.
    return sitk.CompositeTransform([to_itk(linear), sitk.BSplineTransform(images, 3)])
