"""A template that is to be made: its images, how they are registered, and where each thing lies in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

from ..cohort.peak_memory import AT_LEAST, PER_VOXEL
from ..cohort.rows import Job, Row, folder_of
from ..files.outputs import Wanted
from ..geometry import Grid
from ..options import Options
from .common_grid import common_grid
from .members import Member

LINEAR, NEPHI = "linear", "nephi"
"""The kinds of rounds."""


@dataclass(frozen=True)
class Study:
    """What makes a template, and where it goes.

    Attributes:
        folder: absolute.
        members: the images, in the order of :func:`nephi.template.members.members_of`.
        options: of every registration.
        linear_rounds, rounds: how often the images are aligned with the template, and then registered to it.
        spacing: mm between the template's voxels; None is the mean of the images'.
        threads: of each worker.
        wanted: which files are written of each image.
        grid_spacing: as :func:`nephi.files.outputs.write_outputs` has it.
    """

    folder: Path
    members: Sequence[Member]
    options: Options
    linear_rounds: int = 2
    rounds: int = 4
    spacing: Optional[float] = None
    threads: int = 1
    wanted: Wanted = field(default_factory=Wanted)
    grid_spacing: Optional[float] = None

    @cached_property
    def grid(self) -> Grid:
        """Of the template."""
        return common_grid([member.grid for member in self.members], self.spacing)

    @property
    def plan(self) -> list[str]:
        """The kind of each round after the start."""
        linear = self.linear_rounds if self.options.affine != "none" else 0
        return [LINEAR] * linear + [NEPHI] * self.rounds

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return bool(self.members[0].labels)

    def round_folder(self, number: int) -> Path:
        """Of a round; 0 is the start."""
        kind = "start" if number == 0 else self.plan[number - 1]
        return self.folder / "rounds" / f"{number:02d}-{kind}"

    def in_round(self, number: int, member: Member) -> Path:
        """The folder of an image in a round."""
        return self.round_folder(number) / folder_of(member.id)

    def row(self, member: Member, template: Path) -> Row:
        """An image and the template as a pair."""
        return Row(member.id, {"fixed": str(template), "moving": member.image}, folder=folder_of(member.id))

    def job(self, member: Member, folder: Path, files: Mapping[str, str], arguments: Mapping[str, Any], record: str
            ) -> Job:
        """What a worker is to do with an image, in a folder of its own.

        Args:
            files: that it reads; a change of one of them makes it be done again.
            arguments: of one of :mod:`nephi.template.image_tasks`, without ``output``.
            record: the name of the file that marks it as done.
        """
        settings = json.dumps({name: value for name, value in arguments.items() if name not in ("seconds", "wanted")},
                              sort_keys=True)
        if "wanted" in arguments:
            settings += repr(arguments["wanted"])
        peak = AT_LEAST + PER_VOXEL * (self.grid.count + member.grid.count)
        return Job(member.id, str(folder), {**arguments, "output": str(folder)}, files, settings, peak, self.threads,
                   record)
