"""A pair at a resolution: which levels there are, and both images on a level's grid as the optimisation reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import POINTS_AT_ONCE, Frame, Grid, apply_affine, apply_matrix
from ..images.image import Image
from ..images.masks import dilate
from ..images.resampling import downsample, filled, sample
from ..images.similarity import similarity_named
from ..maps.field import Architecture
from ..maps.neural import NePhi, latent_grid
from ..maps.transform import Transform
from ..options import Options
from .carry import MAP_STRIDE, Carrier
from .objective import Level, Side
from .patches import PatchLattice
from .volume import Volume

WORTHWHILE = 1.2  # a level must be this much finer than the one before
VIEW_MARGIN = 0.1  # of the fixed image's side: how far beyond it the fields reach


@dataclass(frozen=True)
class AlignedPair:
    """Two images ready to be registered, on the device, with the linear map between them.

    Attributes:
        fixed, moving: intensities in [0, 1], with the voxels that count.
        fixed_mask, moving_mask: bool on the image's grid, or None.
        affine: (d + 1, d + 1) fixed to moving LPS mm.
        landmarks: fixed and moving points, (m, d) LPS mm, or None.
    """

    fixed: Image
    moving: Image
    fixed_mask: Optional[Tensor]
    moving_mask: Optional[Tensor]
    affine: np.ndarray
    landmarks: Optional[tuple[Tensor, Tensor]]

    @property
    def frame(self) -> Frame:
        """The coordinates of the fields."""
        return Frame.of(self.fixed.grid)


def level_spacings(pair: AlignedPair, options: Options) -> list[tuple[float, int]]:
    """Sample spacing (mm) and iterations of the levels that are worth it, coarse to fine."""
    voxel = math.prod(pair.fixed.grid.spacing) ** (1 / pair.fixed.grid.dim)
    side = _object_side(pair)
    levels: list[tuple[float, int]] = []
    for resolution, iterations in zip(options.resolution, options.iterations):
        spacing = max(voxel, side / resolution)
        if iterations and (not levels or levels[-1][0] / spacing >= WORTHWHILE):
            levels.append((spacing, iterations))
    return levels


def _object_side(pair: AlignedPair) -> float:
    """The side (mm) of a cube, in 2D a square, with the volume of the fixed mask."""
    grid = pair.fixed.grid
    voxels = grid.count if pair.fixed_mask is None else int(pair.fixed_mask.sum())
    return (voxels * math.prod(grid.spacing)) ** (1 / grid.dim)


def make_level(pair: AlignedPair, transform: Transform, spacing: float, options: Options,
               carrier: Optional[Carrier] = None) -> Level:
    """A pair at a resolution, its moving image carried by the transform so far.

    Args:
        spacing: of the samples, mm.
        carrier: that of the coarser levels, which spares evaluating them again.
    """
    frame = pair.frame
    low, high = _sampled_box(pair, frame, options.mask_margin)
    step = spacing / frame.scale
    margin = (options.patch + 2) * step
    size = [math.ceil((b - a + 2 * margin) / step / MAP_STRIDE) * MAP_STRIDE + 1 for a, b in zip(low, high)]
    grid = Grid.aligned(size, step, [a - margin for a in low])
    to_world = frame.to_world_matrix
    fixed = _side(pair.fixed, pair.fixed_mask, to_world, None, grid, spacing, options)
    carried = (carrier or Carrier()).onto(transform.stages, grid)
    shift = None if carried is None else carried.forward.read_on(grid).flatten(0, -2)
    moving = _side(pair.moving, pair.moving_mask, pair.affine @ to_world, shift, grid, spacing, options)
    lattice = PatchLattice(low, high, step, options.patch, options.node_cells)
    fraction = min(1.0, options.points / (_object_side(pair) / spacing) ** grid.dim)
    error = None if carried is None else carried.error
    return Level(fixed, moving, lattice, fraction, frame.scale, error, _carried_landmarks(pair, transform))


def _side(image: Image, mask: Optional[Tensor], to_world: np.ndarray, shift: Optional[Tensor], grid: Grid,
          spacing: float, options: Options) -> Side:
    """One image read at the points of a level's grid, moved by ``shift`` and then taken to the image's world.

    Voxels that do not count are holes in its field of view, a sample wider than they are, and as much more as the
    similarity looks around.
    """
    device, similarity = image.values.device, similarity_named(options.similarity)
    values, coarse = filled(image.values, image.known), image.grid
    if spacing > min(coarse.spacing):
        values, coarse = downsample(values, coarse, max(spacing, min(coarse.spacing)))
    near = None if mask is None else dilate(mask, image.grid, options.mask_margin).to(device)
    hole = None if image.known is None else dilate(~image.known, image.grid, (1 + similarity.reach) * spacing)
    intensity = torch.empty(grid.count, device=device)
    inside, wanted = (torch.empty(grid.count, dtype=torch.bool, device=device) for _ in range(2))
    for start, stop in grid.chunks(POINTS_AT_ONCE):
        points = grid.points(device, start, stop)
        world = apply_affine(to_world, points if shift is None else points + shift[start:stop])
        intensity[start:stop] = sample(values, coarse, world)
        inside[start:stop] = image.grid.contains(world)
        if hole is not None:
            inside[start:stop] &= ~sample(hole, image.grid, world, mode="nearest", fill=False)
        within = inside[start:stop] if near is None else sample(near, image.grid, world, mode="nearest", fill=False)
        wanted[start:stop] = inside[start:stop] & within
    intensity = intensity.view(1, *grid.shape)
    channels = [intensity] if similarity.prepare is None else [intensity, similarity.prepare(intensity)]
    volume = Volume(torch.cat([*channels, wanted.to(intensity.dtype).view(1, *grid.shape)]), grid)
    margin = (slice(options.patch + 1, -options.patch - 1),) * grid.dim
    view = inside.view(1, *grid.shape)
    return Side(volume, None if bool(view[0][margin].all()) else Volume(view.to(intensity.dtype), grid))


def _sampled_box(pair: AlignedPair, frame: Frame, margin: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The corners, in the frame, of what is sampled: both masks, but not far beyond the fixed image."""
    boxes = [_mask_box(pair.fixed.grid, pair.fixed_mask, frame.to_frame_matrix),
             _mask_box(pair.moving.grid, pair.moving_mask, frame.to_frame_matrix @ np.linalg.inv(pair.affine))]
    view = _mask_box(pair.fixed.grid, None, frame.to_frame_matrix)
    reach = VIEW_MARGIN * (view[1] - view[0])
    low = np.maximum(np.minimum(boxes[0][0], boxes[1][0]) - margin / frame.scale, view[0] - reach)
    high = np.minimum(np.maximum(boxes[0][1], boxes[1][1]) + margin / frame.scale, view[1] + reach)
    if not (low < high).all():
        raise InputError("After the linear alignment the images do not overlap; "
                         "check the masks and the initial transform.")
    return tuple(low.tolist()), tuple(high.tolist())


def _mask_box(grid: Grid, mask: Optional[Tensor], matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the box around a mask's voxels, after a matrix: two (d,)."""
    start, size = np.zeros(grid.dim, dtype=int), np.asarray(grid.size)
    if mask is not None:
        for axis in range(grid.dim):
            others = tuple(a for a in range(grid.dim) if a != grid.dim - 1 - axis)
            present = torch.nonzero(mask.amax(dim=others)).flatten()
            start[axis], size[axis] = int(present[0]), int(present[-1] - present[0]) + 1
    corners = apply_matrix(matrix, grid.window(start, size).corners())
    return corners.min(0), corners.max(0)


def _carried_landmarks(pair: AlignedPair, transform: Transform) -> Optional[tuple[Tensor, Tensor]]:
    if pair.landmarks is None:
        return None
    fixed, moving = pair.landmarks
    device = pair.fixed.values.device
    back = transform.inverse.map(moving)
    to_frame = pair.frame.to_frame_matrix
    return tuple(apply_affine(to_frame, points.double()).float().to(device) for points in (fixed, back))


def new_model(level: Level, options: Options, generator: torch.Generator) -> NePhi:
    """A model near the identity whose latent grid covers what a level samples."""
    lattice = level.lattice
    edge = (options.patch + 1) * lattice.spacing
    grid = latent_grid([a - edge for a in lattice.low], [b + edge for b in lattice.high],
                       options.latent_ratio * lattice.spacing)
    architecture = Architecture(len(lattice.low), options.frequencies, options.hidden, options.channels,
                                options.shared_channels, options.omega, options.frequency_scale, options.readout)
    return NePhi.random(architecture, grid, options.code_scale, generator)
