"""A finished registration as measurements and as files: what the command line and Slicer's worker both hand over."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Optional, Union

import SimpleITK as sitk
import torch
from torch import Tensor

from . import jacobian, metrics
from .affine import foreground
from .displacements import sampled_map
from .errors import InputError
from .images import Image, write_image
from .itk_files import export_itk
from .report import Pictures, make_report, peak_memory_gb, write_html, write_report
from .resample import warp
from .sampled import SampledMap

FILES = {
    "transform": "transform.nephi", "forward": "forward.h5", "inverse": "inverse.h5", "warped": "warped.nii.gz",
    "log_jacobian": "log_jacobian.nii.gz", "report": "report.json", "page": "report.html",
}
"""What a registration leaves in its folder, by role."""

CONSISTENCY_POINTS = 20_000
"""Random points of each image at which the inverse-consistency error is measured."""

Step = Callable[[str], None]


@dataclass(frozen=True)
class Pair:
    """Two images and all that can be used to judge a registration of them; what is None is not judged.

    Attributes:
        fixed, moving: the images.
        fixed_mask, moving_mask: (*shape) bool on the images' grids; where there is none, an image's foreground.
        landmarks: corresponding (fixed, moving) points, each (n, d) LPS mm.
        fixed_labels, moving_labels: label images, on any grids in the images' spaces.
        labels: the labels that count; None means those of the fixed label image.
    """

    fixed: Optional[Image] = None
    moving: Optional[Image] = None
    fixed_mask: Optional[Tensor] = None
    moving_mask: Optional[Tensor] = None
    landmarks: Optional[tuple[Tensor, Tensor]] = None
    fixed_labels: Optional[Image] = None
    moving_labels: Optional[Image] = None
    labels: Optional[Sequence[int]] = None

    def __post_init__(self) -> None:
        if (self.fixed_labels is None) != (self.moving_labels is None):
            given, missing = ("fixed", "moving") if self.moving_labels is None else ("moving", "fixed")
            raise InputError(f"There are {given} labels but no {missing} ones; give both or neither.")
        if self.labels is not None and self.fixed_labels is not None:
            absent = [label for label in self.labels if not (self.fixed_labels.values == label).any()]
            if absent:
                raise InputError(f"The {self.fixed_labels.name} has no label {', '.join(map(str, absent))}; "
                                 "choose labels that it has.")


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


def evaluate(transform, pair: Pair, determinants: Optional[dict[str, Tensor]] = None,
             warped: Optional[tuple[Image, Image]] = None, whole: bool = True,
             maps: Optional[dict[str, SampledMap]] = None) -> dict:
    """Measure a transform by all that the pair offers.

    Args:
        transform: a :class:`nephi.transform.Transform`.
        determinants: analytic Jacobian determinants at hand, direction -> (*shape) on that direction's grid.
        warped: the moving image on the fixed grid, without and with the transform, when at hand.
        whole: count folds at every voxel, outside the masks too; without it inside them.
        maps: direction -> the map through splines; without ``whole``, finite differences are taken of these, which
            takes a small part of the time.

    Returns:
        The arguments of :func:`nephi.report.make_report` that are measurements; None where the pair has nothing to
        measure with.
    """
    pair = with_masks(pair)
    fixed_points = metrics.random_points(transform.fixed_grid, CONSISTENCY_POINTS, pair.fixed_mask)
    moving_points = metrics.random_points(transform.moving_grid, CONSISTENCY_POINTS, pair.moving_mask)
    similarity = _similarity(transform, pair, warped)
    return {
        "tre": metrics.tre(transform, *pair.landmarks) if pair.landmarks is not None else None,
        **_labels(transform, pair),
        "folds": metrics.folds(transform, pair.fixed_mask, pair.moving_mask, whole, determinants, maps),
        "inverse_consistency": metrics.inverse_consistency(transform, fixed_points, moving_points),
        "similarity_before": similarity[0], "similarity_after": similarity[1],
    }


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
        maps: direction -> from :func:`nephi.displacements.sampled_map`.
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
    summaries = {side: jacobian.summary(det, masks[side]) for side, det in determinants.items()}
    measured = evaluate(transform, pair, determinants, (before, warped), whole=False, maps=maps)
    report = make_report(**measured, jacobian=summaries, transforms=list(exports), files=files, runtime=_runtime(run),
                         provenance={**transform.provenance, "sources": run.sources})
    logarithm = Image(jacobian.log_determinant(determinants["forward"]), transform.fixed_grid, "log-Jacobian")
    return Judged(report, before, warped, determinants["forward"], logarithm)


def with_masks(pair: Pair) -> Pair:
    """The pair with its images' foreground where there is no mask: what the registration itself looks at."""
    masks = {f"{role}_mask": foreground(image) for role, image in (("fixed", pair.fixed), ("moving", pair.moving))
             if image is not None and getattr(pair, f"{role}_mask") is None}
    return replace(pair, **masks)


@contextlib.contextmanager
def staged_folder(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """Fill a folder completely or not at all.

    Yields an empty hidden folder on the same file system. When the block ends well its files move into ``path``, which
    is made if it is not there and keeps its other files; otherwise they are removed and ``path`` is as it was.

    Raises:
        InputError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        hidden = tempfile.TemporaryDirectory(prefix=".nephi-", dir=_existing(path))
        staging = Path(hidden.name) / "outputs"
        staging.mkdir()
    except OSError as error:
        raise _unwritable(path, error) from error
    with hidden:
        yield staging
        try:
            _move_files(staging, path)
        except OSError as error:
            raise _unwritable(path, error) from error


def write_labels(labels: Image, path: Union[str, os.PathLike]) -> None:
    """Write a label image with the smallest integer type that holds its values."""
    low, high = int(labels.values.min()), int(labels.values.max())
    kinds = ((sitk.sitkUInt8, 0, 2**8), (sitk.sitkUInt16, 0, 2**16), (sitk.sitkInt16, -2**15, 2**15))
    kind = next((kind for kind, first, stop in kinds if first <= low and high < stop), sitk.sitkInt32)
    write_image(labels.to_sitk(kind), path)


def _warped(transform, pair: Pair, folder: Path, export: dict) -> Image:
    """The moving image on the fixed grid, by the exported field where that is as good as the map: it is much faster."""
    if not export["within_tolerance"]:
        return warp(pair.moving, transform, pair.fixed.grid)
    moving, grid = pair.moving.to_sitk(), pair.fixed.grid
    result = sitk.Resample(moving, grid.size, sitk.ReadTransform(str(folder / FILES["forward"])), sitk.sitkLinear,
                           grid.origin, grid.spacing, grid.direction, float(pair.moving.values.min()))
    return Image(torch.from_numpy(sitk.GetArrayFromImage(result)), grid, f"warped {pair.moving.name}")


def _labels(transform, pair: Pair) -> dict:
    if pair.fixed_labels is None:
        return {"dice": None, "surface_distance": None}
    grid = pair.fixed_labels.grid
    fixed = pair.fixed_labels.values
    before, after = (warp(pair.moving_labels, t, grid, mode="nearest").values for t in (None, transform))
    overlap = metrics.overlap(fixed, before, after, pair.labels)
    return {"dice": overlap, "surface_distance": metrics.surface_distance(fixed, after, grid, overlap["per_label"])}


def _similarity(transform, pair: Pair, warped: Optional[tuple[Image, Image]]) -> tuple[Optional[dict], Optional[dict]]:
    """Before and after, over the fixed grid."""
    if pair.fixed is None or pair.moving is None:
        return None, None
    images = warped or tuple(warp(pair.moving, t, pair.fixed.grid) for t in (None, transform))
    before, after = (metrics.similarity(pair.fixed.values.cpu(), image.values, pair.fixed_mask) for image in images)
    return before, after


def _runtime(run: Run) -> dict:
    runtime = {"seconds": run.seconds, "peak_memory_gb": peak_memory_gb(), "device": run.device,
               "iterations": run.iterations, "phases": run.phases}
    if run.device.startswith("cuda"):
        runtime["device_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return runtime


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = path.absolute()
    while not path.is_dir():
        if path.exists():
            raise InputError(f"{path} is a file, not a folder; choose another output folder.")
        path = path.parent
    return path


def _move_files(source: Path, target: Path) -> None:
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        return
    for file in source.iterdir():
        os.replace(file, target / file.name)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"Cannot write the output folder {path} ({error.strerror or error}); "
                      "choose one with write permission and free space.")
