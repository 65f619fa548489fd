"""NePhi: two neural fields over one latent code, the map of a pair both ways."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Union

import torch
from torch import Tensor, nn

from ..geometry import Grid
from .field import Architecture, Field
from .map import Map
from .spline import Spline


class LatentCode(nn.Module):
    """z = [z_global, z_local(x)], the unknowns that describe one pair (paper, section 3.2).

    Attributes:
        grid: the nodes of the local code, isotropic and along the axes of the frame.
        local: the spline of C channels over them.
        shared: (G,) the global code; G may be 0.
    """

    def __init__(self, grid: Grid, local: Spline, shared: Tensor) -> None:
        super().__init__()
        if local.shape != grid.shape:
            raise ValueError(f"A local code over {local.shape} nodes does not fit a grid of {grid.shape}.")
        self.grid, self.local = grid, local
        self.shared = nn.Parameter(shared)

    @classmethod
    def random(cls, grid: Grid, channels: int, shared: int, scale: float, generator: torch.Generator) -> LatentCode:
        """A code drawn from N(0, scale^2), where optimisation without an encoder begins."""
        local = Spline.random(grid.shape, channels, scale, generator)
        return cls(grid, local, scale * torch.randn(shared, generator=generator))

    @property
    def corners(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The first and the last node, (d,) frame coordinates each."""
        low, cell = self.grid.origin, self.grid.spacing[0]
        return low, tuple(a + (n - 1) * cell for a, n in zip(low, self.grid.size))

    def on_lattice(self, axes: Sequence[Tensor]) -> Tensor:
        """Local codes (len z, len y, len x, C) on the lattice spanned by frame coordinates along (x, y, z)."""
        return self.local.on_lattice([(axis - low) / self.grid.spacing[0] for axis, low in zip(axes, self.grid.origin)])


class FieldMap(Map):
    """One direction of a NePhi, x + f(x, z(x)) in frame coordinates; differentiable in the code and the field.

    Beyond the latent grid the displacement is that of its nearest point, so that nothing is extrapolated.
    """

    def __init__(self, code: LatentCode, field: Field) -> None:
        self.code, self.field = code, field

    @property
    def device(self) -> torch.device:
        """Where the code is."""
        return self.code.shared.device

    def map(self, points: Tensor) -> Tensor:
        index, inside = self._inside(points)
        return points + self.field(inside, self.code.local.at(index), self.code.shared)

    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points (n, d) go, and the Jacobian there, (n, d, d), exact."""
        index, inside = self._inside(points)
        local, slopes = self.code.local.with_slopes(index)
        displacement, gradient = self.field.with_jacobian(inside, local, slopes / self.code.grid.spacing[0],
                                                          self.code.shared)
        gradient = gradient * (inside == points)[:, :, None]
        identity = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
        return points + displacement, identity + gradient.transpose(1, 2)

    def on_lattice(self, axes: Sequence[Tensor], size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Parts of at most ``size`` points of the lattice spanned by coordinates along (x, y, z): the points and where
        they go, (n, d) each. The codes there cost little, see :meth:`nephi.maps.spline.Spline.on_lattice`."""
        near = [axis.clamp(low, high) for axis, low, high in zip(axes, *self.code.corners)]
        codes = self.code.on_lattice(near).flatten(0, -2)
        for points, inside, local in zip(*(part.split(size) for part in (_lattice(axes), _lattice(near), codes))):
            yield points, points + self.field(inside, local, self.code.shared)

    def _inside(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The points of the latent grid nearest to points (n, d): their indices and their coordinates."""
        low, high = (points.new_tensor(corner) for corner in self.code.corners)
        inside = torch.minimum(torch.maximum(points, low), high)
        return (inside - low) / self.code.grid.spacing[0], inside


def _lattice(axes: Sequence[Tensor]) -> Tensor:
    """All points of a lattice, x fastest: (n, d) from coordinates along (x, y, z)."""
    return torch.stack(torch.meshgrid(*reversed(axes), indexing="ij")[::-1], dim=-1).reshape(-1, len(axes))


class NePhi:
    """phi(x) = x + f1(x, z(x)) and psi(x) = x + f2(x, z(x)), psi the approximate inverse of phi (paper, eq. 3).

    Points are in the fixed image's frame.

    Attributes:
        code: the latent code of the pair.
        fields: f1 and f2.
        forward, inverse: phi and psi.
    """

    def __init__(self, architecture: Architecture, code: LatentCode, fields: tuple[Field, Field]) -> None:
        self.architecture, self.code, self.fields = architecture, code, fields
        self.forward, self.inverse = (FieldMap(code, field) for field in fields)

    @classmethod
    def random(cls, architecture: Architecture, grid: Grid, code_scale: float, generator: torch.Generator) -> NePhi:
        """A model near the identity with random codes: the start of an optimisation without an encoder."""
        code = LatentCode.random(grid, architecture.channels, architecture.shared, code_scale, generator)
        return cls(architecture, code, architecture.new_fields(generator))

    @property
    def ways(self) -> tuple[tuple[FieldMap, FieldMap], tuple[FieldMap, FieldMap]]:
        """There and back, beginning with either map."""
        return (self.forward, self.inverse), (self.inverse, self.forward)

    def to(self, device: Union[str, torch.device]) -> NePhi:
        """This model, moved to a device."""
        for part in (self.code, *self.fields):
            part.to(device)
        return self

    def requires_grad_(self, wanted: bool) -> NePhi:
        """This model, to be trained or not."""
        for part in (self.code, *self.fields):
            part.requires_grad_(wanted)
        return self


def latent_grid(low: Sequence[float], high: Sequence[float], cell: float) -> Grid:
    """The smallest grid of whole cells, centred on the box low..high in frame coordinates, that covers it."""
    cells = [max(1, math.ceil((b - a) / cell - 1e-6)) for a, b in zip(low, high)]
    origin = [(a + b - n * cell) / 2 for a, b, n in zip(low, high, cells)]
    return Grid.aligned([n + 1 for n in cells], cell, origin)
