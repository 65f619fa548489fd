"""Whether a tracked series can be trusted, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..judge.verdict import length

FOLDS = 0.1  # % of the voxels inside the mask
CLOSES = 1.0  # voxels that the mean of points may be off after a cycle
WORSE = 0.01  # of the correlation, by which a frame may lose against no map at all
_ERRORS = {"closure_mm": "the mean error of the cycle", "drift_mm": "the mean drift of its steps"}
NAMED = 5  # frames that a sentence names


@dataclass(frozen=True)
class SeriesVerdict:
    """``level`` "good" or "check"; a headline, its text, and what speaks against the result."""

    level: str
    headline: str
    text: str
    concerns: tuple[str, ...]


def series_verdict(rows: Sequence[Mapping], metrics: Mapping, runtime: Mapping) -> SeriesVerdict:
    """Judge a series.

    Args:
        rows: the numbers of each frame, as :class:`nephi.series.curves.Curves` measures them, with ``frame``.
        metrics: ``voxel_mm``; ``closure_mm`` and ``drift_mm``, each with a ``mean``, or None where there is none.
    """
    concerns = []
    worse = [row["frame"] for row in rows if row["ncc_after"] < row["ncc_before"] - WORSE]
    folding = [row["frame"] for row in rows if row["folds_percent"] > FOLDS]
    if worse:
        concerns.append(f"{_frames(worse)} no more like the reference than before")
    if folding:
        concerns.append(f"{_frames(folding)} with folds in more than {FOLDS:g} % of the voxels")
    told = {name: metrics[key]["mean"] for key, name in _ERRORS.items() if metrics[key] is not None}
    concerns += [f"{name} is {error / metrics['voxel_mm']:.1f} voxels" for name, error in told.items()
                 if error > CLOSES * metrics["voxel_mm"]]
    most = max(row["mean_mm"] for row in rows)
    text = (f"{len(rows)} frames, mean motion up to {length(most)}, correlation with the reference at least "
            f"{min(row['ncc_before'] for row in rows):.3f} → {min(row['ncc_after'] for row in rows):.3f}")
    text += "".join(f", {name} {length(error)}" for name, error in told.items())
    text += f", {runtime['seconds']:.0f} s on the {'CPU' if runtime['device'] == 'cpu' else 'GPU'}."
    return SeriesVerdict("check" if concerns else "good", "Check the result" if concerns else "Well aligned", text,
                         tuple(concerns))


def _frames(numbers: Sequence[int]) -> str:
    named = ", ".join(map(str, numbers[:NAMED]))
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"{'frames' if len(numbers) > 1 else 'frame'} {named}{more}"
