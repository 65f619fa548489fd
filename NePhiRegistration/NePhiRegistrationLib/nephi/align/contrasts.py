"""Whether two aligned images show one contrast: whether what is bright in the one is bright in the other.

How much of the one image's intensities the other's tell is measured twice: by any function of them, and by one that
only rises. A scanner's gain, gamma or window is such a rising function; another contrast is not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid
from ..images.image import Image
from ..images.resampling import downsample, filled, sample
from ..maps.map import CPU
from ..maps.transform import Transform
from .levels import AlignedPair

SAMPLES = 8000  # so coarse that what a linear alignment leaves is about a sample
BINS = 32
FEWEST = 200  # samples in common; fewer tell nothing
UNRELATED = 0.15  # share of the variance that a rising function tells at least where images of one contrast are aligned
LOST = 0.97  # of what a rising function leaves untold: where another one leaves less, the contrasts differ
NOISE = 1e-3  # share of the variance that is never told
LOST_UNRELATED = 0.9  # the same where a rising function tells next to nothing, and chance counts


@dataclass(frozen=True)
class Contrasts:
    """Shares of the variance of one image that the other one's intensities tell, in the direction in which a function
    that only rises misses most.

    Attributes:
        rising: by the best function that only rises.
        any: by the best function, less what chance would add.
        doubtful: whether a quite different linear map shares more information than the one that was found.
    """

    rising: float
    any: float
    doubtful: bool = False

    @property
    def differ(self) -> bool:
        """Whether shapes are a better measure of the images' agreement than intensities."""
        if self.rising >= UNRELATED:
            return self.missed < LOST
        return self.doubtful or self.missed < LOST_UNRELATED

    @property
    def missed(self) -> float:
        """What the best function leaves untold, of what a rising one leaves."""
        return (1 - self.any + NOISE) / (1 - self.rising + NOISE)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {**asdict(self), "differ": self.differ}


def contrasts(pair: AlignedPair, transform: Transform) -> Contrasts:
    """Compare the intensities of two images at points that a transform takes onto each other.

    Images with too little in common, or that are constant there, count as one contrast.
    """
    fixed, moving = _in_common(pair, transform)
    if len(fixed) < FEWEST or min(float(values.std()) for values in (fixed, moving)) == 0:
        return Contrasts(1.0, 1.0)
    ways = [_told(fixed, moving), _told(moving, fixed)]
    linear = transform.provenance.get("linear")
    return replace(min(ways, key=lambda way: way.missed),
                   doubtful=linear is not None and linear["shared"] < linear["second"])


def _in_common(pair: AlignedPair, transform: Transform) -> tuple[Tensor, Tensor]:
    """Intensities of both images at samples that lie in both and in their masks, (n) float64 each."""
    grid, mask = pair.fixed.grid, pair.fixed_mask
    voxels = grid.count if mask is None else int(mask.count_nonzero())
    spacing = grid.voxel * max(1.0, voxels / SAMPLES) ** (1 / grid.dim)
    here, coarse = _coarse(pair.fixed, mask, spacing)
    there, moving = _coarse(pair.moving, pair.moving_mask, spacing)
    chosen = here[1].flatten() > 0.5
    points = transform.forward.map(coarse.points(transform.forward.device, dtype=torch.float64)[chosen.to(
        transform.forward.device)]).to(CPU)
    values, inside = sample(there, moving, points)
    common = (inside > 0.5) & moving.contains(points)
    return here[0].flatten()[chosen][common].double(), values[common].double()


def _coarse(image: Image, mask: Optional[Tensor], spacing: float) -> tuple[Tensor, Grid]:
    """The intensities and which of them count, (2, k, j, i), and their grid."""
    inside = torch.ones(image.grid.shape) if mask is None else mask.to(CPU).float()
    values = filled(image.values, image.known).to(CPU)
    if image.known is not None:
        inside = inside * image.known.to(CPU)
    finer = np.maximum(spacing, image.grid.spacing)  # thick slices are not what to make the others as coarse as
    parts = [downsample(part, image.grid, finer) for part in (values, inside)]
    return torch.stack([part for part, _ in parts]), parts[0][1]


def _told(told: Tensor, by: Tensor) -> Contrasts:
    """How much of ``told`` (n) the intensities ``by`` (n) tell."""
    bins = ((by - by.min()) / (by.max() - by.min()) * (BINS - 1)).round().long()
    counts = torch.bincount(bins, minlength=BINS).double()
    used = counts > 0
    counts, means = counts[used], torch.bincount(bins, told, BINS)[used] / counts[used]
    middle, spread = told.mean(), told.var(unbiased=False) * len(told)

    def share(values: Tensor) -> float:
        return float((counts * (values - middle) ** 2).sum() / spread)

    by_chance = (len(told) - 1) / (len(told) - len(counts))  # the adjusted coefficient of determination
    return Contrasts(share(_rising(means, counts)), 1 - (1 - share(means)) * by_chance)


def _rising(means: Tensor, weights: Tensor) -> Tensor:
    """The rising values nearest to ``means`` (n), by pooling neighbours that fall."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for mean, weight in zip(means.tolist(), weights.tolist()):
        pools.append((mean, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n, k), (b, m, j) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m, k + j)]
    return torch.tensor([mean for mean, _, count in pools for _ in range(count)], dtype=means.dtype)
