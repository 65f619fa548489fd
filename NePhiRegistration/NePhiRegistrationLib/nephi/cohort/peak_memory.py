"""How much memory pairs may take, and how many then run side by side."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import SimpleITK as sitk

AT_LEAST, PER_VOXEL = 0.8e9, 50.0
"""Bytes of any pair, and of each voxel of its two images: above all that docs/performance.md measured, by 10 % to
40 %."""


def estimated_peak(files: Mapping[str, str]) -> float:
    """Bytes that registering a pair may take, from the heads of its images."""
    return AT_LEAST + PER_VOXEL * sum(_voxels(files[role]) for role in ("fixed", "moving"))


def rounds(peaks: Sequence[float], workers: int, free: float) -> list[tuple[int, list[int]]]:
    """How to run pairs so that those side by side always fit into the free memory.

    Args:
        peaks: bytes of each pair.
        workers: that may run side by side.
        free: bytes for all of them.

    Returns:
        (workers, numbers of the pairs) of each round, the most workers first. A pair that does not even fit alone is
        in the last round.
    """
    planned, left = [], list(range(len(peaks)))
    while left:
        fit = [number for number in left if workers == 1 or peaks[number] <= free / workers]
        if fit:
            planned.append((min(workers, len(fit)), fit))
            left = [number for number in left if number not in set(fit)]
        workers = max(1, min(workers - 1, math.floor(free / min((peaks[number] for number in left), default=free))))
    return planned


def _voxels(path: str) -> float:
    """Of an image, by its head; of a folder, by its bytes, two a voxel."""
    if os.path.isdir(path):
        return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file()) / 2
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    with contextlib.suppress(RuntimeError):
        reader.ReadImageInformation()
        return float(math.prod(reader.GetSize()))
    return 0.0  # registering it says what is wrong
