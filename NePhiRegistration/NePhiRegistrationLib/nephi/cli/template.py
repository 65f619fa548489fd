"""Make an unbiased template of images, on this machine or on a cluster; write it with its variance, each image's maps
from and to it, cohort.csv and template.html. The same command again goes on where it stopped."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cohort.cohort_csv import write_cohort_csv
from ..cohort.cohort_page import write_cohort_page
from ..cohort.peak_memory import rounds
from ..cohort.pool import Place, check_installed, connected
from ..device import free_memory, pick_device
from ..errors import InputError
from ..files.outputs import Wanted
from ..followed import followed
from ..images.writing import FORMATS
from ..storage import locked
from ..template.finish_template import Finished, finish, write_record
from ..template.make_template import Step, make_rounds
from ..template.members import members_of
from ..template.round_record import RoundRecord
from ..template.study import Study
from ..template.template_page import write_template_page
from .arguments import refuse_overwriting
from .batch_display import Shown, batch_reporter
from .option_flags import given_options
from .place_arguments import add_place, read_place
from .register import add_run_arguments, read_options

if TYPE_CHECKING:
    pass

HELP = "make an unbiased template of many images"
LEFT = "the template, its variance, template.html, cohort.html, and a folder for each image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi template``."""
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="images of the same dimension, or one folder of "
                        "them; their order does not matter")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the results; what is done in "
                        "it is not done again")
    parser.add_argument("--labels", nargs="+", default=(), metavar="LABELS", help="a label map for each image in the "
                        "same order, or one folder of label maps that are named as the images; the template gets the "
                        "label that most images have")
    parser.add_argument("--rounds", type=_rounds, default=4, metavar="N", help="how often all images are registered "
                        "to the template and averaged (default: 4); more go on from those that are there")
    parser.add_argument("--linear-rounds", type=_rounds, default=2, metavar="N", help="how often they are aligned "
                        "linearly with it before (default: 2)")
    parser.add_argument("--spacing", type=float, metavar="MM", help="voxel spacing of the template (default: the mean "
                        "of the images')")
    add_place(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Check all images, make the rounds that are not made, and write the template."""
    study, place = _study(args), read_place(args)
    check_installed(place)
    with locked(args.output), batch_reporter(args.quiet, args.json) as show:
        try:
            with connected(_fitting(study, place)) as client:
                records = _shown(make_rounds(study, client), show)
                finished = _shown(finish(study, client, records), show)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("what is done is kept; the same command goes on") from None
        _write(study, records, finished)
    show.done(finished.results, args.output, LEFT)


def _write(study: Study, records: list[RoundRecord], finished: Finished) -> None:
    write_record(study, records, finished)
    write_cohort_csv(study.folder / "cohort.csv", finished.results)
    write_cohort_page(study.folder / "cohort.html", finished.results, study.folder.name)
    write_template_page(study.folder / "template.html", study, records, finished)


def _shown(steps: Generator[Step, None, Any], show: Shown) -> Any:
    """Show the steps; returns what they come to."""
    def act(step: Step) -> None:
        if step.state is None:
            show.start(step.count, step.known, step.name)
        else:
            show.progress(step.state)

    return followed(steps, act)


def _study(args: argparse.Namespace) -> Study:
    """What the arguments ask for, if it can be used."""
    options = read_options(args)
    given = given_options(args)
    if "step_back" not in given:  # a mean is blurred: what it does not show at once may still be right
        options = options.changed(step_back="never")
    if options.similarity == "auto" and "similarity" not in given:  # images that are averaged show one contrast
        options = options.changed(similarity="lncc")
    pick_device(options.device)
    if args.spacing is not None and not 0 < args.spacing < float("inf"):
        raise InputError(f"The spacing {args.spacing:g} mm is not positive; give a spacing in mm.")
    folder = Path(args.output).absolute()
    wanted = Wanted(args.format, args.pixel_type, args.outputs, True, {})
    members = members_of(args.images, args.labels)
    refuse_overwriting((folder / f"{name}.{ending}" for ending in FORMATS for name in ("template", "variance",
                       "labels")), (path for member in members for path in member.files.values()))
    return Study(folder, members, options, args.linear_rounds, args.rounds, args.spacing, args.threads, wanted,
                 args.grid_spacing)


def _fitting(study: Study, place: Place) -> Place:
    """The place with no more workers here than fit into the memory."""
    if not place.here:
        return place
    peaks = [study.job(member, Path(), {}, {}, "").peak for member in study.members]
    return Place(min(workers for workers, _ in rounds(peaks, place.workers, free_memory())), place.threads)


def _rounds(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)
