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
from ..maps.map import Map
from ..maps.neural import NePhi
from .patches import Patches

KNOWN = 0.999  # share of an interpolated value that must come from nodes with a value


@dataclass(frozen=True)
class Consistency:
    """What the two maps do at sampled points, starting with one of them.

    Attributes:
        gradient: mean of the squared entries of the Jacobian of psi(phi(x)) - x (paper, eq. 5).
        roughness: mean of the squared entries of the Jacobian of phi(x) - x.
        shrinkage: mean of max(0, margin - det J)^2, which is 0 away from folds.
    """

    gradient: Tensor
    roughness: Tensor
    shrinkage: Tensor


def consistency(there: Map, back: Map, points: Tensor, margin: float) -> Consistency:
    """Gradient inverse consistency and its relatives at points (n, d), frame coordinates, with exact derivatives."""
    identity = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
    moved, jacobian = there.with_jacobian(points)
    jacobian_back = back.jacobian(moved)
    return Consistency(
        gradient=(jacobian_back @ jacobian - identity).pow(2).sum((1, 2)).mean(),
        roughness=(jacobian - identity).pow(2).sum((1, 2)).mean(),
        shrinkage=F.relu(margin - determinant(jacobian)).pow(2).mean(),
    )


def round_trip(displacements: Tensor, patches: Patches, before: Callable[[Tensor], Tensor]) -> Tensor:
    """The squared inverse-consistency error of a level and all coarser ones, frame units, mean over the patches' nodes.

    With e(x) the error of the coarser levels, that of all levels is psi(phi(x) + e(phi(x))) - x, and the other way
    round, to first order, phi(psi(x)) - x + e(x). The second map is interpolated linearly between the nodes, so that
    the error can be had at every node for less than it costs to evaluate the fields at a few points. A node whose
    first map leaves the nodes at hand does not count.

    Args:
        displacements: (2, N, d) of the forward and of the inverse field at the nodes.
        before: e at points (n, d): (n, d).
    """
    forward, inverse = displacements
    with torch.no_grad():
        met, own = before(patches.nodes + forward), before(patches.nodes)
    errors = [_closing(patches, forward + met, inverse, 0.0), _closing(patches, inverse, forward, own)]
    return (errors[0] + errors[1]) / 2


def _closing(patches: Patches, there: Tensor, back: Tensor, rest: Union[Tensor, float]) -> Tensor:
    """Mean square of there + back(x + there) + rest over the nodes x from which ``there`` stays among the nodes."""
    dim = there.shape[-1]
    volume = patches.dense(torch.cat([back, torch.ones_like(back[:, :1])], dim=-1))
    index = patches.index + there / patches.step
    read = linear(volume, index).T
    inside = ((index >= 0) & (index <= index.new_tensor(volume.shape[:0:-1]) - 1)).all(1)
    known = ((read[:, dim].detach() > KNOWN) & inside).to(there.dtype)
    return (known * (there + read[:, :dim] + rest).pow(2).sum(-1)).sum() / known.sum().clamp(min=1)


def prior(model: NePhi) -> Tensor:
    """Mean norms of the local codes and of the global code (paper, eq. 6), with a gradient at 0 too."""
    local = (model.code.local.coefficients.pow(2).sum(-1) + 1e-8).sqrt().mean()
    return local + (model.code.shared.pow(2).sum() + 1e-8).sqrt()
