"""One line on whether a registration can be trusted, from its own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

CONSISTENCY_LIMIT_MM = 1.0
"""A mean inverse-consistency error above this is worth a look."""


@dataclass(frozen=True)
class Verdict:
    """Whether the numbers are sound, and a sentence with the key ones.

    Attributes:
        level: "good", or "check" when a number asks for a look.
        headline: a few words.
        text: the key figures.
        concerns: what asks for a look, empty when good.
    """

    level: str
    headline: str
    text: str
    concerns: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"level": self.level, "headline": self.headline, "text": self.text, "concerns": list(self.concerns)}


def verdict(metrics: dict, runtime: dict, transforms: Optional[list] = None) -> Verdict:
    """Judge the ``metrics``, ``runtime`` and exported ``transforms`` of a report (see docs/report-schema.md)."""
    concerns = _concerns(metrics, transforms or [])
    text = ", ".join([*_alignment_figures(metrics), *_map_figures(metrics), _runtime_figure(runtime)])
    headline = "Worth a look before use" if concerns else "Closer after than before, and free of folds"
    return Verdict("check" if concerns else "good", headline, text[:1].upper() + text[1:] + ".", tuple(concerns))


def _concerns(metrics: dict, transforms: list) -> list[str]:
    found = []
    worst = max(value for side in metrics["folds_percent"].values() for value in side.values())
    if worst > 0:
        found.append(f"the map folds at up to {worst:.2g} % of the voxels")
    for name, before, after, better in _comparisons(metrics):
        if not (after > before if better == "higher" else after < before):
            found.append(f"{name} did not improve ({before:.3g} before, {after:.3g} after)")
    consistency = metrics["inverse_consistency_mm"]["mean"]
    if consistency > CONSISTENCY_LIMIT_MM:
        found.append(f"going there and back misses by {consistency:.2f} mm on average")
    for export in transforms:
        if not export.get("within_tolerance", True):
            found.append(f"{export['file']} reproduces the map only to {export['error_mm']['max']:.2g} mm")
    return found


def _comparisons(metrics: dict) -> list[tuple[str, float, float, str]]:
    """(name, before, after, which is better): the landmarks and labels if there are any, or else the similarity."""
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


def _alignment_figures(metrics: dict) -> list[str]:
    figures = []
    if metrics.get("tre_mm"):
        figures.append(f"mean landmark error {metrics['tre_mm']['before']:.2f} → {metrics['tre_mm']['mean']:.2f} mm")
    if metrics.get("dice"):
        figures.append(f"mean Dice {metrics['dice']['before']:.3f} → {metrics['dice']['mean']:.3f}")
    before, after = metrics["similarity"]["before"], metrics["similarity"]["after"]
    if not figures and "ncc" in before and "ncc" in after:
        figures.append(f"correlation {before['ncc']:.3f} → {after['ncc']:.3f}")
    return figures


def _map_figures(metrics: dict) -> list[str]:
    worst = max(value for side in metrics["folds_percent"].values() for value in side.values())
    return ["no folds" if worst == 0 else f"{worst:.2g} % folded",
            f"inverse consistent to {metrics['inverse_consistency_mm']['mean']:.2f} mm on average"]


def _runtime_figure(runtime: dict) -> str:
    return f"{runtime['seconds']:.0f} s on {runtime['device']}"
