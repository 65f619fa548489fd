"""Fixed and warped in one volume, a checkerboard or a difference, slab by slab as in :mod:`gradual`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from . import volume_nodes
from .node_geometry import same_geometry
from .slab_writing import empty
from .slabs import SLAB, Gradual, fill_slabs, slab_geometry, slab_slices
from .vtk_images import image_array, onto, oriented, transform_to_world, volume_matrix

SAMPLES = 1 << 17  # voxels that the range of a difference is taken from

Reader = Callable[[slice], np.ndarray]


def write_checkerboard(node: Any, fixed: Any, warped: Any, cells: int = 8) -> Gradual[None]:
    """Fill a volume node with the fixed and the warped volume in alternating cubes.

    Each is shown through its own window and level, so that images of different kinds can be compared.

    Args:
        node: a volume node of its own; call again when one of the others has changed.
        cells: along the longest side.

    Raises:
        NodeError: fixed or warped is no volume that can be read.
    """
    first = yield from volume_nodes.read_volume_gradually(fixed, "fixed")
    shape, spacing, read = first.array.shape, first.geometry["spacing"], (yield from _reader(warped, first.geometry))
    windows = _window(fixed), _window(warped)
    yield

    def mixed(part: slice) -> np.ndarray:
        pattern = checkerboard(shape, spacing, cells, part)
        return np.where(pattern, _windowed(read(part), *windows[1]), _windowed(first.array[part], *windows[0]))

    image = empty(shape, 1, np.uint8)
    yield from fill_slabs(image_array(image), mixed, SLAB // 8)
    _show(node, image, first.geometry, 0.0, 255.0)


def write_difference(node: Any, fixed: Any, warped: Any) -> Gradual[None]:
    """Fill a volume node with fixed minus warped, shown in grey around 0; call again when one of them has changed.

    Raises:
        NodeError: fixed or warped is no volume that can be read.
    """
    first = yield from volume_nodes.read_volume_gradually(fixed, "fixed")
    read = yield from _reader(warped, first.geometry)
    image = empty(first.array.shape, 1, np.float32)
    yield from fill_slabs(image_array(image), lambda part: np.subtract(first.array[part], read(part), dtype=np.float32),
                    SLAB // 8)
    every = max(2, int(np.ceil((first.array.size / SAMPLES) ** (1 / 3))))
    spread = float(np.percentile(np.abs(image_array(image)[::every, ::every, ::every]), 99.5)) or 1.0
    yield
    _show(node, image, first.geometry, -spread, spread)


def checkerboard(shape: Sequence[int], spacing: Sequence[float], cells: int, part: slice = slice(None)) -> np.ndarray:
    """A pattern of cubes, (k, j, i) bool, for voxels of a spacing (mm along i, j, k); False in the first corner.

    Args:
        part: the slices k to make.
    """
    steps = list(reversed(list(spacing)))
    side = max(n * step for n, step in zip(shape, steps)) / cells
    k, j, i = (((np.arange(n) + 0.5) * step / side).astype(int) for n, step in zip(shape, steps))
    return (k[part][:, None, None] + j[None, :, None] + i[None, None, :]) % 2 == 1


def _reader(warped: Any, geometry: dict) -> Gradual[Reader]:
    """Gives slices k of the warped volume on the fixed grid; it may be the moving volume under a transform."""
    transform = transform_to_world(warped)
    if transform is None:
        second = yield from volume_nodes.read_volume_gradually(warped, "warped")
        if same_geometry(geometry, second.geometry):
            return lambda part: second.array[part]
    image = oriented(warped.GetImageData(), volume_matrix(warped))
    voxels, background = image_array(image), np.inf
    for part in slab_slices(voxels.shape, 4 * SLAB):
        background = min(background, float(voxels[part].min()))
        yield
    return lambda part: onto(image, slab_geometry(geometry, part), transform, True, background)


def _window(node: Any) -> tuple[float, float]:
    """The values that a node's display shows as black and as white."""
    display = node.GetDisplayNode()
    if display is None:
        return node.GetImageData().GetScalarRange()
    return display.GetWindowLevelMin(), display.GetWindowLevelMax()


def _windowed(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Voxels as a display shows them, uint8."""
    scaled = (array.astype(np.float32) - low) * (255.0 / max(float(high - low), 1e-6))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _show(node: Any, image: Any, geometry: dict, low: float, high: float) -> None:
    volume_nodes.add_display(node)
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(low, high)
    volume_nodes.write_image(node, image, geometry)
