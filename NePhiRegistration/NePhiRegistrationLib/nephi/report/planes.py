"""Slices as a radiologist expects them, and pixels as a browser does.

Axial, coronal and sagittal slices of a 3D grid whose axes are near the body's: the patient's right is on the left,
anterior is up (axial) or left (sagittal), superior is up. A 2D grid has one plane, as stored.
"""

from __future__ import annotations

import base64
import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Grid

LARGEST_PICTURE = 720
"""Pixels along the longest side; larger slices are averaged down."""

# name: (world axis across, world axis down, points downwards along +axis, world axis of the normal, edge letters)
_VIEWS = {
    "axial": (0, 1, True, 2, "RLAP"),
    "coronal": (0, 2, False, 1, "RLSI"),
    "sagittal": (1, 2, False, 0, "APSI"),
}


@dataclass(frozen=True)
class Plane:
    """One slice through a grid and how to lay it out.

    Attributes:
        name: "axial", "coronal", "sagittal", or "image" in 2D.
        grid: the grid that is cut.
        across, down: the index axis (0 = i) that runs across and down the picture.
        flip_across, flip_down: whether it runs backwards.
        normal: the index axis that is cut, None in 2D, and ``index`` where.
        letters: patient directions at the left, right, top and bottom edge; empty when unknown.
        tilt: degrees between the grid's axes and the body's.
    """

    name: str
    grid: Grid
    across: int
    down: int
    flip_across: bool
    flip_down: bool
    normal: Optional[int]
    index: int
    letters: str
    tilt: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height in mm."""
        return float(self.grid.extent[self.across]), float(self.grid.extent[self.down])

    @property
    def pixel_mm(self) -> float:
        """The side of a square pixel in mm: the finer of the two spacings, coarser for very large slices."""
        finest = min(self.grid.spacing[self.across], self.grid.spacing[self.down])
        return max(finest, max(self.size_mm) / LARGEST_PICTURE)

    def cut(self, values: Tensor) -> Tensor:
        """The slice of an array on the grid, (rows, columns) as stored voxels, oriented."""
        order = (self.down, self.across) if self.normal is None else (self.normal, self.down, self.across)
        values = values.detach().cpu().permute([self.grid.dim - 1 - axis for axis in order])
        picture = values if self.normal is None else values[self.index]
        return picture.flip([d for d, flip in enumerate((self.flip_down, self.flip_across)) if flip])

    def pixels(self, values: Tensor, nearest: bool = False) -> np.ndarray:
        """The slice in square pixels of :attr:`pixel_mm`, (rows, columns) float32."""
        width, height = self.size_mm
        shape = max(1, round(height / self.pixel_mm)), max(1, round(width / self.pixel_mm))
        stored = self.cut(values).to(torch.float32)[None, None]
        if nearest:
            return F.interpolate(stored, shape, mode="nearest-exact")[0, 0].numpy()
        return F.interpolate(stored, shape, mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy()

    def to_world(self, x: Tensor, y: Tensor) -> Tensor:
        """World points, (n, d) LPS mm, of picture positions in mm from the left and the top edge, (n) each."""
        index = torch.full((len(x), self.grid.dim), float(self.index), dtype=torch.float64)
        for axis, position, flip in ((self.across, x, self.flip_across), (self.down, y, self.flip_down)):
            along = position.to(torch.float64) / self.grid.spacing[axis] - 0.5
            index[:, axis] = self.grid.size[axis] - 1 - along if flip else along
        return self.grid.to_world(index)

    def to_picture(self, world: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of :meth:`to_world`, seen along the normal."""
        index = self.grid.to_index(world.cpu().to(torch.float64))
        result = []
        for axis, flip in ((self.across, self.flip_across), (self.down, self.flip_down)):
            along = self.grid.size[axis] - 1 - index[:, axis] if flip else index[:, axis]
            result.append((along + 0.5) * self.grid.spacing[axis])
        return result[0], result[1]


def planes(grid: Grid, inside: Optional[Tensor] = None) -> list[Plane]:
    """Axial, coronal and sagittal planes of a 3D grid, or the one plane of a 2D grid.

    Args:
        inside: (*grid.shape) bool; each plane goes where most of it lies, through the middle without it.
    """
    order = max(itertools.permutations(range(grid.dim)),
                key=lambda p: sum(abs(grid.axes[world, axis]) for world, axis in enumerate(p)))
    sign = [float(np.sign(grid.axes[world, axis])) for world, axis in enumerate(order)]
    closest = min(abs(grid.axes[world, axis]) for world, axis in enumerate(order))
    tilt = math.degrees(math.acos(min(1.0, closest)))
    if grid.dim == 2:
        return [Plane("image", grid, order[0], order[1], sign[0] < 0, sign[1] < 0, None, 0, "", tilt)]
    result = []
    for name, (across, down, downwards, normal, letters) in _VIEWS.items():
        axis, upside_down = order[normal], (sign[down] > 0) != downwards
        result.append(Plane(name, grid, order[across], order[down], sign[across] < 0, upside_down, axis,
                            _fullest(grid, axis, inside), letters, tilt))
    return result


def _fullest(grid: Grid, axis: int, inside: Optional[Tensor]) -> int:
    """The slice across an index axis with most voxels inside, smoothed so that the middle of a plateau wins."""
    if inside is None or not bool(inside.any()):
        return grid.size[axis] // 2
    others = [a for a in range(grid.dim) if a != grid.dim - 1 - axis]
    area = np.count_nonzero(inside.cpu().numpy(), axis=tuple(others)).astype(float)
    width = max(1, len(area) // 8)
    return int(np.convolve(area, np.hanning(width + 2)[1:-1], mode="same").argmax())


def window(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Intensities between low and high as 0 to 1, clamped."""
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)


def checkerboard(a: np.ndarray, b: np.ndarray, square: int) -> np.ndarray:
    """Alternating squares of two pictures, ``square`` pixels a side."""
    rows, columns = np.indices(a.shape) // max(1, square)
    return np.where((rows + columns) % 2 == 0, a, b)


def magenta_green(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Fixed in magenta over moving in green, (rows, columns, 3): grey where they agree."""
    return np.stack([fixed, moving, fixed], axis=-1)


_DIVERGING = np.array([[5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [250, 250, 250],
                       [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31]]) / 255.0
FOLD_COLOUR = (255, 210, 0)
"""Yellow, as the Slicer module shows folds."""


def diverging(values: np.ndarray, limit: float) -> np.ndarray:
    """Blue for negative, white for zero, red for positive, (rows, columns, 3); full colour at +-limit."""
    position = (np.clip(values / limit, -1, 1) + 1) / 2 * (len(_DIVERGING) - 1)
    stops = np.arange(len(_DIVERGING))
    return np.stack([np.interp(position, stops, _DIVERGING[:, channel]) for channel in range(3)], axis=-1)


def diverging_css() -> str:
    """The same colours as a CSS gradient, from negative to positive."""
    return "linear-gradient(90deg," + ",".join(f"rgb({r:.0f},{g:.0f},{b:.0f})" for r, g, b in _DIVERGING * 255) + ")"


def data_uri(picture: np.ndarray) -> str:
    """A picture of 0 to 1, grey (rows, columns) or colour (rows, columns, 3), as a PNG in a data URI."""
    return "data:image/png;base64," + base64.b64encode(png(eight_bits(picture))).decode("ascii")


def eight_bits(picture: np.ndarray) -> np.ndarray:
    """A picture of 0 to 1 as uint8."""
    return np.round(np.clip(np.nan_to_num(picture), 0, 1) * 255).astype(np.uint8)


def png(picture: np.ndarray) -> bytes:
    """Encode uint8 grey (rows, columns) or RGB (rows, columns, 3) as PNG."""
    return png_file(picture, [(b"IDAT", packed_rows(picture))])


def packed_rows(picture: np.ndarray) -> bytes:
    """The pixels of a picture as PNG packs them. Each row starts with the number of its filter: 0, none."""
    rows = np.concatenate([np.zeros((len(picture), 1), np.uint8), picture.reshape(len(picture), -1)], axis=1)
    return zlib.compress(rows.tobytes(), 9)


def png_file(picture: np.ndarray, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of chunks, each a kind and its data, with the header of a picture."""
    header = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 8, 2 if picture.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), *chunks, (b"IEND", b"")))
