"""The error that is left, estimated from the images alone.

Distinctive points of the fixed image are looked for in the moving image around where the map takes them. Where it is
right they are found in their place; how far from it they are found is what it has wrong.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ..geometry import Grid, apply_affine
from ..images.image import Image, normalise
from ..images.masks import bounding_box
from ..images.resampling import downsample, filled, sample_at
from ..images.similarity import mind_ssc
from ..maps.map import CPU, Map
from ..maps.resampled import through_splines
from .distinctive_points import distinctive_points, spread_points

POINTS = 300
SPREAD = 150  # points that are spread: enough to compare maps by
FEWEST = 12  # points; fewer tell nothing
VOXELS = {2: 256**2, 3: 64**3}  # inside the mask on the grid that is searched: few enough for seconds
REACH = {2: 6, 3: 4}  # voxels of that grid that the search goes along each axis
AGREES = 1.0  # voxels of that grid within which the way back has to end
IN_PLACE = 0.5  # voxels of that grid that are no displacement
PATCH = (-2, 0, 2)  # voxels along each axis of which the descriptors are compared; each covers 5 itself


@dataclass(frozen=True)
class Residual:
    """Distinctive points of the fixed image, and where the moving image, carried by a map, shows the same.

    Attributes:
        points: (n, d) LPS mm, in the fixed image.
        displacements: (n, d) mm, from each point to the place whose surroundings look most like its own.
        found: (n,) bool: that place is not at the end of the reach, and the search back from it ends at the point.
        seen: (n,) bool: the map takes the point into the moving image.
        reach: mm along each axis that was searched.
    """

    points: Tensor
    displacements: Tensor
    found: Tensor
    seen: Tensor
    reach: float

    @property
    def agreement(self) -> Tensor:
        """(n,) how well the images agree at each point: 1 where it is found in its place, 0 at the end of the reach,
        where it is not found and where it is not seen. Within half a voxel of the search it is in its place: what
        stands still in an image must not outvote what moves by trembling."""
        voxel = self.reach / REACH[self.points.shape[1]]
        beyond = (self.displacements.norm(dim=1) - IN_PLACE * voxel).clamp_min(0)
        return torch.where(self.found & self.seen, (1 - beyond / self.reach).clamp_min(0), 0.0)

    def to_dict(self) -> dict:
        """Of the points that are seen: ``estimate``, the mean distance in mm, a point that is not found counting as the
        reach; ``median`` and ``p90`` of those found, None if none is; ``found``, their share; ``count``; ``reach``;
        ``voxel``, mm of the grid that was searched; ``at``, the points, (n, d) LPS mm; ``distances``, None where not
        found.
        """
        lengths, found = self.displacements.norm(dim=1)[self.seen], self.found[self.seen]
        some = lengths[found]
        return {"estimate": float(torch.where(found, lengths, torch.tensor(self.reach)).mean()),
                "median": float(some.median()) if len(some) else None,
                "p90": float(some.quantile(0.9)) if len(some) else None,
                "found": float(found.float().mean()), "count": len(found), "reach": self.reach,
                "voxel": self.reach / REACH[self.points.shape[1]],
                "at": self.points[self.seen].tolist(),
                "distances": [mm if there else None for mm, there in zip(lengths.tolist(), found.tolist())]}


def residual(fixed: Image, moving: Image, forward: Map, mask: Optional[Tensor] = None) -> Optional[Residual]:
    """Estimate the error of a map from the images; see :class:`ResidualSearch`.

    Args:
        forward: fixed to moving LPS mm.
    """
    search = ResidualSearch.between(fixed, moving, mask)
    return None if search is None else search.of(forward)


@dataclass(frozen=True)
class ResidualSearch:
    """Where the fixed image is distinctive, and what is looked for there in the moving image, for any map.

    Points by Förstner's measure; descriptors MIND-SSC (Heinrich et al., MICCAI 2013), which see shapes whatever the
    contrast; a full search with a parabola through the best place and its neighbours; and the same search back.

    Attributes:
        grid: isotropic, around the mask.
        inside: (k, j, i) bool on it; where to look.
        at: (n, d) distinctive voxels (k, j, i).
        descriptors: of the fixed image, (k, j, i, channels).
        moving: the moving image, made as coarse.
        known: (k, j, i) bool on ``field``; None means that all voxels count.
        field: the moving image's own grid.
    """

    grid: Grid
    inside: Tensor
    at: Tensor
    descriptors: Tensor
    moving: Image
    known: Optional[Tensor]
    field: Grid

    @classmethod
    def between(cls, fixed: Image, moving: Image, mask: Optional[Tensor] = None, spread: bool = False
                ) -> Optional[ResidualSearch]:
        """Look at two images.

        Args:
            mask: (k, j, i) bool on the fixed image; where to look.
            spread: points all over it, instead of the most distinctive ones.

        Returns:
            None where the fixed image shows nothing.
        """
        inside = torch.ones(fixed.grid.shape, dtype=torch.bool) if mask is None else mask.cpu()
        volume = math.prod(fixed.grid.spacing) * int(inside.count_nonzero())
        spacing = max(volume / VOXELS[fixed.grid.dim], math.prod(fixed.grid.spacing)) ** (1 / fixed.grid.dim)
        share, grid = downsample(inside.float(), fixed.grid, spacing)
        fixed, moving = fixed.to(CPU), moving.to(CPU)
        values, _ = downsample(filled(fixed.values, fixed.known), fixed.grid, spacing)
        box, grid = bounding_box(grid, share > 0, REACH[grid.dim] + 4)
        values, inside = values[box], share[box] > 0.5
        if not _varied(values[inside]):
            return None
        values = normalise(values, inside)
        coarse = filled(moving.values, moving.known), moving.grid
        if spacing > min(moving.grid.spacing):
            coarse = downsample(*coarse, spacing)
        points = spread_points(values, inside, SPREAD) if spread else distinctive_points(values, inside, POINTS)
        return cls(grid, inside, points, _described(values),
                   Image(*coarse, moving.name), moving.known, moving.grid)

    def of(self, forward: Map) -> Optional[Residual]:
        """The error of a map, fixed to moving LPS mm; None where the images show too few distinctive points in common.
        """
        grid = self.grid
        index = through_splines(forward, grid).mapped_on(grid, self.field.world_to_index).view(-1, grid.dim)
        coarse = apply_affine(self.moving.grid.world_to_index @ self.field.index_to_world, index)
        warped = sample_at(self.moving.values[None], coarse, fill=float(self.moving.values.min())).view(grid.shape)
        shown = self.field.holds(index).view(grid.shape)
        if self.known is not None:
            shown &= sample_at(self.known[None].float(), index).view(grid.shape) > 0.5
        seen = shown[tuple(self.at.T)]
        if int(seen.sum()) < FEWEST or not _varied(warped[self.inside & shown]):
            return None
        reach, here, there = REACH[grid.dim], self.descriptors, _described(normalise(warped, self.inside & shown))
        steps, within = _search(here, there, self.at, reach)
        back, _ = _search(there, here, self.at + steps.round().long(), reach)
        agrees = (steps + back).norm(dim=1) <= AGREES
        steps = (steps - back) / 2  # a parabola's bias is the same both ways
        points, places = grid.to_world(torch.stack([self.at, self.at + steps]).flip(-1).double())
        return Residual(points, (places - points).float(), within & agrees, seen, reach * min(grid.spacing))


def _described(values: Tensor) -> Tensor:
    """Descriptors (k, j, i, channels) of an image (k, j, i) in [0, 1]."""
    return mind_ssc(values[None]).movedim(0, -1).contiguous()


def _varied(values: Tensor) -> bool:
    return values.numel() > 0 and float(values.min()) < float(values.max())


def _search(here: Tensor, there: Tensor, at: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The steps (n, d), in voxels, from voxels ``at`` (n, d) to the places of ``there`` most like ``here`` at them.

    Args:
        here, there: descriptors, (k, j, i, channels).

    Returns:
        Also (n,) bool: the best place is not at the end of the reach.
    """
    dim, side, ends = at.shape[1], 2 * reach + 1, max(PATCH)
    steps = torch.tensor(list(itertools.product(range(-reach, reach + 1), repeat=dim)))
    around = torch.tensor(list(itertools.product(range(-reach - ends, reach + ends + 1), repeat=dim)))
    region = _rows(there, at[:, None] + around)
    patch = _rows(here, at[:, None] + torch.tensor(list(itertools.product(PATCH, repeat=dim))))
    # |a - b|^2 = |a|^2 - 2 ab + |b|^2: all places at once in one product, and the last is the same at all of them.
    apart = (region.square().sum(-1)[:, None] - 2 * patch @ region.mT).view(*patch.shape[:2], *(side + 2 * ends,) * dim)
    cost = patch.square().sum((1, 2)).view(-1, *(1,) * dim).repeat(1, *(side,) * dim)
    for number, offset in enumerate(itertools.product(PATCH, repeat=dim)):
        cost += apart[(slice(None), number, *(slice(ends + o, ends + o + side) for o in offset))]
    cost = cost.flatten(1).T
    best = cost.argmin(0)
    result = steps[best].float()
    columns = torch.arange(len(at))
    for axis in range(dim):
        stride = (2 * reach + 1) ** (dim - 1 - axis)
        low, middle, high = (cost[(best + n * stride).clamp(0, len(steps) - 1), columns] for n in (-1, 0, 1))
        top = (low - high) / (2 * (low - 2 * middle + high)).clamp_min(1e-12)
        result[:, axis] += torch.where(steps[best][:, axis].abs() < reach, top.clamp(-0.5, 0.5), 0.0)
    return result, (steps[best].abs() < reach).all(1)


def _rows(descriptors: Tensor, at: Tensor) -> Tensor:
    """Descriptors (k, j, i, c) at voxels (n, m, d), the nearest ones for those outside: (n, m, c)."""
    last = torch.tensor(descriptors.shape[:-1]) - 1
    index = at.clamp_min(0).minimum(last)
    strides = torch.tensor([math.prod(descriptors.shape[axis + 1:-1]) for axis in range(at.shape[-1])])
    flat = (index * strides).sum(-1)
    return descriptors.flatten(0, -2)[flat.flatten()].view(*flat.shape, -1)
