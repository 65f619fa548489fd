"""Whether a registration can be trusted, judged from its own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONSISTENCY_LIMIT_MM = 1.0
"""A larger mean inverse-consistency error needs checking."""


@dataclass(frozen=True)
class Verdict:
    """Whether the numbers are sound, and a sentence with the key figures.

    Attributes:
        level: "good", or "check" if a number needs checking.
        headline: a few words.
        text: the key figures.
        concerns: what needs checking; empty if good.
    """

    level: str
    headline: str
    text: str
    concerns: tuple[str, ...] = ()


def verdict(metrics: Mapping, runtime: Mapping, transforms: Sequence[Mapping] = ()) -> Verdict:
    """Judge the ``metrics``, ``runtime`` and exported ``transforms`` of a report (see docs/report-schema.md)."""
    concerns = _concerns(metrics, transforms)
    text = ", ".join([*_alignment_figures(metrics), *_map_figures(metrics), _runtime_figure(runtime)])
    headline = "Check before use" if concerns else "Better aligned, without folds"
    return Verdict("check" if concerns else "good", headline, text[:1].upper() + text[1:] + ".", tuple(concerns))


def _concerns(metrics: Mapping, transforms: Sequence[Mapping]) -> list[str]:
    found = []
    worst = max(value for side in metrics["folds_percent"].values() for value in side.values())
    if worst > 0:
        found.append(f"the map folds in up to {worst:.2g} % of the voxels")
    for name, before, after, better in _comparisons(metrics):
        if not (after > before if better == "higher" else after < before):
            found.append(f"{name} did not improve ({before:.3g} before, {after:.3g} after)")
    consistency = metrics["inverse_consistency_mm"]["mean"]
    if consistency > CONSISTENCY_LIMIT_MM:
        found.append(f"the mean inverse-consistency error is {consistency:.2f} mm")
    for export in transforms:
        if not export.get("within_tolerance", True):
            found.append(f"{export['file']} deviates from the map by up to {export['error_mm']['max']:.2g} mm")
    return found


def _comparisons(metrics: Mapping) -> list[tuple[str, float, float, str]]:
    """(name, before, after, which is better) of the landmarks and labels, or of the similarity if there are none."""
    rows = []
    if metrics.get("tre_mm"):
        rows.append(("the landmark error", metrics["tre_mm"]["before"], metrics["tre_mm"]["mean"], "lower"))
    if metrics.get("dice"):
        rows.append(("the label overlap", metrics["dice"]["before"], metrics["dice"]["mean"], "higher"))
    if not rows:
        # Correlation can change sign between contrasts; mutual information cannot.
        before, after = metrics["similarity"]["before"], metrics["similarity"]["after"]
        name = "nmi" if "nmi" in before and "nmi" in after else next(iter(after))
        rows.append(("the similarity", before[name], after[name], "higher"))
    return rows


def _alignment_figures(metrics: Mapping) -> list[str]:
    figures = []
    if metrics.get("tre_mm"):
        figures.append(f"mean landmark error {metrics['tre_mm']['before']:.2f} → {metrics['tre_mm']['mean']:.2f} mm")
    if metrics.get("dice"):
        figures.append(f"mean Dice {metrics['dice']['before']:.3f} → {metrics['dice']['mean']:.3f}")
    before, after = metrics["similarity"]["before"], metrics["similarity"]["after"]
    if not figures and "ncc" in before and "ncc" in after:
        figures.append(f"correlation {before['ncc']:.3f} → {after['ncc']:.3f}")
    return figures


def _map_figures(metrics: Mapping) -> list[str]:
    worst = max(value for side in metrics["folds_percent"].values() for value in side.values())
    return ["no folds" if worst == 0 else f"{worst:.2g} % folded",
            f"mean inverse-consistency error {metrics['inverse_consistency_mm']['mean']:.2f} mm"]


def _runtime_figure(runtime: Mapping) -> str:
    return f"{runtime['seconds']:.0f} s on the {str(runtime['device']).upper()}"
