"""Accuracy over iterations, with a prediction to start from and without one, on the two real pairs.

python refinement.py [WEIGHTS] [--data FOLDER] [--seeds 0 1 2] [--picture FILE.svg]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pairs
from chart import MARGINS, Chart, svg_file
from nephi.align.registration import run
from nephi.images.pair import Pair
from nephi.judge.labels import overlap
from nephi.maps.transform import Transform
from nephi.maps.warp import warp
from nephi.options import Options
from nephi.report.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
SHARES = (0.0, 1 / 6, 1 / 3, 2 / 3, 1.0)
"""Of the preset's iterations; after a prediction there may be fewer in all."""

Point = tuple[float, float]


def main() -> None:
    """A line of a Markdown table for each number of iterations, and the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="?", default="universal")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    print("| pair | start | iterations | accuracy | seconds |\n|---|---|---|---|---|")
    lung = curves(pairs.lung(args.data), args.weights, args.seeds)
    brain = curves(pairs.brain(args.data), args.weights, args.seeds)
    if args.picture:
        args.picture.write_text(picture(lung, brain), encoding="utf-8")


def picture(lung: dict[str, list[Point]], brain: dict[str, list[Point]]) -> str:
    """Both pairs side by side as SVG."""
    left = Axes((-8, 66), (1.2, 3.4), 0, 420, 330, MARGINS)
    right = Axes((-20, 180), (0.6, 0.78), 420, 420, 330, MARGINS)
    return svg_file([*Chart(left, "Lung: mean landmark error, mm", "iterations").draw(lung),
                     *Chart(right, "Brain: mean Dice", "iterations").draw(brain, 3)], 840, 330)


def curves(case: pairs.Case, weights: str, seeds: list[int]) -> dict[str, list[Point]]:
    """Iterations and mean accuracy of both ways to start."""
    pair, found = case.read(), {}
    for name, used, shares in (("without a prediction", "none", SHARES[1:]), (f"after {weights}", weights, SHARES)):
        found[name] = [_mean(case, pair, name, used, share, seeds) for share in shares]
    return found


def _mean(case: pairs.Case, pair: Pair, name: str, weights: str, share: float, seeds: list[int]) -> Point:
    rows = np.array(list(_runs(case, pair, weights, share, seeds)))
    iterations, accuracy, seconds = rows.mean(0)
    spread = f" ({rows[:, 1].min():.3f} to {rows[:, 1].max():.3f})" if len(seeds) > 1 else ""
    print(f"| {case.pair} | {name} | {iterations:.0f} | {accuracy:.3f}{spread} | {seconds:.1f} |", flush=True)
    return iterations, accuracy


def _runs(case: pairs.Case, pair: Pair, weights: str, share: float, seeds: list[int]) -> Iterator[tuple]:
    for seed in seeds:
        options = Options.from_preset(case.preset, weights=weights, device="cpu", seed=seed)
        if weights == "none":
            options = replace(options, iterations=tuple(math.ceil(share * n) for n in options.iterations))
            planned = options.iterations
        else:
            whole = sum(options.predicted.iterations) / sum(options.iterations)
            parts = (min(1.0, share / whole) * part for part in options.after_prediction)
            options = replace(options, after_prediction=tuple(parts))
            planned = options.predicted.iterations
        started = time.perf_counter()
        transform = run(pair.fixed, pair.moving, options, fixed_mask=pair.fixed_mask, moving_mask=pair.moving_mask)
        yield sum(planned), _accuracy(case, pair, transform), time.perf_counter() - started


def _accuracy(case: pairs.Case, pair: Pair, transform: Transform) -> float:
    """Mean distance of the landmarks, mm, or mean Dice of the labels."""
    if pair.landmarks is not None:
        fixed, moving = pair.landmarks
        return float((transform.forward.map(fixed) - moving).norm(dim=1).mean())
    warped = warp(pair.moving_labels, transform.forward, pair.fixed.grid, mode="nearest").values
    return overlap(pair.fixed_labels.values, warped, warped, case.labels)["mean"]


if __name__ == "__main__":
    main()
