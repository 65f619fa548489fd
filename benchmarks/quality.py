"""The verdict and the estimate of the residual error, judged by pairs whose truth is known.

Every image of ../shared/data is deformed, turned, shifted, spoiled and recoloured at random and registered to itself.
The maps found are then also displaced on purpose. The true mean error stands beside what the program says of itself.

    python benchmarks/quality.py register FOLDER   makes and registers the trials; what is there already stays
    python benchmarks/quality.py judge FOLDER      judges them and writes FOLDER/trials.json
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from nephi.align.registration import run
from nephi.geometry import Grid, apply_affine
from nephi.images.image import Image, normalise
from nephi.images.masks import region
from nephi.images.pair import Pair
from nephi.images.reading import read_image
from nephi.images.resampling import downsample, sample
from nephi.judge.evidence import evaluate
from nephi.judge.verdict import verdict
from nephi.maps.transform import Transform
from nephi.options import Options
from nephi.report import make_metrics, plain
from torch import Tensor

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
VOXELS = {2: 128**2, 3: 110_000}  # of a trial: small enough that hundreds of them can be registered
ANGLES = (0, 0, 5, 15, 30, 60, 90, 180)  # degrees
DEFORMATIONS = (1, 2, 4, 7)  # mean displacement, voxels
COLOURS = ("same", "gamma", "inverted", "biased", "noisy")
DISPLACED = (0.5, 1.5, 3, 6, 12)  # voxels by which a found map is displaced on purpose
UNRELATED = "unrelated"
HEADS = ("brain", "abide", "ants", "dkt2d", "synthseg", "warp", "fetal", "ashs")
"""Names that begin so show a head, or a part of one: two of them are not unrelated."""


@dataclass(frozen=True)
class Trial:
    """A fixed image and a moving one made of it: moving(y) = colour(fixed(g(y))).

    Attributes:
        truth: pairs of corresponding points (x = g(y), y), LPS mm, inside the fixed mask; None for unrelated images.
    """

    name: str
    facts: dict
    fixed: Image
    moving: Image
    truth: tuple[Tensor, Tensor] | None


def sources() -> dict[str, Path]:
    """Name -> file of every fixed image there is."""
    files = sorted(DATA.glob("**/fixed.*")) + sorted(DATA.glob("**/*fixed*.nii.gz"))
    return {file.parent.name: file for file in files if "label" not in file.name and "mask" not in file.name}


def trials(repeat: int) -> Iterator[Trial]:
    """All trials, each the same whenever it is made."""
    files = list(sources().items())
    for number, (name, file) in enumerate(files):
        other_name, other_file = files[(number + 3) % len(files)]
        fixed, other = (_small(read_image(path)) for path in (file, other_file))
        if other.grid.dim == fixed.grid.dim and not (name.startswith(HEADS) and other_name.startswith(HEADS)):
            yield Trial(f"{name}-{UNRELATED}", {"kind": UNRELATED}, fixed, other, None)
    for turn in range(repeat):
        for number, (name, file) in enumerate(files):
            fixed = _small(read_image(file))
            yield _trial(f"{name}-{turn}", fixed, np.random.default_rng([number, turn]))


def _small(image: Image) -> Image:
    grid = image.grid
    spacing = (math.prod(grid.extent) / VOXELS[grid.dim]) ** (1 / grid.dim)
    if spacing <= math.prod(grid.spacing) ** (1 / grid.dim):
        return image
    values, grid = downsample(image.values, grid, max(spacing, *grid.spacing) if grid.dim == 2 else spacing)
    return Image(values, grid, image.name)


def _trial(name: str, fixed: Image, rng: np.random.Generator) -> Trial:
    grid, mask = fixed.grid, region(fixed, None)
    voxel = math.prod(grid.spacing) ** (1 / grid.dim)
    angle, size = float(rng.choice(ANGLES)), float(rng.choice(DEFORMATIONS))
    colour = str(rng.choice(COLOURS))
    linear = _rigid(grid, np.deg2rad(angle), rng.normal(0, 4 * voxel, grid.dim), rng)
    wave = _wave(grid, size * voxel, rng)

    def g(points: Tensor) -> Tensor:
        return wave(apply_affine(linear, points))

    values = normalise(fixed.values, mask)
    moved = sample(values, grid, g(grid.points("cpu"))).view(grid.shape)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    moving = Image(_coloured(moved, colour, generator), grid, "moving image")
    points = grid.points("cpu")[torch.randint(grid.count, (60_000,), generator=generator)]
    target = g(points)
    inside = grid.contains(target)
    if mask is not None:
        inside &= sample(mask, grid, target, "nearest")
    facts = {"kind": "pair", "angle": angle, "deformation": size, "colour": colour, "dim": grid.dim}
    return Trial(name, facts, fixed, moving, (target[inside], points[inside]))


def _rigid(grid: Grid, angle: float, shift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A turn about the grid's centre and a shift, homogeneous."""
    dim = grid.dim
    if dim == 2:
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    else:
        x, y, z = (axis := rng.normal(size=3)) / np.linalg.norm(axis)
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix = np.eye(dim + 1)
    matrix[:-1, :-1] = turn
    matrix[:-1, -1] = grid.center - turn @ grid.center + shift
    return matrix


def _wave(grid: Grid, size: float, rng: np.random.Generator):
    """A smooth displacement of this mean length (mm), without folds: three plane waves along every axis."""
    dim, longest = grid.dim, float(grid.extent.max())
    waves = torch.from_numpy(rng.normal(size=(3, dim, dim))).float() * torch.tensor([1.0, 1.5, 2.0])[:, None, None]
    waves *= 2 * math.pi / longest
    phases = torch.from_numpy(rng.uniform(0, 2 * math.pi, (3, dim))).float()
    center = torch.from_numpy(grid.center).float()

    def displacement(points: Tensor) -> Tensor:
        return sum(torch.sin((points - center) @ wave.T + phase) for wave, phase in zip(waves, phases))

    mean = float(displacement(grid.points("cpu")[:: max(1, grid.count // 20_000)]).norm(dim=1).mean())
    # Steeper waves than this would fold.
    steepest = 0.8 / float(waves.norm(dim=(1, 2)).sum())
    factor = min(size / mean, steepest)
    return lambda points: points + factor * displacement(points)


def _coloured(values: Tensor, colour: str, generator: torch.Generator) -> Tensor:
    seen = (values > 0).float()
    noise = torch.randn(values.shape, generator=generator)
    ramp = torch.linspace(0.6, 1.2, values.shape[-1])
    changed = {"same": values, "gamma": values.clamp_min(0) ** 0.6, "inverted": seen * (1.1 - values),
               "biased": values * ramp, "noisy": values}[colour]
    return changed + seen * noise * (0.1 if colour == "noisy" else 0.02)


# ------------------------------------------------------------------------------------------------- judgement


def true_error(transform: Transform, truth: tuple[Tensor, Tensor]) -> float:
    """The mean distance between where fixed points belong and where the map takes them, in fixed voxels."""
    fixed, moving = truth
    voxel = math.prod(transform.fixed_grid.spacing) ** (1 / transform.fixed_grid.dim)
    return float((transform.forward.map(fixed) - moving).norm(dim=1).mean()) / voxel


def displaced(transform: Transform, voxels: float, rng: np.random.Generator) -> Transform:
    """The transform followed by a turn and shift that displace points by about so many voxels."""
    grid = transform.fixed_grid
    voxel = math.prod(grid.spacing) ** (1 / grid.dim)
    angle = float(rng.normal()) * voxels * voxel / float(grid.extent.max())
    shift = rng.normal(size=grid.dim)
    more = _rigid(grid, angle, shift / np.linalg.norm(shift) * voxels * voxel, rng)
    return replace(transform, affine=transform.affine @ more)


def judged(trial: Trial, transform: Transform) -> dict:
    """What the program says of a result, beside the truth."""
    metrics = plain(make_metrics(**evaluate(transform, Pair(trial.fixed, trial.moving), whole=False)))
    said = verdict(metrics, {"seconds": 0.0, "device": "cpu"}, (), transform.provenance)
    return {"name": trial.name, **trial.facts, "verdict": said.level, "headline": said.headline,
            "concerns": list(said.concerns), "metrics": metrics, "linear": transform.provenance.get("linear"),
            "error": None if trial.truth is None else true_error(transform, trial.truth)}


def main() -> None:
    """Register or judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("register", "judge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=4, help="trials with each image")
    parser.add_argument("--only", default="", metavar="TEXT", help="trials whose names contain this")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for trial in trials(args.repeat):
        if args.only not in trial.name:
            continue
        file = args.folder / f"{trial.name}.nephi"
        if args.step == "register" and not file.exists():
            run(trial.fixed, trial.moving, Options.from_preset("generic", points=60_000)).save(file)
            print(trial.name, trial.facts, flush=True)
        elif args.step == "judge" and file.exists():
            transform = Transform.load(file)
            rows.append(judged(trial, transform))
            print(trial.name, rows[-1]["verdict"], rows[-1]["error"], flush=True)
            rng = np.random.default_rng(len(rows))
            if trial.truth is not None:
                by = float(rng.choice(DISPLACED))
                rows.append({**judged(trial, displaced(transform, by, rng)), "kind": f"displaced by {by:g} voxels"})
    if args.step == "judge":
        (args.folder / "trials.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
