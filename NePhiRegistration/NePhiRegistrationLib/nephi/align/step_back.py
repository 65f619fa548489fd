"""Do no harm: what the images do not bear out is left out of a result.

The optimisation makes its own similarity better whatever the images show. So another measure has the last word: at how
many distinctive points both images show the same, and how near their place (:mod:`nephi.judge.residual`).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Optional

import numpy as np

from ..judge.residual import ResidualSearch
from ..maps.transform import Stage, Transform
from .levels import AlignedPair

log = logging.getLogger(__name__)

CLEAR = 2.0  # standard errors that a change of the mean agreement has to exceed to count
CHANCE = 0.1  # mean agreement that unrelated images can reach
DONE = 0.98  # mean agreement with which nothing is left to do
HARM = 0.1  # of the mean agreement: by how much it has to fall at least where there is some


def harmless(pair: AlignedPair, transform: Transform, start: np.ndarray, stages: tuple[Stage, ...] = ()) -> Transform:
    """The transform, or without the deformation where the images do not bear it out, or the start where they do not
    bear out the linear alignment either.

    Args:
        pair: as it was registered.
        transform: the result, with the evidence for its linear alignment in ``provenance["linear"]``.
        start: (d + 1, d + 1) where the linear alignment started; ``stages``: what the deformation started from.

    Returns:
        With ``provenance["stepped_back"]``: "linear", "start" or None. Where there are too few distinctive points to
        tell, the transform as it is.
    """
    linear = replace(transform, stages=stages)
    search = ResidualSearch.between(pair.fixed, pair.moving, pair.fixed_mask)
    before, after = (None if search is None else _agreement(search, tried) for tried in (linear, transform))
    back: Optional[str] = None
    if before is not None and after is not None and not borne_out(before, after):
        transform, back = linear, "start" if stages else "linear"
        if not stages and _no_better_than(transform.provenance.get("linear")):
            transform, back = replace(linear, affine=start), "start"
    if back:
        log.warning("The %s does not make the images agree better, so the result is the %s.",
                    *{"linear": ("deformation", "linear alignment alone"),
                      "start": ("registration", "start as it was")}[back])
    return replace(transform, provenance={**transform.provenance, "stepped_back": back})


def _agreement(search: ResidualSearch, transform: Transform) -> Optional[np.ndarray]:
    """(n,) at the fixed image's distinctive points, the same ones for every transform."""
    found = search.of(transform.forward)
    return None if found is None else found.agreement.numpy()


def borne_out(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether the mean agreement over the same points bears a deformation out.

    Where nothing was left to do it has to rise, where there is hardly any it has to rise clearly, and elsewhere it must
    not fall clearly and by a tenth of itself: where most of an image stands still, as around a beating heart, most
    points are in their place before and after, and the mean can only tremble.
    """
    gain = after - before
    clear = CLEAR * gain.std() / np.sqrt(len(gain))
    if before.mean() >= DONE:
        return bool(gain.mean() > 0)
    return bool(gain.mean() > clear if after.mean() < CHANCE else gain.mean() > -max(clear, HARM * before.mean()))


def _no_better_than(evidence: Optional[dict]) -> bool:
    """Whether a linear alignment shares no more information than its start, on the small volumes that tell both."""
    return evidence is not None and evidence["shared"] <= evidence["start"]
