"""Write the Jacobian determinant of a transform as an image: 1 preserves volume, below 1 shrinks, 0 or less folds."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..images.image import Image
from ..images.writing import write_image
from ..judge.folds import fold_percent, summary
from ..maps.determinant import LOG_FLOOR, determinant_image, log_determinant
from ..maps.transform import Transform
from .arguments import add_direction, add_reference, add_transform, read_output_grid, refuse_overwriting

HELP = "write the Jacobian determinant, or its logarithm, as an image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi jacobian``."""
    add_transform(parser)
    parser.add_argument("-o", "--output", required=True, metavar="IMAGE", help="output image")
    parser.add_argument("--log", action="store_true", help="write the natural logarithm, which is 0 where volume is "
                        f"preserved; determinants below {LOG_FLOOR:g}, including folds, count as {LOG_FLOOR:g}")
    add_direction(parser)
    add_reference(parser)


def run(args: argparse.Namespace) -> None:
    """Write the image and print its range."""
    refuse_overwriting([Path(args.output)], [args.transform, args.reference])
    transform = Transform.load(args.transform)
    grid = read_output_grid(args, transform)
    det = determinant_image(getattr(transform, args.direction), grid)
    write_image(Image(log_determinant(det) if args.log else det, grid).to_sitk(), args.output)
    if not args.quiet:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in summary(det).items())
        print(f"{args.output}: determinant {figures}; {fold_percent(det):.3g} % folds")
