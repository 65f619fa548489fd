"""A series tracked: the maps of one space to all of its frames, each registration going on from its neighbour's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Optional, Union

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import random_points
from ..images.frames import Frames
from ..images.image import Image
from ..images.masks import region
from ..maps.map import Composition, Map
from ..maps.sampled import quick_forward
from ..maps.transform import Transform
from ..maps.warp import carry, warp
from .chained import centred, chained_all, closed, identity
from .steps import Seen, Steps, Work

MEAN, PREVIOUS = "mean", "previous"
GUIDES = 1000  # points at which a path is held smooth in time


@dataclass(frozen=True)
class Plan:
    """How a series is tracked.

    Attributes:
        reference: the number from 0 of the frame that all are aligned with; "mean" for the mean of all frames,
            "previous" to align each frame with the one before, the first one being what the composed maps start from.
        cycle: the last frame is followed by the first, as in a breath or a heart beat.
        rounds: how often the mean is made again from what is aligned with it.
        time_smoothness: how strongly a path is drawn to the middle between its neighbours; 0 is not at all.

    Raises:
        InputError: a value outside its limits.
    """

    reference: Union[int, str] = 0
    cycle: bool = False
    rounds: int = 2
    time_smoothness: float = 0.0

    @property
    def anchor(self) -> int:
        """The number of the frame on which points, regions and a single mask are drawn."""
        return self.reference if isinstance(self.reference, int) else 0

    def to_dict(self) -> dict:
        """As JSON; the number of a frame counts from 1."""
        reference = self.reference + 1 if isinstance(self.reference, int) else self.reference
        rounds = self.rounds if reference == MEAN else None
        return {"reference": reference, "cycle": self.cycle, "rounds": rounds, "time_smoothness": self.time_smoothness}

    def __post_init__(self) -> None:
        if not isinstance(self.reference, int) and self.reference not in (MEAN, PREVIOUS):
            raise InputError(f"The reference {self.reference!r} is no number of a frame, {MEAN} or {PREVIOUS}; give "
                             "one of these.")
        if not 0 <= self.time_smoothness <= 1e6:
            raise InputError(f"The smoothness in time {self.time_smoothness:g} is not from 0 to 1e6; give a weight.")
        if not 1 <= self.rounds <= 20:
            raise InputError(f"{self.rounds} rounds were asked for; give 1 to 20.")
        if self.time_smoothness and self.reference == PREVIOUS:
            raise InputError("Smoothness in time needs one reference for all frames; choose a frame or the mean.")


@dataclass(frozen=True)
class Motion:
    """Where the points of one space, the reference, are in each frame.

    Attributes:
        plan: how it was tracked.
        reference: the image of that space, with its mask.
        transforms: to each frame.
        around: maps that lead once around a cycle and back to the first frame; None where there is no cycle.
        steps: where each frame of a cycle was aligned with the one before: those registrations, which lead around it
            too, with their drift; None elsewhere.
        direct: where each frame was aligned with the one before: the last frame aligned with the first directly,
            going on from the composed map; None where there is none.
    """

    plan: Plan
    reference: Seen
    transforms: tuple[Transform, ...]
    around: Optional[tuple[Map, ...]] = None
    steps: Optional[tuple[Map, ...]] = None
    direct: Optional[Transform] = None


@dataclass(frozen=True)
class Source:
    """The frames and their masks, read when they are asked for."""

    frames: Frames
    masks: Callable[[int], Optional[Tensor]]

    def at(self, number: int) -> Seen:
        return Seen(self.frames.read(number), self.masks(number))


def track(frames: Frames, masks: Callable[[int], Optional[Tensor]], plan: Plan, steps: Steps) -> Work[Motion]:
    """Track a series.

    Args:
        masks: of a frame by its number from 0, (*shape) bool; None where it has none.
        steps: how pairs of frames are registered, and where the results are kept.

    Raises:
        InputError: the reference is no frame, or frames that cannot be registered.
    """
    source = Source(frames, masks)
    if plan.reference == PREVIOUS:
        return (yield from _each_to_the_one_before(source, plan, steps))
    middle = 0 if plan.reference == MEAN else plan.reference
    if not 0 <= middle < len(frames):
        raise InputError(f"There is no frame {middle + 1} to be the reference; the series has {len(frames)} frames.")
    fixed = source.at(middle)
    transforms = yield from _to_one(source, fixed, middle, plan, steps)
    if plan.reference == MEAN:
        fixed, transforms = yield from _to_the_mean(source, transforms, plan, steps)
    if plan.time_smoothness:
        transforms = yield from _smooth_in_time(source, fixed, transforms, plan, steps)
    return Motion(plan, fixed, transforms, _around(transforms) if plan.cycle else None)


def registrations(plan: Plan, count: int) -> int:
    """How many registrations a series of so many frames takes, at most."""
    if plan.reference == PREVIOUS:
        return count
    return count - 1 + count * (plan.rounds if plan.reference == MEAN else 0) + count * bool(plan.time_smoothness)


def _named(frames: Frames, number: int, what: str = "") -> str:
    return f"frame {number + 1} of {len(frames)}{what}"


def _outwards(count: int, middle: int, cycle: bool) -> Iterator[tuple[int, Optional[int]]]:
    """Each frame but the middle one, and the neighbour that it follows; the first of a row follows none, the first of
    the other row the first of the one."""
    if cycle:
        row = [(middle + n) % count for n in range(1, count)]
        yield from zip(row, [None, *row])
        return
    up, down = range(middle + 1, count), range(middle - 1, -1, -1)
    yield from zip(up, [None, *up])
    yield from zip(down, [up[0] if up else None, *down])


def _to_one(source: Source, fixed: Seen, middle: int, plan: Plan, steps: Steps) -> Work[tuple[Transform, ...]]:
    found: dict[int, Transform] = {middle: identity(fixed.image.grid)}
    for number, neighbour in _outwards(len(source.frames), middle, plan.cycle):
        before = None if neighbour is None else found[neighbour]
        found[number] = yield from steps.between(fixed, source.at(number), _named(source.frames, number), before)
    return tuple(found[number] for number in sorted(found))


def _each_to_the_one_before(source: Source, plan: Plan, steps: Steps) -> Work[Motion]:
    """Also the last frame, to which the first is the next, or, without a cycle, to which it is aligned directly."""
    found: list[Transform] = []
    first = fixed = source.at(0)
    count = len(source.frames)
    for number in range(1, count + plan.cycle):
        moving = source.at(number % count)
        found.append((yield from steps.between(fixed, moving, _named(source.frames, number % count),
                                               found[-1] if found else None)))
        fixed = _masked_as(fixed, moving, found[-1])
    transforms = chained_all(found)
    if plan.cycle:
        *transforms, again = closed(transforms, region(first.image, first.mask))
        return Motion(plan, first, tuple(transforms), (again.forward,), tuple(step.forward for step in found))
    direct = yield from steps.onto(first, fixed, "drift", transforms[-1])
    return Motion(plan, first, transforms, direct=direct)


def _masked_as(before: Seen, frame: Seen, transform: Transform) -> Seen:
    """A frame that has no mask with that of the frame before it, carried along."""
    if frame.mask is not None or before.mask is None:
        return frame
    mask = warp(replace(before.image, values=before.mask.int()), transform.inverse, frame.image.grid, "nearest")
    return replace(frame, mask=mask.values > 0)


def _to_the_mean(source: Source, transforms: tuple[Transform, ...], plan: Plan, steps: Steps
                 ) -> Work[tuple[Seen, tuple[Transform, ...]]]:
    """The mean of all frames, in shape and in intensity, and the maps from there: made from frames aligned with one of
    them, then again from frames aligned with the mean before."""
    transforms = centred(transforms)
    for turn in range(1, plan.rounds + 1):
        fixed = mean_of(source, transforms, steps.options.tolerance)
        found = []
        for number, start in enumerate(transforms):
            name = _named(source.frames, number, f" to mean {turn}")
            found.append((yield from steps.onto(fixed, source.at(number), name, start)))
        transforms = centred(found)
    return mean_of(source, transforms, steps.options.tolerance), transforms


def mean_of(source: Source, transforms: Sequence[Transform], tolerance: float) -> Seen:
    """The mean of all frames carried by their maps, where a frame has no voxels of the others; what most of the masks
    that there are hold is its mask."""
    grid = transforms[0].fixed_grid
    total, counted, votes = (torch.zeros(grid.shape) for _ in range(3))
    masks = 0
    for number, transform in enumerate(transforms):
        frame, forward = source.at(number), quick_forward(transform, None, tolerance)
        image = frame.image
        values = image.values if image.known is None else image.values.where(image.known, math.nan)
        values = carry(values[None].float(), image.grid, forward, grid, "linear", math.nan)[0]
        there = values.isfinite()
        total += values.where(there, 0)
        counted += there
        if frame.mask is not None:
            masks += 1
            votes += warp(replace(image, values=frame.mask.int()), forward, grid, "nearest").values
    known = counted > 0
    values = total / counted.clamp_min(1)
    mean = Image(values.where(known, values[known].min()), grid, "mean of all frames",
                 known=None if bool(known.all()) else known)
    return Seen(mean, votes > masks / 2 if masks else None)


def _smooth_in_time(source: Source, fixed: Seen, transforms: tuple[Transform, ...], plan: Plan, steps: Steps
                    ) -> Work[tuple[Transform, ...]]:
    """Each map fitted again, some of its points drawn to the middle between where they are in the frames around."""
    points = random_points(fixed.image.grid, GUIDES, fixed.mask)
    paths = [transform.forward.map(points).cpu() for transform in transforms]
    guided = replace(steps, options=replace(steps.options, landmark_pull=plan.time_smoothness))
    count, smooth = len(transforms), list(transforms)
    for number in range(count):
        if not transforms[number].stages or (not plan.cycle and number in (0, count - 1)):
            continue  # the reference itself; the ends of what is no cycle
        around = (number - 1) % count, (number + 1) % count
        middle = (paths[around[0]] + paths[around[1]]) / 2
        smooth[number] = yield from guided.between(fixed, source.at(number), _named(source.frames, number, " in time"),
                                                   transforms[number], (points, middle))
    return tuple(smooth)


def _around(transforms: Sequence[Transform]) -> tuple[Map, ...]:
    """The maps of each frame to the next, over the reference."""
    return tuple(Composition([here.inverse, there.forward], here.moving_grid)
                 for here, there in zip(transforms, (*transforms[1:], transforms[0])))


def closure(motion: Motion, points: Tensor) -> Optional[Tensor]:
    """How far points end from where they began when the maps take them once around a cycle, frame by frame.

    Args:
        points: (n, d) LPS mm of the reference.

    Returns:
        (n,) mm; None where there is no cycle.
    """
    return None if motion.around is None else _missed(motion, motion.around, points)


def drift(motion: Motion, points: Tensor) -> Optional[Tensor]:
    """How far the registrations of each frame with the one before lead points astray: once around a cycle, before that
    was taken out of the maps, or, without a cycle, how far the composed map is from the direct one.

    Args:
        points: (n, d) LPS mm of the reference.

    Returns:
        (n,) mm; None where all frames were aligned with one reference.
    """
    if motion.direct is not None:
        return (motion.direct.forward.map(points) - motion.transforms[-1].forward.map(points)).norm(dim=1)
    return None if motion.steps is None else _missed(motion, motion.steps, points)


def _missed(motion: Motion, around: Sequence[Map], points: Tensor) -> Tensor:
    begin = motion.transforms[0].forward.map(points)
    return (Composition(around).map(begin) - begin).norm(dim=1)
