"""Triangles and circles, as in the paper: train from nothing, judge on pairs never seen, blend two codes.

torchrun --standalone --nproc-per-node 2 experiment_2d.py FOLDER [--steps N] [--picture FILE.png]

The processes share each batch; one alone, started with python, comes to the same weights in twice the time.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from nephi.geometry import Grid
from nephi.images.resampling import sample
from nephi.judge.labels import overlap
from nephi.maps.neural import LatentCode, NePhi
from nephi.maps.spline import Spline
from nephi.maps.transform import Transform
from nephi.maps.warp import warp
from nephi.predict.predictor import Predictor
from nephi.training.config import read_config
from nephi.training.loop import BEST, CHECKPOINT, changed, run
from nephi.training.sources import make_source
from nephi.training.trainer import generator_of
from nephi.training.validation import Case, Scores, case_of, mean, score
from PIL import Image as Picture
from torch import Tensor

HELD_OUT = 200  # pairs
BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
ZOOM = 2  # screen pixels per pixel
LINES = 6  # pixels between the lines of the drawn grid


def main() -> None:
    """Train or continue, print Dice and folds, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    config, started = read_config("shapes-2d"), time.perf_counter()
    processes, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    config = changed(config, steps=args.steps, batch=config.training.batch // processes)
    resume = (args.folder / CHECKPOINT).is_file()
    for progress in run(config, args.folder, Path(), resume=resume):
        if progress.scores is not None:
            print(f"step {progress.step}/{progress.steps}: {_text(progress.scores)}", flush=True)
    if rank:
        return
    trained = time.perf_counter() - started
    predictor = Predictor.load(args.folder / BEST, "cpu")
    source = make_source(config, Path(), True)
    cases = [case_of(source.draw(generator_of("held out", i)), config.model.design.sizes) for i in range(HELD_OUT)]
    scores = [score(predictor, case) for case in cases]
    shapes, worst = [_dice_of_images(predictor, case) for case in cases], min(one.dice for one in scores)
    folded = sum(one.folds > 0 for one in scores)
    print(f"{HELD_OUT} held-out pairs, prediction alone: {_text(mean(scores))}; worst dice {worst:.4f}, {folded} pairs "
          f"with folds; dice of the images above one half {sum(shapes) / len(shapes):.4f}, worst {min(shapes):.4f}; "
          f"trained in {trained:.0f} s")
    if args.picture:
        _picture(predictor, *[case for case in cases if not _hollow(case)][:2]).save(args.picture)


def _text(scores: Scores) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in scores.known().items())


def _dice_of_images(predictor: Predictor, case: Case) -> float:
    """Dice of the shapes to a fraction of a pixel: their images have soft edges, which are one half at the outline."""
    models = predictor.predict(case.fixed, case.moving, case.affine)
    transform = Transform(case.fixed.grid, case.moving.grid, case.affine, models)
    carried = warp(case.moving, transform.forward, case.fixed.grid, fill=0.0)
    fixed, warped = ((image.values > 0.5).int() for image in (case.fixed, carried))
    return overlap(fixed, warped, warped)["mean"]


def _hollow(case: Case) -> bool:
    labels = case.labels[0].values
    middle = torch.nonzero(labels).double().mean(0).round().long()
    return not bool(labels[middle[0], middle[1]])


def _picture(predictor: Predictor, first: Case, second: Case) -> Picture.Image:
    """One moving image and a grid, carried by the deformations between the codes of its pairs with two fixed images."""
    both = [predictor.predict(case.fixed, first.moving, first.affine) for case in (first, second)]
    grid, moving = first.fixed.grid, first.moving.values
    lines = (torch.arange(grid.size[0]) % LINES == 0).float()
    mesh = torch.maximum(lines[:, None], lines[None, :])
    rows: list[list[Tensor]] = [[], []]
    for share in BLENDS:
        models = tuple(_blend(a, b, share) for a, b in zip(*both))
        transform = Transform(grid, grid, np.eye(3), models)
        rows[0].append(_carried(moving, transform, grid))
        rows[1].append(1 - _carried(mesh, transform, grid))
    values = torch.cat([torch.cat(row, dim=1) for row in rows])
    values = values.repeat_interleave(ZOOM, 0).repeat_interleave(ZOOM, 1)
    return Picture.fromarray((255 * values.clamp(0, 1)).to(torch.uint8).numpy())


def _blend(first: NePhi, second: NePhi, share: float) -> NePhi:
    """The fields with a code between those of two pairs."""
    one, other = first.code, second.code
    with torch.no_grad():
        local = torch.lerp(one.local.coefficients, other.local.coefficients, share)
        code = LatentCode(one.grid, Spline(local), torch.lerp(one.shared, other.shared, share))
    return NePhi(first.architecture, code, first.fields).requires_grad_(False)


def _carried(values: Tensor, transform: Transform, grid: Grid) -> Tensor:
    return sample(values, grid, transform.forward.map(grid.points("cpu"))).view(grid.shape)


if __name__ == "__main__":
    main()
