"""Work on large grids a few slices at a time, for callers that give the window a turn between two steps."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Callable, TypeVar

import numpy as np

SLAB = 1 << 20  # values in a step: a few milliseconds

T = TypeVar("T")
Gradual = Generator[None, None, T]
"""Work in small steps with a result: ``made = yield from work``, or :func:`run_now`."""


def run_now(work: Gradual[T]) -> T:
    """Do all steps now; their result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def slab_slices(shape: tuple, most: int = SLAB) -> Iterator[slice]:
    """The slices k of an array (k, j, i, ...) in pieces of at most so many values, one slice at least."""
    height = max(1, most // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], height):
        yield slice(start, min(start + height, shape[0]))


def fill_slabs(target: np.ndarray, make: Callable[[slice], np.ndarray], most: int = SLAB) -> Gradual[None]:
    """Fill an array (k, j, i, ...), a few slices in each step.

    Args:
        make: gives the values of slices k.
        most: values in a step.
    """
    for part in slab_slices(target.shape, most):
        target[part] = make(part)
        yield


def slab_geometry(geometry: dict, part: slice) -> dict:
    """The geometry of some slices k of a grid."""
    i, j, k = geometry["size"]
    start, stop, _ = part.indices(k)
    along_k = np.asarray(geometry["direction"], float).reshape(3, 3)[:, 2] * geometry["spacing"][2]
    origin = np.asarray(geometry["origin"]) + start * along_k
    return {**geometry, "size": [i, j, stop - start], "origin": origin.tolist()}
