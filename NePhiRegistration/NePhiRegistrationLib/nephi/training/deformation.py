"""Random smooth deformations of the encoder's cube whose inverse is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Grid, apply_affine
from ..images.interpolation import linear_in_unit, stretched
from ..predict.encoder import EncoderSizes
from . import augment
from .augment import uniform
from .config import Data

SQUARINGS = 6
SCALES = (3, 5, 9)  # control points along a side, from bends of the whole to local ones
LARGEST_SLOPE = 2.5  # of the velocity: exp() of it still compresses no voxel to nothing


@dataclass(frozen=True)
class Deformation:
    """phi(x) = A exp(v)(x), a linear map after the flow of a smooth velocity; frame coordinates.

    Attributes:
        linear: (d + 1, d + 1).
        velocity: (d, k, j, i) v on a cell-centred lattice of [-1, 1]^d.
    """

    linear: np.ndarray
    velocity: Tensor

    def forward(self, points: Tensor) -> Tensor:
        """phi of points (n, d)."""
        return apply_affine(self.linear, points + _at(self._forward_flow, points))

    def inverse(self, points: Tensor) -> Tensor:
        """The inverse of phi at points (n, d)."""
        points = apply_affine(np.linalg.inv(self.linear), points)
        return points + _at(self._inverse_flow, points)

    @cached_property
    def _forward_flow(self) -> Tensor:
        return flow(self.velocity)

    @cached_property
    def _inverse_flow(self) -> Tensor:
        return flow(-self.velocity)


@dataclass(frozen=True)
class KnownMaps:
    """How a scene is seen in both images: fixed(x) = scene(g(phi(x))), moving(y) = scene(g(y)), or the other way round.

    Attributes:
        common: g, which makes every scene a new one.
        between: phi.
        swapped: whether the moving image is the one that is deformed.
    """

    common: Deformation
    between: Deformation
    swapped: bool

    @classmethod
    def random(cls, data: Data, sizes: EncoderSizes, generator: torch.Generator) -> KnownMaps:
        """Random maps within the limits of the data's options."""
        dim, cube = sizes.dim, sizes.grid
        linear = augment.flip(data, dim, generator) @ augment.linear_map(data, dim, generator)
        common = random_deformation(cube, linear, data.deform, generator)
        between = random_deformation(cube, augment.linear_map(data, dim, generator), data.deform, generator)
        return cls(common, between, uniform(generator) < 0.5)

    def scene_points(self, cube: Grid) -> tuple[Tensor, Tensor]:
        """Where the scene is seen by the voxels of the fixed and of the moving image, (n^d, d) each."""
        points = cube.points("cpu")
        seen = self.common.forward(self.between.forward(points)), self.common.forward(points)
        return (seen[1], seen[0]) if self.swapped else seen

    def truth(self, count: int, generator: torch.Generator) -> Optional[tuple[Tensor, Tensor]]:
        """Corresponding points of both images, at most (count, d) each, all inside the cube; None if count is 0."""
        if not count:
            return None
        start = 2 * torch.rand(count, len(self.between.velocity), generator=generator) - 1
        end = self.between.forward(start)
        inside = (end.abs() <= 1).all(1)
        return (end[inside], start[inside]) if self.swapped else (start[inside], end[inside])


def random_deformation(cube: Grid, linear: np.ndarray, largest: float, generator: torch.Generator) -> Deformation:
    """A random flow of at most about ``largest`` (half sides of the cube), on a lattice coarser than the cube."""
    n, dim = min(max(16, cube.size[0] // 3), 4 * SCALES[-1]), cube.dim
    velocity = torch.zeros(dim, *(n,) * dim)
    for scale in SCALES:
        coarse = torch.randn((dim, *(scale,) * dim), generator=generator)
        bend = smooth_upsample(coarse, n)
        velocity += bend / bend.norm(dim=0).max() * uniform(generator) * 3 / scale
    velocity *= uniform(generator) * largest / velocity.norm(dim=0).max().clamp(min=1e-6)
    slopes = torch.stack(torch.gradient(velocity, spacing=2 / n, dim=tuple(range(1, dim + 1))))
    velocity *= min(1.0, LARGEST_SLOPE / float(slopes.abs().max().clamp(min=1e-6)))
    return Deformation(linear, velocity)


def flow(velocity: Tensor) -> Tensor:
    """exp(v) - id by scaling and squaring, (d, k, j, i) on a cell-centred lattice of [-1, 1]^d."""
    displacement = velocity / 2**SQUARINGS
    n, dim = velocity.shape[1], len(velocity)
    points = Grid.aligned((n,) * dim, 2 / n, (1 / n - 1,) * dim).points("cpu")
    for _ in range(SQUARINGS):
        displacement = displacement + _at(displacement, points + displacement.flatten(1).T).T.view_as(displacement)
    return displacement


def smooth_upsample(coarse: Tensor, n: int) -> Tensor:
    """Values (C, m, ..., m) at control points, as smooth ones (C, n, ..., n): linear, then averaged over a cell."""
    dim, m = coarse.dim() - 1, coarse.shape[-1]
    values = stretched(coarse[None], (n,) * dim, corners=True)
    width, pool = max(1, n // m) | 1, F.avg_pool3d if dim == 3 else F.avg_pool2d
    for _ in range(2):
        for axis in range(dim):
            kernel = [width if other == axis else 1 for other in range(dim)]
            values = pool(values, kernel, 1, [k // 2 for k in kernel], count_include_pad=False)
    return values[0]


def _at(values: Tensor, points: Tensor) -> Tensor:
    """Values (C, k, j, i) on a cell-centred lattice of [-1, 1]^d at points (m, d): (m, C)."""
    n = values.shape[-1]
    return linear_in_unit(values, points * (n / (n - 1))).T
