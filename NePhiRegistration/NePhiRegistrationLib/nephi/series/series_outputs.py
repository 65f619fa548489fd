"""The folder of a tracked series: transforms, images over time, curves and the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..device import free_memory
from ..errors import InputError
from ..files.outputs import STEPS
from ..files.points import PointList
from ..geometry import Grid
from ..images.frames import Frames
from ..images.image import Image
from ..images.writing import write_image
from ..maps.determinant import determinant_image
from ..maps.resampled import exact_where_suspect
from ..maps.sampled import quick_forward
from ..maps.warp import warp
from ..report import peak_memory_gb, plain, write_report
from ..report.film import Film, animated_png
from ..report.planes import planes
from ..report.series_page import write_series_page
from ..storage import atomic_path
from .curves import Curves, Measured, Regions
from .series_file import write_series
from .series_verdict import series_verdict
from .tracking import Motion, closure, drift

FILES = {"series": "series.nephi", "warped": "warped.nii.gz", "jacobian": "jacobian.nii.gz", "mean": "mean.nii.gz",
         "ventilation": "ventilation.nii.gz", "table": "frames.csv", "points": "points.csv", "volumes": "volumes.csv",
         "film": "film.png", "report": "report.json", "page": "report.html"}
"""What a series leaves in its folder, by role, beside a frame_N.nephi for each frame; ventilation, points and volumes
where they are asked for."""
_IMAGES = ("warped", "jacobian", "mean", "ventilation")

SCHEMA = {"name": "nephi-series-report", "version": 1}


@dataclass(frozen=True)
class Asked:
    """What is to be made of a tracked series.

    Attributes:
        format: of the images, one of :data:`nephi.images.writing.FORMATS`.
        kind: the type of the voxels of the warped series; None is that of the frames if it is an integer, else float32.
        points: to be followed, LPS mm of the reference.
        labels: on the frame that is the plan's anchor, whole numbers; the volumes of its regions are followed.
        ventilation: whether the mask shows lungs and the voxels are HU.
        tolerance: the error of the splines through which images are carried, voxels.
    """

    format: str = "nii.gz"
    kind: Optional[np.dtype] = None
    points: Optional[PointList] = None
    labels: Optional[Tensor] = None
    ventilation: bool = False
    tolerance: float = 0.1


@dataclass
class _Made:
    """What is collected frame by frame."""

    film: Film
    measured: list[Measured] = field(default_factory=list)
    warped: list[sitk.Image] = field(default_factory=list)
    jacobian: list[sitk.Image] = field(default_factory=list)
    ventilation: list[sitk.Image] = field(default_factory=list)
    total: Optional[Tensor] = None


def write_series_outputs(motion: Motion, frames: Frames, folder: Path, asked: Asked, runtime: Mapping,
                         announce: Callable[[str], None]) -> dict:
    """Write all files of a tracked series into a folder that exists.

    Args:
        runtime: ``seconds``, ``device`` and ``phases`` of the tracking.
        announce: called with the name of each step before it begins.

    Returns:
        The report (docs/series.md).

    Raises:
        InputError: the folder cannot be written or is full, or the images do not fit into memory.
    """
    _check_room(motion.reference.image.grid, len(frames))
    names = file_names(asked.format)
    regions = None if asked.labels is None else Regions.drawn(
        asked.labels, motion.transforms[motion.plan.anchor], asked.tolerance)
    curves = Curves(motion.reference, regions, asked.ventilation)
    announce("transforms")
    write_series(motion.transforms, frames.names, folder / names["series"])
    for number, transform in enumerate(motion.transforms, start=1):
        transform.save(folder / frame_file(number, len(frames)))
    made = _made(motion, frames, curves, asked, announce)
    announce("images over time")
    _write_images(made, motion, frames, folder, names)
    rows = [{"frame": number, "name": name, **one.numbers} for number, (name, one) in enumerate(
        zip(frames.names, made.measured), start=1)]
    _write_table(rows, folder / names["table"])
    paths = None if asked.points is None else _paths(motion, asked.points, folder / names["points"])
    volumes = _volumes(made.measured)
    if volumes:
        _write_table([{"frame": n + 1, "label": label, "volume_ml": values[n]} for label, values in volumes.items()
                      for n in range(len(values))], folder / names["volumes"])
    missing = {"ventilation": not made.ventilation, "points": paths is None, "volumes": not volumes}
    report = _report(motion, curves, rows, volumes, runtime,
                     {role: name for role, name in names.items() if not missing.get(role)})
    announce("report")
    film = animated_png(made.film.pictures)
    with atomic_path(folder / names["film"]) as temporary:
        temporary.write_bytes(film)
    write_report(report, folder / names["report"])
    labels = [] if asked.points is None else _labels(asked.points)
    write_series_page(folder / names["page"], report, film, paths, labels)
    return report


def frame_file(number: int, count: int) -> str:
    """The name of the transform of a frame, by its number from 1."""
    return f"frame_{number:0{len(str(count))}d}.nephi"


def file_names(format: str) -> dict[str, str]:
    """What a series leaves in its folder, by role, with the images in one of the formats."""
    return {**FILES, **{role: f"{role}.{format}" for role in _IMAGES}}


def _check_room(grid: Grid, count: int) -> None:
    needed, room = 16.0 * grid.count * count, free_memory()
    if needed > room:
        raise InputError(f"The images over time take up to {needed / 1e9:.1f} GB and {room / 1e9:.1f} GB of memory are "
                         "free; crop the series, resample it, or take fewer frames.")


def _made(motion: Motion, frames: Frames, curves: Curves, asked: Asked, announce: Callable[[str], None]) -> _Made:
    reference = motion.reference
    grid = reference.image.grid
    made = _Made(Film(planes(grid, reference.mask), reference.image.values))
    for number, transform in enumerate(motion.transforms):
        announce(f"frame {number + 1} of {len(frames)}")
        frame = frames.read(number)
        forward = quick_forward(transform, reference.mask, asked.tolerance)
        warped = warp(frame, forward, grid)
        determinants = exact_where_suspect(determinant_image(forward, grid), transform.forward, grid, reference.mask)
        measured = curves.of(transform, frame, warped, determinants)
        made.measured.append(measured)
        made.film.add(frame.values, warped.values)
        made.warped.append(warped.stored(asked.kind))
        made.jacobian.append(_rounded(determinants, grid))
        if measured.ventilation is not None:
            made.ventilation.append(_rounded(measured.ventilation, grid))
        made.total = warped.values.clone() if made.total is None else made.total.add_(warped.values)
    return made


def _rounded(values: Tensor, grid: Grid) -> sitk.Image:
    """In steps far finer than they are known: half the bytes."""
    return Image((values * STEPS).round().div(STEPS), grid).to_sitk()


def _write_images(made: _Made, motion: Motion, frames: Frames, folder: Path, names: Mapping[str, str]) -> None:
    step, origin = frames.time
    for role in ("warped", "jacobian", "ventilation"):
        images = getattr(made, role)
        if images:
            write_image(sitk.JoinSeries(images, origin, step), folder / names[role])
    mean = Image(made.total / len(frames), motion.reference.image.grid, kind=frames.read(0).kind)
    write_image(mean.stored(), folder / names["mean"])


def _write_table(rows: Sequence[Mapping], path: Path) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
                         for row in rows)


def _paths(motion: Motion, points: PointList, path: Path) -> Tensor:
    """Where points are in each frame, (frames, n, d) LPS mm, also as a table."""
    paths = torch.stack([transform.forward.map(points.points).cpu() for transform in motion.transforms])
    labels = _labels(points)
    _write_table([{"frame": frame + 1, "label": label, **dict(zip("xyz", place))}
                  for frame, places in enumerate(paths.tolist()) for label, place in zip(labels, places)], path)
    return paths


def _labels(points: PointList) -> list[str]:
    return [label or str(number) for number, label in enumerate(points.labels, start=1)]


def _volumes(measured: Sequence[Measured]) -> dict[int, list[float]]:
    return {label: [one.volumes[label] for one in measured] for label in measured[0].volumes}


def _report(motion: Motion, curves: Curves, rows: Sequence[Mapping], volumes: Mapping[int, Sequence[float]],
            runtime: Mapping, files: Mapping[str, str]) -> dict:
    count = len(rows)
    listed = {**{f"frame {n}": frame_file(n, count) for n in range(1, count + 1)}, **files}
    return plain({"schema": SCHEMA, **judged(motion, curves, rows, volumes, runtime), "files": listed})


def judged(motion: Motion, curves: Curves, rows: Sequence[Mapping], volumes: Mapping[int, Sequence[float]],
           runtime: Mapping) -> dict:
    """What is known of a tracked series: its plan, its verdict, its metrics, how long it took, and where it comes from.

    Args:
        rows: the numbers of each frame, with ``frame`` and ``name``.
    """
    closes, drifts = (None if error is None else {"mean": float(error.mean()), "p95": float(error.quantile(0.95)),
                                                  "max": float(error.max())}
                      for error in (closure(motion, curves.points), drift(motion, curves.points)))
    metrics = {"voxel_mm": motion.reference.image.grid.voxel, "closure_mm": closes, "drift_mm": drifts,
               "frames": list(rows), "volumes_ml": volumes}
    verdict = asdict(series_verdict(rows, metrics, runtime))
    return {"plan": motion.plan.to_dict(), "verdict": verdict, "metrics": metrics,
            "runtime": {**runtime, "peak_memory_gb": peak_memory_gb()}, "provenance": motion.transforms[-1].provenance}
