"""A pair at a resolution: which levels there are, and both images on a level's grid as the optimisation reads them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import POINTS_AT_ONCE, Frame, Grid, apply_affine, apply_matrix
from ..images.image import Image
from ..images.interpolation import linear, nearest
from ..images.masks import bounding_box, box_of, dilate
from ..images.resampling import coarser_spacing, downsample, filled, touched
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
LOOSEST = 8  # times a mask's own volume: the box around it that is sampled as finely as a mask that fills its box
DOWNSAMPLED = 3  # samples around a part of an image that count in its own, made coarser
KEPT = 2.0  # voxels that are kept for each sample of the finest level, along an axis
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
    _near: dict[tuple[bool, float], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def near(self, of_moving: bool, reach: float) -> Optional[Tensor]:
        """The voxels within ``reach`` (mm of the fixed image's world) of a mask, (k, j, i) bool; None without a mask.
        All levels ask for the same."""
        image, mask = (self.moving, self.moving_mask) if of_moving else (self.fixed, self.fixed_mask)
        if mask is None:
            return None
        key = of_moving, reach
        if key not in self._near:
            mm = reach * (abs(np.linalg.det(self.affine[:-1, :-1])) ** (1 / image.grid.dim) if of_moving else 1.0)
            box, grid = bounding_box(image.grid, mask, math.ceil(mm / min(image.grid.spacing)) + 1)
            near = torch.zeros_like(mask)
            near[box] = dilate(mask[box], grid, mm)
            self._near[key] = near.to(image.values.device)
        return self._near[key]

    @property
    def frame(self) -> Frame:
        """The coordinates of the fields."""
        return Frame.of(self.fixed.grid)


def level_spacings(pair: AlignedPair, options: Options) -> list[tuple[float, int]]:
    """Sample spacing (mm) and iterations of the levels that are worth it, coarse to fine."""
    levels: list[tuple[float, int]] = []
    for resolution, iterations in zip(options.resolution, options.iterations):
        spacing = sample_spacing(pair, resolution)
        if iterations and (not levels or levels[-1][0] / spacing >= WORTHWHILE):
            levels.append((spacing, iterations))
    return levels


def sample_spacing(pair: AlignedPair, resolution: float) -> float:
    """The spacing (mm) with so many samples along the side of a cube, in 2D a square, that has the volume of the fixed
    mask, or a share of that of the box around the mask, whose samples are kept in memory; not finer than the voxels."""
    grid = pair.fixed.grid
    voxels = grid.count
    if pair.fixed_mask is not None:
        voxels = max(int(pair.fixed_mask.count_nonzero()), math.prod(box_of(pair.fixed_mask)[1].tolist()) / LOOSEST)
    return grid.voxel * max(1.0, voxels ** (1 / grid.dim) / resolution)


def reduced(pair: AlignedPair, options: Options) -> AlignedPair:
    """The pair with images that have far more voxels than the finest level reads made coarser, so that not every level
    goes through all of them."""
    spacing, dim = sample_spacing(pair, max(options.resolution)) / KEPT, pair.fixed.grid.dim
    fixed, fixed_mask = _reduced(pair.fixed, pair.fixed_mask, spacing)
    moving, moving_mask = _reduced(pair.moving, pair.moving_mask,
                                   spacing * abs(np.linalg.det(pair.affine[:-1, :-1])) ** (1 / dim))
    return AlignedPair(fixed, moving, fixed_mask, moving_mask, pair.affine, pair.landmarks)


def _reduced(image: Image, mask: Optional[Tensor], spacing: float) -> tuple[Image, Optional[Tensor]]:
    wanted = coarser_spacing(image.grid, spacing)
    if wanted is None:
        return image, mask
    values, grid = downsample(filled(image.values, image.known), image.grid, wanted)
    known = None if image.known is None else downsample(image.known.to(values), image.grid, wanted)[0] > 0.5
    return replace(image, values=values, grid=grid, known=known), None if mask is None else touched(mask, grid)


def make_level(pair: AlignedPair, transform: Transform, spacing: float, options: Options,
               carrier: Optional[Carrier] = None) -> Level:
    """A pair at a resolution, its moving image carried by the transform so far.

    Args:
        spacing: of the samples, mm.
        carrier: that of the coarser levels, which spares evaluating them again.
    """
    frame, finest = pair.frame, sample_spacing(pair, options.resolution[-1])
    reach = options.margin * finest / frame.scale
    low, high = _sampled_box(pair, frame, reach)
    step = spacing / frame.scale
    margin = (options.patch + 2) * step
    size = [math.ceil((b - a + 2 * margin) / step / MAP_STRIDE) * MAP_STRIDE + 1 for a, b in zip(low, high)]
    grid = Grid.aligned(size, step, [a - margin for a in low])
    to_world = frame.to_world_matrix
    near = [pair.near(of_moving, reach * frame.scale) for of_moving in (False, True)]
    fixed = _side(pair.fixed, near[0], to_world, None, grid, options)
    carried = (carrier or Carrier()).onto(transform.stages, grid)
    shift = None if carried is None else carried.forward.read_on(grid).flatten(0, -2)
    moving = _side(pair.moving, near[1], pair.affine @ to_world, shift, grid, options)
    lattice = PatchLattice(low, high, step, options.patch, options.node_cells)
    wanted = int(((fixed.volume.values[-1] > 0) | (moving.volume.values[-1] > 0)).sum())  # a sample for each voxel
    error = None if carried is None else carried.error
    return Level(fixed, moving, lattice, min(1.0, options.points / max(1, wanted)), frame.scale / finest, error,
                 _carried_landmarks(pair, transform))


def _side(image: Image, near: Optional[Tensor], to_world: np.ndarray, shift: Optional[Tensor], grid: Grid,
          options: Options) -> Side:
    """One image read at the points of a level's grid, moved by ``shift`` and then taken to the image's world.

    Voxels that do not count are holes in its field of view, a sample wider than they are, and as much more as the
    similarity looks around.

    Beyond its field of view the image goes on as it ends: half of the nearest samples outside is read with those
    inside, and zeros there would be an edge that no image has.

    Args:
        near: (k, j, i) bool on the image; where to look, None for everywhere.
        to_world: (d + 1, d + 1) from the frame to the image's world.
    """
    device, whole, similarity = image.values.device, image.grid, similarity_named(options.similarity)
    to_index, scale = whole.world_to_index @ to_world, abs(np.linalg.det(to_world[:-1, :-1])) ** (1 / grid.dim)
    spacing, rim = scale * grid.spacing[0], (1 + similarity.reach) * grid.spacing[0]
    start, size = _read_box(whole, to_index, shift, grid, max(rim, DOWNSAMPLED * grid.spacing[0]))
    part = tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1]))
    coarse, known = whole.window(start, size), None if image.known is None else image.known[part]
    values = filled(image.values[part], known)
    near = None if near is None else near[part]
    hole = None if known is None else dilate(~known, coarse, scale * rim).to(device)
    if spacing > min(coarse.spacing):
        values, coarse = downsample(values, coarse, max(spacing, min(coarse.spacing)))
    to_coarse = coarse.world_to_index @ to_world
    first = torch.tensor(start.tolist(), dtype=torch.float32, device=device)
    intensity = torch.empty(grid.count, device=device)
    inside, wanted = (torch.empty(grid.count, dtype=torch.bool, device=device) for _ in range(2))
    for chunk in grid.chunks(POINTS_AT_ONCE):
        here, points = slice(*chunk), grid.points(device, *chunk)
        points = points if shift is None else points + shift[here]
        index = apply_affine(to_index, points)
        inside[here] = whole.holds(index)
        intensity[here] = linear(values[None], apply_affine(to_coarse, points))[0]
        if hole is not None:
            inside[here] &= ~nearest(hole[None], index - first)[0]
        wanted[here] = inside[here] if near is None else inside[here] & nearest(near[None], index - first)[0]
    intensity = intensity.view(1, *grid.shape)
    channels = [intensity] if similarity.prepare is None else [intensity, similarity.prepare(intensity)]
    volume = Volume(torch.cat([*channels, wanted.to(intensity.dtype).view(1, *grid.shape)]), grid)
    margin = (slice(options.patch + 1, -options.patch - 1),) * grid.dim
    view = inside.view(1, *grid.shape)
    return Side(volume, None if bool(view[0][margin].all()) else Volume(view.to(intensity.dtype), grid))


def _read_box(image: Grid, to_index: np.ndarray, shift: Optional[Tensor], grid: Grid, margin: float
              ) -> tuple[np.ndarray, np.ndarray]:
    """The first voxel (i, j, k) and the size of the part of an image that a level's grid reads.

    Args:
        to_index: (d + 1, d + 1) from the frame to the image's voxels.
        shift: of the grid's points, (n, d), or None.
        margin: around the grid, frame units.
    """
    farthest = np.zeros(grid.dim) if shift is None else shift.abs().amax(0).cpu().numpy()
    ends = np.stack([np.asarray(grid.origin), grid.corners()[-1]]) + np.array([[-1], [1]]) * (farthest + margin)
    corners = apply_matrix(to_index, np.asarray(list(itertools.product(*ends.T))))
    last = np.asarray(image.size) - 1
    low, high = (np.clip(limit, 0, last).astype(int) for limit in (np.floor(corners.min(0)), np.ceil(corners.max(0))))
    return low, high - low + 1


def _sampled_box(pair: AlignedPair, frame: Frame, margin: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The corners, in the frame, of what is sampled: both masks and a margin (frame units), but not far beyond the
    fixed image."""
    boxes = [_mask_box(pair.fixed.grid, pair.fixed_mask, frame.to_frame_matrix),
             _mask_box(pair.moving.grid, pair.moving_mask, frame.to_frame_matrix @ np.linalg.inv(pair.affine))]
    view = _mask_box(pair.fixed.grid, None, frame.to_frame_matrix)
    reach = VIEW_MARGIN * (view[1] - view[0])
    low = np.maximum(np.minimum(boxes[0][0], boxes[1][0]) - margin, view[0] - reach)
    high = np.minimum(np.maximum(boxes[0][1], boxes[1][1]) + margin, view[1] + reach)
    if not (low < high).all():
        raise InputError("After the linear alignment the images do not overlap; "
                         "check the masks and the initial transform.")
    return tuple(low.tolist()), tuple(high.tolist())


def _mask_box(grid: Grid, mask: Optional[Tensor], matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the box around a mask's voxels, after a matrix: two (d,)."""
    start, size = np.zeros(grid.dim, dtype=int), np.asarray(grid.size)
    if mask is not None:
        start, size = box_of(mask)
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
