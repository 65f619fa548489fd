"""Describe a transform, those of a series, or an image; without a file, describe this installation."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Optional

import SimpleITK as sitk
import torch

from ..errors import InputError
from ..geometry import random_points
from ..images.reading import read_channels
from ..maps.transform import Transform
from ..options import preset_names
from ..report import flattened, plain
from ..series.series_file import FORMAT as SERIES
from ..series.series_file import read_series
from .arguments import add_series
from .display import print_table

HELP = "describe a transform, those of a series, an image or this installation"
POINTS = 5000  # random ones of the reference, at which the motion of a frame is measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi info``."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="transform.nephi, series.nephi or image (default: "
                        "describe the installation)")
    add_series(parser)
    parser.add_argument("--json", action="store_true", help="print the description as JSON")


def run(args: argparse.Namespace) -> None:
    """Describe and print."""
    if args.file is None:
        facts = _installation()
    elif args.file.endswith(".nephi") and SERIES.is_kind_of(args.file):
        facts = _series(args.file)
    elif args.file.endswith(".nephi"):
        facts = _transform(args.file)
    else:
        facts = _image(args.file, args.series)
    facts = plain(facts)
    if args.json:
        print(json.dumps(facts, indent=2, allow_nan=False))
    elif not args.quiet:
        print_table(flattened(facts))


def _installation() -> dict:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"python": platform.python_version(), "torch": torch.__version__,
            "simpleitk": sitk.Version_VersionString(), "gpu": gpu, "threads": torch.get_num_threads(),
            "presets": preset_names()}


def _transform(path: str) -> dict:
    transform = Transform.load(path)
    return {"file": path, "megabytes": Path(path).stat().st_size / 1e6, "fixed grid": transform.fixed_grid.to_dict(),
            "moving grid": transform.moving_grid.to_dict(), "affine": transform.affine,
            "provenance": transform.provenance}


def _series(path: str) -> dict:
    transforms = read_series(path)
    if not transforms:
        raise InputError(f"{path} holds no frames; run 'nephi series' again.")
    *_, last = transforms.values()
    points = random_points(last.fixed_grid, POINTS)
    frames = {name: {"mean motion mm": (transform.forward.map(points) - points).norm(dim=1).mean(),
                     "maps": len(transform.stages), "followed": bool(transform.provenance.get("followed"))}
              for name, transform in transforms.items()}
    return {"file": path, "megabytes": Path(path).stat().st_size / 1e6, "number of frames": len(frames),
            "reference grid": last.fixed_grid.to_dict(), "frame grid": last.moving_grid.to_dict(), "frames": frames,
            "provenance": last.provenance}


def _image(path: str, series: Optional[str]) -> dict:
    image = read_channels(path, "input", series)
    grid = {**image.place(image.grid), "extent": image.grid.extent, "center": image.grid.center}
    known = image.values[torch.isfinite(image.values)].double()
    minimum, maximum, mean = map(float, (known.min(), known.max(), known.mean())) if known.numel() else [None] * 3
    return {"file": path, "grid": grid, "pixel type": image.kind.name, "components": image.components,
            "minimum": minimum, "maximum": maximum, "mean": mean,
            "NaN or infinite": image.values.numel() - known.numel()}
