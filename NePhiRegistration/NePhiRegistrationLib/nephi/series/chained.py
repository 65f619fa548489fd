"""Transforms between frames on one grid put together exactly: their stages in one row, so that nothing is resampled."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..geometry import Frame, Grid
from ..maps.inverting import inverted
from ..maps.map import MapPair
from ..maps.spline import SplineMap
from ..maps.transform import Transform

FAR = 6.0  # frame units from the middle, up to which a matrix as splines is exact; the image lies within 1.8
EVERY = 4.0  # voxels between the nodes of a mean of maps, which is smoother than each of them
BEYOND = 0.2  # of half the image's longest side: how far around it the mean is known


def identity(grid: Grid) -> Transform:
    """The map of a frame to itself."""
    return Transform(grid, grid, np.eye(grid.dim + 1))


def chained(first: Transform, then: Transform) -> Transform:
    """The map from the fixed image of one transform to the moving image of the next, exactly, both ways.

    Args:
        first: of a fixed image to a moving one.
        then: on from that; both fixed images lie on one grid.
    """
    between = () if np.array_equal(first.affine, np.eye(len(first.affine))) else (
        linear_stage(first.affine, first.fixed_grid),)
    return replace(then, fixed_grid=first.fixed_grid, stages=(*then.stages, *between, *first.stages))


def chained_all(steps: Sequence[Transform]) -> tuple[Transform, ...]:
    """The maps from the first of several frames to each of them, from the maps of each to the next."""
    return tuple(itertools.accumulate(steps, chained, initial=identity(steps[0].fixed_grid)))


def linear_stage(matrix: np.ndarray, grid: Grid) -> MapPair:
    """A matrix (d + 1, d + 1), fixed to moving LPS mm, as a stage of a transform whose fixed image has this grid: a
    natural spline through what is linear is linear."""
    frame = Frame.of(grid)
    inside = frame.to_frame_matrix @ matrix @ frame.to_world_matrix
    nodes = Grid.aligned((4,) * grid.dim, 2 * FAR / 3, (-FAR,) * grid.dim)

    def splines(way: np.ndarray) -> SplineMap:
        shifts = nodes.through(way, torch.float64) - nodes.through(np.eye(grid.dim + 1), torch.float64)
        return SplineMap.through(shifts.float(), nodes)

    return MapPair(splines(inside), splines(np.linalg.inv(inside)))


def centred(transforms: Sequence[Transform]) -> tuple[Transform, ...]:
    """Maps of one space to each of several frames, with that space moved to where its points are on average: the mean
    of the new maps is the identity, whatever frame the old space was made from.

    new_k = old_k o m^-1, m the mean of all old_k, as splines; m^-1 is found by Newton's method.
    """
    grid, device = transforms[0].fixed_grid, transforms[0].forward.device
    frame, step, corners = Frame.of(grid), EVERY * grid.voxel, grid.corners()
    low, high = (end + side * BEYOND * frame.scale for side, end in ((-1, corners.min(0)), (1, corners.max(0))))
    world = Grid.aligned((np.ceil((high - low) / step) + 1).tolist(), step, low.tolist())
    lattice = Grid.aligned(world.size, step / frame.scale, ((low - frame.center) / frame.scale).tolist())
    mean = sum(transform.forward.displacement_on(world) for transform in transforms) / len(transforms)
    there = SplineMap.through(mean / frame.scale, lattice)
    back = inverted(there)
    for way in (there, back):
        way.spline.to(device)  # in place
    return tuple(replace(transform, stages=(*transform.stages, MapPair(back, there))) for transform in transforms)
