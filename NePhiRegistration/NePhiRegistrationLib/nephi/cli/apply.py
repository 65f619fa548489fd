"""Apply a transform to an image, a label map or a list of points."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..errors import InputError
from ..files.points import read_points, write_points
from ..images.reading import read_channels
from ..images.writing import write_image
from ..maps.transform import Transform
from ..maps.warp import carry
from .arguments import (
    add_direction,
    add_pixel_type,
    add_reference,
    add_series,
    add_transform,
    read_output_grid,
    refuse_overwriting,
)

log = logging.getLogger(__name__)

HELP = "apply a transform to images, label maps or points"
_POINT_SUFFIXES = (".csv", ".json", ".fcsv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi apply``."""
    add_transform(parser)
    parser.add_argument("input", metavar="INPUT", help="image of any kind, also in colour, of vectors, complex or 4D, "
                        "whose components and volumes are carried one by one; or points as .csv (LPS mm) or Slicer's "
                        ".mrk.json or .fcsv")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="output file; points are written as .csv "
                        "or .mrk.json")
    add_direction(parser)
    add_reference(parser)
    add_series(parser)
    parser.add_argument("--label-image", action="store_true", help="treat the input as a label map: nearest-neighbour "
                        "interpolation, whole numbers")
    parser.add_argument("--fill", type=float, metavar="VALUE", help="value outside the input image (default: its "
                        "minimum; 0 with --label-image and where voxels have several values)")
    add_pixel_type(parser, "output image (default: that of the input)")


def run(args: argparse.Namespace) -> None:
    """Transform the input and write the output."""
    refuse_overwriting([Path(args.output)], [args.transform, args.input, args.reference])
    transform = Transform.load(args.transform)
    carry = _carry_points if args.input.lower().endswith(_POINT_SUFFIXES) else _carry_image
    carry(transform, args)
    if not args.quiet:
        print(args.output)


def _carry_image(transform: Transform, args: argparse.Namespace) -> None:
    role = "moving" if args.direction == "forward" else "fixed"
    image = read_channels(args.input, role, args.series, args.label_image)
    grid = read_output_grid(args, transform)
    if image.grid.dim != transform.fixed_grid.dim:
        raise InputError(f"The {image.name} is {image.grid.dim}D but the transform is {transform.fixed_grid.dim}D; "
                         "give an image of the registered pair.")
    fill = args.fill
    if fill is None:
        several = len(image.values) > (image.time[0] if image.time else 1)
        fill = 0.0 if args.label_image or several else image.minimum
    if not args.label_image and image.looks_like_labels:
        log.warning("The %s looks like a label map (whole numbers, few or large ones) and is interpolated as an image, "
                    "which makes up labels; give --label-image if it is one.", image.name)
    mode = "nearest" if args.label_image else "linear"
    values = carry(image.values, image.grid, getattr(transform, args.direction), grid, mode, fill)
    write_image(image.joined(values, grid, args.pixel_type), args.output)


def _carry_points(transform: Transform, args: argparse.Namespace) -> None:
    points = read_points(args.input)
    if points.points.shape[1] != transform.fixed_grid.dim:
        raise InputError(f"{Path(args.input).name} has {points.points.shape[1]}D points but the transform is "
                         f"{transform.fixed_grid.dim}D; give points of the registered pair.")
    write_points(points.moved_to(getattr(transform, args.direction).map(points.points)), args.output)
