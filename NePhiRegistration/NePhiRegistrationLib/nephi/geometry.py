"""Where voxels are: sampling grids in world coordinates (LPS, mm) and the isotropic frame of the fields.

Arrays are indexed (k, j, i), points are (x, y, z); two dimensions drop the k and the z.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Optional, Union

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .errors import InputError

POINTS_AT_ONCE = 1 << 18
"""How many points large work is cut into, to bound its memory."""

POINTS_IN_CACHE = 1 << 13
"""How many points a neural field is evaluated at together: its layers' values stay within the processor's cache."""


@dataclass(frozen=True)
class Grid:
    """A regular sampling grid in world space, as ITK defines it; in 2D or 3D.

    Attributes:
        size: voxels along (i, j, k).
        spacing: mm between voxel centres along (i, j, k).
        origin: world coordinates (LPS, mm) of the centre of voxel (0, 0, 0).
        direction: the direction cosines, row-major d x d; column a is the world direction of axis a.

    Raises:
        InputError: a size below 1, a spacing that is not positive and finite, a singular direction.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        dim = len(self.size)
        if dim not in (2, 3):
            raise InputError(f"A grid has 2 or 3 axes, not {dim}; pass a 2D or 3D image.")
        if len(self.spacing) != dim or len(self.origin) != dim or len(self.direction) != dim * dim:
            raise InputError(f"A {dim}D grid needs {dim} spacings, {dim} origins and {dim * dim} direction cosines.")
        if min(self.size) < 1:
            raise InputError(f"A grid of size {self.size} has no voxels; every axis needs at least one.")
        if not all(math.isfinite(s) and s > 0 for s in self.spacing):
            raise InputError(f"The voxel spacing {self.spacing} is not positive; correct the image header.")
        determinant = float(np.linalg.det(self.axes)) if np.isfinite(self.direction).all() else math.nan
        if not abs(determinant) > 1e-6:
            raise InputError(f"The direction matrix {self.direction} is singular; correct the image header.")
        if not np.isfinite(self.origin).all():
            raise InputError(f"The origin {self.origin} is not finite; correct the image header.")

    @classmethod
    def from_sitk(cls, image: sitk.Image) -> Grid:
        """The grid of a SimpleITK image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def aligned(cls, size: Sequence[int], spacing: float, origin: Sequence[float]) -> Grid:
        """An isotropic grid along the axes of the world."""
        dim = len(size)
        return cls(_ints(size), (float(spacing),) * dim, _floats(origin), _floats(np.eye(dim).ravel()))

    @property
    def dim(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an array on this grid: (k, j, i)."""
        return tuple(reversed(self.size))

    @property
    def count(self) -> int:
        """The number of voxels."""
        return math.prod(self.size)

    @property
    def voxel(self) -> float:
        """The side (mm) of a cube, in 2D a square, with the volume of a voxel."""
        return float(math.prod(self.spacing) ** (1 / self.dim))

    @property
    def axes(self) -> np.ndarray:
        """The direction cosines, (d, d) float64."""
        return np.asarray(self.direction, dtype=np.float64).reshape(len(self.size), -1)

    @cached_property
    def index_to_world(self) -> np.ndarray:
        """(d + 1, d + 1) homogeneous matrix from voxel indices (i, j, k) to LPS mm."""
        matrix = np.eye(self.dim + 1)
        matrix[:-1, :-1] = self.axes * np.asarray(self.spacing)
        matrix[:-1, -1] = self.origin
        return matrix

    @cached_property
    def world_to_index(self) -> np.ndarray:
        """(d + 1, d + 1) homogeneous matrix from LPS mm to voxel indices (i, j, k)."""
        return np.linalg.inv(self.index_to_world)

    @property
    def center(self) -> np.ndarray:
        """The world position of the middle of the grid, (d,) LPS mm."""
        middle = (np.asarray(self.size, dtype=np.float64) - 1) / 2
        return self.index_to_world[:-1, :-1] @ middle + self.index_to_world[:-1, -1]

    @property
    def extent(self) -> np.ndarray:
        """The side lengths from outer voxel edge to outer voxel edge, (d,) mm along (i, j, k)."""
        return np.asarray(self.size) * np.asarray(self.spacing)

    def corners(self) -> np.ndarray:
        """The centres of the 2^d corner voxels, (2^d, d) LPS mm."""
        ends = np.stack(np.meshgrid(*[(0, n - 1) for n in self.size], indexing="ij"), axis=-1)
        return apply_matrix(self.index_to_world, ends.reshape(-1, self.dim).astype(np.float64))

    def to_world(self, index: Tensor) -> Tensor:
        """World coordinates, (..., d) LPS mm, of continuous voxel indices (i, j, k), (..., d)."""
        return apply_affine(self.index_to_world, index)

    def to_index(self, world: Tensor) -> Tensor:
        """Continuous voxel indices (i, j, k), (..., d), of world points, (..., d) LPS mm."""
        return apply_affine(self.world_to_index, world)

    def contains(self, world: Tensor) -> Tensor:
        """Which points, (..., d) LPS mm, lie within the outer voxel edges: (...) bool."""
        return self.holds(self.to_index(world.to(torch.float64)))

    def holds(self, index: Tensor) -> Tensor:
        """Which continuous voxel indices (i, j, k), (..., d), lie within the outer voxel edges: (...) bool."""
        last = torch.tensor(self.size, dtype=index.dtype, device=index.device) - 0.5
        return ((index >= -0.5) & (index <= last)).all(-1)

    def nearest_index(self, world: Tensor) -> Tensor:
        """Continuous indices (..., d) of world points; those beyond the outermost voxel centres are moved onto them."""
        last = torch.tensor(self.size, dtype=world.dtype, device=world.device) - 1
        return self.to_index(world).clamp_min(0).minimum(last)

    def points(self, device: Union[str, torch.device], start: int = 0, stop: Optional[int] = None,
               dtype: torch.dtype = torch.float32) -> Tensor:
        """World coordinates of voxels start..stop in array order, (stop - start, d) LPS mm, on a device."""
        flat = torch.arange(start, self.count if stop is None else min(stop, self.count), device=device)
        index = []
        for n in self.size:
            index.append(flat % n)
            flat = torch.div(flat, n, rounding_mode="floor")
        return self.to_world(torch.stack(index, dim=-1).to(dtype))

    def chunks(self, size: int) -> Iterator[tuple[int, int]]:
        """Consecutive (start, stop) ranges over all voxels, at most ``size`` each."""
        for start in range(0, self.count, size):
            yield start, min(start + size, self.count)

    def slabs(self, size: int) -> Iterator[Grid]:
        """This grid in parts along its slowest array axis, each of about ``size`` voxels or one layer."""
        thickness = max(1, size * self.shape[0] // self.count)
        for first in range(0, self.shape[0], thickness):
            start = [0] * (self.dim - 1) + [first]
            yield self.window(start, [*self.size[:-1], min(thickness, self.shape[0] - first)])

    def slabs_with_neighbours(self, size: int) -> Iterator[tuple[Grid, slice]]:
        """As :meth:`slabs`, each with the layers next to it, and which of its layers are its own."""
        first = 0
        for slab in self.slabs(size):
            stop = first + slab.shape[0]
            low, high = max(0, first - 1), min(self.shape[0], stop + 1)
            yield self.window([0] * (self.dim - 1) + [low], [*self.size[:-1], high - low]), slice(first - low,
                                                                                                 stop - low)
            first = stop

    def through(self, matrix: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        """Where a (d + 1, d + 1) matrix takes the points of this grid: (*shape, d) on the CPU, without a product for
        each point."""
        matrix = matrix @ self.index_to_world
        total = torch.from_numpy(matrix[:-1, -1].copy())
        for axis, n in enumerate(self.size):
            along = torch.arange(n, dtype=torch.float64)[:, None] * torch.from_numpy(matrix[:-1, axis].copy())
            total = (total + along.view(n, *[1] * axis, self.dim)).to(dtype)
        return total

    def with_spacing(self, spacing: Union[float, Sequence[float]]) -> Grid:
        """A grid with the same outer voxel edges and about this spacing, adjusted to fit."""
        wanted = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (self.dim,))
        size = np.maximum(1, np.round(self.extent / wanted)).astype(int)
        new = self.extent / size
        shift = (new - np.asarray(self.spacing)) / 2
        return Grid(_ints(size), _floats(new), _floats(self.axes @ shift + self.origin), self.direction)

    def padded(self, mm: float) -> Grid:
        """This grid with whole voxels added on every side, at least ``mm`` of them."""
        extra = np.ceil(mm / np.asarray(self.spacing)).astype(int)
        return self.window(-extra, np.asarray(self.size) + 2 * extra)

    def window(self, start: Sequence[int], size: Sequence[int]) -> Grid:
        """The part (or extension) of this grid from voxel ``start`` (i, j, k) with ``size`` voxels."""
        origin = apply_matrix(self.index_to_world, np.asarray(start, dtype=np.float64)[None])[0]
        return Grid(_ints(size), self.spacing, _floats(origin), self.direction)

    def strided(self, step: int) -> Grid:
        """Every so many voxels of this grid along each axis, from the first, as ``[::step]`` takes them of an array."""
        return Grid(_ints(-(-n // step) for n in self.size), _floats(step * s for s in self.spacing), self.origin,
                    self.direction)

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both grids have their voxels at the same places, within ``tolerance`` voxels."""
        if self.size != other.size:
            return False
        distance = np.abs(self.corners() - other.corners()).max()
        return bool(distance <= tolerance * min(self.spacing))

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"size": list(self.size), "spacing": list(self.spacing), "origin": list(self.origin),
                "direction": list(self.direction)}

    @classmethod
    def from_dict(cls, values: dict) -> Grid:
        """The inverse of :meth:`to_dict`."""
        return cls(_ints(values["size"]), _floats(values["spacing"]), _floats(values["origin"]),
                   _floats(values["direction"]))


@dataclass(frozen=True)
class Frame:
    """The coordinates the fields read: LPS mm centred on the fixed image, divided by ONE scalar.

    A single scalar keeps Jacobians and the regulariser isotropic: the Jacobian of a map is the same in this
    frame as in millimetres.

    Attributes:
        center: (d,) LPS mm.
        scale: mm per unit; half the longest side of the fixed grid, so that the grid lies within [-1, 1]^d
            before rotation.
    """

    center: tuple[float, ...]
    scale: float

    @classmethod
    def of(cls, grid: Grid) -> Frame:
        """The frame of a fixed grid."""
        return cls(_floats(grid.center), float(grid.extent.max()) / 2)

    @property
    def to_frame_matrix(self) -> np.ndarray:
        """(d + 1, d + 1) homogeneous matrix from LPS mm to this frame."""
        matrix = np.eye(len(self.center) + 1)
        matrix[:-1, :-1] /= self.scale
        matrix[:-1, -1] = -np.asarray(self.center) / self.scale
        return matrix

    @property
    def to_world_matrix(self) -> np.ndarray:
        """(d + 1, d + 1) homogeneous matrix from this frame to LPS mm."""
        return np.linalg.inv(self.to_frame_matrix)


def apply_affine(matrix: np.ndarray, points: Tensor) -> Tensor:
    """Apply a (d + 1, d + 1) homogeneous matrix to points (..., d), in the points' own type and on their device."""
    linear = torch.as_tensor(matrix[:-1, :-1].T.copy(), dtype=points.dtype, device=points.device)
    offset = torch.as_tensor(matrix[:-1, -1].copy(), dtype=points.dtype, device=points.device)
    return points @ linear + offset


def apply_matrix(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a (d + 1, d + 1) homogeneous matrix to points (n, d), in float64."""
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def _ints(values: Sequence) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _floats(values: Sequence) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def random_points(grid: Grid, count: int, mask: Optional[Tensor] = None, seed: int = 0) -> Tensor:
    """Random points, (count, d) float64 LPS mm, uniform in the grid's box between its outer voxel centres, or, with a
    mask, uniform in the voxels inside it.

    Raises:
        InputError: a mask with no voxel inside.
    """
    generator = torch.Generator().manual_seed(seed)
    last = torch.tensor(grid.size, dtype=torch.float64) - 1
    if mask is None:
        return grid.to_world(torch.rand(count, grid.dim, generator=generator).double() * last)
    voxels = mask.cpu().flatten().nonzero().flatten()
    if len(voxels) == 0:
        raise InputError("No point can be drawn: the mask has no voxel inside.")
    flat = voxels[torch.randint(len(voxels), (count,), generator=generator)].numpy()
    index = np.stack(np.unravel_index(flat, grid.shape)[::-1], axis=-1).astype(np.float64)
    jitter = torch.rand(count, grid.dim, generator=generator) - 0.5
    return grid.to_world((torch.from_numpy(index) + jitter).clamp_min(0).minimum(last))


def some_of(count: int, most: int) -> Tensor:
    """Indices of at most ``most`` of ``count`` things in a row, ascending, (n) int64: one at random of each of as many
    equal parts. Equal steps could keep pace with the rows of an image and see a few of its columns only."""
    if count <= most:
        return torch.arange(count)
    shift = torch.rand(most, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ((torch.arange(most) + shift) * (count / most)).long().clamp_max(count - 1)
