"""Overlap and surface distance of labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Optional

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid


def dice(a: Tensor, b: Tensor, labels: Optional[Iterable[int]] = None) -> dict[int, float]:
    """Dice overlap of each label of two label arrays on one grid.

    Args:
        a, b: integer-valued arrays of the same shape.
        labels: which labels; by default all those in either array but 0. One that is in neither is left out.

    Returns:
        label -> 2 |A and B| / (|A| + |B|), in [0, 1].
    """
    if a.shape != b.shape:
        raise InputError(f"Label images of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared; "
                         f"resample one onto the other's grid.")
    a, b = a.flatten().to(torch.int64), b.flatten().to(torch.int64)
    in_a, in_b, both = _counts(a), _counts(b), _counts(a[a == b])
    wanted = sorted((in_a.keys() | in_b.keys()) - {0}) if labels is None else [int(label) for label in labels]
    sizes = {label: in_a.get(label, 0) + in_b.get(label, 0) for label in wanted}
    return {label: 2.0 * both.get(label, 0) / size for label, size in sizes.items() if size}


def overlap(fixed: Tensor, before: Tensor, after: Tensor, labels: Optional[Sequence[int]] = None) -> dict:
    """Dice before and after: ``before`` and ``mean`` over labels, ``per_label`` {label: Dice after}.

    Args:
        fixed: the fixed label image's values.
        before: the moving labels on the fixed grid with no transform.
        after: the moving labels carried through the transform.
        labels: which labels count; by default those that the fixed image has, 0 excepted.

    Raises:
        InputError: none of the labels is in the images.
    """
    if labels is None:
        labels = [label for label in sorted(_counts(fixed.flatten().to(torch.int64))) if label != 0]
    per_label = dice(fixed, after, labels)
    if not per_label:
        raise InputError(f"None of the labels {list(labels)} is in the label images; choose labels they contain.")
    start = dice(fixed, before, labels)
    return {"before": float(np.mean(list(start.values()))) if start else 0.0,
            "mean": float(np.mean(list(per_label.values()))), "per_label": per_label}


def surface_distance(a: Tensor, b: Tensor, grid: Grid, labels: Optional[Iterable[int]] = None) -> dict[int, dict]:
    """Symmetric distance between the surfaces of each label in two label arrays on one grid.

    Returns:
        label -> {"mean": mm, "hd95": mm}: the mean and the 95th percentile of the distances from the surface
        voxels of each to the surface of the other. A label that only one array has gives NaN; one that neither has
        is left out.
    """
    a, b = a.to(torch.int64), b.to(torch.int64)
    in_a, in_b = _counts(a.flatten()), _counts(b.flatten())
    wanted = sorted((in_a.keys() | in_b.keys()) - {0}) if labels is None else [int(label) for label in labels]
    result = {}
    for label in wanted:
        if label in in_a and label in in_b:
            result[label] = _surface_pair((a == label).numpy(), (b == label).numpy(), grid.spacing)
        elif label in in_a or label in in_b:
            result[label] = {"mean": math.nan, "hd95": math.nan}
    return result


def _surface_pair(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """Mean and 95th percentile of the distances between the surfaces of two objects, both ways together."""
    either = np.argwhere(a | b)
    # One voxel of margin, so that an object's border voxels have a background to border on.
    box = tuple(slice(max(0, low - 1), high + 2) for low, high in zip(either.min(0), either.max(0)))
    images = [sitk.GetImageFromArray(np.pad(x[box], 1).astype(np.uint8)) for x in (a, b)]
    for image in images:
        image.SetSpacing(spacing)
    maps = [np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)))
            for image in images]
    # The map is zero exactly on an object's border voxels: its surface.
    distances = np.concatenate([maps[1][maps[0] == 0], maps[0][maps[1] == 0]])
    return {"mean": float(distances.mean()), "hd95": float(np.percentile(distances, 95))}


def _counts(labels: Tensor) -> dict[int, int]:
    """How many voxels each label has."""
    values, counts = torch.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))
