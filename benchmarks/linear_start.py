"""The linear alignment alone, on real pairs as they lie and with the moving image turned.

    python benchmarks/linear_start.py --data FOLDER --out linear.json [--only lung brain] [--turns 0 90]

A turn is by its header: the same voxels elsewhere, so that whatever is found can be compared with the pair as it lies.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from nephi.align.linear import align
from nephi.errors import InputError
from nephi.files.points import read_landmark_pairs
from nephi.geometry import Grid, apply_affine, apply_matrix
from nephi.images.image import Image
from nephi.images.pair import Pair
from nephi.judge.labels import dice
from nephi.maps.affine_map import AffineMap
from nephi.maps.warp import warp
from pairs import BRAIN_LABELS, Case

AXIS = np.array([1.0, -2.0, 3.0]) / np.sqrt(14)  # of the turns in 3D
OFFSET = 20.0  # mm, of the turned images along every axis


def cases(folder: Path) -> Iterator[Case]:
    """Every pair of the data folder."""
    names = {role: role for role in ("fixed", "moving", "fixed_mask", "moving_mask", "landmarks")}
    found = {role: str(path) for role, name in names.items() for path in (folder / "lung").glob(f"{name}.*")}
    if found:
        yield Case("lung", "lung-ct", **found)
    brain = {path.name.split(".")[0]: str(path) for path in (folder / "brain").glob("*.nii.gz")}
    if brain:
        yield Case("brain", "brain-mri", **brain, labels=BRAIN_LABELS)
    listed = folder / "more" / "cases.json"
    for entry in json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else []:
        roles = ("fixed", "moving", "fixed_mask", "moving_mask", "landmarks", "fixed_labels", "moving_labels")
        paths = {role: str(listed.parent / entry[role]) for role in roles if entry.get(role)}
        yield Case(entry["name"], "generic", **paths, labels=tuple(entry["labels"]) if entry.get("labels") else None)


def turned(pair: Pair, degrees: float) -> Pair:
    """The pair with its moving image turned about its centre and shifted, its labels and points with it."""
    if not degrees:
        return pair
    turn = rotation(degrees, pair.moving.grid.dim)
    center = pair.moving.grid.center
    matrix = np.eye(len(turn) + 1)
    matrix[:-1, :-1], matrix[:-1, -1] = turn, center - turn @ center + OFFSET

    def placed(image: Image) -> Image:
        grid = image.grid
        origin = apply_matrix(matrix, np.asarray(grid.origin)[None])[0]
        return replace(image, grid=Grid(grid.size, grid.spacing, tuple(origin), tuple((turn @ grid.axes).flatten())))

    landmarks = None if pair.landmarks is None else (pair.landmarks[0], apply_affine(matrix, pair.landmarks[1]))
    labels = None if pair.moving_labels is None else placed(pair.moving_labels)
    return replace(pair, moving=placed(pair.moving), moving_labels=labels, landmarks=landmarks)


def rotation(degrees: float, dim: int, axis: np.ndarray = AXIS) -> np.ndarray:
    """(d, d), in 3D about an axis (3,) of length 1."""
    angle = np.deg2rad(degrees)
    if dim == 2:
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def judged(pair: Pair, matrix: np.ndarray) -> dict[str, float]:
    """The landmark error (mm, mean) and the Dice of a matrix, where the pair has them."""
    result = {}
    if pair.landmarks is not None:
        fixed, moving = (points.double() for points in pair.landmarks)
        result["tre"] = float((apply_affine(matrix, fixed) - moving).norm(dim=1).mean())
    if pair.fixed_labels is not None:
        carried = warp(pair.moving_labels, AffineMap(matrix), pair.fixed_labels.grid, mode="nearest")
        labels = pair.labels or [int(v) for v in pair.fixed_labels.values.unique() if v]
        result["dice"] = float(np.mean(list(dice(pair.fixed_labels.values, carried.values, labels).values())))
    return result


def _read(case: Case) -> Pair:
    """A case; the points of flat images may come with a third coordinate."""
    read = replace(case, landmarks=None).read()
    if case.landmarks is None:
        return read
    return replace(read, landmarks=tuple(p[:, :read.fixed.grid.dim] for p in read_landmark_pairs(case.landmarks)))


def main() -> None:
    """Run and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--turns", nargs="+", type=float, default=[0.0, 90.0], help="degrees")
    args = parser.parse_args()
    rows = []
    for case in cases(args.data):
        if args.only and not any(name in case.pair for name in args.only):
            continue
        read = _read(case)
        for degrees in args.turns:
            pair = turned(read, degrees)
            started = time.process_time()
            try:
                found = align(pair.fixed, pair.moving, pair.fixed_mask, pair.moving_mask)
            except InputError as problem:
                print(f"{case.pair}: {problem}")
                continue
            seconds = time.process_time() - started
            found_matrix = getattr(found, "matrix", found)
            rows.append({"pair": case.pair, "turn": degrees, "cpu_seconds": seconds, **judged(pair, found_matrix),
                         "evidence": found.to_dict() if hasattr(found, "to_dict") else None})
            print(rows[-1], flush=True)
            args.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
