"""How alike two images are."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError


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
    a, b = (fixed, other) if mask is None else (fixed[mask], other[mask])
    a, b = a.flatten().to(torch.float64), b.flatten().to(torch.float64)
    if a.numel() == 0:
        raise InputError("Similarity cannot be measured: the mask has no voxel inside.")
    return {"ncc": _correlation(a, b), "nmi": _mutual_information(a, b),
            "mean_absolute_difference": float((a - b).abs().mean())}


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float((a * a).sum() * (b * b).sum())
    return float((a * b).sum()) / math.sqrt(scale) if scale > 0 else 0.0


def _mutual_information(a: Tensor, b: Tensor, bins: int = 64) -> float:
    """(H(a) + H(b)) / H(a, b) of a joint histogram between the 0.1 and 99.9 percentiles of each image."""
    rows, columns = _binned(a, bins), _binned(b, bins)
    joint = torch.bincount(rows * bins + columns, minlength=bins * bins).to(torch.float64).reshape(bins, bins)
    joint = joint / joint.sum()
    together = _entropy(joint.flatten())
    return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / together if together > 0 else 1.0


def _binned(values: Tensor, bins: int) -> Tensor:
    low, high = np.percentile(values.numpy()[::max(1, values.numel() // 1_000_000)], (0.1, 99.9))
    width = max(float(high - low), 1e-12)
    return ((values - low) / width * bins).long().clamp(0, bins - 1)


def _entropy(probabilities: Tensor) -> float:
    p = probabilities[probabilities > 0]
    return float(-(p * p.log()).sum())
