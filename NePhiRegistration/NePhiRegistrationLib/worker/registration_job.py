"""One registration, driven from beginning to result: progress and previews on the way, the outputs at the end."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np
from torch import Tensor

from ..nephi.align.initial import Start
from ..nephi.align.registration import Progress, register
from ..nephi.files.displacements import Displacements, sample_displacements
from ..nephi.files.outputs import Judged, Run, judge, sample_both
from ..nephi.images.pair import Pair, with_masks
from ..nephi.images.pixel_types import as_type
from ..nephi.maps.neural import NePhi
from ..nephi.maps.transform import Transform
from ..nephi.maps.warp import warp
from ..nephi.options import Options
from ..nephi.report import plain
from .interruption import Cancelled
from .previews import Previews, Send
from .request_decoding import transform_bytes

PROGRESS_INTERVAL = 0.1  # s
OUTPUT_PHASES = ("forward transform", "inverse transform", "warped volume", "Jacobian", "metrics", "result")
HISTOGRAM_BINS = 60


@dataclass(frozen=True)
class Job:
    """What is to be registered.

    Attributes:
        pair: the images and what judges the result.
        options: all of them.
        start: where to begin: a matrix and stages, both perhaps of a transform to go on from.
        guides: points that pull the registration, (fixed, moving), or None.
        weights: name and SHA-256 of those that predicted the first of its stages, or None.
        grid_spacing: mm between the nodes of the resulting displacements; None picks it.
    """

    pair: Pair
    options: Options
    start: Start = field(default_factory=Start)
    guides: Optional[tuple[Tensor, Tensor]] = None
    weights: Optional[dict] = None
    grid_spacing: Optional[float] = None

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


def result(job: Job, outcome: Outcome, send: Send) -> tuple[dict, dict]:
    """The fields and arrays of the result."""
    announce = _output_progress(send)
    transform, pair = outcome.transform, with_masks(job.pair)
    announce("forward transform")
    both = sample_both(transform, pair, job.options.tolerance / 2)  # the displacements add their own error
    forward = sample_displacements(transform.forward, both.forward.map, job.grid_spacing, job.options.tolerance,
                                   pair.fixed_mask)
    announce("inverse transform")
    inverse = sample_displacements(transform.inverse, both.inverse.map, job.grid_spacing, job.options.tolerance,
                                   pair.moving_mask)
    announce("warped volume")
    warped = warp(pair.moving, forward.map, pair.fixed.grid)  # what the scene makes of the transform node
    exports = [{"file": f"{way} transform", "direction": way, **field.to_dict()}
               for way, field in (("forward", forward), ("inverse", inverse))]
    judged = judge(transform, pair, outcome.run, both.maps, warped, exports, {}, announce)
    announce("result")
    typed = as_type(warped.values.numpy(), warped.kind or np.dtype(np.float32))  # as the moving volume has its voxels
    return _result_fields(judged, forward, inverse, pair.fixed_mask, outcome.run), {
        "forward": forward.map.values.numpy(), "inverse": inverse.map.values.numpy(), "warped": typed,
        "log_jacobian": judged.log_jacobian.values.numpy(), "transform": transform_bytes(transform)}


def histogram(determinant: Tensor, mask: Optional[Tensor]) -> dict:
    """Determinants inside a mask: ``edges`` (n + 1, evenly spaced in the logarithm, 1 in the middle), ``counts`` (n;
    what lies beyond is in the outermost bins), and ``folds``, how many are at or below zero and not in the bins."""
    values = (determinant if mask is None else determinant[mask]).flatten().numpy()
    sound = np.log(values[values > 0])
    limit = max(0.1, float(np.quantile(np.abs(sound), 0.999))) if sound.size else 0.1
    edges = np.linspace(-limit, limit, HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(sound.clip(-limit, limit), edges)
    return {"edges": np.exp(edges).tolist(), "counts": counts.tolist(), "folds": int(values.size - sound.size)}


def _result_fields(judged: Judged, forward: Displacements, inverse: Displacements, mask: Optional[Tensor], run: Run
                   ) -> dict:
    return plain({
        "report": judged.report, "histogram": histogram(judged.determinant, mask),
        "history": [{name: record[name] for name in ("level", "iteration", "loss")} for record in run.history],
        "forward": forward.map.grid.to_dict(), "inverse": inverse.map.grid.to_dict()})


def _output_progress(send: Send) -> Callable[[str], None]:
    """Says which output is being made, as progress."""
    started = time.perf_counter()
    numbers = itertools.count()

    def announce(name: str) -> None:
        send("progress", {"phase": "outputs", "name": name, "step": next(numbers), "steps": len(OUTPUT_PHASES),
                          "terms": {}, "loss": None, "seconds": time.perf_counter() - started,
                          "iterations_per_second": 0.0, "seconds_left": None}, {})

    return announce
