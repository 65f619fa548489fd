"""How alike two images are."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import some_of
from ..images.similarity import shared_information


def similarity(fixed: Tensor, other: Tensor, mask: Optional[Tensor] = None) -> dict:
    """How alike two images on one grid are, inside a mask when one is given.

    Returns:
        ``ncc``: the correlation coefficient, in [-1, 1]; ``nmi``: normalised mutual information
        (H(a) + H(b)) / H(a, b) from 64 x 64 bins, 1 (independent) to 2 (one tells the other);
        ``mean_absolute_difference``: in the images' own unit.
    """
    if fixed.shape != other.shape:
        raise InputError(f"Images of shapes {tuple(fixed.shape)} and {tuple(other.shape)} cannot be compared; "
                         f"resample one onto the other's grid.")
    both = torch.stack([fixed, other])
    both = (both.flatten(1) if mask is None else both[:, mask]).double()
    if both.numel() == 0:
        raise InputError("Similarity cannot be measured: the mask has no voxel inside.")
    correlation = torch.corrcoef(both)[0, 1].nan_to_num(0.0)  # a constant image has none
    return {"ncc": float(correlation), "nmi": _mutual_information(*both),
            "mean_absolute_difference": float((both[0] - both[1]).abs().mean())}


def _mutual_information(a: Tensor, b: Tensor, bins: int = 64) -> float:
    """(H(a) + H(b)) / H(a, b) of a joint histogram between the 0.1 and 99.9 percentiles of each image."""
    joint = torch.bincount(_binned(a, bins) * bins + _binned(b, bins), minlength=bins * bins)
    return float(shared_information(joint.reshape(bins, bins).double()))


def _binned(values: Tensor, bins: int) -> Tensor:
    low, high = np.percentile(values[some_of(len(values), 1_000_000)].numpy(), (0.1, 99.9))
    width = max(float(high - low), 1e-12)
    return ((values - low) / width * bins).long().clamp(0, bins - 1)
