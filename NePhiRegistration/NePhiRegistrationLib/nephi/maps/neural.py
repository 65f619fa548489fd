"""NePhi: two fields over one latent code, the map of a pair both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from .field import Field
from .spline import LatentBox, LatentCode

FORWARD, INVERSE = "forward", "inverse"
DIRECTIONS = (FORWARD, INVERSE)


def opposite(direction: str) -> str:
    """The other direction."""
    return INVERSE if direction == FORWARD else FORWARD


@dataclass(frozen=True)
class Architecture:
    """The sizes of a NePhi model; the paper has 128 frequencies, width 128, 32 local and 32 global channels."""

    dim: int
    frequencies: int
    hidden: int
    channels: int
    shared: int
    omega: float = 30.0
    frequency_scale: float = 1.0
    readout: float = 0.3

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    def new_fields(self, generator: torch.Generator) -> tuple[Field, Field]:
        """f1 and f2 with initial weights."""
        forward, inverse = (Field(self.dim, self.channels, self.shared, self.frequencies, self.hidden, self.omega,
                                  self.frequency_scale, self.readout, generator) for _ in DIRECTIONS)
        with torch.no_grad():  # small opposite displacements are each other's inverse
            inverse.readout.copy_(-forward.readout)
        return forward, inverse


class NePhi(nn.Module):
    """phi(x) = x + f1(x, z(x)) and psi(x) = x + f2(x, z(x)), psi the approximate inverse of phi (paper, eq. 3).

    Points are in the fixed image's frame. Beyond the latent box the displacement is that of the nearest point of
    the box, so that nothing is extrapolated.

    Attributes:
        code: the latent code of the pair.
        forward_field, inverse_field: f1 and f2.
    """

    def __init__(self, architecture: Architecture, code: LatentCode, fields: tuple[Field, Field]) -> None:
        super().__init__()
        self.architecture = architecture
        self.code = code
        self.forward_field, self.inverse_field = fields

    @classmethod
    def random(cls, architecture: Architecture, box: LatentBox, code_scale: float, generator: torch.Generator) -> NePhi:
        """A model near the identity with random codes: the start of an optimisation without an encoder."""
        code = LatentCode.random(box, architecture.channels, architecture.shared, code_scale, generator)
        return cls(architecture, code, architecture.new_fields(generator))

    @classmethod
    def spline(cls, forward: Tensor, inverse: Tensor, low: Sequence[float], cell: float) -> NePhi:
        """A model whose displacements are cubic splines through given ones: its code is they, its networks are silent.

        Args:
            forward, inverse: (k, j, i, d) frame units, at the points of a lattice.
            low: (d,) the first of them; ``cell`` lies between neighbours along each axis.
        """
        dim = forward.shape[-1]
        code = LatentCode.through(torch.cat([forward, inverse], dim=-1), low, cell)
        architecture = Architecture(dim, frequencies=1, hidden=1, channels=2 * dim, shared=0)
        fields = architecture.new_fields(torch.Generator())
        with torch.no_grad():
            for number, field in enumerate(fields):
                field.readout.copy_(torch.eye(2 * dim)[:, number * dim:(number + 1) * dim])
        return cls(architecture, code, fields).to(forward.device)

    def field(self, direction: str) -> Field:
        """f1 for "forward", f2 for "inverse"."""
        return self.forward_field if direction == FORWARD else self.inverse_field

    def map(self, points: Tensor, direction: str) -> Tensor:
        """phi or psi of points (n, d): (n, d), frame coordinates."""
        inside = self.code.box.nearest(points)
        return points + self.field(direction)(inside, self.code.at(inside), self.code.shared)

    def map_with_jacobian(self, points: Tensor, direction: str) -> tuple[Tensor, Tensor]:
        """phi or psi of points (n, d), and its Jacobian (n, d, d), [n, i, a] = dphi_i / dx_a; frame coordinates."""
        inside = self.code.box.nearest(points)
        local, slopes = self.code.at_with_jacobian(inside)
        displacement, gradient = self.field(direction).with_jacobian(inside, local, slopes, self.code.shared)
        gradient = gradient * (inside == points)[:, :, None]
        identity = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
        return points + displacement, identity + gradient.transpose(1, 2)
