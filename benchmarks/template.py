"""`nephi template` measured on real images with labels: Dice of pairs through the template and of direct pairs, and
whether the order of the images matters.

    python benchmarks/template.py dice --out DIR     16 hippocampi: a template, then the same pairs directly
    python benchmarks/template.py order --out DIR    the same images the other way round and under other names

The images are the first of the 160 of shared/data that are not kept for tests. Every pair is judged alike: the labels
of one image are carried onto the other image's grid, through the template or by its own registration.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nephi.images.reading import read_labels
from nephi.judge.labels import dice
from nephi.maps.map import Composition, Map
from nephi.maps.transform import Transform
from nephi.maps.warp import warp
from run import DATA

NEPHI = (sys.executable, "-m", "nephi")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dice", "order"))
    parser.add_argument("--out", type=Path, default=Path("template-benchmark"))
    parser.add_argument("--data", type=Path, default=DATA / "hippocampus")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=60, help="ordered pairs, drawn at random; 0 for all")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--rounds", default="4")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in (args.data / "images").glob("*.nii.gz"))[:args.images]
    print(json.dumps({"dice": through_and_direct, "order": order}[args.what](args, names), indent=1))


def through_and_direct(args: argparse.Namespace, names: Sequence[str]) -> dict:
    """Mean Dice of the same ordered pairs both ways."""
    template = make(args, [args.data / "images" / name for name in names], args.out / "template",
                    [args.data / "labels" / name for name in names])
    pairs = list(permutations(names, 2))
    chosen = random.Random(0).sample(pairs, args.pairs) if args.pairs else pairs
    with open(args.out / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "fixed", "moving"))
        for fixed, moving in chosen:
            writer.writerow((f"{stem(moving)}_to_{stem(fixed)}", args.data / "images" / fixed,
                             args.data / "images" / moving))
    subprocess.run([*NEPHI, "batch", str(args.out / "pairs.csv"), "-o", str(args.out / "direct"), "--workers",
                    args.workers, "--outputs", "transform", "--quiet"], check=True)
    maps = {entry["id"]: Transform.load(template / entry["folder"] / "transform.nephi")
            for entry in json.loads((template / "template.json").read_text())["images"]}
    with open(args.out / "direct" / "cohort.csv", newline="", encoding="utf-8") as file:
        folders = {row["id"]: args.out / "direct" / row["folder"] for row in csv.DictReader(file)}
    found = {"through": [], "direct": []}
    for fixed, moving in chosen:
        direct = Transform.load(folders[f"{stem(moving)}_to_{stem(fixed)}"] / "transform.nephi").forward
        through = Composition([maps[stem(fixed)].inverse, maps[stem(moving)].forward])
        for name, way in (("through", through), ("direct", direct)):
            found[name].append(judged(args.data / "labels", fixed, moving, way))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    lower = np.array(found["through"]) - np.array(found["direct"])
    return {"images": len(names), "pairs": len(chosen), **means, "difference": means["through"] - means["direct"],
            "standard error": float(lower.std(ddof=1) / np.sqrt(len(lower))),
            "rounds": json.loads((template / "template.json").read_text())["rounds"]}


def order(args: argparse.Namespace, names: Sequence[str]) -> dict:
    """The template beside that of copies whose names sort the other way round, given the other way round; how far they
    differ in percent of the template's range of intensities."""
    kinds = ("images", "labels")
    for kind in kinds:
        (args.out / "renamed" / kind).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(reversed(names)):
            shutil.copy(args.data / kind / name, args.out / "renamed" / kind / f"{number:03d}.nii.gz")
    given = [[args.data / kind / name for name in names] for kind in kinds]
    copies = [sorted((args.out / "renamed" / kind).iterdir()) for kind in kinds]
    folders = [make(args, images, args.out / name, labels) for name, (images, labels) in (
        ("template", given), ("other", copies))]
    one, other = (sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "template.nii.gz"))) for folder in folders)
    away = 100 * np.abs(other - one) / np.ptp(one)
    return {"images": len(names), "mean, %": float(away.mean()), "largest, %": float(away.max())}


def make(args: argparse.Namespace, images: Sequence[Path], folder: Path, labels: Sequence[Path] = ()) -> Path:
    """A template in a folder."""
    flags = ["--labels", *map(str, labels)] if labels else []
    subprocess.run([*NEPHI, "template", *map(str, images), "-o", str(folder), "--workers", args.workers, "--rounds",
                    args.rounds, "--quiet", *flags], check=True)
    return folder


def judged(folder: Path, fixed: str, moving: str, way: Map) -> float:
    """Mean Dice of the moving labels on the fixed image's grid."""
    there, other = (read_labels(folder / name) for name in (fixed, moving))
    with torch.no_grad():
        carried = warp(other, way, there.grid, "nearest")
    return float(np.mean(list(dice(there.values, carried.values).values())))


def stem(name: str) -> str:
    return name.split(".")[0]


if __name__ == "__main__":
    main()
