"""Register one case with NePhi in this process: python engine.py CASE.json FOLDER."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from nephi.align.registration import register
from nephi.files.outputs import Run, write_outputs
from nephi.files.points import read_landmark_pairs
from nephi.maps.warp import warp
from nephi.options import Options
from nephi.report import peak_memory_gb
from pairs import Case


def main(case_file: Path, folder: Path) -> None:
    """Register, write every file a user gets, and leave what was measured in ``folder``/result.json."""
    case, given = Case.load(case_file)
    torch.set_num_threads(given["threads"])
    pair = case.read()
    options = Options.from_preset(case.preset, **given["options"])
    start, processor = time.perf_counter(), time.process_time()
    *_, last = register(pair.fixed, pair.moving, options, pair.fixed_mask, pair.moving_mask)
    measured = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - processor,
                "memory": peak_memory_gb()}
    warp(pair.moving, last.transform.forward, pair.fixed.grid)
    measured["seconds_warped"] = time.perf_counter() - start
    run = Run(measured["seconds"], options.device, len(last.history), last.history)
    report = write_outputs(last.transform, pair, run, folder)
    measured["memory_files"] = peak_memory_gb()
    measured["iterations"] = len(last.history)
    measured.update(_from_report(report["metrics"]))
    if case.truth:
        measured.update(_truth(last.transform, case.truth))
    (folder / "result.json").write_text(json.dumps(measured), encoding="utf-8")


def _from_report(metrics: dict) -> dict[str, float]:
    """The numbers of report.json under the names of the table."""
    values = {f"folds_{direction}_{kind}": metrics["folds_percent"][direction][kind]
              for direction in ("forward", "inverse") for kind in ("analytic", "finite_difference")}
    values["consistency"] = metrics["inverse_consistency_mm"]["mean"]
    if metrics["tre_mm"]:
        values.update({f"tre_{name}": metrics["tre_mm"][name] for name in ("before", "mean", "median", "max")})
    if metrics["dice"]:
        values.update(dice=metrics["dice"]["mean"], dice_before=metrics["dice"]["before"])
    return values


def _truth(transform, path: str) -> dict[str, float]:
    """How far the map is from the true one, mm."""
    points, wanted = read_landmark_pairs(path)
    errors = (transform.forward.map(points) - wanted).norm(dim=1)
    return {"truth_mean": float(errors.mean()), "truth_p95": float(errors.quantile(0.95)),
            "truth_max": float(errors.max())}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
