"""A film of a series: its frames as they are, and below them carried onto the reference, where they should stand still.

An animated PNG: every browser plays it, it has all grey values, and it is a PNG with three more kinds of chunks, so it
needs no library.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .planes import Plane, packed_rows, png_file, window

LARGEST = 320  # pixels along a slice; larger ones are thinned out
GAP = 4  # pixels between slices


class Film:
    """Pictures collected frame by frame.

    Args:
        planes: the slices to show.
        reference: the image that fixes the grey values, (*grid.shape).
    """

    def __init__(self, planes: Sequence[Plane], reference: Tensor) -> None:
        self._planes, self.pictures = tuple(planes), []
        shown = torch.cat([plane.cut(reference).flatten() for plane in self._planes]).float().numpy()
        self._range = tuple(float(q) for q in np.percentile(shown, (0.5, 99.5)))

    def add(self, frame: Tensor, warped: Tensor) -> None:
        """The next frame as it is, and carried onto the reference, (*grid.shape) each."""
        self.pictures.append(np.concatenate([self._row(frame), self._row(warped)]))

    def _row(self, values: Tensor) -> np.ndarray:
        slices = [self._slice(plane, values) for plane in self._planes]
        height = max(len(picture) for picture in slices) + GAP
        return np.concatenate([np.pad(picture, ((0, height - len(picture)), (0, GAP))) for picture in slices], axis=1)

    def _slice(self, plane: Plane, values: Tensor) -> np.ndarray:
        pixels = plane.pixels(values)
        every = math.ceil(max(pixels.shape) / LARGEST)
        return np.round(255 * window(np.nan_to_num(pixels[::every, ::every]), *self._range)).astype(np.uint8)


def animated_png(pictures: Sequence[np.ndarray], seconds: float = 0.25) -> bytes:
    """Pictures of one size, uint8 grey (rows, columns) or RGB (rows, columns, 3), that play for ever.

    Args:
        seconds: that each is shown.
    """
    rows, columns = pictures[0].shape[:2]
    chunks, sequence = [(b"acTL", struct.pack(">II", len(pictures), 0))], 0
    for number, picture in enumerate(pictures):
        place = struct.pack(">IIIIIHHBB", sequence, columns, rows, 0, 0, round(1000 * seconds), 1000, 0, 0)
        data = packed_rows(picture)
        chunks += [(b"fcTL", place), (b"fdAT", struct.pack(">I", sequence + 1) + data) if number else (b"IDAT", data)]
        sequence += 2 if number else 1
    return png_file(pictures[0], chunks)
