"""Where to look: patches of sample points on a lattice that moves a little at every iteration.

The lattice has a random offset each time (systematic sampling, which is stratified). Only patches inside the mask are
drawn. The field is evaluated at the corners of the patches and interpolated linearly within.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Optional

import torch
from torch import Tensor


@dataclass(frozen=True)
class Patches:
    """T cubes of K sample points and the nodes that carry the field for them; frame coordinates.

    Attributes:
        origins: (T, d) the patches' corners with the smallest coordinates.
        offsets: (K, d) from there to the sample points.
        axes: coordinates of the nodes' lattice along (x, y, z).
        used: (N,) flat indices into that lattice, array order (z, y, x), of the nodes that some patch needs.
        nodes: (N, d) their coordinates.
        corners: (T, (cells + 1)^d) indices into ``nodes``.
        weights: (K, (cells + 1)^d) linear interpolation from a patch's nodes to its points.
    """

    origins: Tensor
    offsets: Tensor
    axes: list[Tensor]
    used: Tensor
    nodes: Tensor
    corners: Tensor
    weights: Tensor

    @property
    def points(self) -> Tensor:
        """(T, K, d) sample points."""
        return self.origins[:, None] + self.offsets

    @property
    def centres(self) -> Tensor:
        """(T, d) the middle of each patch."""
        return self.origins + self.offsets.mean(0)

    @cached_property
    def index(self) -> Tensor:
        """(N, d) where the nodes are in their lattice, (x, y, z)."""
        return torch.stack(_indices(self.used, self._shape[::-1]), dim=-1)

    @cached_property
    def step(self) -> Tensor:
        """(d) between the nodes, frame units."""
        return torch.stack([axis[1] - axis[0] for axis in self.axes])

    def slopes(self, values: Tensor) -> Tensor:
        """The derivatives of node values (N, c) within each patch's cells, by differences between their nodes:
        (T, cells^d, d, c), per frame unit."""
        dim, cells = self.nodes.shape[-1], round(self.corners.shape[1] ** (1 / self.nodes.shape[-1])) - 1
        at = values[self.corners].view(len(self.corners), *(cells + 1,) * dim, -1)
        parts = []
        for axis in range(dim):
            slope = at
            for other in range(dim):
                position = dim - other  # the array's axes are (z, y, x)
                low, high = slope.narrow(position, 0, cells), slope.narrow(position, 1, cells)
                slope = high - low if other == axis else (high + low) / 2
            parts.append(slope.flatten(1, dim) / self.step[axis])
        return torch.stack(parts, dim=-2)

    def dense(self, values: Tensor) -> Tensor:
        """Node values (N, c) as an array over the nodes' lattice, (c, k, j, i), 0 at nodes that no patch needs."""
        lattice = values.new_zeros(math.prod(self._shape), values.shape[-1]).index_copy(0, self.used, values)
        return lattice.T.reshape(-1, *self._shape)

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in reversed(self.axes))

    def spread(self, values: Tensor, chosen: Optional[Tensor] = None) -> Tensor:
        """Interpolate node values (N, c) to the sample points of all patches, or of those with the indices ``chosen``:
        (T, K, c)."""
        return self.weights @ values[self.corners if chosen is None else self.corners[chosen]]


@dataclass(frozen=True)
class PatchLattice:
    """How patches tile a box.

    Attributes:
        low, high: (d,) corners of the box, frame units.
        spacing: between sample points, frame units.
        per_side: sample points along a patch's side.
        cells: node intervals along a patch's side.
    """

    low: Sequence[float]
    high: Sequence[float]
    spacing: float
    per_side: int
    cells: int

    def draw(self, wanted: Callable[[Tensor], Tensor], fraction: float, generator: torch.Generator,
             device: torch.device) -> Patches:
        """One random placing of the lattice.

        Args:
            wanted: which points (n, d) lie in the mask, (n) bool; asked for the patches' centres.
            fraction: of those patches that are drawn, at random.
            generator: CPU; the draw is the same on every device.
        """
        dim, edge = len(self.low), self.per_side * self.spacing
        shift = torch.rand(dim, generator=generator).tolist()
        start = [low - s * edge for low, s in zip(self.low, shift)]
        counts = [math.ceil((high - s) / edge) for high, s in zip(self.high, start)]
        patch = _lattice([torch.arange(n) for n in counts])
        if fraction < 1:
            patch = patch[torch.rand(len(patch), generator=generator) < fraction]
        patch = patch.to(device)
        origin = torch.tensor(start, device=device) + patch * edge
        keep = wanted(origin + edge / 2)
        patch, origin = patch[keep], origin[keep]

        cell = edge / self.cells
        axes = [s + torch.arange(n * self.cells + 1, device=device) * cell for s, n in zip(start, counts)]
        corner_index = patch[:, None] * self.cells + self._corners.to(device)
        flat = corner_index[..., -1]
        for axis in range(dim - 2, -1, -1):
            flat = flat * len(axes[axis]) + corner_index[..., axis]
        used, corners = torch.unique(flat, return_inverse=True)
        return Patches(origin, self._offsets.to(device), axes, used, _coordinates(axes, used), corners,
                       self._weights.to(device))

    @cached_property
    def _offsets(self) -> Tensor:
        """(K, d) from a patch's corner to its sample points."""
        return _lattice([(torch.arange(self.per_side) + 0.5) * self.spacing] * len(self.low))

    @cached_property
    def _corners(self) -> Tensor:
        """((cells + 1)^d, d) where a patch's nodes are among themselves."""
        return _lattice([torch.arange(self.cells + 1)] * len(self.low))

    @cached_property
    def _weights(self) -> Tensor:
        """(K, (cells + 1)^d) linear weights of a patch's nodes at its sample points."""
        position = (torch.arange(self.per_side) + 0.5) / self.per_side * self.cells
        hat = (1 - (position[:, None] - torch.arange(self.cells + 1)).abs()).clamp(min=0)
        weights = hat
        for _ in range(len(self.low) - 1):
            weights = torch.kron(weights, hat)
        return weights


def _lattice(axes: list[Tensor]) -> Tensor:
    """All points of a lattice, x fastest: (n, d) from coordinates along (x, y, z)."""
    return torch.stack(torch.meshgrid(*reversed(axes), indexing="ij"), dim=-1).flip(-1).reshape(-1, len(axes))


def _coordinates(axes: list[Tensor], flat: Tensor) -> Tensor:
    """The points of a lattice at flat indices in array order, (n, d)."""
    return torch.stack([axis[index] for axis, index in zip(axes, _indices(flat, [len(axis) for axis in axes]))], dim=-1)


def _indices(flat: Tensor, size: Sequence[int]) -> list[Tensor]:
    """Flat indices in array order as indices along (x, y, z). torch's own function imports half of torch when it is
    first called."""
    found = []
    for n in size:
        found.append(flat % n)
        flat = torch.div(flat, n, rounding_mode="floor")
    return found
