"""Track a series of images over time: align all its frames, and follow points, volumes and ventilation through them."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional, Union

import torch
from torch import Tensor

from ..align.registration import Progress
from ..device import pick_device
from ..errors import InputError
from ..files.points import PointList, check_landmark_pairs, read_points
from ..followed import followed
from ..images.frames import Frames, read_frames
from ..images.image import Image
from ..images.masks import mask_on, seated
from ..images.reading import read_labels
from ..images.writing import FORMATS, own_format
from ..options import Options, preset_names
from ..series.curves import lungs_in
from ..series.series_outputs import Asked, file_names, frame_file, write_series_outputs
from ..series.steps import Seen, Steps, Work
from ..series.tracking import MEAN, PREVIOUS, Motion, Plan, track
from ..storage import locked, made_folder, staged_folder
from .arguments import add_pixel_type, add_series, refuse_overwriting
from .display import Silent, reporter
from .option_flags import add_options
from .register import image_format, read_options

log = logging.getLogger(__name__)

HELP = "track a series over time: a 4D image, a folder of volumes or DICOM phases"
STEPS_FOLDER = "steps"
INTERRUPTED = "the frames that are done are kept, and the same command goes on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi series``."""
    parser.add_argument("frames", metavar="SERIES", help="4D image, image with a value for each time (.seq.nrrd), "
                        "folder of volumes in the order of their names, or folder of DICOM phases")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="output folder; other files in it are "
                        "kept, and frames that are done in it are not done again")
    parser.add_argument("--reference", type=_reference, default=0, metavar="N|mean|previous", help="what the frames "
                        "are aligned with: a frame by its number from 1, the mean of all frames, or each frame with "
                        "the one before, from the first on (default: 1)")
    parser.add_argument("--cycle", action="store_true", help="the last frame is followed by the first, as in a breath "
                        "or a heart beat; the error of the closed cycle is reported")
    parser.add_argument("--masks", metavar="SERIES", help="masks of all frames, in any form of a series, or one mask, "
                        "drawn on the reference (with mean on the first frame); non-zero voxels are inside")
    parser.add_argument("--track-points", metavar="FILE", help="points of the reference (with mean of the first frame) "
                        "that are followed, .csv in LPS mm or Slicer's .mrk.json or .fcsv")
    parser.add_argument("--regions", metavar="IMAGE", help="label image of the reference (with mean of the first "
                        "frame), the volumes of whose labels are followed")
    parser.add_argument("--ventilation", action="store_true", help="the masks show lungs and the voxels are Hounsfield "
                        "units: measure ventilation by density and by Jacobian")
    parser.add_argument("--time-smoothness", type=float, default=0.0, metavar="X", help="how strongly each frame is "
                        "drawn to the middle between its neighbours, as the weight of a squared distance in samples of "
                        "the finest level; 0.02 is moderate (default: 0)")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="how often the mean is made again from the "
                        "frames aligned with it (default: 2)")
    add_series(parser)
    parser.add_argument("--preset", default="generic", metavar="NAME", help="preset of engine options: "
                        f"{', '.join(preset_names())} (default: generic)")
    parser.add_argument("--no-affine", action="store_true", help="skip the linear alignment; same as --affine none")
    parser.add_argument("--format", type=image_format, metavar="NAME", help="format of the images that are written: "
                        f"{', '.join(FORMATS)} (default: that of the series)")
    add_pixel_type(parser, "warped series (default: that of the series if it is an integer, else float32)")
    parser.add_argument("--json", action="store_true", help="print progress and result to stdout as JSON lines")
    add_options(parser)


def run(args: argparse.Namespace) -> None:
    """Read, track, write and print the result."""
    plan = Plan(args.reference, args.cycle, args.rounds, args.time_smoothness)
    options, folder = read_options(args), Path(args.output)
    with locked(folder), reporter(args.quiet, args.json) as show:
        frames = read_frames(args.frames, series=args.series)
        log.info("The series has %d frames: %s.", len(frames), ", ".join(frames.names))
        _refuse_overwriting(args, len(frames))
        masks = _masks(args, frames)
        points, labels = _judges(args, frames)
        if args.ventilation:
            lungs_in(Seen(frames.read(_anchor(args)), masks(_anchor(args))))  # now, not after the work
        steps = Steps(made_folder(folder / STEPS_FOLDER), options)
        try:
            motion, runtime = _tracked(track(frames, masks, plan, steps), options, show)
            asked = _asked(args, motion, frames, points, labels, options)
            with staged_folder(folder) as staging:
                report = write_series_outputs(motion, frames, staging, asked, runtime, show.step)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(INTERRUPTED) from None
    show.done(report, args.output)


def _tracked(work: Work[Motion], options: Options, show: Silent) -> tuple[Motion, dict]:
    """Do the work, show its progress; the result, and how long each of its steps took."""
    phases: dict[str, float] = {}
    before = started = time.perf_counter()

    def act(state: Progress) -> None:
        nonlocal before
        now = time.perf_counter()
        name = state.phase.split(",")[0]
        phases[name] = phases.get(name, 0.0) + now - before
        before = now
        show.progress(state)

    motion = followed(work, act)
    return motion, {"seconds": time.perf_counter() - started, "device": str(pick_device(options.device)),
                    "phases": phases}


def _masks(args: argparse.Namespace, frames: Frames) -> Callable[[int], Optional[Tensor]]:
    """The mask of a frame by its number; a single one is that of the frame it was drawn on."""
    if args.masks is None:
        return lambda number: None
    masks = read_frames(args.masks, "masks", labels=True, fewest=1)
    if len(masks) == 1:
        single = mask_on(masks.read(0), _place(frames, _anchor(args)))
        return lambda number: single if number == _anchor(args) else None
    if len(masks) != len(frames):
        raise InputError(f"There are {len(masks)} masks and {len(frames)} frames; give one mask for each frame, or one "
                         "for the reference.")
    return lambda number: mask_on(masks.read(number), _place(frames, number))


def _anchor(args: argparse.Namespace) -> int:
    """The frame on which points, regions and a single mask are drawn."""
    return Plan(args.reference).anchor


def _place(frames: Frames, number: int) -> Image:
    """An image of which only the grid and the name are used."""
    return Image(torch.empty(0), frames.grid, f"frame {frames.names[number]}")


def _judges(args: argparse.Namespace, frames: Frames) -> tuple[Optional[PointList], Optional[Tensor]]:
    """Points and regions, checked before the work begins."""
    points, labels = None, None
    if not 0 <= _anchor(args) < len(frames):
        raise InputError(f"There is no frame {_anchor(args) + 1} to be the reference; the series has {len(frames)}.")
    if args.track_points:
        points = read_points(args.track_points)
        check_landmark_pairs(points.points, points.points, frames.grid, None, Path(args.track_points).name)
    if args.regions:
        labels = seated(read_labels(args.regions, "region"), _place(frames, _anchor(args))).values
    return points, labels


def _asked(args: argparse.Namespace, motion: Motion, frames: Frames, points: Optional[PointList],
           labels: Optional[Tensor], options: Options) -> Asked:
    """What is to be made, with points brought from the frame they were drawn on to the reference."""
    if points is not None:
        points = points.moved_to(motion.transforms[_anchor(args)].inverse.map(points.points))
    format = args.format or own_format(None if Path(args.frames).is_dir() else args.frames, frames.grid)
    return Asked(format, args.pixel_type, points, labels, args.ventilation, options.tolerance)


def _refuse_overwriting(args: argparse.Namespace, count: int) -> None:
    names = [name for format in FORMATS for name in file_names(format).values()]
    names += [frame_file(number, count) for number in range(1, count + 1)]
    given = [args.frames, args.masks, args.track_points, args.regions]
    given += [str(file) for path in given[:2] if path and Path(path).is_dir() for file in Path(path).iterdir()]
    refuse_overwriting((Path(args.output) / name for name in names), given)


def _reference(word: str) -> Union[int, str]:
    if word in (MEAN, PREVIOUS):
        return word
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a frame's number from 1, {MEAN} or {PREVIOUS}")
    return int(word) - 1
