"""A template whose rounds are made, written out: its images, and each image's maps from and to it."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import torch

from .. import __version__
from ..cohort.cohort_csv import Result, result_of
from ..images.image import Image
from ..images.reading import read_image
from ..images.writing import own_format, write_image
from ..storage import LARGEST_TEXT, atomic_path, read_bytes
from .averages import majority_of, mean_and_variance, on_grid
from .image_tasks import CARRIED, LABELS, VALUES, finish_image
from .make_template import TEMPLATE, Step, wave
from .round_record import RoundRecord
from .study import Study

if TYPE_CHECKING:
    from distributed import Client

SCHEMA = {"name": "nephi-template", "version": 1}


@dataclass(frozen=True)
class Finished:
    """A template.

    Attributes:
        template, variance: images; the variance is of the images' intensities, in the unit of the template squared.
        labels: what most images have there, or None.
        files: role -> file name in the folder.
        results: what came of each image, in the order of the study's members.
    """

    template: Image
    variance: Image
    labels: Optional[Image]
    files: Mapping[str, str]
    results: Sequence[Result]


def finish(study: Study, client: Client, records: Sequence[RoundRecord]) -> Generator[Step, None, Finished]:
    """Write the template, then with workers what belongs to each image.

    Args:
        records: of all rounds.

    Returns:
        What was written.

    Raises:
        InputError: images cannot be used, the folder cannot be written, or workers went away; what is done is kept.
    """
    template, variance, labels = _averages(study, records[-1])
    ending = study.wanted.format or own_format(None, study.grid)
    files = {"template": f"template.{ending}", "variance": f"variance.{ending}"}
    write_image(template.to_sitk(), study.folder / files["template"])
    write_image(variance.to_sitk(), study.folder / files["variance"])
    if labels is not None:
        files["labels"] = f"labels.{ending}"
        write_image(labels.stored(), study.folder / files["labels"])
    path, ended = study.folder / files["template"], {}
    jobs = []
    for member in study.members:
        folder = study.in_round(len(study.plan), member)
        told = _numbers(folder / "registered.json")
        inputs = {"fixed": str(path), "transform": str(folder / CARRIED), **member.files}
        if labels is not None:
            inputs["fixed_labels"] = str(study.folder / files["labels"])
        arguments = {"template": str(path), "image": member.image, "labels": member.labels,
                     "template_labels": inputs.get("fixed_labels", ""), "transform": inputs["transform"],
                     "wanted": study.wanted, "grid_spacing": study.grid_spacing, "tolerance": study.options.tolerance,
                     "seconds": told.get("runtime.seconds", 0.0), "iterations": told.get("metrics.iterations", 0)}
        row = study.row(member, path)
        jobs.append((row, study.job(member, study.folder / row.folder, inputs, arguments, "pair.json")))
    ended = yield from wave(client, [job for _, job in jobs], finish_image, "writing each image's maps")
    results = [result_of(row, ended[job.id]) for row, job in jobs]
    return Finished(template, variance, labels, files, results)


def write_record(study: Study, records: Sequence[RoundRecord], finished: Finished) -> None:
    """``template.json``: what the template was made of, and how the rounds went.

    Raises:
        InputError: the folder cannot be written or is full.
    """
    found = {"schema": SCHEMA, "version": __version__, "files": finished.files, "grid": study.grid.to_dict(),
             "options": study.options.to_dict(),
             "rounds": [{name: value for name, value in asdict(record).items() if name != "key"} for record in records],
             "images": [{"id": member.id, "image": member.image, "labels": member.labels or None,
                         "folder": result.row.folder} for member, result in zip(study.members, finished.results)]}
    with atomic_path(study.folder / "template.json") as temporary:
        temporary.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _averages(study: Study, record: RoundRecord) -> tuple[Image, Image, Optional[Image]]:
    """The template, the variance and the labels of the last round."""
    last, shape = len(study.plan), study.grid.shape

    def left(name: str) -> list[Path]:
        return [study.in_round(last, member) / name for member in study.members]

    _, variance = mean_and_variance(left(VALUES), shape)
    template = read_image(study.round_folder(last) / TEMPLATE)
    labels = Image(torch.from_numpy(majority_of(left(LABELS), shape)), study.grid, "labels") if study.labelled else None
    return template, on_grid((record.high - record.low) ** 2 * variance, study.grid, "variance"), labels


def _numbers(path: Path) -> Mapping:
    """What a registration told; nothing where there was none."""
    try:
        return json.loads(read_bytes(path, LARGEST_TEXT))["numbers"]
    except (OSError, ValueError, KeyError):
        return {}
