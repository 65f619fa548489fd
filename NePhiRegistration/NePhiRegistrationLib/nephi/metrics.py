"""How good a registration is: landmarks, labels, surfaces, folds, inverse consistency, similarity.

All distances are in mm. Every function returns plain numbers, ready for a report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Optional, Union

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .errors import InputError
from .geometry import Grid, apply_affine
from .jacobian import determinant_at, determinant_image, finite_difference_determinant, fold_percent
from .sampled import SampledMap

_POINTS_AT_ONCE = 1 << 18


def tre(transform, fixed_points: Tensor, moving_points: Tensor) -> dict:
    """Target registration error: how far the forward map leaves fixed landmarks from their moving counterparts.

    Args:
        fixed_points: (n, d) LPS mm.
        moving_points: (n, d) LPS mm, in the same order.

    Returns:
        ``before`` (mean with no transform), ``affine`` (mean after the transform's linear part), and ``mean``,
        ``median``, ``p95``, ``max`` after the whole transform, in mm; ``points``, the n errors; ``count``.

    Raises:
        InputError: unequal numbers of points, or none.
    """
    if fixed_points.shape != moving_points.shape:
        raise InputError(f"There are {len(fixed_points)} fixed landmarks and {len(moving_points)} moving ones; "
                         f"give one for one, in the same order.")
    if len(fixed_points) == 0:
        raise InputError("The landmark error needs at least one pair of points; the list is empty.")
    mapped = transform.map_points(fixed_points.to(torch.float32), "forward")
    errors = _distances(mapped, moving_points)
    linear = _distances(apply_affine(np.asarray(transform.affine), fixed_points.to(torch.float64)), moving_points)
    return {"before": float(_distances(fixed_points, moving_points).mean()), "affine": float(linear.mean()),
            **_summary(errors, ("mean", "median", "p95", "max")), "count": len(errors),
            "points": [float(e) for e in errors]}


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


def folds(transform, fixed_mask: Optional[Tensor] = None, moving_mask: Optional[Tensor] = None, whole: bool = True,
          determinants: Optional[dict[str, Tensor]] = None, maps: Optional[dict[str, SampledMap]] = None) -> dict:
    """Percentages of folded voxels on the native grids: forward on the fixed grid, inverse on the moving grid.

    Args:
        fixed_mask, moving_mask: (*shape) bool on their images' grids; None counts every voxel.
        whole: count over the whole grids too; without it only the masks' surroundings are evaluated.
        determinants: analytic determinants that are at hand, direction -> (*shape) on that direction's grid.
        maps: direction -> the map through splines, to take the differences of instead of the transform's own.

    Returns:
        {"inside": {direction: {"analytic": %, "finite_difference": %}}, "whole": the same, or None}.
    """
    inside, everywhere = {}, {}
    for direction, grid, mask in (("forward", transform.fixed_grid, fixed_mask),
                                  ("inverse", transform.moving_grid, moving_mask)):
        analytic = (determinants or {}).get(direction)
        if mask is None or whole:
            counted = _folds_everywhere(transform, grid, mask, direction, analytic)
        else:
            counted = _folds_in_mask(transform, grid, mask, direction, analytic, maps), None
        inside[direction], everywhere[direction] = counted
    return {"inside": inside, "whole": everywhere if all(everywhere.values()) else None}


def inverse_consistency(transform, fixed_points: Tensor, moving_points: Tensor) -> dict:
    """How far there and back again ends from where it began, over points of both images.

    Args:
        fixed_points: (n, d) LPS mm; |inverse(forward(x)) - x| is measured.
        moving_points: (m, d) LPS mm; |forward(inverse(y)) - y| is measured.

    Returns:
        ``mean``, ``p95``, ``max`` in mm over both lists together.
    """
    errors = []
    for points, there, back in ((fixed_points, "forward", "inverse"), (moving_points, "inverse", "forward")):
        points = points.to(torch.float32)
        returned = transform.map_points(transform.map_points(points, there), back)
        errors.append(_distances(returned, points))
    return _summary(torch.cat(errors), ("mean", "p95", "max"))


def random_points(grid: Grid, count: int, mask: Optional[Tensor] = None, seed: int = 0) -> Tensor:
    """Random points, (count, d) float32 LPS mm, uniform in the grid's box between its outer voxel centres, or, with a
    mask, uniform in the voxels inside it.

    Raises:
        InputError: a mask with no voxel inside.
    """
    generator = torch.Generator().manual_seed(seed)
    last = torch.tensor(grid.size, dtype=torch.float32) - 1
    if mask is None:
        return grid.to_world(torch.rand(count, grid.dim, generator=generator) * last)
    voxels = mask.cpu().flatten().nonzero().flatten()
    if len(voxels) == 0:
        raise InputError("No point can be drawn: the mask has no voxel inside.")
    flat = voxels[torch.randint(len(voxels), (count,), generator=generator)].numpy()
    index = np.stack(np.unravel_index(flat, grid.shape)[::-1], axis=-1).astype(np.float32)
    jitter = torch.rand(count, grid.dim, generator=generator) - 0.5
    return grid.to_world((torch.from_numpy(index) + jitter).clamp_min(0).minimum(last))


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


def _folds_everywhere(transform, grid: Grid, mask: Optional[Tensor], direction: str,
                      analytic: Optional[Tensor]) -> tuple[dict, dict]:
    """Fold percentages (inside the mask, over the whole grid)."""
    if analytic is None:
        analytic = determinant_image(transform, grid, direction)
    images = {"analytic": analytic, "finite_difference": finite_difference_determinant(transform, grid, direction)}
    return ({name: fold_percent(det, mask) for name, det in images.items()},
            {name: fold_percent(det) for name, det in images.items()})


def _folds_in_mask(transform, grid: Grid, mask: Tensor, direction: str, analytic: Optional[Tensor],
                   maps: Optional[dict[str, SampledMap]]) -> dict:
    """Fold percentages inside the mask, evaluating only its voxels and, for differences, its bounding box."""
    box, window = _bounding_window(grid, mask)
    mask_in_box = mask[box]
    if analytic is None:
        inside = mask_in_box.flatten()
        parts = [determinant_at(transform, window.points(start, stop)[inside[start:stop]], direction)
                 for start, stop in window.chunks(_POINTS_AT_ONCE)]
        percent = fold_percent(torch.cat(parts))
    else:
        percent = fold_percent(analytic, mask)
    map_of_window = maps[direction].at_voxels(window) if maps else transform
    differences = finite_difference_determinant(map_of_window, window, direction)
    return {"analytic": percent, "finite_difference": fold_percent(differences, mask_in_box)}


def _bounding_window(grid: Grid, mask: Tensor) -> tuple[tuple[slice, ...], Grid]:
    """The mask's bounding box with a voxel around it, within the grid: as array slices and as a grid."""
    if not bool(mask.any()):
        raise InputError("Folds cannot be counted: the mask has no voxel inside.")
    profiles = [mask.movedim(axis, 0).flatten(1).any(1).nonzero() for axis in range(mask.dim())]
    low = [max(0, int(profile[0]) - 1) for profile in profiles]
    high = [min(n, int(profile[-1]) + 2) for n, profile in zip(grid.shape, profiles)]
    box = tuple(slice(a, b) for a, b in zip(low, high))
    return box, grid.window(low[::-1], [b - a for a, b in zip(low, high)][::-1])


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


def _counts(labels: Tensor) -> dict[int, int]:
    """How many voxels each label has."""
    values, counts = torch.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.to("cpu", torch.float64) - b.to("cpu", torch.float64)).norm(dim=-1)


def _summary(values: Union[Tensor, np.ndarray], names: Sequence[str]) -> dict[str, float]:
    numbers = np.asarray(values, dtype=np.float64)
    every = {"mean": numbers.mean(), "median": np.median(numbers), "p95": np.percentile(numbers, 95),
             "max": numbers.max()}
    return {name: float(every[name]) for name in names}
