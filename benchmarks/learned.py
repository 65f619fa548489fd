"""Weights on pairs they have never seen: neighbours by name in a folder with labels.

python learned.py WEIGHTS --images FOLDER --labels FOLDER [--first 160] [--last 199] [--every 1] [--refinement 0 30]
                  [--set smoothness=0.1 ...]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from nephi.align.registration import run
from nephi.images.reading import read_image, read_labels
from nephi.judge.folds import fold_percent
from nephi.judge.labels import overlap
from nephi.maps.determinant import finite_difference_determinant
from nephi.maps.warp import warp
from nephi.options import Options
from nephi.training.datasets import image_files


def main() -> None:
    """A line for every number of refining iterations: mean Dice, seconds a pair, folds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--first", type=int, default=160)
    parser.add_argument("--last", type=int, default=199)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--refinement", type=int, nargs="+", default=[0, 30])
    parser.add_argument("--affine", default="none")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="other engine options, as JSON")
    args = parser.parse_args()
    files = image_files(args.images)[args.first:args.last]
    pairs = list(zip(files, files[1:]))[::args.every]
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in args.set)}
    for refinement in args.refinement:
        options = Options.from_preset(weights=args.weights, affine=args.affine, iterations=0, refinement=refinement,
                                      device="cpu", **changes)
        rows = np.array([_measure(pair, args.labels, options) for pair in pairs])
        dice, before, seconds, folds = rows.mean(0)
        print(f"refinement {refinement:3d}: dice {dice:.4f} (before {before:.4f}, worst {rows[:, 0].min():.4f})  "
              f"{seconds:.2f} s a pair  folds {folds:.4f} % ({int((rows[:, 3] > 0).sum())} of {len(rows)} pairs)",
              flush=True)


def _measure(pair: tuple[Path, Path], labels: Path, options: Options) -> tuple[float, float, float, float]:
    """Dice after and before, seconds, percent of folds at the fixed voxels, the worse direction."""
    fixed, moving = read_image(pair[0], "fixed"), read_image(pair[1], "moving")
    started = time.perf_counter()
    transform = run(fixed, moving, options)
    seconds = time.perf_counter() - started
    fixed_labels, moving_labels = read_labels(labels / pair[0].name), read_labels(labels / pair[1].name, "moving")
    before, after = (warp(moving_labels, way, fixed.grid, mode="nearest").values for way in (None, transform.forward))
    found = overlap(fixed_labels.values, before, after)
    folds = max(fold_percent(finite_difference_determinant(way, way.domain))
                for way in (transform.forward, transform.inverse))
    return found["mean"], found["before"], seconds, folds


if __name__ == "__main__":
    main()
