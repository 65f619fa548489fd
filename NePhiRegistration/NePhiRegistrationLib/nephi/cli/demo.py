"""Register a generated lung pair with a known deformation; write the pair and all outputs into a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from ..images.image import Image
from ..images.pair import Pair
from ..images.phantom import lung_phantom
from ..images.writing import own_format, write_image
from ..storage import staged_folder
from .display import reporter
from .register import add_run_arguments, read_options, register_pair

HELP = "register a generated lung pair with a known deformation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi demo``."""
    parser.add_argument("-o", "--output", default="demo", metavar="DIR", help="folder for the pair and all outputs "
                        "(default: demo)")
    parser.add_argument("--size", type=int, default=96, metavar="N", help="voxels along each side of the images "
                        "(default: 96)")
    add_run_arguments(parser, "lung-ct")


def run(args: argparse.Namespace) -> None:
    """Generate, register, write and print the result."""
    options = read_options(args)
    with reporter(args.quiet, args.json) as show, staged_folder(args.output) as staging:
        show.step("phantom pair")
        phantom = lung_phantom(args.size, options.seed)
        pair = Pair(phantom.fixed, phantom.moving, phantom.fixed_mask, phantom.moving_mask,
                    (phantom.landmarks_fixed, phantom.landmarks_moving))
        _write_pair(pair, staging, args.format or own_format(None, pair.fixed.grid))
        report = register_pair(pair, options, staging, show, args,
                               sources={"phantom": f"lung_phantom(size={args.size}, seed={options.seed})"})
    show.done(report, args.output)


def _write_pair(pair: Pair, folder: Path, format: str) -> None:
    for role, image, mask in (("fixed", pair.fixed, pair.fixed_mask), ("moving", pair.moving, pair.moving_mask)):
        write_image(image.to_sitk(sitk.sitkInt16), folder / f"{role}.{format}")
        write_image(Image(mask, image.grid).to_sitk(sitk.sitkUInt8), folder / f"{role}_mask.{format}")
    axes = [f"{side}_{axis}" for side in ("fixed", "moving") for axis in "xyz"]
    np.savetxt(folder / "landmarks.csv", torch.cat(pair.landmarks, dim=1).numpy(), "%.3f", ",", header=",".join(axes),
               comments="")
