"""The making of a template: rounds of registrations to the mean so far, each of which ends with a new mean.

A round registers every image to the template, takes the mean out of the maps, so that the template has the mean shape,
and carries the images onto it through what is left; their sharpened mean is the next template. Everything is known by
what it was made from: the same again goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np
import torch

from ..cohort.finished import finished
from ..cohort.one_pair import Register
from ..cohort.rows import Job
from ..cohort.run_cohort import State, run_in
from ..errors import Faults
from ..images.reading import read_image
from ..images.writing import write_image
from ..judge.labels import dice
from ..maps.transform import Transform
from .averages import load_array, majority_of, mean_and_variance, on_grid, sharpened
from .image_tasks import CARRIED, LABELS, REGISTERED, SHIFT, VALUES, align_image, carry_image, fit_image
from .mean_shape import bending_update, linear_update, moved_mm
from .round_record import RoundRecord, key_of, read_round
from .study import LINEAR, NEPHI, Study

if TYPE_CHECKING:
    from distributed import Client

TEMPLATE, UPDATE = "template.nrrd", "update.nephi"
"""What a round leaves beside its record: the sharpened mean, and what took the mean out of its maps."""
ANEW = 2
"""So many NePhi rounds register from the linear maps on, as the template becomes sharp. All later ones go on from the
maps there are: where images show nothing, a map found anew has a mean of its own, and the template would drift."""
_WORDS = {LINEAR: "linear round", NEPHI: "round"}


@dataclass(frozen=True)
class Step:
    """How far a template is.

    Attributes:
        name: what is being done with all images.
        count, known: how many they are, and of how many it was done before; only where that begins.
        state: of those that run, elsewhere.
    """

    name: str
    count: int = 0
    known: int = 0
    state: Optional[State] = None


Told = Generator[Step, None, dict[str, Mapping]]


def make_rounds(study: Study, client: Client) -> Generator[Step, None, list[RoundRecord]]:
    """Make all rounds that are not made; closing the generator cancels what runs.

    Yields:
        Step whenever an image is done, and about every second.

    Returns:
        The record of every round.

    Raises:
        InputError: images cannot be used or registered, or workers went away; what is done is kept.
    """
    records: list[RoundRecord] = []
    for number in range(len(study.plan) + 1):
        folder = study.round_folder(number)
        key = key_of(records[-1].key if records else "", _settings(study, number))
        record = read_round(folder, key) if (folder / TEMPLATE).is_file() else None
        last = number == len(study.plan)
        if record is None or (last and not _whole(study, number)):
            told = yield from _images(study, client, number)
            record = record or _finish_round(study, number, key, list(told.values()))
        records.append(record)
        if number:
            _tidy(study, number - 1)
    return records


def wave(client: Client, jobs: Sequence[Job], register: Register, name: str) -> Told:
    """Do one thing with all images; returns what each came to, by id.

    Raises:
        Faults: it could not be done with some of them.
    """
    ended = {job.id: found for job in jobs if (found := finished(job)) is not None}
    yield Step(name, len(jobs), len(ended))
    with closing(run_in(client, [job for job in jobs if job.id not in ended], register)) as states:
        for state in states:
            if state.ended is not None:
                ended[state.ended["id"]] = state.ended
            yield Step(name, state=state)
    failed = [f"{job.id}: {str(ended[job.id]['error']).rstrip('.')}" for job in jobs if "error" in ended[job.id]]
    if failed:
        raise Faults(f"The template cannot go on, in '{name}'", failed,
                     "mend or leave out what failed, and the same command goes on with what is done")
    return ended


def _settings(study: Study, number: int) -> dict:
    """What decides the result of a round beside that of the round before."""
    options = study.options.to_dict()
    if number == 0:
        return {"images": [(member.id, member.digest) for member in study.members],  # the names are those of folders
                "grid": study.grid.to_dict(), "centred": options["affine"] != "none"}
    return {"kind": study.plan[number - 1], "options": options}


def _whole(study: Study, number: int) -> bool:
    """Whether what the images have left in a round is still there."""
    return all((study.in_round(number, member) / name).is_file() for member in study.members
               for name in (CARRIED, VALUES))


def _images(study: Study, client: Client, number: int) -> Told:
    """What workers do in a round: register all images, then carry them."""
    options = {name: list(value) if isinstance(value, tuple) else value
               for name, value in study.options.to_dict().items()}
    folder, name = study.round_folder(number), "start"
    if number:
        kind, before = study.plan[number - 1], study.round_folder(number - 1) / TEMPLATE
        of_kind = number if kind == LINEAR else number - study.plan.index(NEPHI)
        name = f"{_WORDS[kind]} {of_kind} of {study.plan.count(kind)}"
        jobs = []
        for place, member in enumerate(study.members):
            seed = (study.options.seed + place) % 2**31  # of its own, so that random errors do not add up
            arguments = {"template": str(before), "image": member.image, "options": {**options, "seed": seed}}
            files = {"fixed": str(before), "moving": member.image}
            if kind == NEPHI:
                files["before"] = arguments["before"] = str(study.in_round(number - 1, member) / CARRIED)
                arguments["anew"] = of_kind <= ANEW
            jobs.append(study.job(member, study.in_round(number, member), files, arguments, "registered.json"))
        yield from wave(client, jobs, align_image if kind == LINEAR else fit_image, f"{name}: registering")
        _write_update(study, number)
    jobs = []
    for member in study.members:
        place = study.in_round(number, member)
        way = {"transform": str(place / REGISTERED), "update": str(folder / UPDATE)} if number else {}
        start = {"transform": "", "grid": study.grid.to_dict(), "centred": study.options.affine != "none"}
        arguments = {"image": member.image, "labels": member.labels, "tolerance": study.options.tolerance,
                     **(way or start)}
        jobs.append(study.job(member, place, {**member.files, **way}, arguments, "carried.json"))
    return (yield from wave(client, jobs, carry_image, f"{name}: averaging"))


def _write_update(study: Study, number: int) -> None:
    """Take the mean out of the maps of a round."""
    folders = [study.in_round(number, member) for member in study.members]
    if study.plan[number - 1] == LINEAR:
        update = linear_update([Transform.load(folder / REGISTERED).affine for folder in folders], study.grid)
    else:
        update = bending_update([folder / SHIFT for folder in folders], study.grid)
    update.save(study.round_folder(number) / UPDATE)


def _finish_round(study: Study, number: int, key: str, told: Sequence[Mapping]) -> RoundRecord:
    """Average what the images of a round have left.

    Args:
        told: by those that carried them.
    """
    folder = study.round_folder(number)
    low, high = (float(np.mean([one["numbers"][f"metrics.{end}"] for one in told])) for end in ("low", "high"))
    mean, variance = mean_and_variance(_files(study, number, VALUES), study.grid.shape)
    template = sharpened(on_grid(low + (high - low) * mean, study.grid, "template"))
    moved, change = None, None
    if number:
        moved = moved_mm(Transform.load(folder / UPDATE), template)
        old = read_image(study.round_folder(number - 1) / TEMPLATE).values
        change = 100 * float((template.values - old).square().mean().sqrt()) / (high - low)
    write_image(template.to_sitk(), folder / TEMPLATE)
    record = RoundRecord(key, "start" if number == 0 else study.plan[number - 1], moved, change,
                         _similarity(study, number, mean), 100 * float(np.sqrt(variance.mean())),
                         _dice(study, number), low, high)
    record.write(folder)
    return record


def _tidy(study: Study, number: int) -> None:
    """Remove what no later round reads: most of it, but for the maps."""
    for name in (VALUES, LABELS, SHIFT, REGISTERED):
        for path in _files(study, number, name):
            path.unlink(missing_ok=True)


def _files(study: Study, number: int, name: str) -> list[Path]:
    return [study.in_round(number, member) / name for member in study.members]


def _similarity(study: Study, number: int, mean: np.ndarray) -> float:
    """The mean correlation of the images with their mean, where they have a number."""
    found = []
    for path in _files(study, number, VALUES):
        values = np.asarray(load_array(path, study.grid.shape), np.float64)
        known = np.isfinite(values)
        if known.any() and np.ptp(values[known]) > 0 and np.ptp(mean[known]) > 0:
            found.append(np.corrcoef(values[known], mean[known])[0, 1])
    return float(np.mean(found)) if found else 0.0


def _dice(study: Study, number: int) -> Optional[float]:
    if not study.labelled:
        return None
    files = _files(study, number, LABELS)
    majority = torch.from_numpy(majority_of(files, study.grid.shape))
    overlaps = [dice(majority, torch.from_numpy(np.array(load_array(path, study.grid.shape)))) for path in files]
    return float(np.mean([np.mean(list(found.values())) for found in overlaps if found] or [0.0]))
