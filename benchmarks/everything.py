"""NePhi beside greedy, ANTs SyN and elastix on every pair, whole commands from files to files: make bench.

Each program registers each pair in a fresh process, one after another. SimpleITK alone judges the maps that they wrote.
One table has accuracy, folds, times and memory, and counts wins and losses; one picture has accuracy over time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import pairs
import SimpleITK as sitk
from chart import INK, svg_file
from nephi.report.axes import COLOURS, Axes, text
from run import DATA, HERE, RESULTS, busy_cores

NAMES = {"nephi": "NePhi", "greedy": "greedy", "ants": "ANTs SyN", "elastix": "elastix"}
EQUAL = {"dice": 0.005, "tre": 0.02}
"""Differences that count as equal: of Dice as it is, of landmark errors as a share."""

sitk.ProcessObject.SetGlobalWarningDisplay(False)


def cases(data: Path) -> list[dict]:
    """All pairs: of each the files by role ("" where there is none), what judges it, and the preset."""
    tuned = []
    for maker in (pairs.lung, pairs.brain):
        made = vars(maker(data))
        tuned.append({**{key: made[key] or "" for key in FILES}, "name": made["pair"], "preset": made["preset"],
                      "labels": made["labels"]})
    folder = data / "more"
    listed = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    return tuned + [{**{key: str(folder / case[key]) if case[key] else "" for key in FILES}, "name": case["name"],
                     "preset": "generic", "labels": case["labels"]} for case in listed]


FILES = ("fixed", "moving", "fixed_mask", "moving_mask", "landmarks", "fixed_labels", "moving_labels")


def command(method: str, case: dict, folder: Path, args: argparse.Namespace) -> list[str]:
    """What a user would type."""
    if method != "nephi":
        (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")
        return [args.peers_python, str(HERE / "whole_peers.py"), method, str(folder / "case.json"), str(folder),
                str(args.threads)]
    masks = [word for role in ("fixed_mask", "moving_mask") if case[role]
             for word in (f"--{role.replace('_', '-')}", case[role])]
    return [sys.executable, "-m", "nephi", "register", case["fixed"], case["moving"], "-o", str(folder), "-q",
            "--preset", case["preset"], *masks]


LAUNCHER = """import json, os, sys
pid = os.fork()
if not pid:
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6]))"""
"""A small process between this one and a program: a peak of memory counts from what forked it."""


def timed(words: Sequence[str], folder: Path, threads: int) -> dict:
    """Run a command; wall and processor seconds and peak memory (GB) of its process, or why it failed."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCHER, *words], capture_output=True, text=True,
                          errors="replace", env={**os.environ, **dict.fromkeys(names, str(threads))}, check=False)
    seconds = time.perf_counter() - start
    (folder / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    lines = done.stdout.strip().splitlines()
    code, processor, memory = json.loads(lines[-1]) if lines else (done.returncode, 0.0, 0.0)
    if code:
        said = (done.stderr.strip() or "\n".join(lines[:-1])).splitlines()
        return {"failed": said[-1] if said else f"exit code {code}"}
    return {"seconds": seconds, "processor": processor, "memory": memory}


def judged(case: dict, transform: sitk.Transform) -> dict:
    """Landmark error (mm), mean Dice of the labels, and folds (%) inside the fixed mask, by SimpleITK."""
    found: dict[str, float] = {}
    fixed = sitk.ReadImage(case["fixed"])
    if case["landmarks"]:
        rows = np.loadtxt(case["landmarks"], delimiter=",", skiprows=1, ndmin=2)
        dim = fixed.GetDimension()
        moved = np.array([transform.TransformPoint(row[:dim].tolist()) for row in rows])
        found["tre"] = float(np.linalg.norm(moved - rows[:, 3:3 + dim], axis=1).mean())
    if case["fixed_labels"]:
        labels = sitk.ReadImage(case["fixed_labels"])
        moving = sitk.Resample(sitk.ReadImage(case["moving_labels"]), labels, transform, sitk.sitkNearestNeighbor, 0)
        a, b = sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(moving)
        wanted = case["labels"] or [label for label in np.unique(a) if label]
        found["dice"] = float(np.mean([2 * ((a == n) & (b == n)).sum() / max(1, (a == n).sum() + (b == n).sum())
                                       for n in wanted]))
    determinants = _determinants(transform, fixed)
    if case["fixed_mask"]:
        determinants = determinants[sitk.GetArrayFromImage(sitk.ReadImage(case["fixed_mask"])) > 0]
    return {**found, "folds": 100 * float((determinants <= 0).mean())}


def _determinants(transform: sitk.Transform, image: sitk.Image) -> np.ndarray:
    """By central differences of the displaced voxel centres, along the image's axes."""
    dim = image.GetDimension()
    field = sitk.GetArrayFromImage(sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, image.GetSize(), image.GetOrigin(), image.GetSpacing(),
        image.GetDirection()))
    slopes = [np.gradient(field, image.GetSpacing()[axis], axis=dim - 1 - axis) for axis in range(dim)]
    along = np.linalg.inv(np.array(image.GetDirection()).reshape(dim, dim))
    return np.linalg.det(np.eye(dim) + np.stack(slopes, axis=-1) @ along)


def transform_in(folder: Path, dim: int) -> sitk.Transform:
    """The map that a program left."""
    if (folder / "forward.h5").is_file():
        return sitk.ReadTransform(str(folder / "forward.h5"))
    field = sitk.ReadImage(str(folder / "forward.nii.gz"), sitk.sitkVectorFloat64)
    return sitk.DisplacementFieldTransform(field[..., 0] if field.GetDimension() > dim else field)


def measured(method: str, case: dict, folder: Path, args: argparse.Namespace) -> dict:
    """One run of one program on one pair."""
    folder.mkdir(parents=True, exist_ok=True)
    result = timed(command(method, case, folder, args), folder, args.threads)
    if "failed" not in result:
        result.update(judged(case, transform_in(folder, sitk.ReadImage(case["fixed"]).GetDimension())))
    return result


def scores(run: dict) -> dict[str, float]:
    """The measures of accuracy that a run has."""
    return {name: run[name] for name in EQUAL if name in run}


def outcome(measure: str, own: float, other: Optional[float]) -> str:
    """Whether the first is "better" than the second, "worse" or "equal"; better than none at all."""
    if other is None:
        return "better"
    gain = own - other if measure == "dice" else (other - own) / max(other, 1e-9)
    return "equal" if abs(gain) <= EQUAL[measure] else "better" if gain > 0 else "worse"


def table(results: dict[str, dict[str, dict]], methods: Sequence[str]) -> str:
    """The one table, and the counts below it."""
    heads = ["pair", "measure", "before", *(NAMES[m] for m in methods),
             "folds, %: " + " / ".join(NAMES[m] for m in methods), "wall (processor) s: same order", "GB: same order"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, runs in results.items():
        for measure, before in scores(runs["before"]).items():
            digits = 3 if measure == "dice" else 2
            lines.append("| " + " | ".join([
                name, {"dice": "Dice", "tre": "TRE"}[measure], f"{before:.{digits}f}",
                *(f"{runs[m][measure]:.{digits}f}" if measure in runs[m] else "fails" for m in methods),
                " / ".join(f"{runs[m]['folds']:.2g}" if "folds" in runs[m] else "-" for m in methods),
                " / ".join(f"{runs[m]['seconds']:.1f} ({runs[m]['processor']:.0f})" if "seconds" in runs[m] else "-"
                           for m in methods),
                " / ".join(f"{runs[m]['memory']:.2f}" if "memory" in runs[m] else "-" for m in methods)]) + " |")
    return "\n".join([*lines, "", *_counts(results, methods)])


def _counts(results: dict[str, dict[str, dict]], methods: Sequence[str]) -> list[str]:
    notes = []
    for rival in [*methods[1:], *(["the best of them"] if len(methods) > 2 else [])]:
        found = []
        for runs in results.values():
            for measure, own in scores(runs["nephi"]).items():
                others = [runs[m][measure] for m in (methods[1:] if rival not in NAMES else [rival])
                          if measure in runs[m]]
                best = None if not others else max(others) if measure == "dice" else min(others)
                found.append(outcome(measure, own, best))
        shares = [runs["nephi"]["seconds"] / runs[rival]["seconds"] for runs in results.values()
                  if rival in runs and "seconds" in runs[rival] and "seconds" in runs["nephi"]]
        time_ = f"; NePhi's time is {statistics.median(shares):.2f} of its in the median" if shares else ""
        notes.append(f"- against {NAMES.get(rival, rival)}: better {found.count('better')}, equal "
                     f"{found.count('equal')}, worse {found.count('worse')}{time_}")
    return notes


def picture(results: dict[str, dict[str, dict]], methods: Sequence[str]) -> str:
    """Accuracy over time: how far each program comes from before towards the best, against wall seconds."""
    axes = Axes((0.0, math.log10(300)), (-0.2, 1.05), width=760, height=380, margins=(62, 24, 44, 76))
    parts = [text(62, 22, "Share of the way from unregistered to the best result", "start", INK, 14), axes.rules(6),
             axes.marks([math.log10(s) for s in (1, 3, 10, 30, 100, 300)], "seconds, files to files",
                        lambda value: f"{10 ** value:.0f}")]
    for runs in results.values():
        for measure, before in scores(runs["before"]).items():
            reached = {m: runs[m][measure] for m in methods if measure in runs[m]}
            best = (max if measure == "dice" else min)(reached.values(), default=before)
            for method, value in reached.items():
                share = (value - before) / (best - before) if best != before else 0.0
                x, y = axes.place(np.clip(math.log10(runs[method]["seconds"]), *axes.x), max(share, -0.15))
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[methods.index(method)]}" '
                             'fill-opacity="0.75"/>')
    for number, method in enumerate(methods):
        parts += [f'<circle cx="{80 + 130 * number}" cy="364" r="5" fill="{COLOURS[number]}"/>',
                  text(90 + 130 * number, 368, NAMES[method], "start")]
    return svg_file(parts, 760, 380)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, print and keep the table; 1 when NePhi failed on a pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these pairs (default: all)")
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=["nephi", "greedy", "ants"])
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of every program (default: 2)")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder of lung/, brain/ and more/")
    parser.add_argument("--peers-python", default=sys.executable, metavar="PATH", help="the Python that has "
                        "picsl-greedy, antspyx and itk-elastix, where they are not in this one")
    parser.add_argument("--keep", metavar="DIR", help="leave all outputs here; what lies there is judged again and "
                        "not run again")
    args = parser.parse_args(arguments)
    chosen = [case for case in cases(args.data.resolve()) if not args.only or case["name"] in args.only]
    results: dict[str, dict[str, dict]] = {}
    with tempfile.TemporaryDirectory(prefix="nephi-bench-") as scratch:
        for case in chosen:
            dim = sitk.ReadImage(case["fixed"]).GetDimension()
            runs = results.setdefault(case["name"], {"before": judged(case, sitk.TranslationTransform(dim))})
            for method in args.methods:
                folder = Path(args.keep or scratch).resolve() / case["name"] / method
                kept = folder / "measured.json"
                if not kept.is_file():
                    runs[method] = {"busy_before": busy_cores(), **measured(method, case, folder, args)}
                    kept.write_text(json.dumps(runs[method]), encoding="utf-8")
                runs[method] = json.loads(kept.read_text(encoding="utf-8"))
                print(case["name"], method, runs[method], file=sys.stderr, flush=True)
    page = table(results, args.methods)
    print(page)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "everything.md").write_text(page + "\n", encoding="utf-8")
    (RESULTS / "everything.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (RESULTS / "accuracy-over-time.svg").write_text(picture(results, args.methods), encoding="utf-8")
    return int(any("failed" in runs["nephi"] for runs in results.values()))


if __name__ == "__main__":
    sys.exit(main())
