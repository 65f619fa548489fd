"""What reading a label at the nearest pixel costs: Dice of circles carried onto circles by the exact map.

python nearest_pixel.py

The circles and rings are those of the configuration shapes-2d. What it prints is the best that a registration of them
can reach by that measure.
"""

from __future__ import annotations

import torch
from nephi.predict.encoder import EncoderSizes
from nephi.training.augment import uniform
from nephi.training.trainer import generator_of
from torch import Tensor

PAIRS = 400
CUBE = EncoderSizes(2, 128, (1,), 1, 1, 0).grid


def main() -> None:
    """A line for filled and one for hollow shapes."""
    for hollow in (False, True):
        values = [dice(generator_of("nearest pixel", hollow, number), hollow) for number in range(PAIRS)]
        print(f"{'hollow' if hollow else 'filled'}: dice {sum(values) / PAIRS:.4f} on average of {PAIRS} pairs")


def dice(generator: torch.Generator, hollow: bool) -> float:
    """Dice of one pair."""
    points = CUBE.points("cpu")
    centers = [torch.tensor([uniform(generator, -0.15, 0.15) for _ in range(2)]) for _ in range(2)]
    radii = [uniform(generator, 0.35, 0.55) for _ in range(2)]
    thickness = uniform(generator, 0.12, 0.2) if hollow else max(radii)

    def inside(place: Tensor, number: int) -> Tensor:
        depth = radii[number] - (place - centers[number]).norm(dim=1)
        return (depth > 0) & (depth < thickness)

    away = points - centers[0]
    distance = away.norm(dim=1, keepdim=True)
    holes = [max(0.0, radius - thickness) for radius in radii]
    mapped = distance * radii[1] / radii[0]
    if hollow:
        mapped = torch.where(distance < holes[0], distance * holes[1] / holes[0], distance - radii[0] + radii[1])
    exact = centers[1] + away / distance * mapped
    nearest = CUBE.to_world(CUBE.to_index(exact).round()).to(points.dtype)
    fixed, carried = inside(points, 0), inside(nearest, 1)
    return 2 * int((fixed & carried).sum()) / int(fixed.sum() + carried.sum())


if __name__ == "__main__":
    main()
