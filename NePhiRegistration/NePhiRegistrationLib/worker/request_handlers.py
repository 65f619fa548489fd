"""What the worker can do: each request's answer, from its message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Optional

import numpy as np
import torch
from nephi import __version__
from nephi.align.pulling import pulled
from nephi.align.registration import Progress, run
from nephi.device import pick_device
from nephi.errors import DeviceMemoryError, InputError, NePhiError
from nephi.files.outputs import Run, SampledPair, rounded_logarithm, sample_both
from nephi.images.pair import Pair
from nephi.images.phantom import shapes_2d
from nephi.judge.evidence import evaluate
from nephi.maps.coarsest import TOLERANCE
from nephi.maps.determinant import determinant_image, log_determinant
from nephi.maps.map import Map
from nephi.maps.resampled import exact_where_suspect
from nephi.maps.transform import Transform
from nephi.options import Options
from nephi.report import make_metrics, plain
from torch import Tensor

from .interruption import Cancelled
from .messages import LONG, Message
from .previews import Previews, Send
from .registration_job import OUTPUTS, Job, Outcome, align, progress_fields
from .registration_outputs import Shown, no_numbers, numbers, show, with_splines
from .request_decoding import read_grid, read_initial, read_pair, read_points, read_transform
from .series_job import SeriesJob

Answer = tuple[str, dict, dict]


class GoneError(NePhiError):
    """What a request goes on from is not in this worker's memory."""

_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate", "bad_alloc",
                 "bad allocation")


class RequestHandlers:
    """Answers requests; remembers the last registration.

    Args:
        reply: sends a message about a task: task, kind, fields, arrays.
    """

    def __init__(self, reply: Callable[..., None]) -> None:
        self._reply = reply
        self._job: Optional[Job] = None
        self._transform: Optional[Transform] = None
        self._both: Optional[SampledPair] = None  # that transform through splines
        self._task: Optional[str] = None

    @staticmethod
    def versions() -> dict:
        """For the greeting."""
        return {"version": __version__, "torch": torch.__version__}

    @staticmethod
    def devices() -> list[str]:
        """Names of the option ``device`` that this machine has."""
        return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

    @staticmethod
    def warm_up() -> None:
        """Register two small pictures: libraries load parts of themselves at their first use, for seconds."""
        fixed, moving, *_ = shapes_2d(32)
        run(fixed, moving, Options(iterations=(1,), resolution=(8.0,), device="cpu"))

    def answer(self, request: Message, check: Callable[[], None]) -> Answer:
        """The kind, fields and arrays of the reply that ends the task.

        Args:
            check: raises if the task was cancelled.
        """
        handlers = {"register": self._register, "continue": self._continue, "series": self._series,
                    "evaluate": self._evaluate, "map_points": self._map_points, "jacobian": self._jacobian,
                    "maps": self._maps}
        if request.kind not in handlers:
            raise InputError(f"Unknown request {request.kind!r}; use one of {', '.join(handlers)}.")
        torch.set_grad_enabled(True)  # the last cancel may have come in the middle of leaving no_grad
        if request.kind in LONG:
            return handlers[request.kind](request, check)
        return handlers[request.kind](request)

    @staticmethod
    def explain(error: Exception) -> tuple[str, str]:
        """The kind of a failure and a sentence for the user."""
        if isinstance(error, (MemoryError, DeviceMemoryError, RuntimeError)) and _is_memory(error):
            sentence = str(error) if isinstance(error, DeviceMemoryError) else \
                "There is not enough memory for this; close other programs, or lower the resolution or the points."
            return "memory", sentence
        if isinstance(error, NePhiError):
            return "gone" if isinstance(error, GoneError) else "input", str(error)
        return "internal", f"The engine failed unexpectedly ({type(error).__name__}: {_first_line(error)}); the log " \
                           "has the details."

    # --------------------------------------------------------------------------------------- registration

    def _register(self, request: Message, check: Callable[[], None]) -> Answer:
        fields = request.fields
        options = Options.from_preset(fields.get("preset", "generic"), **fields.get("options", {}))
        pair = read_pair(request)
        for role in ("fixed", "moving"):
            if getattr(pair, role) is None:
                raise InputError(f"There is no {role} image; choose one.")
        device = pick_device(options.device)
        job = Job(pair, options, read_initial(request, pair.fixed.grid, device), read_points(request, "guide"), None,
                  _grid_spacing(request), _wanted(request))
        return self._run(request, job, check)

    def _continue(self, request: Message, check: Callable[[], None]) -> Answer:
        if self._job is None or self._transform is None or request.fields.get("of") != self._task:
            raise GoneError("That registration is no longer in memory and cannot be continued; register again.")
        iterations, guides = request.fields.get("iterations"), read_points(request, "guide")
        if not isinstance(iterations, int) or iterations < (guides is None):
            raise InputError(f"The number of iterations to go on for is {iterations!r}; give a whole number above 0.")
        if guides is not None:
            _check_inside(guides, self._job.pair)
        transform = self._transform if guides is None else pulled(self._transform, *guides)
        pair = replace(self._job.pair, landmarks=read_points(request, "landmarks") or self._job.pair.landmarks)
        job = replace(self._job, pair=pair, wanted=_wanted(request), guides=guides or self._job.guides)
        if iterations:
            return self._run(request, job.continued(transform, iterations), check)
        outcome = Outcome(transform, Run(0.0, transform.provenance["device"], 0))
        return self._finish(request, job, outcome, check, self._both,
                            lambda: _preview(transform, self._sender(request, check)))

    def _series(self, request: Message, check: Callable[[], None]) -> Answer:
        return ("result", *SeriesJob(request, self._sender(request, check)).run())

    def _run(self, request: Message, job: Job, check: Callable[[], None]) -> Answer:
        return self._finish(request, job, align(job, self._sender(request, check), check), check)

    def _finish(self, request: Message, job: Job, outcome: Outcome, check: Callable[[], None],
                before: Optional[SampledPair] = None, first: Callable[[], None] = lambda: None) -> Answer:
        shown, fields, arrays = _result(job, outcome, self._sender(request, check), before, first)
        self._job, self._transform, self._both = job, outcome.transform, shown.both
        self._task = request.fields["task"]
        return "result", fields, arrays

    def _sender(self, request: Message, check: Callable[[], None]) -> Send:
        def send(kind: str, fields: dict, arrays: dict) -> None:
            check()
            self._reply(request.fields["task"], kind, fields, arrays)

        return send

    # ------------------------------------------------------------------------------------ with a transform

    def _evaluate(self, request: Message) -> Answer:
        transform, pair = read_transform(request), read_pair(request)
        for image, grid in ((pair.fixed, transform.fixed_grid), (pair.moving, transform.moving_grid)):
            if image is not None and not image.grid.same_as(grid):
                raise InputError(f"The {image.name} has another geometry than the image that was registered; choose "
                                 "the images of the transform.")
        metrics = make_metrics(**evaluate(transform, pair, whole=False))
        return "metrics", {"metrics": plain(metrics)}, {}

    def _map_points(self, request: Message) -> Answer:
        points = torch.from_numpy(_array(request, "points").astype(np.float64))
        transform = read_transform(request)
        if points.dim() != 2 or points.shape[1] != transform.fixed_grid.dim:
            raise InputError(f"The points have shape {tuple(points.shape)}; give (n, {transform.fixed_grid.dim}).")
        if not points.isfinite().all():
            raise InputError("Some of the points are not finite; place them again or remove them.")
        mapped = _way(request, transform).map(points)
        return "points", {}, {"points": mapped.cpu().numpy()}

    def _jacobian(self, request: Message) -> Answer:
        grid = read_grid(request, "geometry")
        values = determinant_image(_way(request, read_transform(request)), grid)
        if request.fields.get("quantity", "log") == "log":
            values = log_determinant(values)
        return "values", {}, {"values": values.numpy()}

    def _maps(self, request: Message) -> Answer:
        transform = read_transform(request)
        both, grid = sample_both(transform, Pair(), TOLERANCE, _grid_spacing(request)), transform.fixed_grid
        fixed = {**transform.provenance.get("fixed", {}), **grid.to_dict()}
        fields, arrays = with_splines(both, {"transform": request.arrays["transform"]})
        if "logJacobian" in _wanted(request):
            determinants = exact_where_suspect(determinant_image(both.forward.map, grid), transform.forward, grid)
            arrays["log_jacobian"] = rounded_logarithm(determinants).numpy()
        return "values", {**fields, "provenance": {**transform.provenance, "fixed": fixed}}, arrays


def _check_inside(guides: tuple[Tensor, Tensor], pair: Pair) -> None:
    """Refuse landmarks that lie outside their image, as a registration does."""
    for role, points in zip(("fixed", "moving"), guides):
        outside = (~getattr(pair, role).grid.contains(points)).nonzero().flatten().tolist()
        if outside:
            raise InputError(f"{len(outside)} of {len(points)} {role} landmarks lie outside the {role} image, number "
                             f"{outside[0] + 1} first; correct or delete them.")


def _preview(transform: Transform, send: Send) -> None:
    """Show a map that has been pulled to landmarks: its splines take longer to make."""
    state = Progress("landmarks", 1, 1, transform)
    send("progress", progress_fields(state), {})
    Previews(send, transform.fixed_grid).show(state)


def _result(job: Job, outcome: Outcome, send: Send, before: Optional[SampledPair], first: Callable[[], None]
            ) -> tuple[Shown, dict, dict]:
    """Show a registration, then measure it; a cancel that keeps leaves out what is still to be measured.

    Args:
        before: see :func:`show`.
        first: done before, unless a cancel keeps the map.
    """
    shown, measure = None, numbers
    while True:
        try:
            if measure is numbers and shown is None:
                first()
            shown = shown or show(job, outcome, send, before)
            return (shown, *measure(shown))
        except Cancelled as cancelled:
            if not cancelled.keep:
                raise
            measure = no_numbers


def _array(request: Message, name: str) -> np.ndarray:
    if name not in request.arrays:
        raise InputError(f"The request {request.kind} needs the array {name!r}.")
    return request.arrays[name]


def _way(request: Message, transform: Transform) -> Map:
    direction = request.fields.get("direction", "forward")
    if direction not in ("forward", "inverse"):
        raise InputError(f"Unknown direction {direction!r}; use 'forward' (fixed to moving) or 'inverse'.")
    return getattr(transform, direction)


def _grid_spacing(request: Message) -> Optional[float]:
    value = request.fields.get("grid_spacing")
    if value is not None and not (isinstance(value, (int, float)) and value > 0):
        raise InputError(f"The grid spacing is {value!r}; give a spacing above 0 mm, or none.")
    return value


def _wanted(request: Message) -> tuple[str, ...]:
    wanted = request.fields.get("outputs", OUTPUTS)
    unknown = [name for name in wanted if name not in OUTPUTS]
    if unknown:
        raise InputError(f"Unknown output {unknown[0]!r}; use some of {', '.join(OUTPUTS)}.")
    return tuple(wanted)


def _is_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, (MemoryError, DeviceMemoryError)) or any(sign in text for sign in _MEMORY_SIGNS)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
