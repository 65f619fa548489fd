"""The grid of a template, made of the headers of all images alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from ..images.checks import check_size
from ..images.pair import MIN_AXIS

SAME_AXES = 1e-3
"""Direction cosines that differ by less are the same."""


def common_grid(grids: Sequence[Grid], spacing: Optional[float] = None) -> Grid:
    """The mean field of view around the mean of the centres.

    Where all images have the same axes, so has the template, with the mean spacing along each. Otherwise it has those
    of the world and cubic voxels.

    Args:
        spacing: about so many mm along each axis in the place of the mean.

    Raises:
        InputError: it would not fit into the memory, or be too coarse to be registered.
    """
    directions = np.array([grid.axes for grid in grids])
    dim, mean = grids[0].dim, directions.mean(0)
    if np.abs(directions - mean).max() < SAME_AXES:
        u, _, v = np.linalg.svd(mean)
        axes = directions[0] if np.ptp(directions, axis=0).max() == 0 else u @ v
        extent = np.mean([grid.extent for grid in grids], axis=0)
        step = np.mean([grid.spacing for grid in grids], axis=0)
    else:
        axes = np.eye(dim)
        extent = np.mean([np.abs(grid.axes) @ grid.extent for grid in grids], axis=0)
        step = np.full(dim, np.mean([grid.voxel for grid in grids]))
    step = step if spacing is None else np.full(dim, spacing)
    size = np.maximum(1, np.round(extent / step)).astype(int)
    if size.min() < MIN_AXIS:
        raise InputError(f"The template would have {' x '.join(map(str, size))} voxels, and every axis needs at least "
                         f"{MIN_AXIS}; choose a smaller spacing than {step.max():g} mm, or larger images.")
    check_size("template", size.tolist())
    origin = np.mean([grid.center for grid in grids], axis=0) - axes @ ((size - 1) / 2 * step)
    return Grid(*(tuple(values.tolist()) for values in (size, step, origin, axes.flatten())))
