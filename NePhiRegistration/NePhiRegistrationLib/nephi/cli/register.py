"""Register a moving image to a fixed image; write the transform, the warped image and a report into a folder."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from typing import Optional

from ..align.initial import Start
from ..align.registration import register
from ..device import pick_device
from ..errors import InputError
from ..files.initial_files import read_initial_transform
from ..files.outputs import FILES, ON_REQUEST, Run, Wanted, write_outputs
from ..files.points import read_landmark_pairs
from ..images.pair import Pair, check_overlap
from ..images.writing import FORMATS
from ..options import Options, preset_names
from ..storage import staged_folder
from .arguments import add_judges, add_pixel_type, read_pair, refuse_overwriting
from .display import Silent, reporter
from .option_flags import add_options, given_options

HELP = "register two images and write all outputs into a folder"
SOURCES = ("fixed", "moving", "fixed_mask", "moving_mask", "fixed_exclude", "moving_exclude", "initial_transform",
           "landmarks", "guide_landmarks", "fixed_labels", "moving_labels")
"""The arguments that are files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi register``."""
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="output folder; other files in it "
                        "are kept")
    add_pair(parser)
    add_run_arguments(parser)


def add_pair(parser: argparse.ArgumentParser) -> None:
    """The files of a pair, and what says how they are read."""
    parser.add_argument("fixed", metavar="FIXED", help="fixed image: NIfTI, NRRD, MetaImage or a DICOM folder")
    parser.add_argument("moving", metavar="MOVING", help="moving image, which is aligned with the fixed image")
    parser.add_argument("--initial-transform", metavar="FILE", help="transform to start from, fixed to moving points: "
                        "an ITK transform, linear or not, a displacement image in LPS mm, or a transform.nephi; after "
                        "one that is not linear there is no linear alignment")
    parser.add_argument("--guide-landmarks", metavar="PAIRS.csv", help="corresponding points that guide the "
                        "registration, in the format of --landmarks")
    add_judges(parser)


def add_run_arguments(parser: argparse.ArgumentParser, preset: str = "generic") -> None:
    """The arguments of every command that registers a pair."""
    parser.add_argument("--preset", default=preset, metavar="NAME", help="preset of engine options: "
                        f"{', '.join(preset_names())} (default: {preset})")
    parser.add_argument("--no-affine", action="store_true", help="skip the linear alignment; same as --affine none")
    parser.add_argument("--grid-spacing", type=float, metavar="MM", help="spacing of the spline nodes in "
                        "forward.h5 and inverse.h5 (default: the coarsest within --tolerance)")
    parser.add_argument("--format", type=image_format, metavar="NAME", help=f"format of the images that are written: "
                        f"{', '.join(FORMATS)} (default: that of the fixed image, or nrrd where that cannot hold their "
                        "place exactly)")
    add_pixel_type(parser, "warped image (default: that of the moving image if it is an integer, else float32)")
    parser.add_argument("--outputs", type=_roles, default=tuple(FILES), metavar="NAMES", help="which files to write, "
                        f"separated by commas: {', '.join(FILES)} (default: all of these), and error_map, the error "
                        "that is left, in mm; 'all' is every one; without log_jacobian, report, page and error_map "
                        "nothing is measured")
    parser.add_argument("--json", action="store_true", help="print progress and result to stdout as JSON lines")
    add_options(parser)
    parser.set_defaults(stems={}, thumbnails=False)  # what is only wanted in a cohort


def run(args: argparse.Namespace) -> None:
    """Read, register, write and print the result."""
    with reporter(args.quiet, args.json) as show:
        report = register_files(args, show)
    show.done(report, args.output)


def register_files(args: argparse.Namespace, show: Silent) -> dict:
    """Read what the arguments of :func:`add_arguments` name, register, and fill the output folder; returns the report.

    Raises:
        InputError: something cannot be used as given; nothing was written.
    """
    options = read_options(args)
    pick_device(options.device)  # now, not after minutes of reading
    sources = {name: value for name in SOURCES if (value := getattr(args, name))}
    wanted = _wanted(args)
    refuse_overwriting((Path(args.output) / name for format in FORMATS for name in wanted.names(format).values()),
                       sources.values())
    with staged_folder(args.output) as staging:
        pair = read_pair(args)
        initial = Start()
        if args.initial_transform:
            initial = read_initial_transform(args.initial_transform, pair.fixed.grid, pick_device(options.device))
        guides = None
        if args.guide_landmarks:
            guides = read_landmark_pairs(args.guide_landmarks, pair.fixed.grid, pair.moving.grid)
        if options.affine == "none":
            check_overlap(pair.fixed, pair.moving, initial.matrix)
        return register_pair(pair, options, staging, show, args, initial, guides, sources)


def read_options(args: argparse.Namespace) -> Options:
    """The preset with the options of the command line in place of its own."""
    overrides = given_options(args)
    if args.no_affine and overrides.setdefault("affine", "none") != "none":
        raise InputError(f"--no-affine and --affine {overrides['affine']} are mutually exclusive; give one of them.")
    if getattr(args, "grid_spacing", None) is not None and not 0 < args.grid_spacing < float("inf"):
        raise InputError(f"The grid spacing {args.grid_spacing:g} mm is not positive; give a spacing in mm.")
    return Options.from_preset(args.preset, **overrides)


def register_pair(pair: Pair, options: Options, folder: Path, show: Silent, args: argparse.Namespace,
                  initial: Optional[Start] = None, guides: Optional[tuple] = None,
                  sources: Optional[dict] = None) -> dict:
    """Register a pair, show the progress, write the outputs into a folder as :func:`add_run_arguments` has it; returns
    the report."""
    phases: dict[str, float] = {}
    initial = initial or Start()
    before = time.perf_counter()
    steps = register(pair.fixed, pair.moving, options, pair.fixed_mask, pair.moving_mask, initial.matrix, guides,
                     initial.stages)
    with contextlib.closing(steps):
        for state in steps:
            now = time.perf_counter()
            phases[state.phase] = phases.get(state.phase, 0.0) + now - before
            before = now
            show.progress(state)
    run = Run(sum(phases.values()), state.transform.provenance["device"], len(state.history), state.history, phases,
              sources or {})
    return write_outputs(initial.noted_in(state.transform), pair, run, folder, args.grid_spacing, show.step,
                         _wanted(args), options.tolerance)


def _wanted(args: argparse.Namespace) -> Wanted:
    return Wanted(args.format, args.pixel_type, args.outputs, args.thumbnails, args.stems)


def image_format(text: str) -> str:
    """One of :data:`nephi.images.writing.FORMATS`, as it is written on the command line."""
    name = text.lower().lstrip(".")
    if name not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(FORMATS)}")
    return name


def _roles(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    roles = (*FILES, *ON_REQUEST)
    unknown = [name for name in names if name not in roles]
    if names == ("all",):
        return roles
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r} is not 'all' or a list of some of {', '.join(roles)}")
    return names
