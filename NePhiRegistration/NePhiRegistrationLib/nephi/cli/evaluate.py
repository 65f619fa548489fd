"""Measure folds and inverse consistency of a transform and, given the data, landmark error, overlap and similarity."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping

from rich.table import Column

from ..judge.evidence import evaluate
from ..judge.verdict import length
from ..maps.transform import Transform
from ..report import make_metrics, plain
from ..storage import atomic_path
from .arguments import add_judges, add_transform, read_pair
from .display import print_table

HELP = "measure folds, inverse consistency, landmark error, label overlap and similarity"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``nephi evaluate``."""
    add_transform(parser)
    parser.add_argument("--fixed", metavar="IMAGE", help="fixed image; needed with --moving to measure similarity")
    parser.add_argument("--moving", metavar="IMAGE", help="moving image; needed with --fixed to measure similarity")
    add_judges(parser)
    parser.add_argument("-o", "--output", metavar="FILE.json", help="also write the numbers to this file, like "
                        "'metrics' in report.json")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(args: argparse.Namespace) -> None:
    """Measure, print, write."""
    transform = Transform.load(args.transform)
    pair = read_pair(args, transform.fixed_grid, transform.moving_grid)
    metrics = plain(make_metrics(**evaluate(transform, pair)))
    text = json.dumps({"metrics": metrics}, indent=2, allow_nan=False)
    if args.output:
        with atomic_path(args.output) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if args.json:
        print(text)
    elif not args.quiet:
        print_table(_rows(metrics), "measure", Column("value", justify="right"))


def _rows(metrics: Mapping) -> Iterator[tuple[str, str]]:
    """(measure, number with its unit)."""
    tre, dice, surfaces = (metrics[name] for name in ("tre_mm", "dice", "surface_distance_mm"))
    if tre:
        for name in ("before", "affine", "mean", "median", "p95", "max"):
            yield f"landmark error, {name}", length(tre[name])
    if metrics["residual_mm"]:
        for name, of in (("estimate", "mean"), ("median", "median of the points found"),
                         ("p90", "90th percentile of the points found")):
            if metrics["residual_mm"][name] is not None:
                yield f"estimated error, {of}", length(metrics["residual_mm"][name])
        yield "distinctive points found again", f"{100 * metrics['residual_mm']['found']:.0f} %"
    for direction, share in metrics["overlap"].items():
        yield f"overlap, {direction}", f"{100 * share:.0f} %"
    if dice:
        yield "Dice, before", f"{dice['before']:.3f}"
        yield "Dice, mean", f"{dice['mean']:.3f}"
        for label, value in dice["per_label"].items():
            distance = surfaces["per_label"][label]["hd95"]
            yield f"Dice of label {label} (95 % surface distance)", \
                f"{value:.3f} ({'-' if distance is None else length(distance)})"
    for direction, values in metrics["folds_percent"].items():
        for how, percent in values.items():
            yield f"folds, {direction}, {how.replace('_', ' ')}", f"{percent:.3g} %"
    for name, value in metrics["inverse_consistency_mm"].items():
        yield f"inverse consistency, {name}", length(value)
    for when, values in metrics["similarity"].items():
        for name, value in (values or {}).items():
            yield f"{name.replace('_', ' ')}, {when}", f"{value:.3f}"
