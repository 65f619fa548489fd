"""How much of an image a map folds."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid
from ..maps.determinant import determinant_at, determinant_image, finite_difference_determinant, fold_percent
from ..maps.sampled import SampledMap

_POINTS_AT_ONCE = 1 << 18


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
