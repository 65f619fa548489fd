"""Arguments that several commands share, and the reading of what they name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files.points import read_landmark_pairs
from ..geometry import Grid
from ..images.image import Image
from ..images.masks import seated
from ..images.pair import Pair, check_pair
from ..images.pixel_types import PIXEL_TYPES
from ..images.reading import read_grid, read_image, read_labels, read_mask
from ..maps.transform import Transform


def add_transform(parser: argparse.ArgumentParser) -> None:
    """The transform that a command reads."""
    parser.add_argument("transform", metavar="TRANSFORM", help="transform.nephi written by 'nephi register'")


def add_direction(parser: argparse.ArgumentParser) -> None:
    """The direction of the map."""
    parser.add_argument("--direction", choices=("forward", "inverse"), default="forward",
                        help="forward maps fixed points to moving points and resamples moving images onto the fixed "
                             "image; inverse does the reverse (default: forward)")


def add_reference(parser: argparse.ArgumentParser) -> None:
    """The grid of an output image."""
    parser.add_argument("--reference", metavar="IMAGE", help="image that defines the output grid (default: the fixed "
                        "image, or with --direction inverse the moving image)")
    add_series(parser, "--reference-series")
    parser.add_argument("--spacing", type=float, metavar="MM", help="approximate voxel spacing of the output")


def add_pixel_type(parser: argparse.ArgumentParser, image: str) -> None:
    """The type of the voxels of an image that is written."""
    parser.add_argument("--pixel-type", type=_pixel_type, metavar="TYPE", help=f"type of the voxels of the {image}: "
                        f"{', '.join(PIXEL_TYPES)}; integers are rounded, and what is beyond them becomes the nearest")


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Masks, landmarks and labels, and which series the images, masks and labels are."""
    for role in ("fixed", "moving"):
        for what in ("", "-mask", "-exclude", "-labels"):
            add_series(parser, f"--{role}{what}-series")
    for role in ("fixed", "moving"):
        parser.add_argument(f"--{role}-mask", metavar="IMAGE", help=f"mask of the {role} image; non-zero voxels are "
                            "inside")
    for role in ("fixed", "moving"):
        parser.add_argument(f"--{role}-exclude", metavar="IMAGE", help=f"mask of what is not compared in the {role} "
                            "image, such as a resection cavity, metal or a tumour; non-zero voxels are excluded, and "
                            "the map goes on smoothly there")
    parser.add_argument("--landmarks", metavar="PAIRS.csv", help="corresponding points for measuring the error, LPS "
                        "mm, with the columns fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z; they do not guide "
                        "the registration")
    for role in ("fixed", "moving"):
        parser.add_argument(f"--{role}-labels", metavar="IMAGE", help=f"label map of the {role} image, for measuring "
                            "overlap")
    parser.add_argument("--labels", type=_label_list, metavar="2,3,4", help="labels to measure (default: all "
                        "labels of the fixed image)")


def add_series(parser: argparse.ArgumentParser, flag: str = "--series") -> None:
    """Which series of a DICOM folder is meant."""
    parser.add_argument(flag, metavar="UID", help="series to read from a DICOM folder that holds several; without it "
                        "they are listed. UID/2, or 2 where there is one series, is its second phase")


def read_pair(args: argparse.Namespace, fixed_grid: Optional[Grid] = None, moving_grid: Optional[Grid] = None) -> Pair:
    """Read the images, and the masks, landmarks and labels of :func:`add_judges`.

    Args:
        fixed_grid, moving_grid: the grid of the mask and the landmarks if there is no image.
    """
    images = {role: read_image(path, role, getattr(args, f"{role}_series")) if (path := getattr(args, role)) else None
              for role in ("fixed", "moving")}
    if None not in images.values():
        check_pair(**images)
    grids, parts = {"fixed": fixed_grid, "moving": moving_grid}, {}
    for role, image in images.items():
        beside = image or Image(torch.empty(0), grids[role], f"{role} image")  # only its grid is used
        grids[role] = beside.grid
        parts[role], parts[f"{role}_mask"] = _regions(args, role, image, beside)
        if path := getattr(args, f"{role}_labels"):
            parts[f"{role}_labels"] = seated(read_labels(path, role, getattr(args, f"{role}_labels_series")), beside)
    if args.labels and not args.fixed_labels:
        raise InputError("--labels chooses among the labels of label maps; give --fixed-labels and --moving-labels.")
    landmarks = read_landmark_pairs(args.landmarks, *grids.values()) if args.landmarks else None
    return Pair(**parts, landmarks=landmarks, labels=args.labels)


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Optional[str]]) -> None:
    """Inputs are never changed: refuse outputs that would replace one of them.

    Raises:
        InputError: one would.
    """
    given = {os.path.realpath(path) for path in inputs if path}
    for output in outputs:
        if os.path.realpath(output) in given:
            raise InputError(f"The output {output.name} would replace an input ({output}); choose another place.")


def read_output_grid(args: argparse.Namespace, transform: Transform) -> Grid:
    """The grid that ``--reference``, ``--spacing`` and ``--direction`` define."""
    grid = transform.fixed_grid if args.direction == "forward" else transform.moving_grid
    if args.reference:
        grid = read_grid(args.reference, "reference", args.reference_series)
        if grid.dim != transform.fixed_grid.dim:
            raise InputError(f"The reference {Path(args.reference).name} is {grid.dim}D but the transform is "
                             f"{transform.fixed_grid.dim}D; give a reference of the same dimension.")
    if args.spacing is None:
        return grid
    if not 0 < args.spacing < float("inf"):
        raise InputError(f"The spacing {args.spacing:g} mm is not positive; give a spacing in mm.")
    if args.spacing > max(grid.extent):
        raise InputError(f"The spacing {args.spacing:g} mm is larger than the image, whose longest side has "
                         f"{max(grid.extent):g} mm; give a smaller one.")
    return grid.with_spacing(args.spacing)


def _regions(args: argparse.Namespace, role: str, image: Optional[Image], beside: Image
             ) -> tuple[Optional[Image], Optional[Tensor]]:
    """An image without what is excluded from it, and its mask; if there is no image, the mask alone says both."""
    mask, exclude = getattr(args, f"{role}_mask"), getattr(args, f"{role}_exclude")
    inside = read_mask(mask, beside, role, getattr(args, f"{role}_mask_series")) if mask else None
    if not exclude:
        return image, inside
    hole = read_mask(exclude, beside, role, getattr(args, f"{role}_exclude_series"), "exclude")
    if image is not None:
        return image.without(hole), inside
    return None, ~hole if inside is None else inside & ~hole


def _pixel_type(text: str) -> np.dtype:
    if text not in PIXEL_TYPES:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(PIXEL_TYPES)}")
    return PIXEL_TYPES[text]


def _label_list(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.replace(",", " ").split())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of label numbers such as 2,3,4") from error
