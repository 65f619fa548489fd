"""A peer's result measured by the engine's own measures, so that all columns of the table mean the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from nephi.files.points import read_landmark_pairs
from nephi.geometry import random_points
from nephi.images.masks import foreground
from nephi.images.pair import Pair
from nephi.judge.evidence import CONSISTENCY_POINTS
from nephi.judge.folds import fold_percent
from nephi.judge.labels import dice
from nephi.judge.point_errors import inverse_consistency
from nephi.maps.determinant import finite_difference_determinant
from nephi.maps.displacement_map import DisplacementMap
from nephi.maps.map import MapPair
from nephi.maps.warp import warp
from pairs import Case
from torch import Tensor


def load_maps(folder: Path, pair: Pair) -> dict[str, DisplacementMap]:
    """What a peer left in its folder: its maps by their displacements at voxel centres; "inverse" may be missing."""
    grids = {"forward": pair.fixed.grid, "inverse": pair.moving.grid}
    return {way: DisplacementMap(torch.from_numpy(np.load(folder / f"{way}.npy")), grid, grid)
            for way, grid in grids.items() if (folder / f"{way}.npy").is_file()}


def measure(case: Case, folder: Path) -> dict:
    """All measures that are defined for a peer's result, by their names in the table."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    mapped = result.pop("points")
    pair = with_masks(case.read())
    maps = load_maps(folder, pair)
    if mapped is not None:
        result.update(_errors("tre", torch.tensor(mapped, dtype=torch.float64), pair.landmarks[1]))
    if case.truth:
        points, wanted = read_landmark_pairs(case.truth)
        result.update(_errors("truth", maps["forward"].map(points), wanted))
    if pair.fixed_labels is not None:
        carried = warp(pair.moving_labels, maps["forward"], pair.fixed_labels.grid, mode="nearest")
        shared = dice(pair.fixed_labels.values, carried.values, case.labels or _labels_of(pair))
        result["dice"] = float(np.mean(list(shared.values())))
    masks = {"forward": pair.fixed_mask, "inverse": pair.moving_mask}
    for way, map_ in maps.items():
        differences = finite_difference_determinant(map_, map_.domain)
        result[f"folds_{way}_finite_difference"] = fold_percent(differences, masks[way])
    if "inverse" in maps:
        points = [random_points(image.grid, CONSISTENCY_POINTS, mask)
                  for image, mask in ((pair.fixed, pair.fixed_mask), (pair.moving, pair.moving_mask))]
        result["consistency"] = inverse_consistency(MapPair(**maps), *points)["mean"]
    return result


def with_masks(pair: Pair) -> Pair:
    """The pair with its images' foreground as masks where it has none, as the engine measures itself."""
    given: dict[str, Optional[Tensor]] = {"fixed": pair.fixed_mask, "moving": pair.moving_mask}
    images = {"fixed": pair.fixed, "moving": pair.moving}
    return replace(pair, **{f"{role}_mask": foreground(images[role]) if mask is None else mask
                            for role, mask in given.items()})


def _errors(name: str, mapped: Tensor, wanted: Tensor) -> dict[str, float]:
    """Mean, median, 95th percentile and largest distance, mm."""
    errors = (mapped - wanted).norm(dim=1).double()
    return {f"{name}_mean": float(errors.mean()), f"{name}_median": float(np.median(errors)),
            f"{name}_p95": float(errors.quantile(0.95)), f"{name}_max": float(errors.max())}


def _labels_of(pair: Pair) -> list[int]:
    return [int(label) for label in pair.fixed_labels.values.unique() if label != 0]
