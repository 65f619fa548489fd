"""A finished registration as measurements and as files: what the command line and Slicer's worker both hand over."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Union

import SimpleITK as sitk
import torch
from torch import Tensor

from ..images.image import Image
from ..images.pair import Pair, with_masks
from ..images.writing import write_image
from ..judge.evidence import evaluate
from ..maps.determinant import log_determinant, summary
from ..maps.sampled import SampledMap
from ..maps.warp import warp
from ..report import Pictures, make_report, peak_memory_gb, write_html, write_report
from .displacements import sampled_map
from .itk import export_itk

FILES = {
    "transform": "transform.nephi", "forward": "forward.h5", "inverse": "inverse.h5", "warped": "warped.nii.gz",
    "log_jacobian": "log_jacobian.nii.gz", "report": "report.json", "page": "report.html",
}
"""What a registration leaves in its folder, by role."""


Step = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """How a registration went.

    Attributes:
        seconds: wall time of the registration.
        device: where it ran.
        iterations: over all levels.
        history: one mapping for each recorded iteration, with ``level``, ``iteration`` and ``loss``.
        phases: phase -> seconds.
        sources: role -> the path each input was read from.
    """

    seconds: float
    device: str
    iterations: int
    history: Sequence[dict] = ()
    phases: dict[str, float] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def write_outputs(transform, pair: Pair, run: Run, folder: Union[str, os.PathLike],
                  grid_spacing: Optional[float] = None, on_step: Optional[Step] = None) -> dict:
    """Write all of :data:`FILES` into a folder that exists; see :func:`staged_folder` for all or nothing.

    Args:
        pair: with both images.
        grid_spacing: mm between the nodes of the exported splines; None picks one.
        on_step: called with the name of each step before it begins; what it raises ends the writing.

    Returns:
        The report (docs/report-schema.md).

    Raises:
        InputError: the folder cannot be written or is full.
    """
    folder, step, pair = Path(folder), on_step or (lambda name: None), with_masks(pair)
    step("transform")
    transform.save(folder / FILES["transform"])
    exports = []
    for direction, mask in (("forward", pair.fixed_mask), ("inverse", pair.moving_mask)):
        step(f"{direction} ITK transform")
        exports.append(export_itk(transform, folder / FILES[direction], direction, grid_spacing, mask=mask).to_dict())
    step("warped image")
    after = _warped(transform, pair, folder, exports[0])
    step("sampling")
    maps = {"forward": sampled_map(transform, "forward", pair.fixed_mask),
            "inverse": sampled_map(transform, "inverse", pair.moving_mask)}
    judged = judge(transform, pair, run, after, maps, exports, FILES, step)
    step("report")
    write_image(judged.warped.to_sitk(), folder / FILES["warped"])
    write_image(judged.log_jacobian.to_sitk(), folder / FILES["log_jacobian"])
    write_report(judged.report, folder / FILES["report"])
    pictures = Pictures(
        transform.fixed_grid, pair.fixed.values.cpu(), judged.before.values, judged.warped.values,
        judged.log_jacobian.values, pair.fixed_mask, lambda points: transform.nonlinear(points, "forward"),
        pair.fixed.name, pair.moving.name)
    write_html(folder / FILES["page"], judged.report, pictures, run.history)
    return judged.report


@dataclass(frozen=True)
class Judged:
    """What is known of a finished registration.

    Attributes:
        report: docs/report-schema.md.
        before, warped: the moving image on the fixed grid, without and with the transform.
        determinant: of the forward map on the fixed grid, (k, j, i).
        log_jacobian: its logarithm as an image.
    """

    report: dict
    before: Image
    warped: Image
    determinant: Tensor
    log_jacobian: Image


def judge(transform, pair: Pair, run: Run, warped: Image, maps: dict[str, SampledMap], exports: Sequence[dict],
          files: Mapping[str, str], step: Step) -> Judged:
    """Measure a finished registration quickly, mostly through splines.

    Args:
        pair: with both images.
        warped: the moving image on the fixed grid, through the transform.
        maps: direction -> from :func:`nephi.files.displacements.sampled_map`.
        exports: of each direction's displacements, what the report says of them.
        files: role -> file name, for the report.
        step: called with the name of each step before it begins.
    """
    pair = with_masks(pair)
    before = warp(pair.moving, None, pair.fixed.grid)
    step("Jacobian")
    masks = {"forward": pair.fixed_mask, "inverse": pair.moving_mask}
    grids = {"forward": transform.fixed_grid, "inverse": transform.moving_grid}
    determinants = {side: maps[side].determinant_on(grids[side], masks[side]) for side in maps}
    step("metrics")
    summaries = {side: summary(det, masks[side]) for side, det in determinants.items()}
    measured = evaluate(transform, pair, determinants, (before, warped), whole=False, maps=maps)
    report = make_report(**measured, jacobian=summaries, transforms=list(exports), files=files, runtime=_runtime(run),
                         provenance={**transform.provenance, "sources": run.sources})
    logarithm = Image(log_determinant(determinants["forward"]), transform.fixed_grid, "log-Jacobian")
    return Judged(report, before, warped, determinants["forward"], logarithm)


def _warped(transform, pair: Pair, folder: Path, export: dict) -> Image:
    """The moving image on the fixed grid, by the exported field where that is as good as the map: it is much faster."""
    if not export["within_tolerance"]:
        return warp(pair.moving, transform, pair.fixed.grid)
    moving, grid = pair.moving.to_sitk(), pair.fixed.grid
    result = sitk.Resample(moving, grid.size, sitk.ReadTransform(str(folder / FILES["forward"])), sitk.sitkLinear,
                           grid.origin, grid.spacing, grid.direction, float(pair.moving.values.min()))
    return Image(torch.from_numpy(sitk.GetArrayFromImage(result)), grid, f"warped {pair.moving.name}")


def _runtime(run: Run) -> dict:
    runtime = {"seconds": run.seconds, "peak_memory_gb": peak_memory_gb(), "device": run.device,
               "iterations": run.iterations, "phases": run.phases}
    if run.device.startswith("cuda"):
        runtime["device_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return runtime
