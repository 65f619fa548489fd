"""How much of an image a map folds, and how much it changes volume there: counts and quantiles of determinants."""

from __future__ import annotations

from typing import Optional

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..images.masks import bounding_box
from ..maps.determinant import determinant_at, determinant_image, finite_difference_determinant
from ..maps.map import CPU, Map


def folds(map_: Map, mask: Optional[Tensor] = None, whole: bool = True, determinants: Optional[Tensor] = None
          ) -> tuple[dict, Optional[dict]]:
    """Percentages of the voxels of the map's domain at which it folds, inside a mask and over the whole grid.

    Args:
        mask: (*shape) bool on the domain; None counts every voxel.
        whole: count over the whole grid too; without it only the mask's surroundings are evaluated.
        determinants: analytic ones at voxels inside the mask, (n,), if they are at hand.

    Returns:
        {"analytic": %, "finite_difference": %} inside the mask, and over the whole grid, or None.
    """
    grid = map_.domain
    if not whole:
        inside = _inside(map_, mask, determinants)
        return inside, inside if mask is None else None
    images = {"analytic": determinant_image(map_, grid),
              "finite_difference": finite_difference_determinant(map_, grid)}
    return ({name: fold_percent(image, mask) for name, image in images.items()},
            {name: fold_percent(image) for name, image in images.items()})


def fold_percent(det: Tensor, mask: Optional[Tensor] = None) -> float:
    """The percentage of determinants at or below zero, inside a mask of the same shape when one is given.

    Raises:
        InputError: a mask with no voxel inside.
    """
    folded = ~(det > 0)  # a determinant that is not a number is a broken map, not a sound one
    count = det.numel()
    if mask is not None:
        inside = mask.to(det.device)
        count = int(inside.count_nonzero())
        folded &= inside
    if count == 0:
        raise InputError("Folds cannot be counted: the mask has no voxel inside.")
    return 100.0 * int(folded.count_nonzero()) / count


def summary(det: Tensor, mask: Optional[Tensor] = None) -> dict[str, float]:
    """``min``, ``p01``, ``median``, ``p99``, ``max`` of determinants, inside a mask when one is given."""
    values = (det if mask is None else det[mask.to(det.device)]).detach().cpu().flatten().numpy()
    if values.size == 0:
        raise InputError("The Jacobian cannot be summarised: the mask has no voxel inside.")
    quantiles = np.quantile(values, (0, 0.01, 0.5, 0.99, 1))
    return dict(zip(("min", "p01", "median", "p99", "max"), (float(q) for q in quantiles)))


def _inside(map_: Map, mask: Optional[Tensor], determinants: Optional[Tensor]) -> dict:
    """Fold percentages inside the mask, evaluating only its voxels and, for differences, its bounding box."""
    if mask is not None and not bool(mask.any()):
        raise InputError("Folds cannot be counted: the mask has no voxel inside.")
    box, window = bounding_box(map_.domain, mask, 1)
    inside = None if mask is None else mask[box]
    if determinants is None:
        points = window.points(CPU)
        determinants = determinant_at(map_, points if inside is None else points[inside.flatten()])
    return {"analytic": fold_percent(determinants),
            "finite_difference": fold_percent(finite_difference_determinant(map_, window), inside)}
