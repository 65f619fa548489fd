"""Whether a registration can be trusted: one function that decides from evidence, each piece with its number.

The limits are set on half of the trials of benchmarks/quality.py and tried on the other half: docs/quality.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

LEVELS = ("good", "check", "failed")
"""From best to worst."""

HEADLINES = {"good": "Well aligned", "check": "Check before use", "failed": "Not aligned"}


@dataclass(frozen=True)
class Evidence:
    """One piece of evidence.

    Attributes:
        name: what was measured.
        value: the number with its unit, as text.
        level: what it says of the registration: "good", "check" or "failed".
        concern: a clause that says what is wrong; empty if good.
    """

    name: str
    value: str
    level: str = "good"
    concern: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the evidence says together.

    Attributes:
        level: the worst of the evidence: "good", "check" or "failed".
        headline: a few words.
        reason: one sentence, why.
        text: the key figures.
        concerns: what is wrong, the worst first; empty if good.
        evidence: all of it.
    """

    level: str
    headline: str
    reason: str
    text: str
    concerns: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


def verdict(metrics: Mapping, runtime: Mapping, transforms: Sequence[Mapping] = (),
            provenance: Optional[Mapping] = None) -> Verdict:
    """Judge a registration by the parts of its report (docs/report-schema.md)."""
    evidence = [*_residual(metrics), *_overlap(metrics), *_similarity(metrics), *_linear(provenance or {}, metrics),
                *_judges(metrics), *_map(metrics), *_exports(transforms, metrics["voxel_mm"])]
    worst = max((piece.level for piece in evidence), key=LEVELS.index)
    doubtful = sorted((piece for piece in evidence if piece.concern), key=lambda piece: -LEVELS.index(piece.level))
    concerns = tuple(piece.concern for piece in doubtful)
    reason = f"{_capital(concerns[0])}." if concerns else "No measurement speaks against it."
    text = ", ".join([*_alignment_figures(metrics), *_map_figures(metrics), _runtime_figure(runtime)])
    return Verdict(worst, HEADLINES[worst], reason, f"{_capital(text)}.", concerns, tuple(evidence))


def _graded(name: str, text: str, value: float, limits: tuple[float, float], concern: str) -> Evidence:
    """Evidence that is good up to the first limit and failed above the second."""
    level = LEVELS[sum(not value <= limit for limit in limits)]
    return Evidence(name, text, level, "" if level == "good" else concern)


MEDIAN_VOXELS = (2.5, 6.0)
ESTIMATE_VOXELS = (3.4, math.inf)
"""Voxels of the grid that was searched; a point that is not found counts as its reach."""
NOT_FOUND = (0.75, 0.85)
"""The share of distinctive points that have no counterpart near their place."""


def _residual(metrics: Mapping) -> Iterator[Evidence]:
    found = metrics.get("residual_mm")
    if found is None:
        yield Evidence("estimated error", "none", "check", "the images show too few distinctive points in common to "
                       "estimate the error that is left")
        return
    share = f"{100 * found['found']:.0f} %"
    yield _graded("distinctive points found again", share, 1 - found["found"], NOT_FOUND,
                  f"only {share} of the distinctive points have a counterpart near their place")
    text = f"{length(found['estimate'])} ({found['estimate'] / metrics['voxel_mm']:.1f} voxels)"
    searched = found["estimate"] / found.get("voxel", math.inf)  # which the reports of earlier versions do not say
    yield _graded("estimated mean error", text, searched, ESTIMATE_VOXELS,
                  f"the estimated mean error is {length(found['estimate'])}")
    if found["median"] is not None:
        voxels = found["median"] / metrics["voxel_mm"]
        yield _graded("displacement of the points found, median", f"{length(found['median'])} ({voxels:.1f} voxels)",
                      voxels, MEDIAN_VOXELS, f"half of the distinctive points lie more than {voxels:.1f} voxels from "
                      "their place")


CONFIRMED = 0.5
"""The estimated error, as a share of the reach of the search, up to which the images themselves confirm a result: most
points are found again, near their place. Doubts about the way there then say nothing of where it ended."""


def _confirmed(metrics: Mapping) -> bool:
    found = metrics.get("residual_mm")
    return found is not None and found["estimate"] <= CONFIRMED * found["reach"]


NOT_MET = (0.4, 0.8)
"""The share of one image that lands outside the other."""
NOT_MET_CONFIRMED = 0.7
"""In the place of the first: few points that agree are too few."""


def _overlap(metrics: Mapping) -> Iterator[Evidence]:
    met = max(metrics["overlap"].values())
    limits = (NOT_MET_CONFIRMED if _confirmed(metrics) else NOT_MET[0], NOT_MET[1])
    yield _graded("overlap", f"{100 * met:.0f} %", 1 - met, limits,
                  f"the images (or their masks) have only {100 * met:.0f} % in common")


AT_HOME_VOXELS = 0.1
"""Of images that are in place to this mean error nothing has to improve."""


def _at_home(metrics: Mapping) -> bool:
    found = metrics.get("residual_mm")
    return found is not None and found["estimate"] <= AT_HOME_VOXELS * metrics["voxel_mm"]


def _similarity(metrics: Mapping) -> Iterator[Evidence]:
    """Correlation can change sign between contrasts; mutual information cannot."""
    before, after = metrics["similarity"]["before"], metrics["similarity"]["after"]
    if before is None or after is None:
        return
    text = f"{before['nmi']:.3f} → {after['nmi']:.3f}"
    if after["nmi"] > before["nmi"] or _at_home(metrics):
        yield Evidence("shared information", text)
    else:
        yield Evidence("shared information", text, "check",
                       f"the similarity did not improve (shared information {text})")


SECOND_BEST = (0.8, 1.5)
"""The information shared by the best different linear map, as a share of that by the map itself."""


def _linear(provenance: Mapping, metrics: Mapping) -> Iterator[Evidence]:
    """How certain the linear alignment is, and whether the result stepped back to it: doubts about the way, which count
    unless the distinctive points confirm the end."""
    found, back, confirmed = provenance.get("linear"), provenance.get("stepped_back"), _confirmed(metrics)
    if found:
        share = found["second"] / found["shared"] if found["shared"] > 0 else float("inf")
        name, text = "second-best linear alignment", f"{100 * share:.0f} % of the information"
        yield Evidence(name, text) if confirmed else _graded(
            name, text, share, SECOND_BEST, "the linear alignment is unsure: a different one shares "
            + (f"{100 * share:.0f} % as much information" if share < 10 else "more information"))
    if back:
        what = {"linear": "the deformation did not make the images agree better, so the result is the linear alignment",
                "start": "nothing made the images agree better, so the result is the start"}[back]
        yield Evidence("stepped back to", {"linear": "the linear alignment", "start": "the start"}[back],
                       *(() if confirmed else ("check", what)))


LANDMARKS_VOXELS = (3.0, 6.0)
"""Of the grid that was searched: the mean landmark error, and that of the worst in twenty, from which on the user's own
landmarks speak against a result, however much it improved."""


def _judges(metrics: Mapping) -> Iterator[Evidence]:
    """What the user's own landmarks and labels say."""
    tre, dice = metrics.get("tre_mm"), metrics.get("dice")
    if tre:
        voxel = (metrics.get("residual_mm") or {}).get("voxel", metrics["voxel_mm"])
        text = f"{length(tre['before'])} → {length(tre['mean'])}, 95 % below {length(tre['p95'])}"
        concern = ""
        if tre["mean"] >= tre["before"]:
            concern = f"the landmark error did not improve ({text})"
        elif any(tre[key] > limit * voxel for key, limit in zip(("mean", "p95"), LANDMARKS_VOXELS)):
            concern = f"the landmarks are still {tre['mean'] / voxel:.1f} voxels apart ({text})"
        yield Evidence("landmark error", text, "check" if concern else "good", concern)
    if dice:
        text = f"{dice['before']:.3f} → {dice['mean']:.3f}"
        yield Evidence("label overlap", text) if dice["mean"] > dice["before"] else Evidence(
            "label overlap", text, "check", f"the label overlap did not improve (Dice {text})")


CONSISTENCY_VOXELS = (0.5, 2.0)
EXTREME_PERCENT = (15.0, 30.0)
FOLDS_PERCENT = (0.0, 5.0)


def _map(metrics: Mapping) -> Iterator[Evidence]:
    folds = _worst_folds(metrics)
    yield _graded("folds", f"{folds:.2g} %", folds, FOLDS_PERCENT,
                  f"the map folds in up to {folds:.2g} % of the voxels")
    extreme = metrics["volume_change"]["extreme_percent"]
    limits = EXTREME_PERCENT[1:] * 2 if _confirmed(metrics) else EXTREME_PERCENT
    yield _graded("volume changed more than threefold", f"{extreme:.2g} %", extreme, limits,
                  f"{extreme:.2g} % of the volume changes more than threefold")
    consistency = metrics["inverse_consistency_mm"]["mean"]
    voxels = consistency / metrics["voxel_mm"]
    yield _graded("inverse-consistency error", f"{length(consistency)} ({voxels:.2g} voxels)", voxels,
                  CONSISTENCY_VOXELS, f"the mean inverse-consistency error is {voxels:.2g} voxels")


EXPORT_VOXELS = 0.5


def _exports(transforms: Sequence[Mapping], voxel: float) -> Iterator[Evidence]:
    """Exported maps that are too far from the fields' own, or further than was asked for where that was more."""
    for export in transforms:
        error = export["error_mm"]["p999"]
        if error > max(EXPORT_VOXELS * voxel, export["tolerance_mm"]):
            yield Evidence(export["file"], length(error), "check", f"{export['file']} deviates from the map by more "
                           f"than {length(error)} at one of 1000 points")


def _worst_folds(metrics: Mapping) -> float:
    return max(value for side in metrics["folds_percent"].values() for value in side.values())


def _alignment_figures(metrics: Mapping) -> Iterator[str]:
    tre, dice = metrics.get("tre_mm"), metrics.get("dice")
    before, after = metrics["similarity"]["before"], metrics["similarity"]["after"]
    if tre:
        yield f"mean landmark error {length(tre['before'])} → {length(tre['mean'])}"
    if dice:
        yield f"mean Dice {dice['before']:.3f} → {dice['mean']:.3f}"
    if metrics.get("residual_mm"):
        yield f"estimated error {length(metrics['residual_mm']['estimate'])}"
    elif before and after:
        yield f"correlation {before['ncc']:.3f} → {after['ncc']:.3f}"


def _map_figures(metrics: Mapping) -> Iterator[str]:
    folds = _worst_folds(metrics)
    yield "no folds" if folds == 0 else f"{folds:.2g} % folded"
    yield f"mean inverse-consistency error {length(metrics['inverse_consistency_mm']['mean'])}"


def _runtime_figure(runtime: Mapping) -> str:
    return f"{runtime['seconds']:.0f} s on the {str(runtime['device']).upper()}"


def length(mm: float) -> str:
    """A length in the unit that shows it, two or three digits."""
    units = ((mm, "mm"), (1e3 * mm, "µm"), (1e6 * mm, "nm"))
    value, unit = next((pair for pair in units if pair[0] == 0 or abs(pair[0]) >= 0.01), units[-1])
    decimals = 2 + (0 < abs(value) < 0.1) - (abs(value) >= 10) - (abs(value) >= 100)
    return f"{value:.{decimals}f} {unit}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
