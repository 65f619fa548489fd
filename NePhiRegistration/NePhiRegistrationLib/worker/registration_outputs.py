"""What is made of a finished registration: first what is seen, then what is measured, and nothing that nobody wants."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import numpy as np
from nephi.files.itk import faded
from nephi.files.outputs import (
    Judged,
    SampledPair,
    compared,
    determinants_on,
    judge,
    sample_both,
    unjudged,
    warped_by,
)
from nephi.images.pair import Pair, with_masks
from nephi.images.pixel_types import as_type
from nephi.judge.doubts import doubtful_places
from nephi.maps.sampled import SampledMap
from nephi.maps.transform import Transform
from nephi.report import plain
from torch import Tensor

from .previews import Send
from .registration_job import Job, Outcome
from .request_decoding import transform_bytes

PHASES = ("transforms", "warped volume", "result", "Jacobian", "metrics", "numbers")
HISTOGRAM_BINS = 60

Parts = tuple[dict, dict]
"""The fields and arrays of a message."""


@dataclass(frozen=True)
class Shown:
    """A registration whose result has been sent and whose numbers have not.

    Attributes:
        pair: with its masks.
        both: the maps through splines, or None where nothing was wanted that needs them.
    """

    job: Job
    outcome: Outcome
    pair: Pair
    both: Optional[SampledPair]
    announce: Callable[[str], None]

    @property
    def exports(self) -> list[dict]:
        """What a report says of the splines."""
        made = {way: getattr(self.both, way, None) for way in ("forward", "inverse")}
        return [{"file": f"{way} transform", "direction": way, **one.to_dict()}
                for way, one in made.items() if one is not None]


def show(job: Job, outcome: Outcome, send: Send, before: Optional[SampledPair] = None) -> Shown:
    """Send what is seen of a result: the maps, the warped volume and the exact transform, as the message "shown".

    Args:
        before: the maps through splines, of the transform without its last stage.
    """
    announce, transform, pair = _announcer(send), outcome.transform, with_masks(job.pair)
    fields, arrays, both = {}, {"transform": transform_bytes(transform)}, None
    if job.wanted:
        announce("transforms")
        both = sample_both(transform, pair, job.options.tolerance, job.grid_spacing,
                           bool({"inverse", "table"} & set(job.wanted)), job.guides, before)
        fields, arrays = with_splines(both, arrays, job.wanted)
    if "warped" in job.wanted:
        announce("warped volume")
        warped = warped_by(both.forward, transform, pair)
        arrays["warped"] = as_type(warped.values.numpy(), warped.kind or np.dtype(np.float32))  # as the moving voxels
    announce("result")
    send("shown", {**fields, "provenance": plain(_provenance(transform))}, arrays)
    return Shown(job, outcome, pair, both, announce)


def numbers(shown: Shown) -> Parts:
    """The fields and arrays of the result: what is measured."""
    transform, pair, wanted = shown.outcome.transform, shown.pair, shown.job.wanted
    if "table" in wanted:
        judged = judge(transform, pair, shown.outcome.run, shown.both.maps, shown.exports, {}, shown.announce)
        shown.announce("numbers")
        fields, _ = no_numbers(shown)
        doubts = doubtful_places(shown.both.maps, transform.affine, pair.fixed_mask, transform.moving_grid,
                                 judged.report["metrics"]["residual_mm"])
        fields.update(report=judged.report, histogram=histogram(judged.determinant, judged.compared), doubts=doubts)
        return plain(fields), _jacobian(judged) if "logJacobian" in wanted else {}
    fields, arrays = no_numbers(shown)
    if "logJacobian" in wanted:
        shown.announce("Jacobian")
        forward = shown.both.forward.map
        determinants = determinants_on(transform, pair, forward)
        judged = Judged(fields["report"], determinants, compared(pair, forward), transform.fixed_grid)
        fields["histogram"], arrays = histogram(determinants, judged.compared), _jacobian(judged)
    return plain(fields), arrays


def no_numbers(shown: Shown) -> Parts:
    """The fields and arrays of the result where nothing was measured, or measuring was stopped."""
    report = {**unjudged({}, shown.outcome.run), "transforms": shown.exports,
              "provenance": _provenance(shown.outcome.transform)}
    history = [{name: record[name] for name in ("level", "iteration", "loss")}
               for record in shown.outcome.run.history]
    return plain({"report": report, "histogram": None, "history": history}), {}


def with_splines(both: SampledPair, arrays: dict, wanted: tuple[str, ...] = ("forward", "inverse")) -> Parts:
    """Both maps as fields and, beside other arrays, as arrays (docs/worker.md)."""
    fields, arrays = {}, dict(arrays)
    for way in ("forward", "inverse"):
        if way in wanted:
            fields[way], arrays[way] = _spline(getattr(both, way))
    return fields, arrays


def histogram(determinant: Tensor, mask: Optional[Tensor]) -> dict:
    """Determinants inside a mask: ``edges`` (n + 1, evenly spaced in the logarithm, 1 in the middle), ``counts`` (n;
    what lies beyond is in the outermost bins), and ``folds``, how many are at or below zero and not in the bins."""
    values = (determinant if mask is None else determinant[mask]).flatten().numpy()
    sound = np.log(values[values > 0])
    limit = max(0.1, float(np.quantile(np.abs(sound), 0.999))) if sound.size else 0.1
    edges = np.linspace(-limit, limit, HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(sound.clip(-limit, limit), edges)
    return {"edges": np.exp(edges).tolist(), "counts": counts.tolist(), "folds": int(values.size - sound.size)}


def _spline(made: SampledMap) -> tuple[dict, np.ndarray]:
    """A map through splines as its field and its array: x to linear(x + s(x)), s by its B-spline coefficients."""
    outward = faded(made.map.parts[0])  # programs differ in what they do beyond a spline
    lattice = outward.lattice
    nodes = lattice.window([-1] * lattice.dim, [n + 2 for n in lattice.size])
    return ({"geometry": nodes.to_dict(), "linear": made.map.linear.tolist()},
            outward.spline.coefficients.detach().float().numpy())


def _jacobian(judged: Judged) -> dict[str, np.ndarray]:
    return {"log_jacobian": judged.log_jacobian.values.numpy(), "compared": judged.compared.numpy()}


def _provenance(transform: Transform) -> dict:
    fixed = {**transform.provenance.get("fixed", {}), **transform.fixed_grid.to_dict()}
    return {**transform.provenance, "fixed": fixed}


def _announcer(send: Send) -> Callable[[str], None]:
    """Says which output is being made, as progress."""
    started, steps = time.perf_counter(), itertools.count()

    def announce(name: str) -> None:
        send("progress", {"phase": "outputs", "name": name, "step": next(steps), "steps": len(PHASES),
                          "terms": {}, "loss": None, "seconds": time.perf_counter() - started,
                          "iterations_per_second": 0.0, "seconds_left": None}, {})

    return announce
