"""One registration, driven from beginning to the map that it finds: progress and previews on the way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Optional

from nephi.align.initial import Start
from nephi.align.registration import Progress, register
from nephi.files.outputs import Run
from nephi.images.pair import Pair
from nephi.maps.neural import NePhi
from nephi.maps.transform import Transform
from nephi.options import Options
from nephi.report import plain
from torch import Tensor

from .interruption import Cancelled
from .previews import Previews, Send

PROGRESS_INTERVAL = 0.1  # s
OUTPUTS = ("forward", "inverse", "warped", "logJacobian", "table")
"""What a result can be asked for."""


@dataclass(frozen=True)
class Job:
    """What is to be registered.

    Attributes:
        pair: the images and what judges the result.
        options: all of them.
        start: where to begin: a matrix and stages, both perhaps of a transform to go on from.
        guides: points that pull the registration, (fixed, moving), or None.
        weights: name and SHA-256 of those that predicted the first of its stages, or None.
        grid_spacing: mm between the nodes of the resulting splines; None picks it.
        wanted: names of :data:`OUTPUTS`; nothing else is made or measured.
    """

    pair: Pair
    options: Options
    start: Start = field(default_factory=Start)
    guides: Optional[tuple[Tensor, Tensor]] = None
    weights: Optional[dict] = None
    grid_spacing: Optional[float] = None
    wanted: tuple[str, ...] = OUTPUTS

    def continued(self, transform: Transform, iterations: int) -> Job:
        """The same pair, from a transform on, at the finest level of the options that made it."""
        found = transform.provenance.get("contrasts")
        options = self.options.for_images(found is not None and found["differ"], self.pair.fixed.grid.dim)
        options = options.changed(affine="none", resolution=options.resolution[-1:], iterations=(iterations,))
        start = Start(transform.affine, transform.stages, self.start.quality)
        return replace(self, options=options, start=start, weights=transform.provenance["weights"])


@dataclass(frozen=True)
class Outcome:
    """A finished registration: the transform, and how it went."""

    transform: Transform
    run: Run


def align(job: Job, send: Send, check: Callable[[], None]) -> Outcome:
    """Register; on a cancel that keeps, the map so far is the outcome.

    Args:
        send: takes the kind, fields and arrays of progress and previews.
        check: raises :class:`Cancelled` if that was asked for.
    """
    reporter = _Reporter(job, send)
    pair = job.pair
    steps = register(pair.fixed, pair.moving, job.options, pair.fixed_mask, pair.moving_mask, job.start.matrix,
                     job.guides, job.start.stages)
    try:
        with contextlib.closing(steps):
            for state in steps:
                reporter.report(state)
                check()
    except Cancelled as cancelled:
        if not cancelled.keep or reporter.state is None:
            raise
    return reporter.outcome()


class _Reporter:
    """Shows the states of a registration and remembers how it went."""

    def __init__(self, job: Job, send: Send) -> None:
        self._send = send
        self._previews = Previews(send, job.pair.fixed.grid)
        self._weights, self._begin = job.weights, job.start
        self._started = self._last = time.perf_counter()
        self._shown, self._phase = 0.0, ""
        self._phases: dict[str, float] = {}
        self.state: Optional[Progress] = None

    def report(self, state: Progress) -> None:
        """Show one state."""
        now = time.perf_counter()
        self._phases[state.phase] = self._phases.get(state.phase, 0.0) + now - self._last
        self._last, self.state = now, state
        if state.phase != self._phase or state.step == state.steps or now - self._shown >= PROGRESS_INTERVAL:
            self._phase, self._shown = state.phase, now
            self._send("progress", progress_fields(state), {})
        self._previews.show(state)

    def outcome(self) -> Outcome:
        """The last state as the result."""
        transform, history = self._begin.noted_in(self.state.transform), self.state.history
        for stage in transform.stages:  # that of an interrupted level is still being fitted
            if isinstance(stage, NePhi):
                stage.requires_grad_(False)
        if self._weights is not None:
            transform = replace(transform, provenance={**transform.provenance, "weights": self._weights})
        return Outcome(transform, Run(time.perf_counter() - self._started, transform.provenance["device"], len(history),
                                      history, self._phases))


def progress_fields(state: Progress) -> dict:
    """What a progress message says."""
    return plain({"phase": state.phase, "step": state.step, "steps": state.steps, "terms": state.terms,
                  "loss": sum(state.terms.values()) if state.terms else None, "seconds": state.seconds,
                  "iterations_per_second": state.iterations_per_second, "seconds_left": state.seconds_left})
