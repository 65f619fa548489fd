"""Whether a tracked series can be trusted, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

FOLDS = 0.1  # % of the voxels inside the mask
CLOSES = 1.0  # voxels that the mean of points may be off after a cycle
WORSE = 0.01  # of the correlation, by which a frame may lose against no map at all
NAMED = 5  # frames that a sentence names


@dataclass(frozen=True)
class SeriesVerdict:
    """``level`` "good" or "check"; a headline, its text, and what speaks against the result."""

    level: str
    headline: str
    text: str
    concerns: tuple[str, ...]


def series_verdict(rows: Sequence[Mapping], closure: Optional[Mapping], voxel: float, runtime: Mapping
                   ) -> SeriesVerdict:
    """Judge a series.

    Args:
        rows: the numbers of each frame, as :class:`nephi.series.curves.Curves` measures them, with ``frame``.
        closure: ``mean`` error of the cycle in mm, and of what; None where there is no cycle.
        voxel: mm.
    """
    concerns = []
    worse = [row["frame"] for row in rows if row["ncc_after"] < row["ncc_before"] - WORSE]
    folding = [row["frame"] for row in rows if row["folds_percent"] > FOLDS]
    if worse:
        concerns.append(f"{_frames(worse)} no more like the reference than before")
    if folding:
        concerns.append(f"{_frames(folding)} with folds in more than {FOLDS:g} % of the voxels")
    if closure is not None and closure["mean"] > CLOSES * voxel:
        concerns.append(f"the mean error of {closure['of']} is {closure['mean'] / voxel:.1f} voxels")
    most = max(row["mean_mm"] for row in rows)
    text = (f"{len(rows)} frames, mean motion up to {most:.1f} mm, correlation with the reference at least "
            f"{min(row['ncc_before'] for row in rows):.3f} → {min(row['ncc_after'] for row in rows):.3f}")
    if closure is not None:
        text += f", mean error of {closure['of']} {closure['mean']:.2f} mm"
    text += f", {runtime['seconds']:.0f} s on the {'CPU' if runtime['device'] == 'cpu' else 'GPU'}."
    return SeriesVerdict("check" if concerns else "good", "Check the result" if concerns else "Well aligned", text,
                         tuple(concerns))


def _frames(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:NAMED]))
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"{'frames' if len(numbers) > 1 else 'frame'} {named}{more}"
