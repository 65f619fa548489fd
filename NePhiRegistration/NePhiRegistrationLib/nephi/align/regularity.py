"""What keeps a map smooth and invertible: gradient inverse consistency, round trips, the prior (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.interpolation import linear
from ..maps.determinant import determinant
from ..maps.neural import NePhi
from .patches import Patches

KNOWN = 0.999  # share of an interpolated value that must come from nodes with a value


@dataclass(frozen=True)
class RoundTrips:
    """Inverse-consistency errors at the nodes of patches, from phi and from psi.

    Attributes:
        errors: (2, N, d) frame units.
        known: (2, N) bool; a node whose first map leaves the nodes at hand does not count.
    """

    errors: Tensor
    known: Tensor

    @property
    def mean_square(self) -> Tensor:
        """The mean squared error over the known ones."""
        return (self.known * self.errors.pow(2).sum(-1)).sum() / self.known.sum().clamp(min=1)


@dataclass(frozen=True)
class Consistency:
    """What two maps do in the cells of patches, both ways averaged.

    Attributes:
        gradient: mean of the squared entries of the Jacobian of psi(phi(x)) - x (paper, eq. 5).
        roughness: mean of the squared entries of the Jacobian of phi(x) - x.
        shrinkage: mean of max(0, margin - det J)^2, which is 0 away from folds.
    """

    gradient: Tensor
    roughness: Tensor
    shrinkage: Tensor


def consistency(displacements: Tensor, closed: RoundTrips, patches: Patches, margin: float) -> Consistency:
    """Gradient inverse consistency and its relatives by differences between nodes; the lattice moves at every
    iteration, so that no place hides between them.

    Args:
        displacements: (2, N, d) of the forward and of the inverse field at the nodes.
        margin: determinants below it are shrinkage.
    """
    dim = displacements.shape[-1]
    identity = torch.eye(dim, dtype=displacements.dtype, device=displacements.device)
    slopes = patches.slopes(torch.cat([*displacements, *closed.errors], dim=-1)).split(dim, dim=-1)
    jacobians, closing = torch.stack(slopes[:2]), torch.stack(slopes[2:])  # (2, T, cells, d, d)
    whole = closed.known[:, patches.corners].all(-1)[:, :, None].to(closing.dtype).expand(closing.shape[:3])
    return Consistency(gradient=(whole * closing.pow(2).sum((-2, -1))).sum() / whole.sum().clamp(min=1),
                       roughness=jacobians.pow(2).sum((-2, -1)).mean(),
                       shrinkage=F.relu(margin - determinant(jacobians + identity)).pow(2).mean())


def round_trips(displacements: Tensor, patches: Patches, before: Callable[[Tensor], Tensor]) -> RoundTrips:
    """The inverse-consistency errors of a level and all coarser ones at the patches' nodes.

    With e(x) the error of the coarser levels, that of all levels is psi(phi(x) + e(phi(x))) - x, and the other way
    round, to first order, phi(psi(x)) - x + e(x). The second map is interpolated linearly between the nodes, so that
    the error can be had at every node for less than it costs to evaluate the fields at a few points.

    Args:
        displacements: (2, N, d) of the forward and of the inverse field at the nodes.
        before: e at points (n, d): (n, d).
    """
    forward, inverse = displacements
    with torch.no_grad():
        met, own = before(patches.nodes + forward), before(patches.nodes)
    closed = [_closing(patches, forward + met, inverse, 0.0), _closing(patches, inverse, forward, own)]
    return RoundTrips(*(torch.stack(parts) for parts in zip(*closed)))


def _closing(patches: Patches, there: Tensor, back: Tensor, rest: Union[Tensor, float]) -> tuple[Tensor, Tensor]:
    """there + back(x + there) + rest at the nodes x, and from which of them ``there`` stays among the nodes."""
    dim = there.shape[-1]
    volume = patches.dense(torch.cat([back, torch.ones_like(back[:, :1])], dim=-1))
    index = patches.index + there / patches.step
    read = linear(volume, index).T
    inside = ((index >= 0) & (index <= index.new_tensor(volume.shape[:0:-1]) - 1)).all(1)
    return there + read[:, :dim] + rest, (read[:, dim].detach() > KNOWN) & inside


def prior(model: NePhi) -> Tensor:
    """Mean norms of the local codes and of the global code (paper, eq. 6), with a gradient at 0 too."""
    local = (model.code.local.coefficients.pow(2).sum(-1) + 1e-8).sqrt().mean()
    return local + (model.code.shared.pow(2).sum() + 1e-8).sqrt()
