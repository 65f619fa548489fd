"""``cohort.csv``: every number of every pair, one row a pair."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..storage import PathLike, atomic_path
from .rows import Row

STATUSES = ("failed", "not run", "done")
_HEADS = ("id", "status", "verdict", "reason", "error", "warnings", "folder", "fixed", "moving")


@dataclass(frozen=True)
class Result:
    """One pair and what came of it.

    Attributes:
        row: as it was given.
        status: "done", "failed" if it could not be registered, or "not run".
        verdict: "good", "check" or "failed", or "" if nothing was measured.
        reason: of the verdict, one sentence.
        error: why it could not be registered, one sentence.
        warnings: sentences.
        files: role -> file name in its folder.
        numbers: dotted name -> number or text.
    """

    row: Row
    status: str = "not run"
    verdict: str = ""
    reason: str = ""
    error: str = ""
    warnings: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)


def result_of(row: Row, ended: Optional[Mapping]) -> Result:
    """What came of a row, from what its worker told (see :func:`nephi.cohort.one_pair.run_pair`)."""
    if ended is None:
        return Result(row)
    if "error" in ended:
        return Result(row, "failed", error=ended["error"])
    judged = ended["verdict"] or {"level": "", "reason": ""}
    return Result(row, "done", judged["level"], judged["reason"], warnings=ended["warnings"], files=ended["files"],
                  numbers=ended["numbers"])


def write_cohort_csv(path: PathLike, results: Sequence[Result]) -> None:
    """Write the table, completely or not at all; its numbers are named as in report.json.

    Raises:
        InputError: the folder cannot be written or is full.
    """
    names = list(dict.fromkeys(name for result in results for name in result.numbers))
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_HEADS, *names])
        for result in results:
            row = result.row
            writer.writerow([
                row.id, result.status, result.verdict, result.reason, result.error, " ".join(result.warnings),
                row.folder, row.cells["fixed"], row.cells["moving"],
                *(result.numbers.get(name, "") for name in names)])
