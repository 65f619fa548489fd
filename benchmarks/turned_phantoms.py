"""The linear alignment of phantoms that were turned about any axis and bent: how many it misses.

    python benchmarks/turned_phantoms.py [--first 0] [--count 48]

Each is an ellipsoid of soft balls, so that its outline says little about its orientation; a third turn by 30 to 90
degrees, a third by anything, a third not at all. Their sizes, contents, axes and shifts follow from their number.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from linear_start import rotation
from nephi.align.linear import align
from nephi.geometry import Grid, apply_matrix
from nephi.images.image import Image

SIDE, VOXEL = 44, 2.0  # voxels, mm
MISSED = 3.0  # voxels of mean error: more than a deformation is there for


@dataclass(frozen=True)
class Phantom:
    """An ellipsoid with soft balls inside, and the map that its fixed image is seen through.

    Attributes:
        centers, widths, heights: of the balls: (n, 3) mm, (n,) mm, (n,).
        axes: (3,) mm.
        turn: (3, 3); shift: (3,) mm.
    """

    centers: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    axes: np.ndarray
    turn: np.ndarray
    shift: np.ndarray

    @classmethod
    def numbered(cls, number: int) -> Phantom:
        """The phantom of a number."""
        rng = np.random.default_rng(number)
        count = int(rng.integers(20, 90))
        parts = rng.uniform(-26, 26, (count, 3)), rng.uniform(2.5, 7, count), rng.uniform(-0.6, 1, count)
        axes = rng.uniform(24, 38, 3)
        degrees = (0.0, rng.uniform(30, 90), rng.uniform(0, 180))[number % 3]
        axis = rng.normal(size=3)
        return cls(*parts, axes, rotation(degrees, 3, axis / np.linalg.norm(axis)), rng.uniform(-4, 4, 3))

    def values(self, points: np.ndarray) -> np.ndarray:
        """Intensities at points (n, 3) of the moving image."""
        inner = sum(height * np.exp(-0.5 * np.square((points - center) / width).sum(1))
                    for center, width, height in zip(self.centers, self.widths, self.heights))
        radius = np.sqrt(np.square(points / self.axes).sum(1))
        return (600 + 350 * inner) / (1 + np.exp(25 * (radius - 1)))

    def mapped(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the fixed image, mm, in the moving one."""
        bend = np.stack([np.sin(points[:, 1] / 14), np.cos(points[:, 2] / 15), np.sin(points[:, 0] / 13)], 1)
        return points @ self.turn.T + self.shift + 2 * bend


def error(number: int) -> tuple[float, float, float]:
    """Of a phantom's alignment: the mean error where the balls are, in voxels; the certainty; processor seconds."""
    phantom = Phantom.numbered(number)
    grid = Grid.aligned((SIDE,) * 3, VOXEL, [-VOXEL * (SIDE - 1) / 2] * 3)
    points = grid.points("cpu", dtype=torch.float64).numpy()
    images = [Image(torch.from_numpy(phantom.values(at)).float().view(grid.shape), grid)
              for at in (phantom.mapped(points), points)]
    started = time.process_time()
    found = align(*images)
    seconds = time.process_time() - started
    inside = points[np.abs(points).max(1) < 18]
    apart = apply_matrix(found.matrix, inside) - phantom.mapped(inside)
    return float(np.linalg.norm(apart, axis=1).mean() / VOXEL), found.certainty, seconds


def main() -> None:
    """Print each phantom's error and how many are missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--count", type=int, default=48, metavar="N")
    args = parser.parse_args()
    missed = 0
    for number in range(args.first, args.first + args.count):
        voxels, certainty, seconds = error(number)
        missed += voxels > MISSED
        print(f"{number:5d}: {voxels:5.2f} voxels, certainty {certainty:.1f}, {seconds:.1f} s", flush=True)
    print(f"{missed} of {args.count} missed by more than {MISSED:g} voxels")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
