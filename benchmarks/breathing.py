"""A breath of ten phases with known motion: `nephi series`, files to files, against ten registrations one by one.

python breathing.py FOLDER [--size 96] [--phases 10] [--reference 1|mean|previous ...] [--preset lung-ct] [--singles 10]

Prints a row for each phase and reference: mean error and its 95th percentile at random points of the lungs, in voxels;
then the closure of the cycle, the drift of its steps, and the times: wall and processor seconds of all processes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk
import torch
from nephi.geometry import random_points
from nephi.images.phantom import BreathingSeries, breathing_series
from nephi.series.series_file import read_series

POINTS = 4000


def main() -> None:
    """Make the breath, track it, and register its phases one by one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--phases", type=int, default=10)
    parser.add_argument("--reference", nargs="+", default=["1"])
    parser.add_argument("--preset", default="lung-ct")
    parser.add_argument("--singles", type=int, default=10, help="registrations one by one; their time is scaled up")
    args = parser.parse_args()
    breath = breathing_series(args.size, args.phases)
    _write(breath, args.folder)
    times = {}
    for reference in args.reference:
        times[reference] = _timed("series", args.folder / "ct.nii.gz", "-o", args.folder / f"to_{reference}",
                                  "--masks", args.folder / "lungs.nii.gz", "--reference", reference, "--cycle",
                                  "--ventilation", "--preset", args.preset, "--quiet")
        _print_errors(breath, args.folder / f"to_{reference}", reference)
    singles = [_single(args.folder, phase % args.phases, args.preset) for phase in range(1, args.singles + 1)]
    alone = [sum(column) * 10 / max(1, len(singles)) for column in zip(*singles)] if singles else None
    for reference, (wall, processor) in times.items():
        share = f", {wall / alone[0]:.2f} and {processor / alone[1]:.2f} of ten registrations" if alone else ""
        print(f"reference {reference}: {wall:.0f} s, {processor:.0f} s of processor{share}")
    if alone:
        print(f"ten registrations one by one: {alone[0]:.0f} s, {alone[1]:.0f} s of processor")


def _write(breath: BreathingSeries, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    masks = [replace(frame, values=mask.int()) for frame, mask in zip(breath.frames, breath.masks)]
    for name, images, kind in (("ct", breath.frames, sitk.sitkInt16), ("lungs", masks, sitk.sitkUInt8)):
        stored = [image.to_sitk(kind) for image in images]
        sitk.WriteImage(sitk.JoinSeries(stored), str(folder / f"{name}.nii.gz"), True)
        for phase, image in enumerate(stored):
            sitk.WriteImage(image, str(folder / f"{name}_{phase}.nii.gz"), True)


def _single(folder: Path, phase: int, preset: str) -> tuple[float, float]:
    """Phase 0 to itself too: ten registrations of ten phases."""
    return _timed("register", folder / "ct_0.nii.gz", folder / f"ct_{phase}.nii.gz", "-o", folder / f"single_{phase}",
                  "--fixed-mask", folder / "lungs_0.nii.gz", "--moving-mask", folder / f"lungs_{phase}.nii.gz",
                  "--preset", preset, "--quiet")


def _timed(*arguments: object) -> tuple[float, float]:
    """Wall and processor seconds of one command."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "nephi", *map(str, arguments)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@torch.no_grad()
def _print_errors(breath: BreathingSeries, folder: Path, reference: str) -> None:
    """At points of the first phase; where that is not the reference, over it."""
    transforms = list(read_series(folder / "series.nephi").values())
    voxel = breath.frames[0].grid.voxel
    points = random_points(breath.frames[0].grid, POINTS, breath.masks[0])
    start = transforms[0].inverse.map(points)
    print(f"\nreference {reference}\n| phase | motion | mean error | 95 % |\n|---|---|---|---|")
    for phase, (transform, truth) in enumerate(zip(transforms, breath.to_frame)):
        there = truth(points)
        error = (transform.forward.map(start) - there).norm(dim=1) / voxel
        motion = (there - points).norm(dim=1).mean() / voxel
        print(f"| {phase} | {motion:.2f} | {error.mean():.3f} | {error.quantile(0.95):.2f} |")
    metrics = json.loads((folder / "report.json").read_text(encoding="utf-8"))["metrics"]
    for name, key in (("closure of the cycle", "closure_mm"), ("drift of its steps", "drift_mm")):
        if metrics[key] is not None:
            print(f"{name}: mean {metrics[key]['mean'] / voxel:.3f}, 95 % {metrics[key]['p95'] / voxel:.3f} voxels",
                  flush=True)


if __name__ == "__main__":
    main()
