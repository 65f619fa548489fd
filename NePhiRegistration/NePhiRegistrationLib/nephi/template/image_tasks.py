"""What workers do with one image of a template; each function is a :data:`nephi.cohort.one_pair.Register`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable

import numpy as np

from ..align.linear import align
from ..align.registration import register
from ..device import pick_device
from ..files.outputs import Run, write_outputs
from ..geometry import Grid
from ..images.image import intensity_range
from ..images.masks import region, seated
from ..images.pair import Pair, check_overlap
from ..images.reading import read_image, read_labels
from ..maps.folded import folded
from ..maps.sampled import sampled
from ..maps.transform import Transform
from ..maps.warp import carry
from ..options import Options
from ..storage import staged_folder
from .averages import save_array
from .mean_shape import corrected, nodes_of

REGISTERED, SHIFT = "registered.nephi", "shift.npy"
CARRIED, VALUES, LABELS = "carried.nephi", "values.npy", "labels.npy"
"""What is left in the folder of an image in a round: by its registration, and once the mean is taken out."""

Check = Callable[[], None]


def align_image(arguments: Mapping[str, Any], check: Check) -> dict:
    """Align an image linearly with the template so far.

    Args:
        arguments: ``template``, ``image``: paths. ``options``: by name. ``output``: the folder.
    """
    options = Options().changed(**arguments["options"])
    fixed, moving = read_image(arguments["template"]), read_image(arguments["image"], "moving")
    found = align(fixed, moving, None, None, options.affine, None, options.seed)
    check()
    with staged_folder(arguments["output"]) as folder:
        Transform(fixed.grid, moving.grid, found.matrix).save(folder / REGISTERED)
    return _told({"registered": REGISTERED}, {"overlap": found.overlap, "shared": found.shared})


def fit_image(arguments: Mapping[str, Any], check: Check) -> dict:
    """Register an image with the template so far, and read the deformation at the nodes.

    Args:
        arguments: as :func:`align_image` has them; ``before``: the path of its transform in the round before;
            ``anew``: whether only the linear part of that counts, or all of it, and then the finest level goes on.
    """
    began = time.perf_counter()
    options = Options().changed(**{**arguments["options"], "affine": "none"})
    fixed, moving = read_image(arguments["template"]), read_image(arguments["image"], "moving")
    before = Transform.load(arguments["before"], pick_device(options.device))
    check_overlap(fixed, moving, before.affine)
    if not arguments["anew"]:
        options = replace(options, resolution=options.resolution[-1:], iterations=options.iterations[-1:])
    steps = register(fixed, moving, options, initial=before.affine, start=() if arguments["anew"] else before.stages)
    with contextlib.closing(steps):
        for state in steps:
            check()
            transform, history = state.transform, state.history
    nodes = nodes_of(fixed.grid)
    shift = transform.deformation.forward.displacement_on(nodes)
    with staged_folder(arguments["output"]) as folder:
        transform.save(folder / REGISTERED)
        save_array(folder / SHIFT, shift.numpy())
    told = {"iterations": len(history), "shift_mm": float(shift.square().sum(-1).mean().sqrt())}
    return _told({"registered": REGISTERED, "shift": SHIFT}, told, time.perf_counter() - began)


def carry_image(arguments: Mapping[str, Any], check: Check) -> dict:
    """Take the mean out of the map of an image, and carry the image and its labels through it onto the template.

    Args:
        arguments: ``image``; ``labels``, or "". ``transform`` and ``update``: paths, or "" for the start, which brings
            the centre of the image onto that of ``grid`` if ``centred``. ``tolerance``: voxels. ``output``: the folder.
    """
    image = read_image(arguments["image"], "moving")
    if arguments["transform"]:
        transform = corrected(Transform.load(arguments["transform"]), Transform.load(arguments["update"]))
    else:
        transform = _start(Grid.from_dict(arguments["grid"]), image.grid, arguments["centred"])
    check()
    grid = transform.fixed_grid
    quick = folded(transform, (None, None), arguments["tolerance"]).forward
    through = sampled(transform.forward, None, arguments["tolerance"], quick=quick)
    way = through.map if through.faithful else transform.forward
    low, high = intensity_range(image.values, region(image, None), image.name)
    known = image.values if image.known is None else image.values.where(image.known, math.nan)
    values = carry(((known - low) / (high - low))[None], image.grid, way, grid, "linear", math.nan)[0]
    files = {"transform": CARRIED, "values": VALUES}
    with staged_folder(arguments["output"]) as folder:
        transform.save(folder / CARRIED)
        save_array(folder / VALUES, values.numpy())
        if arguments["labels"]:
            labels = seated(read_labels(arguments["labels"], "moving"), image)
            carried = carry(labels.values[None], labels.grid, way, grid, "nearest", 0)[0]
            save_array(folder / LABELS, carried.numpy())
            files["labels"] = LABELS
    return _told(files, {"low": low, "high": high})


def finish_image(arguments: Mapping[str, Any], check: Check) -> dict:
    """Write all that a registration writes, of an image and the template.

    Args:
        arguments: ``template``, ``image``, and ``template_labels`` and ``labels``, or "". ``transform``: its path.
            ``wanted``, ``grid_spacing``, ``tolerance``: as :func:`nephi.files.outputs.write_outputs` has them.
            ``seconds``, ``iterations``: of the registration. ``output``: the folder.
    """
    fixed, moving = read_image(arguments["template"]), read_image(arguments["image"], "moving")
    labels = {}
    if arguments["labels"]:
        labels = {"fixed_labels": read_labels(arguments["template_labels"]),
                  "moving_labels": seated(read_labels(arguments["labels"], "moving"), moving)}
    transform = Transform.load(arguments["transform"])
    sources = {"fixed": arguments["template"], "moving": arguments["image"]}
    run = Run(arguments["seconds"], transform.provenance.get("device", "cpu"), arguments["iterations"], sources=sources)
    with staged_folder(arguments["output"]) as folder:
        return write_outputs(transform, Pair(fixed, moving, **labels), run, folder, arguments["grid_spacing"],
                             lambda _: check(), arguments["wanted"], arguments["tolerance"])


def _start(template: Grid, image: Grid, centred: bool) -> Transform:
    matrix = np.eye(template.dim + 1)
    if centred:
        matrix[:-1, -1] = image.center - template.center
    return Transform(template, image, matrix)


def _told(files: Mapping[str, str], numbers: Mapping[str, float], seconds: float = 0.0) -> dict:
    """What a worker tells of an image: as a report, of which nothing was judged."""
    return {"files": dict(files), "verdict": None, "metrics": dict(numbers), "runtime": {"seconds": seconds}}
