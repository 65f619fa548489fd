"""Register many pairs: the rows of a table, on this machine or on a cluster; write a folder a pair, cohort.csv and
cohort.html. The same command again goes on where it stopped."""

from __future__ import annotations

import argparse
import contextlib
import operator
from collections.abc import Sequence
from pathlib import Path

from ..cohort.bids import longitudinal, to_template, write_description
from ..cohort.cohort_csv import result_of, write_cohort_csv
from ..cohort.cohort_page import write_cohort_page
from ..cohort.cohort_table import EXAMPLE, EXAMPLE_COLUMNS, read_table, write_table
from ..cohort.finished import finished
from ..cohort.image_folder import pairs_in
from ..cohort.pool import Place, check_installed
from ..cohort.rows import Job, Row
from ..cohort.run_cohort import run_cohort
from ..errors import Faults, InputError
from ..storage import locked
from .batch_display import Shown, batch_reporter
from .place_arguments import PLACE, add_place, read_place
from .register import add_run_arguments
from .row_arguments import jobs_of, known_columns, register_row

HELP = "register many pairs, on this machine or on a cluster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi batch``."""
    parser.add_argument("cohort", nargs="?", metavar="COHORT", help="table of pairs, CSV or TSV, with the columns id, "
                        "fixed and moving, and any flag of 'nephi register' as a further column; paths are relative to "
                        "the table")
    parser.add_argument("--pairs", nargs="+", metavar="WHICH", help="COHORT is a folder of images, and the pairs are "
                        "all, neighbours in the order of their names, or, after to, all with the first or with the one "
                        "that is named: --pairs all, --pairs neighbours, --pairs to FIRST")
    parser.add_argument("--bids", metavar="DIR", help="in the place of COHORT: a folder in BIDS; each later session of "
                        "a subject is registered to its first, and the results are named as derivatives")
    parser.add_argument("--suffix", metavar="NAME", help="which images of --bids (default: T1w)")
    parser.add_argument("--template", metavar="IMAGE", help="one image of each subject of --bids is registered to this "
                        "one, instead of sessions to each other")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder of the results; finished pairs in it are not "
                        "registered again")
    parser.add_argument("--make-template", metavar="FILE", help="write a table and end: an example, or "
                        "with --pairs or --bids their rows, to be completed")
    add_place(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Check the whole table, run what is not finished, and write the tables."""
    _sort_out(args)
    if args.make_template:
        rows = [{"id": row.id, **row.cells} for row in _made_rows(args)] if args.pairs or args.bids else EXAMPLE
        write_table(args.make_template, rows, EXAMPLE_COLUMNS)
        return
    place = read_place(args)
    rows, jobs = _checked(args)
    check_installed(place)
    with locked(args.output), batch_reporter(args.quiet, args.json) as show:
        if args.bids:
            write_description(Path(args.output), Path(args.bids).absolute().name)
        ended = {job.id: found for job in jobs if (found := finished(job)) is not None}
        show.start(len(rows), len(ended))
        try:
            _run(jobs, place, ended, show)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{len(ended)} of {len(rows)} pairs have ended; the same command goes on") from None
        finally:
            results = [result_of(row, ended.get(row.id)) for row in rows]
            if ended:
                write_cohort_csv(Path(args.output) / "cohort.csv", results)
                name = Path(args.bids or args.cohort).absolute().name
                write_cohort_page(Path(args.output) / "cohort.html", results, name)
    show.done(results, args.output)
    if not any(result.status == "done" for result in results):
        raise InputError(f"None of the {len(rows)} pairs could be registered, and cohort.csv says why of each; of "
                         f"{results[0].row.id}: {results[0].error}")


def _run(jobs: Sequence[Job], place: Place, ended: dict, show: Shown) -> None:
    """Run what has not ended, and add what comes of it."""
    with contextlib.closing(run_cohort([job for job in jobs if job.id not in ended], place, register_row)) as states:
        for state in states:
            if state.ended is not None:
                ended[state.ended["id"]] = state.ended
            show.progress(state)


def _checked(args: argparse.Namespace) -> tuple[list[Row], list[Job]]:
    """The rows and the jobs of the table, if nothing is wrong with any of them."""
    if not (args.cohort or args.bids) or not args.output:
        raise InputError("A table of pairs and -o with a folder for the results are needed; see 'nephi batch --help'.")
    rows, faults = _rows(args)
    given = argparse.Namespace(**{name: value for name, value in vars(args).items() if name not in _OWN})
    jobs, more = jobs_of(rows, given, Path(args.output).absolute(), args.threads)
    faults = [fault for _, fault in sorted([*faults, *more], key=operator.itemgetter(0))]
    if faults:
        raise Faults(f"The {'table' if Path(args.cohort or '').is_file() else 'folder'} {args.cohort or args.bids} "
                     "cannot be used", faults)
    return rows, jobs


def _sort_out(args: argparse.Namespace) -> None:
    """What belongs together, and what does not."""
    if args.pairs and not args.cohort and len(args.pairs) > 1:
        args.cohort = args.pairs.pop()  # --pairs all FOLDER
    if args.bids and (args.cohort or args.pairs):
        raise InputError("--bids stands in the place of a table or a folder with --pairs; give one of them.")
    if not args.bids and (args.suffix or args.template):
        raise InputError(f"{'--suffix' if args.suffix else '--template'} belongs to --bids; give that too.")
    if args.cohort and args.make_template and not args.pairs:
        raise InputError(f"--make-template does not read {args.cohort}; leave it out, or give --pairs for a folder.")
    if args.cohort and not args.pairs and Path(args.cohort).is_dir():
        raise InputError(f"{args.cohort} is a folder; give a table, or --pairs to make pairs of its images.")


def _rows(args: argparse.Namespace) -> tuple[list[Row], list[tuple[int, str]]]:
    """The rows, and what is wrong with the table that they are from: (line, clause)."""
    if args.cohort and not args.pairs:
        return read_table(args.cohort, known_columns())
    return _made_rows(args), []


def _made_rows(args: argparse.Namespace) -> list[Row]:
    if args.pairs:
        return pairs_in(args.cohort, args.pairs)
    suffix = args.suffix or "T1w"
    return to_template(args.bids, suffix, args.template) if args.template else longitudinal(args.bids, suffix)


_OWN = ("cohort", "pairs", "bids", "suffix", "template", "output", "make_template", *PLACE, "run")
