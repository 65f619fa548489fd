"""A finished registration as measurements and as files: what the command line and Slicer's worker both hand over."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Union

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..images.image import Image
from ..images.pair import Pair, with_masks
from ..images.writing import own_format, write_image
from ..judge.evidence import Sampled, evaluate
from ..judge.folds import summary
from ..maps.determinant import determinant_image, log_determinant
from ..maps.map import MapPair
from ..maps.resampled import exact_where_suspect
from ..maps.transform import Transform
from ..maps.warp import warp
from ..report import Pictures, make_report, peak_memory_gb, write_html, write_report
from .coarsest import TOLERANCE
from .displacements import spline_maps
from .itk import export_itk

FILES = {
    "transform": "transform.nephi", "forward": "forward.h5", "inverse": "inverse.h5", "warped": "warped.nii.gz",
    "log_jacobian": "log_jacobian.nii.gz", "report": "report.json", "page": "report.html",
}
"""What a registration of NIfTI images leaves in its folder, by role; see :func:`file_names`."""
_IMAGES = ("warped", "log_jacobian")

Announce = Callable[[str], None]


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


@dataclass(frozen=True)
class ImageFiles:
    """How images are written.

    Attributes:
        format: one of :data:`nephi.images.writing.FORMATS`; None is that of the fixed image's file, or NRRD where that
            cannot hold the place of the voxels exactly.
        kind: the type of the voxels of the warped image; None is that of the moving image if it is an integer, else
            float32.
    """

    format: Optional[str] = None
    kind: Optional[np.dtype] = None


def file_names(format: str) -> dict[str, str]:
    """What a registration leaves in its folder, by role, with the images in one of the formats."""
    return {**FILES, **{role: f"{role}.{format}" for role in _IMAGES}}


def write_outputs(transform: Transform, pair: Pair, run: Run, folder: Union[str, os.PathLike],
                  grid_spacing: Optional[float] = None, on_step: Optional[Announce] = None,
                  images: Optional[ImageFiles] = None, tolerance: float = TOLERANCE) -> dict:
    """Write all files into a folder that exists; see :func:`nephi.storage.staged_folder` for all or nothing.

    Args:
        pair: with both images.
        grid_spacing: mm between the nodes of the exported splines; None picks one.
        on_step: called with the name of each step before it begins; what it raises ends the writing.
        images: how images are written; the fixed image's file is the one in ``run.sources``.
        tolerance: the largest error of the exported splines, voxels, where their spacing is picked.

    Returns:
        The report (docs/report-schema.md).

    Raises:
        InputError: the folder cannot be written or is full.
    """
    folder, announce, pair = Path(folder), on_step or (lambda name: None), with_masks(pair)
    images = images or ImageFiles()
    names = file_names(images.format or own_format(run.sources.get("fixed"), pair.fixed.grid))
    announce("transform")
    transform.save(folder / FILES["transform"])
    exports = []
    for way, mask in (("forward", pair.fixed_mask), ("inverse", pair.moving_mask)):
        announce(f"{way} ITK transform")
        written = export_itk(getattr(transform, way), folder / FILES[way], grid_spacing, tolerance, mask)
        exports.append({"direction": way, **written.to_dict()})
    announce("warped image")
    after = _warped(transform, pair, folder, exports[0])
    announce("sampling")
    maps = spline_maps(transform, pair.fixed_mask, pair.moving_mask)
    judged = judge(transform, pair, run, maps, after, exports, names, announce)
    announce("report")
    write_image(judged.warped.stored(images.kind), folder / names["warped"])
    write_image(judged.log_jacobian.to_sitk(), folder / names["log_jacobian"])
    write_report(judged.report, folder / FILES["report"])
    pictures = Pictures(
        transform.fixed_grid, pair.fixed.values.cpu(), judged.before.values, judged.warped.values,
        judged.log_jacobian.values, pair.fixed_mask, transform.deformation.forward.map, pair.fixed.name,
        pair.moving.name, _errors(judged.report["metrics"]))
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


def judge(transform: Transform, pair: Pair, run: Run, maps: MapPair, warped: Image, exports: Sequence[dict],
          files: Mapping[str, str], announce: Announce) -> Judged:
    """Measure a finished registration quickly, mostly through splines.

    Args:
        pair: with both images.
        maps: from :func:`nephi.files.displacements.spline_maps`.
        warped: the moving image on the fixed grid, through the transform.
        exports: of each direction's file or displacements, what the report says of them.
        files: role -> file name, for the report.
        announce: called with the name of each step before it begins.
    """
    pair = with_masks(pair)
    before = warp(pair.moving, None, pair.fixed.grid)
    announce("Jacobian")
    masks = pair.fixed_mask, pair.moving_mask
    determinants = tuple(exact_where_suspect(determinant_image(splines, exact.domain), exact, exact.domain, mask)
                         for splines, exact, mask in zip((maps.forward, maps.inverse),
                                                         (transform.forward, transform.inverse), masks))
    announce("metrics")
    summaries = {way: summary(values, mask) for way, values, mask in zip(("forward", "inverse"), determinants, masks)}
    measured = evaluate(transform, pair, False, Sampled(maps, determinants))
    report = make_report(**measured, jacobian=summaries, transforms=list(exports), files=files, runtime=_runtime(run),
                         provenance={**transform.provenance, "sources": run.sources})
    logarithm = Image(log_determinant(determinants[0]), transform.fixed_grid, "log-Jacobian")
    return Judged(report, before, warped, determinants[0], logarithm)


def _errors(metrics: Mapping) -> Optional[tuple[Tensor, list[Optional[float]]]]:
    """The points of the residual estimate and the error at each, in voxels."""
    found = metrics["residual_mm"]
    if found is None:
        return None
    return torch.tensor(found["at"]), [d if d is None else d / metrics["voxel_mm"] for d in found["distances"]]


def _warped(transform: Transform, pair: Pair, folder: Path, export: dict) -> Image:
    """The moving image on the fixed grid, by the exported file where that is as good as the map: it is much faster."""
    if not export["within_tolerance"]:
        return warp(pair.moving, transform.forward, pair.fixed.grid)
    moving, grid = pair.moving.to_sitk(), pair.fixed.grid
    result = sitk.Resample(moving, grid.size, sitk.ReadTransform(str(folder / FILES["forward"])), sitk.sitkLinear,
                           grid.origin, grid.spacing, grid.direction, float(pair.moving.values.min()))
    return Image(torch.from_numpy(sitk.GetArrayFromImage(result)), grid, f"warped {pair.moving.name}",
                 kind=pair.moving.kind)


def _runtime(run: Run) -> dict:
    runtime = {"seconds": run.seconds, "peak_memory_gb": peak_memory_gb(), "device": run.device,
               "iterations": run.iterations, "phases": run.phases}
    if run.device.startswith("cuda"):
        runtime["device_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return runtime
