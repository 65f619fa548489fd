"""A finished registration as measurements and as files: what the command line and Slicer's worker both hand over."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Union

import numpy as np
import torch
from torch import Tensor

from ..geometry import Frame, Grid
from ..images.image import Image
from ..images.masks import bounding_box, inside
from ..images.pair import Pair, with_masks
from ..images.writing import own_format, write_image
from ..judge.error_map import error_map
from ..judge.evidence import Sampled, evaluate
from ..judge.folds import summary
from ..maps.coarsest import TOLERANCE
from ..maps.determinant import determinant_image, log_determinant
from ..maps.folded import folded
from ..maps.framed import FramedMap
from ..maps.map import Map, MapPair
from ..maps.resampled import exact_where_suspect
from ..maps.sampled import Change, SampledMap, sampled
from ..maps.transform import Transform
from ..maps.warp import carry, warp
from ..report import Pictures, make_report, peak_memory_gb, thumbnails, write_html, write_report
from .itk import write_itk

FILES = {
    "transform": "transform.nephi", "forward": "forward.h5", "inverse": "inverse.h5", "warped": "warped.nii.gz",
    "log_jacobian": "log_jacobian.nii.gz", "report": "report.json", "page": "report.html",
}
"""What a registration of NIfTI images leaves in its folder, by role; see :func:`file_names`."""
ON_REQUEST = {"error_map": "error_map.nii.gz"}
"""What is written too where it is asked for, by role."""
_IMAGES = ("warped", "log_jacobian", "error_map")
THUMBNAILS = {"before": "before.png", "after": "after.png"}
"""Small overlays for the table of a cohort, where they are wanted."""

COUNTED = 1_000_000
"""Above so many voxels inside the moving mask the inverse map's volume changes are counted at evenly spaced ones."""

STEPS = 4096
"""The log-Jacobian is written in so many steps per unit: half the bytes, and far finer than it is known."""

UNMOVED = 0.02
"""Of the tolerance: what a stage moves less is read as it was."""

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
class Wanted:
    """Which files are written, and how the images are.

    Attributes:
        format: one of :data:`nephi.images.writing.FORMATS`; None is that of the fixed image's file, or NRRD where that
            cannot hold the place of the voxels exactly.
        kind: the type of the voxels of the warped image; None is that of the moving image if it is an integer, else
            float32.
        roles: of :data:`FILES` and :data:`ON_REQUEST`; without "log_jacobian", "report", "page" and "error_map" nothing
            is measured.
        thumbnails: whether :data:`THUMBNAILS` are written too, where something is measured.
        stems: role -> what stands before the ending of its file, where it is not the role's usual name.
    """

    format: Optional[str] = None
    kind: Optional[np.dtype] = None
    roles: tuple[str, ...] = tuple(FILES)
    thumbnails: bool = False
    stems: Mapping[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether anything that is written needs the measurements."""
        return bool({"log_jacobian", "report", "page", "error_map"} & set(self.roles))

    def names(self, format: str) -> dict[str, str]:
        """The files that are written, by role, with the images in one of the formats."""
        pictures = THUMBNAILS if self.thumbnails and self.measured else {}
        usual = {role: name for role, name in file_names(format, {**FILES, **ON_REQUEST}).items() if role in self.roles}
        return {role: name.replace(name.split(".")[0], self.stems.get(role, name.split(".")[0]), 1)
                for role, name in {**usual, **pictures}.items()}


def file_names(format: str, files: Mapping[str, str] = FILES) -> dict[str, str]:
    """What a registration leaves in its folder, by role, with the images in one of the formats."""
    return {role: f"{role}.{format}" if role in _IMAGES else name for role, name in files.items()}


@dataclass(frozen=True)
class SampledPair:
    """Both maps of a transform through splines, each over its own image; no inverse where it was not wanted."""

    forward: SampledMap
    inverse: Optional[SampledMap]

    @property
    def maps(self) -> MapPair:
        """The maps alone."""
        return MapPair(self.forward.map, self.inverse.map)


def sample_both(transform: Transform, pair: Pair, tolerance: float = TOLERANCE, spacing: Optional[float] = None,
                inverse: bool = True, kept: Optional[tuple[Tensor, Tensor]] = None,
                before: Optional[SampledPair] = None) -> SampledPair:
    """Read both maps of a transform; see :func:`nephi.maps.sampled.sampled`.

    Args:
        pair: its masks say where the maps are wanted.
        inverse: whether that one is.
        kept: points of the fixed and of the moving image at which the tolerance is kept in any case.
        before: what this gave, with the same options, for the transform without its last stage.
    """
    at = (None, None) if kept is None else kept
    masks = (pair.fixed_mask, pair.moving_mask)
    if before is not None and (before.inverse or not inverse):
        how = [{"change": change} for change in _changes(transform, before, tolerance)]
    else:
        quick = folded(transform, masks, tolerance)
        how = [{"quick": quick.forward}, {"quick": quick.inverse}]
    forward = sampled(transform.forward, masks[0], tolerance, spacing, kept=at[0], **how[0])
    if not inverse:
        return SampledPair(forward, None)
    return SampledPair(forward, sampled(transform.inverse, masks[1], tolerance, spacing, kept=at[1], **how[1]))


def _changes(transform: Transform, before: SampledPair, tolerance: float) -> tuple[Change, ...]:
    """What the last stage of a transform changed in its two maps."""
    grid, last = transform.fixed_grid, transform.stages[-1]
    still, frame = UNMOVED * tolerance * grid.voxel, Frame.of(grid)

    def moves(way: Map, points: Tensor) -> Tensor:
        return (FramedMap(way, frame, grid).map(points) - points).norm(dim=1) > still

    changes = [Change(before.forward, lambda points: moves(last.forward, points))]
    if before.inverse is not None:
        changes.append(Change(before.inverse, lambda points: moves(last.inverse, before.inverse.map.map(points))))
    return tuple(changes)


def write_outputs(transform: Transform, pair: Pair, run: Run, folder: Union[str, os.PathLike],
                  grid_spacing: Optional[float] = None, on_step: Optional[Announce] = None,
                  wanted: Optional[Wanted] = None, tolerance: float = TOLERANCE) -> dict:
    """Write all files into a folder that exists, the result first and what is measured of it after; see
    :func:`nephi.storage.staged_folder` for all or nothing.

    Args:
        pair: with both images.
        grid_spacing: mm between the nodes of the exported splines; None picks one.
        on_step: called with the name of each step before it begins; what it raises ends the writing.
        wanted: which files, and how; the fixed image's file is the one in ``run.sources``.
        tolerance: the error of the exported splines, voxels, where their spacing is picked.

    Returns:
        The report (docs/report-schema.md), its verdict None where nothing was measured.

    Raises:
        InputError: the folder cannot be written or is full.
    """
    folder, announce, pair = Path(folder), on_step or (lambda name: None), with_masks(pair)
    wanted = wanted or Wanted()
    names = wanted.names(wanted.format or own_format(run.sources.get("fixed"), pair.fixed.grid))
    if "transform" in names:
        announce("transform")
        transform.save(folder / names["transform"])
    if set(names) == {"transform"}:
        return unjudged(names, run)
    announce("sampling")
    both = sample_both(transform, pair, tolerance, grid_spacing)
    announce("warped image")
    after = warped_by(both.forward, transform, pair)
    if "warped" in names:
        write_image(after.stored(wanted.kind), folder / names["warped"])
    announce("ITK transforms")
    exports = [{"direction": way, **write_itk(getattr(both, way), folder / names[way]).to_dict()}
               for way in ("forward", "inverse") if way in names]
    if not wanted.measured:
        return unjudged(names, run)
    judged = judge(transform, pair, run, both.maps, exports, names, announce)
    announce("report")
    report, log_jacobian = judged.report, judged.log_jacobian
    del judged  # the determinants are as large as an image
    if "log_jacobian" in names:
        write_image(log_jacobian.to_sitk(), folder / names["log_jacobian"])
    if "error_map" in names:
        found = error_map(report["metrics"]["residual_mm"], pair.fixed.grid)
        write_image(found.to_sitk(), folder / names["error_map"])
    if "report" in names:
        write_report(report, folder / names["report"])
    _write_pictures(folder, names, report, log_jacobian, pair, after, both.forward, run.history)
    return report


def _write_pictures(folder: Path, names: Mapping[str, str], report: dict, log_jacobian: Image, pair: Pair,
                    warped: Image, forward: SampledMap, history: Sequence[dict]) -> None:
    """The page and the thumbnails, those of them that have names."""
    if not {"page", *THUMBNAILS} & set(names):
        return
    before = warp(pair.moving, None, pair.fixed.grid)
    pictures = Pictures(
        pair.fixed.grid, pair.fixed.values.cpu(), before.values, warped.values, log_jacobian.values,
        pair.fixed_mask, forward.map.parts[0].map, pair.fixed.name, pair.moving.name, _errors(report["metrics"]))
    if "page" in names:
        write_html(folder / names["page"], report, pictures, history)
    if set(THUMBNAILS) <= set(names):
        for role, picture in zip(THUMBNAILS, thumbnails(pictures)):
            (folder / names[role]).write_bytes(picture)


def unjudged(names: Mapping[str, str], run: Run) -> dict:
    """What stands in the place of a report where nothing was measured."""
    return {"files": dict(names), "verdict": None, "metrics": None, "runtime": _runtime(run)}


def warped_by(forward: SampledMap, transform: Transform, pair: Pair) -> Image:
    """The moving image on the fixed grid, by the splines where they are as good as the map: they are much faster."""
    return warp(pair.moving, forward.map if forward.faithful else transform.forward, pair.fixed.grid)


@dataclass(frozen=True)
class Judged:
    """What is known of a finished registration.

    Attributes:
        report: docs/report-schema.md.
        determinant: of the forward map on the fixed grid, (k, j, i).
        compared: see :func:`compared`.
        grid: the fixed image's.
    """

    report: dict
    determinant: Tensor
    compared: Tensor
    grid: Grid

    @property
    def log_jacobian(self) -> Image:
        """The logarithm of the determinant."""
        return Image(rounded_logarithm(self.determinant), self.grid, "log-Jacobian")


def judge(transform: Transform, pair: Pair, run: Run, maps: MapPair, exports: Sequence[dict], files: Mapping[str, str],
          announce: Announce) -> Judged:
    """Measure a finished registration quickly, mostly through splines.

    Args:
        pair: with both images.
        maps: both through splines, from :func:`sample_both`.
        exports: of each direction's file or splines, what the report says of them.
        files: role -> file name, for the report.
        announce: called with the name of each step before it begins.
    """
    pair = with_masks(pair)
    announce("Jacobian")
    determinants = determinants_on(transform, pair, maps.forward)
    region = compared(pair, maps.forward)
    counted = determinants.flatten() if pair.fixed_mask is None else inside(determinants, pair.fixed_mask)
    counts = counted, _inverse_determinants(transform, pair, maps)
    announce("metrics")
    measured = evaluate(transform, pair, False, Sampled(maps, counts))
    summaries = {"forward": summary(inside(determinants, region)), "inverse": summary(counts[1])}
    report = make_report(**measured, jacobian=summaries, transforms=list(exports), files=files, runtime=_runtime(run),
                         provenance={**transform.provenance, "sources": run.sources})
    return Judged(report, determinants, region, transform.fixed_grid)


def rounded_logarithm(determinant: Tensor) -> Tensor:
    """The logarithm of determinants, in steps of 1 / :data:`STEPS`."""
    return (log_determinant(determinant) * STEPS).round_().div_(STEPS)


def determinants_on(transform: Transform, pair: Pair, forward: Map) -> Tensor:
    """The forward map's determinants on the fixed grid, (k, j, i), from its splines; exact near folds in the mask."""
    grid = pair.fixed.grid
    return exact_where_suspect(determinant_image(forward, grid), transform.forward, grid, pair.fixed_mask)


def compared(pair: Pair, forward: Map) -> Tensor:
    """Where the images were compared, (k, j, i) bool on the fixed grid: inside the fixed mask, where the map leads into
    the moving mask; all of the fixed mask if that is nowhere.

    Args:
        pair: with its masks, see :func:`nephi.images.pair.with_masks`.
    """
    fixed, moving = pair.fixed.grid, pair.moving.grid
    mask = torch.ones(moving.shape, dtype=torch.bool) if pair.moving_mask is None else pair.moving_mask
    met = carry(mask.to(torch.uint8)[None], moving, forward, fixed, "nearest", 0.0)[0] > 0
    region = met if pair.fixed_mask is None else met & pair.fixed_mask
    if region.any():
        return region
    return torch.ones_like(region) if pair.fixed_mask is None else pair.fixed_mask


def _inverse_determinants(transform: Transform, pair: Pair, maps: MapPair) -> Tensor:
    """The inverse map's determinants at voxels inside the moving mask, (n,): all of them, or evenly spaced ones where
    they are more than :data:`COUNTED`. Nobody asks for an image of them."""
    grid, mask = pair.moving.grid, pair.moving_mask
    box, window = bounding_box(grid, mask)
    step = math.ceil(((grid.count if mask is None else int(mask.count_nonzero())) / COUNTED) ** (1 / grid.dim))
    every = window.strided(step)
    within = None if mask is None else mask[box][(slice(None, None, step),) * grid.dim]
    values = exact_where_suspect(determinant_image(maps.inverse, every), transform.inverse, every, within)
    return values.flatten() if within is None or not bool(within.any()) else inside(values, within)


def _errors(metrics: Mapping) -> Optional[tuple[Tensor, list[Optional[float]]]]:
    """The points of the residual estimate and the error at each, in voxels."""
    found = metrics["residual_mm"]
    if found is None:
        return None
    return torch.tensor(found["at"]), [d if d is None else d / metrics["voxel_mm"] for d in found["distances"]]


def _runtime(run: Run) -> dict:
    runtime = {"seconds": run.seconds, "peak_memory_gb": peak_memory_gb(), "device": run.device,
               "iterations": run.iterations, "phases": run.phases}
    if run.device.startswith("cuda"):
        runtime["device_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return runtime
