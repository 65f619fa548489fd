"""The similarities of two images, each as a loss (paper, section 3.3).

Every similarity has the same signature. The samples come in patches: small cubes of K points, T of them,

    loss = similarity(fixed (C, T, K), warped (C, T, K), weights (T, K))

with weights 0 outside the masks and 1 inside. The loss is least for equal images: 0, but for the mutual information,
whose histogram windows blur it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
HISTOGRAM_BINS = 32


def ncc(fixed: Tensor, warped: Tensor, weights: Tensor) -> Tensor:
    """1 - the normalised cross-correlation of all points, the paper's similarity."""
    total = weights.sum().clamp(min=1)

    def centred(values: Tensor) -> Tensor:
        return values - (weights * values).sum((1, 2), keepdim=True) / total

    a, b = centred(fixed), centred(warped)
    covariance = (weights * a * b).sum((1, 2))
    variances = (weights * a * a).sum((1, 2)) * (weights * b * b).sum((1, 2))
    return 1 - (covariance / (variances + 1e-12).sqrt()).mean()


def local_ncc(fixed: Tensor, warped: Tensor, weights: Tensor, flat: float = 1e-2) -> Tensor:
    """1 - the correlation within each patch, averaged over the patches by their weight.

    ``flat`` is added to both variances, so that noise in flat patches does not count as structure; images are
    normalised to [0, 1], so 0.01 is a contrast of 0.1.
    """
    count = weights.sum(1, keepdim=True)
    share = weights / count.clamp(min=1)

    def centred(values: Tensor) -> Tensor:
        return values - (share * values).sum(-1, keepdim=True)

    a, b = centred(fixed), centred(warped)
    covariance = (share * a * b).sum(-1)
    variances = (share * a * a).sum(-1), (share * b * b).sum(-1)
    spread = ((variances[0] + flat) * (variances[1] + flat)).sqrt()
    # Less than 1 by what patches of these contrasts cannot reach; it is a constant, so that contrast earns nothing.
    bound = ((variances[0] * variances[1]).sqrt() / spread).detach()
    correlation = covariance / spread - bound
    return -(correlation * count[:, 0]).sum() / (count.sum().clamp(min=1) * len(fixed))


def squared_difference(fixed: Tensor, warped: Tensor, weights: Tensor) -> Tensor:
    """The mean squared difference; on MIND-SSC channels, the MIND similarity."""
    return (weights * (fixed - warped) ** 2).sum() / (weights.sum().clamp(min=1) * len(fixed))


def normalised_mutual_information(fixed: Tensor, warped: Tensor, weights: Tensor) -> Tensor:
    """2 - the information shared, from a joint histogram with linear B-spline windows; intensities are in [0, 1]."""
    def windows(values: Tensor) -> Tensor:
        position = values.reshape(-1, 1).clamp(0, 1) * (HISTOGRAM_BINS - 1)
        bins = torch.arange(HISTOGRAM_BINS, dtype=values.dtype, device=values.device)
        return (1 - (position - bins).abs()).clamp(min=0)

    repeated = weights.expand(fixed.shape).reshape(-1, 1)
    return 2 - shared_information((windows(fixed) * repeated).T @ windows(warped))


def shared_information(joint: Tensor) -> Tensor:
    """(H(a) + H(b)) / H(a, b) of a joint histogram (n, m): 1 (independent) to 2 (one tells the other).

    Studholme et al. 1999.
    """
    def entropy(probabilities: Tensor) -> Tensor:
        p = probabilities.clamp(min=1e-30)  # an empty bin has no logarithm, and no share in the gradient
        return -(p * p.log()).sum()

    joint = joint / joint.sum().clamp(min=1e-12)
    apart = entropy(joint.sum(0)) + entropy(joint.sum(1))
    return (apart + 1e-12) / (entropy(joint) + 1e-12)


def mind_ssc(values: Tensor, radius: int = 1, distance: int = 2) -> Tensor:
    """The MIND self-similarity context: how a voxel's neighbours resemble each other (Heinrich et al. 2013).

    Args:
        values: (1, k, j, i) or (1, j, i).
        radius: of the compared patches, voxels.
        distance: of the neighbours from the voxel, voxels.

    Returns:
        (12, k, j, i) in 3D and (4, j, i) in 2D, in [0, 1].
    """
    dim = values.dim() - 1
    offsets = [tuple(sign * distance * (a == axis) for a in range(dim)) for axis in range(dim) for sign in (-1, 1)]
    padded = F.pad(values[None], (distance,) * 2 * dim, mode="replicate")[0]

    def shifted(offset: tuple[int, ...]) -> Tensor:
        window = tuple(slice(distance + o, distance + o + n) for o, n in zip(offset, values.shape[1:]))
        return padded[(slice(None), *window)]

    differences = [_box_mean((shifted(a) - shifted(b)).square(), radius)
                   for a, b in itertools.combinations(offsets, 2) if not any(p * q for p, q in zip(a, b))]
    distances = torch.cat(differences)
    distances = distances - distances.amin(0, keepdim=True)
    noise = distances.mean(0, keepdim=True)
    middle = float(noise.mean())
    return torch.exp(-distances / noise.clamp(1e-3 * middle + 1e-12, 1e3 * middle + 1e-12))


def _box_mean(values: Tensor, radius: int) -> Tensor:
    """The mean within so many voxels along all axes of an array (1, k, j, i) or (1, j, i), of those there are."""
    for axis in range(1, values.dim()):
        n = values.shape[axis]
        total, count = values.clone(), values.new_ones(n)
        for step in range(1, min(radius, n - 1) + 1):
            for to, start in ((step, 0), (0, step)):
                total.narrow(axis, to, n - step).add_(values.narrow(axis, start, n - step))
                count[to:to + n - step] += 1
        values = total.div_(count.view(-1, *[1] * (values.dim() - 1 - axis)))
    return values


@dataclass(frozen=True)
class Similarity:
    """A way to compare two images.

    Attributes:
        prepare: the channels to compare, (C, k, j, i), from intensities (1, k, j, i) on an isotropic grid; None for
            the intensities themselves.
        loss: the comparison of sampled channels.
        scale: what brings the loss to the size of the others', so that one set of weights suits all.
        reach: how far from a sample the intensities lie that its channels are made of, in samples.
    """

    prepare: Optional[Callable[[Tensor], Tensor]]
    loss: Loss
    scale: float = 1.0
    reach: int = 0


SIMILARITIES = {
    "ncc": Similarity(None, ncc),
    "lncc": Similarity(None, local_ncc),
    "mind": Similarity(partial(mind_ssc, distance=1), squared_difference, 10.0, reach=2),
    "nmi": Similarity(None, normalised_mutual_information),
}


def similarity_named(name: str) -> Similarity:
    """The similarity of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SIMILARITIES:
        raise InputError(f"Unknown similarity {name!r}; choose one of {', '.join(SIMILARITIES)}.")
    return SIMILARITIES[name]
