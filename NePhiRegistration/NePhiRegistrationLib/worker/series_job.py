"""All frames of a series aligned in one task: progress over all its registrations, then frame after frame what is seen
of it, then its numbers."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Optional

import numpy as np
import torch
from nephi.align.registration import Progress
from nephi.device import pick_device
from nephi.errors import InputError
from nephi.files.outputs import sample_both, warped_by
from nephi.files.points import check_landmark_pairs
from nephi.followed import followed
from nephi.images.frames import Frames, check_place
from nephi.images.image import Image
from nephi.images.masks import mask_on
from nephi.images.pair import Pair
from nephi.images.pixel_types import as_type
from nephi.maps.determinant import determinant_image
from nephi.maps.resampled import exact_where_suspect
from nephi.maps.transform import Transform
from nephi.options import Options
from nephi.report import plain
from nephi.series.curves import Curves, Measured
from nephi.series.series_outputs import judged
from nephi.series.steps import Steps
from nephi.series.tracking import Motion, Plan, registrations, track
from torch import Tensor

from .messages import Message
from .previews import Send
from .registration_job import PROGRESS_INTERVAL, progress_fields
from .registration_outputs import with_splines
from .request_decoding import read_grid, read_image

OUTPUTS = ("transforms", "warped", "points")
"""What of each frame can be asked for."""


class SeriesJob:
    """A request to align all frames of a series (docs/worker.md).

    Args:
        send: takes the kind, fields and arrays of a message, and raises if the task was cancelled.

    Raises:
        InputError: something in the request that cannot be used.
    """

    def __init__(self, request: Message, send: Send) -> None:
        fields = request.fields
        self._send, self._started, self._shown = send, time.perf_counter(), 0.0
        self._options = Options.from_preset(fields.get("preset", "generic"), **fields.get("options", {}))
        self._plan = Plan(fields.get("reference", 0), bool(fields.get("cycle", False)),
                          time_smoothness=fields.get("time_smoothness", 0.0))
        self._frames, self._mask = _frames(request), _mask(request)
        self._wanted = _wanted(fields)
        self._points = _points(request, len(self._frames))

    def run(self) -> tuple[dict, dict]:
        """The fields and arrays of the result; the frames have been sent before, each as the message "shown"."""
        motion = self._tracked()
        curves, measured = Curves(motion.reference), []
        start = None
        if self._points is not None:
            points, drawn_on = self._points
            start = motion.transforms[drawn_on].inverse.map(points)
        for number, transform in enumerate(motion.transforms):
            self._say("outputs", number, len(self._frames), True)
            measured.append(self._show(number, transform, motion, curves, start))
        rows = [{"frame": number, "name": name, **one.numbers}
                for number, (name, one) in enumerate(zip(self._frames.names, measured), start=1)]
        runtime = {"seconds": time.perf_counter() - self._started, "device": str(pick_device(self._options.device))}
        report = judged(motion, curves, rows, {}, runtime)
        fixed = {**report["provenance"].get("fixed", {}), **motion.transforms[0].fixed_grid.to_dict()}
        return plain({"report": {**report, "provenance": {**report["provenance"], "fixed": fixed}}}), {}

    def _tracked(self) -> Motion:
        work = track(self._frames, lambda number: self._mask if number == self._plan.anchor else None, self._plan,
                     Steps(None, self._options))
        total, done, before = registrations(self._plan, len(self._frames)), 0, ""

        def act(state: Progress) -> None:
            nonlocal done, before
            name, _comma, phase = state.phase.rpartition(", ")
            done, before = done + bool(before and name != before), name
            self._say(phase, done, total, phase == "done", progress_fields(state))

        return followed(work, act)

    def _say(self, phase: str, done: int, total: int, now: bool, fields: Optional[dict] = None) -> None:
        """Progress, no more often than a person reads."""
        passed = time.perf_counter() - self._started
        if now or passed - self._shown >= PROGRESS_INTERVAL:
            self._shown = passed
            left = passed / done * (total - done) if done and phase != "outputs" else None
            self._send("progress", {**(fields or {}), "phase": phase, "number": done + 1, "of": total,
                                    "seconds": passed, "seconds_left": left, "iterations_per_second": None}, {})

    def _show(self, number: int, transform: Transform, motion: Motion, curves: Curves, start: Optional[Tensor]
              ) -> Measured:
        """Send what is wanted of a frame; what is measured of it."""
        reference, frame = motion.reference, self._frames.read(number)
        pair = Pair(reference.image, frame, reference.mask)
        fields, arrays, warped, forward = {}, {}, frame, transform.forward
        if transform.stages:
            both = sample_both(transform, pair, self._options.tolerance, inverse=False)
            warped, forward = warped_by(both.forward, transform, pair), both.forward.map
            if "transforms" in self._wanted:
                fields, arrays = with_splines(both, arrays, ("forward",))
        grid = reference.image.grid
        determinants = exact_where_suspect(determinant_image(forward, grid), transform.forward, grid, reference.mask)
        if "warped" in self._wanted:
            arrays["warped"] = as_type(warped.values.numpy(), warped.kind or np.dtype(np.float32))
        if start is not None:
            arrays["points"] = transform.forward.map(start).cpu().numpy()
        self._send("shown", plain({**fields, "frame": number, "geometry": grid.to_dict()}), arrays)
        return curves.of(transform, frame, warped, determinants)


def _frames(request: Message) -> Frames:
    """The arrays ``frame_0``, ``frame_1``, ..., as a series.

    Raises:
        InputError: fewer than two, or frames that lie elsewhere than the first.
    """
    count = sum(name.startswith("frame_") for name in request.arrays)
    if count < 2:
        raise InputError(f"The series has {count} frame(s); give at least two.")
    first = read_image(request, "frame_0").grid

    def read(number: int) -> Image:
        image = replace(read_image(request, f"frame_{number}"), name=f"frame {number + 1}")
        check_place(image.name, image.grid, first)
        return image

    return Frames(tuple(str(number + 1) for number in range(count)), first, (1.0, 0.0), read)


def _mask(request: Message) -> Optional[Tensor]:
    """The array ``mask`` on the frame that all are aligned with, or None."""
    array = request.arrays.get("mask")
    if array is None:
        return None
    grid, place = read_grid(request, "frame_0"), read_image(request, "frame_0")
    if array.shape != grid.shape:
        raise InputError(f"The mask has an array of shape {array.shape} and the frames of {grid.shape}; both are "
                         "(k, j, i) and must agree.")
    return mask_on(Image(torch.from_numpy((array != 0).astype(np.int32)), grid, "mask"), place)


def _points(request: Message, count: int) -> Optional[tuple[Tensor, int]]:
    """The array ``points``, (n, d) LPS mm, and the number of the frame they are drawn on; or None."""
    array = request.arrays.get("points")
    if array is None:
        return None
    grid, frame = read_grid(request, "frame_0"), request.fields.get("points_frame", 0)
    if not isinstance(frame, int) or not 0 <= frame < count:
        raise InputError(f"The points are drawn on frame {frame!r}, and the series has {count}; choose one of its "
                         "frames.")
    if array.ndim != 2:
        raise InputError(f"The points have shape {array.shape}; give (n, {grid.dim}).")
    points = torch.from_numpy(array.astype(np.float64))
    check_landmark_pairs(points, points, grid, None, "The list of points")
    return points, frame


def _wanted(fields: dict) -> tuple[str, ...]:
    wanted = fields.get("outputs", OUTPUTS)
    unknown = [name for name in wanted if name not in OUTPUTS]
    if unknown:
        raise InputError(f"Unknown output {unknown[0]!r}; use some of {', '.join(OUTPUTS)}.")
    return tuple(wanted)
