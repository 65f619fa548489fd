"""The error that is left as a volume over the fixed one: smooth between distinctive points, clear where there are none.

What is known is kept with the table of a result; the volume is made of it when somebody asks.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Optional

import numpy as np

from ..i18n import tr as _
from . import color_legend
from .belongings import SIDE
from .node_error import NodeError
from .volume_nodes import write_volume

ATTRIBUTE = "NePhi.Residual"
"""The attribute of a table node with the distinctive points and the error at each, as JSON."""

MAP = "NePhi.ErrorMap"
"""The reference from a table node to the volume of :func:`volume`."""

UNKNOWN = -1.0
"""The value where no distinctive point is near."""

LONGEST = 96  # voxels of a side: as fine as it is known, and made in a tenth of a second
NEIGHBOUR = 2  # the distance to this nearest point is how far a point's error is carried
NEAR = 2.0  # points, by their weights, that tell the error of a place; what one point shows may be chance
SMALLEST = 0.01  # of the scale: less is written as this
_MADE_OF = "NePhi.MadeOf"
_COLORS = 256
_SHADES = np.array([(1.0, 0.98, 0.80), (0.99, 0.72, 0.30), (0.84, 0.26, 0.15), (0.40, 0.02, 0.30)])


def store(table: Any, residual: Optional[dict]) -> None:
    """Keep ``residual_mm`` of a report with its table node."""
    kept = None if not residual else {name: residual[name] for name in ("at", "distances", "reach", "voxel")}
    table.SetAttribute(ATTRIBUTE, None if kept is None else json.dumps(kept))


def present(table: Any) -> bool:
    """Whether a table node, or None, has what a map is made of."""
    return table is not None and _load(table) is not None


def made(table: Any) -> Any:
    """The volume of :func:`volume`, or None where the table, or None, has none yet."""
    return None if table is None else table.GetNodeReference(MAP)


def volume(table: Any, geometry: dict) -> Any:
    """The error that is left as a scalar volume node, in mm, :data:`UNKNOWN` where there is no evidence.

    Args:
        table: of the result.
        geometry: of the fixed volume, LPS mm; the map covers it, with voxels as large as it is known.

    Returns:
        The vtkMRMLScalarVolumeNode, made when the table has none yet, and filled again when the result is another.

    Raises:
        NodeError: the table has no error at distinctive points.
    """
    found, text = _load(table), table.GetAttribute(ATTRIBUTE)
    if found is None:
        raise NodeError(_("'{name}' has no error at distinctive points; register with this table among the outputs."
                          ).format(name=table.GetName()))
    scene, node = table.GetScene(), made(table)
    if node is None:
        name = scene.GenerateUniqueName(_("Estimated error"))
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetAttribute(SIDE, "fixed")
        table.SetNodeReferenceID(MAP, node.GetID())
    made_of = str(zlib.crc32((text + json.dumps(geometry)).encode()))
    if node.GetAttribute(_MADE_OF) != made_of or node.GetImageData() is None:
        grid = coarse(geometry)
        values = interpolated(*found, grid)
        end = scale_end(max(float(values.max()), found[2]))  # an error within a voxel of the search is not large
        # The first colour is clear, and no error shall differ from no evidence.
        write_volume(node, np.where(values >= 0, np.maximum(values, SMALLEST * end), values), grid)
        _color(node, end)
        node.SetAttribute(_MADE_OF, made_of)
    return node


def show_legend(node: Any, visible: bool = True) -> None:
    """Show or hide the colour legend of an error map."""
    color_legend.show_legend(node, _("error, mm"), visible)


def coarse(geometry: dict) -> dict:
    """The same field of view with at most :data:`LONGEST` voxels along each side."""
    size = [min(n, LONGEST) for n in geometry["size"]]
    spacing = [step * n / fewer for step, n, fewer in zip(geometry["spacing"], geometry["size"], size)]
    shift = np.reshape(geometry["direction"], (3, 3)) @ (np.subtract(spacing, geometry["spacing"]) / 2)
    return {**geometry, "size": size, "spacing": spacing, "origin": (np.asarray(geometry["origin"]) + shift).tolist()}


def interpolated(points: np.ndarray, errors: np.ndarray, finest: float, geometry: dict) -> np.ndarray:
    """Errors between the points at which they are known: means with the weights of a Gaussian.

    The rule is the engine's (``nephi.judge.error_map``), which Slicer's process never imports.

    Args:
        points: (n, 3) LPS mm.
        errors: (n,) mm.
        finest: mm, the smallest width of the Gaussian, which else follows the points' distances.
        geometry: LPS mm.

    Returns:
        (k, j, i) float32 mm, :data:`UNKNOWN` where less than :data:`NEAR` points are near.
    """
    axes = np.reshape(geometry["direction"], (3, 3))
    apart = np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)
    width = max(finest, float(np.median(apart[:, min(NEIGHBOUR, len(points) - 1)])))
    at = (points - geometry["origin"]) @ axes
    i, j, k = (np.exp(-0.5 * ((np.arange(n) * step - at[:, axis, None]) / width) ** 2)
               for axis, (n, step) in enumerate(zip(geometry["size"], geometry["spacing"])))
    plane = (j[:, :, None] * i[:, None]).reshape(len(points), -1)
    near, total = ((k * weight).T @ plane for weight in (1.0, errors[:, None]))
    values = np.where(near >= NEAR, total / np.maximum(near, NEAR), UNKNOWN)
    return values.reshape(geometry["size"][::-1]).astype(np.float32)


def _load(table: Any) -> Optional[tuple[np.ndarray, np.ndarray, float]]:
    """Points, errors (a point not found counts as the reach), and the finest distance; None where they were edited."""
    try:
        kept = json.loads(table.GetAttribute(ATTRIBUTE) or "null")
        points = np.asarray(kept["at"], float)
        errors = np.asarray([kept["reach"] if mm is None else mm for mm in kept["distances"]], float)
        finest = float(kept["voxel"])
    except (ValueError, KeyError, TypeError):
        return None
    sound = points.ndim == 2 and points.shape == (len(errors), 3) and len(errors) > 1 and finest > 0
    return (points, errors, finest) if sound and np.isfinite(points).all() and np.isfinite(errors).all() else None


def scale_end(largest: float) -> float:
    """The end of the colours in mm: 1, 2 or 5 times a power of ten, so that few maps differ in it."""
    power = 10.0 ** np.floor(np.log10(largest))
    return float(next(power * step for step in (1, 2, 5, 10) if largest <= power * step * (1 + 1e-6)))


def _color(node: Any, end: float) -> None:
    """From pale for no error to dark for the end of the scale, mm; what is not known is clear."""
    display = node.GetDisplayNode()
    table = display.GetColorNode()
    if table is None or table.GetAttribute(MAP) is None:
        table = node.GetScene().AddNewNodeByClass("vtkMRMLColorTableNode", f"{node.GetName()} colours")
        table.SetTypeToUser()
        table.SetAttribute(MAP, "colours")
        table.SetAttribute("Category", "NePhi")
        table.SetNumberOfColors(_COLORS)
    values = np.linspace(0, end, _COLORS)
    shades = [np.interp(values, np.linspace(0, end, len(_SHADES)), part) for part in _SHADES.T]
    modified = table.StartModify()
    for index, (value, color) in enumerate(zip(values, zip(*shades))):
        table.SetColor(index, f"{value:.3f}", *color, 1.0 if index else 0.0)
    table.EndModify(modified)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, end)
    display.SetAndObserveColorNodeID(table.GetID())
