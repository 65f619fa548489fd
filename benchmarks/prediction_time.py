"""How long a prediction takes on a cube of voxels, both fields read on a grid of 4 mm, the weights loaded before.

python prediction_time.py [WEIGHTS] [--size 128] [--spacing-mm 1.5] [--repeat 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from nephi.geometry import Grid
from nephi.images.image import Image
from nephi.images.phantom import lung_phantom
from nephi.maps.transform import Transform
from nephi.maps.warp import warp
from nephi.predict.predictor import Predictor

COARSE_MM = 4.0


def main() -> None:
    """A line: median seconds of the prediction and of both fields."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="?", default="universal")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--spacing-mm", type=float, default=1.5)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    predictor = Predictor.load(args.weights, "cpu")
    side = args.size * args.spacing_mm
    grid = Grid((args.size,) * 3, (args.spacing_mm,) * 3, ((args.spacing_mm - side) / 2,) * 3,
                tuple(np.eye(3).ravel().tolist()))
    phantom = lung_phantom(64)
    fixed, moving = (Image((warp(image, None, grid).values + 1000) / 1200, grid, image.name)
                     for image in (phantom.fixed, phantom.moving))
    times = [_times(predictor, fixed, moving) for _ in range(args.repeat)]
    prediction, fields = (statistics.median(column) for column in zip(*times))
    print(f"{args.size}^3 at {args.spacing_mm} mm, {args.threads} threads: prediction {prediction:.2f} s, both fields "
          f"at {COARSE_MM} mm {fields:.2f} s, together {prediction + fields:.2f} s (medians of {args.repeat})")


def _times(predictor: Predictor, fixed: Image, moving: Image) -> tuple[float, float]:
    started = time.perf_counter()
    models = predictor.predict(fixed, moving, np.eye(4))
    predicted = time.perf_counter()
    transform = Transform(fixed.grid, moving.grid, np.eye(4), models)
    points = fixed.grid.with_spacing((COARSE_MM,) * 3).points("cpu")
    for way in (transform.forward, transform.inverse):
        way.map(points)
    return predicted - started, time.perf_counter() - predicted


if __name__ == "__main__":
    main()
