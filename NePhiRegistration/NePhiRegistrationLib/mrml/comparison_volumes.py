"""Fixed and warped in one volume, a checkerboard or a difference, slab by slab as in :mod:`gradual`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

import numpy as np

from . import volume_nodes
from .deformation_nodes import mapped
from .node_geometry import ijk_to_ras, same_geometry
from .slab_writing import empty
from .slabs import SLAB, Gradual, fill_slabs, slab_geometry, slab_slices
from .vtk_images import image_array, new_image, onto, oriented, transform_to_world, volume_matrix

EVERY = 4  # voxels between the points at which it is looked whether there is data
COLORS = "NePhi.DifferenceColors"  # the reference from a difference to its colour table
DIVERGING = np.array([[5, 48, 97], [67, 147, 195], [250, 250, 250], [214, 96, 77], [103, 0, 31]])  # as in the report
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


def write_difference(node: Any, fixed: Any, warped: Any, moving: Any = None, forward: Any = None) -> Gradual[None]:
    """Fill a volume node with fixed minus warped: red where fixed is brighter, blue where it is darker, and 0 where the
    warped volume has no data. Call it again when one of them has changed.

    Args:
        moving, forward: the volume that was warped and the transform node that did it, which say where there is data;
            without them there is data everywhere. A volume that lies under its transform says so itself.

    Raises:
        NodeError: fixed or warped is no volume that can be read.
    """
    first = yield from volume_nodes.read_volume_gradually(fixed, "fixed")
    read = yield from _reader(warped, first.geometry)
    inside = _data(warped, volume_matrix(warped), transform_to_world(warped), first.geometry)
    if moving is not None and forward is not None and transform_to_world(warped) is None:
        inside = _data(moving, volume_nodes.place(moving, forward)[0], forward.GetTransformToParent(), first.geometry)
    yield

    def difference(part: slice) -> np.ndarray:
        return np.where(inside(part), np.subtract(first.array[part], read(part), dtype=np.float32), 0)

    image = empty(first.array.shape, 1, np.float32)
    yield from fill_slabs(image_array(image), difference, SLAB // 8)
    every = max(2, int(np.ceil((first.array.size / SAMPLES) ** (1 / 3))))
    spread = float(np.percentile(np.abs(image_array(image)[::every, ::every, ::every]), 99.5)) or 1.0
    yield
    _show(node, image, first.geometry, -spread, spread)
    node.GetDisplayNode().SetAndObserveColorNodeID(_diverging(node).GetID())


def _data(volume: Any, place: Optional[np.ndarray], to_world: Any, geometry: dict) -> Reader:
    """Says of slices k of a grid where a volume, placed by a (4, 4) matrix under a transform, has voxels; everywhere
    without one of the two.

    The distance from the border of its field of view, in voxels, is taken at every fourth point: it changes slowly.
    """
    if place is None or to_world is None:
        return lambda part: np.True_
    coarse = {**geometry, "size": [n // EVERY + 2 for n in geometry["size"]],
              "spacing": [EVERY * step for step in geometry["spacing"]]}
    points = np.moveaxis(np.indices(tuple(reversed(coarse["size"]))), 0, -1).reshape(-1, 3)[:, ::-1]
    matrix, back = ijk_to_ras(coarse), np.linalg.inv(place)
    there = mapped(to_world.GetInverse(), points @ matrix[:3, :3].T + matrix[:3, 3]) @ back[:3, :3].T + back[:3, 3]
    size = np.asarray(volume.GetImageData().GetDimensions())
    depth = np.minimum(there + 0.5, size - 0.5 - there).min(1).reshape(tuple(reversed(coarse["size"])))
    image = oriented(new_image(depth.astype(np.float32)), matrix)
    return lambda part: onto(image, slab_geometry(geometry, part), None, True, -1.0) >= 0


def _diverging(node: Any) -> Any:
    """The colour table of a difference, made on first use: blue below 0, red above, light at 0."""
    table = node.GetNodeReference(COLORS)
    if table is None:
        table = node.GetScene().AddNewNodeByClass("vtkMRMLColorTableNode", f"{node.GetName()} colours")
        table.SetHideFromEditors(True)
        table.SetSaveWithScene(False)
        table.SetTypeToUser()
        table.SetNumberOfColors(255)
        at, stops = np.linspace(0, 1, 255), np.linspace(0, 1, len(DIVERGING))
        for index, color in enumerate(zip(*(np.interp(at, stops, part) / 255 for part in DIVERGING.T))):
            table.SetColor(index, str(index), *color, 1.0)
        node.SetNodeReferenceID(COLORS, table.GetID())
    return table


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
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    volume_nodes.write_image(node, image, geometry)
