"""Transforms between frames on one grid put together exactly, their stages in one row, so that nothing is resampled;
and what is taken out of all of them: their mean, or the drift of a cycle."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..geometry import Frame, Grid
from ..images.masks import dilate
from ..images.resampling import sample
from ..maps.inverting import inverted
from ..maps.map import MapPair
from ..maps.spline import SplineMap
from ..maps.transform import Transform

log = logging.getLogger(__name__)

FAR = 6.0  # frame units from the middle, up to which a matrix as splines is exact; the image lies within 1.8
EVERY = 4.0  # voxels between the nodes of a mean of maps, which is smoother than each of them
LEAST = 0.2  # of the volume that a correction leaves of any place, and of a Gaussian that is known
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
    grid = transforms[0].fixed_grid
    world, lattice = _around(grid)
    mean = sum(transform.forward.displacement_on(world) for transform in transforms) / len(transforms)
    there = SplineMap.through(mean / Frame.of(grid).scale, lattice)
    out = MapPair(inverted(there), there)
    return tuple(_after(out, transform) for transform in transforms)


def closed(transforms: Sequence[Transform], region: Optional[Tensor]) -> tuple[Transform, ...]:
    """Maps of the first frame of a cycle to each of its frames and at last to itself, made of n steps, with their drift
    taken out: each step is taken to have the same part of what is left when all of them have led back.

    new_k = old_k o c_k, c_k(x) = x - k / n (old_n(x) - x), as splines. Where c_n folds, what is left is no drift of
    small steps, and the maps stay as they are, which is logged.

    Args:
        region: (*shape) bool on the first frame, where frames were compared; what is left elsewhere says nothing, and
            the correction fades there.
    """
    count, grid = len(transforms) - 1, transforms[0].fixed_grid
    world, lattice = _around(grid)
    left = transforms[-1].forward.displacement_on(world).cpu()
    if region is not None:
        near = dilate(region.cpu(), grid, EVERY * grid.voxel).float()  # so that nodes lie in a region of any size
        known = sample(near, grid, world.points("cpu"), "nearest").view(*world.shape, 1).expand_as(left)
        beyond = _smooth(left * known) / _smooth(known).clamp_min(LEAST)
        left = torch.where(known > 0, left, beyond)
    parts = [SplineMap.through(-number / count * left / Frame.of(grid).scale, lattice) for number in range(count + 1)]
    if not float(parts[-1].jacobian(lattice.points("cpu")).det().min()) > LEAST:
        log.warning("The steps around the cycle do not lead back near enough to share out their drift; the maps keep "
                    "it. Check the frames, or choose one of them as the reference.")
        return tuple(transforms)
    return tuple(_after(MapPair(part, inverted(part)), transform) if number else transform
                 for number, (part, transform) in enumerate(zip(parts, transforms)))


def _around(grid: Grid) -> tuple[Grid, Grid]:
    """Nodes over the image on a grid and some space around it: in the world, and in the image's frame."""
    frame, step, corners = Frame.of(grid), EVERY * grid.voxel, grid.corners()
    low, high = (end + side * BEYOND * frame.scale for side, end in ((-1, corners.min(0)), (1, corners.max(0))))
    world = Grid.aligned((np.ceil((high - low) / step) + 1).tolist(), step, low.tolist())
    return world, Grid.aligned(world.size, step / frame.scale, ((low - frame.center) / frame.scale).tolist())


def _smooth(values: Tensor) -> Tensor:
    """Vectors (k, j, i, d) averaged over a Gaussian as wide as a step between nodes."""
    image = sitk.GetImageFromArray(values.float().numpy(), isVector=True)
    return torch.from_numpy(sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, image.GetSpacing())))


def _after(first: MapPair, transform: Transform) -> Transform:
    """A transform whose points go through another stage before all that it does."""
    for way in (first.forward, first.inverse):
        way.spline.to(transform.forward.device)  # in place
    return replace(transform, stages=(*transform.stages, first))
