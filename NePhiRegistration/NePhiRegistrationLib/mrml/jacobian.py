"""The log-Jacobian volume and its colours: blue shrinks, red grows, no change is clear, folds are magenta.

A volume has a colour table of its own, because its opacity carries the threshold and its ends follow the values; a
procedural colour node has no opacity.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import slicer

from .volumes import write_volume

FULL = math.log(2.0)
"""The |log J| of full colour: volume halved or doubled. Beyond it the colour only darkens."""

FOLD = math.log(1e-3)
"""The value of folded voxels, the engine's own: log of the smallest determinant it takes a logarithm of."""

FOLD_COLOR = (1.0, 0.0, 1.0)
ROLE = "NePhi.ColorsOf"  # marks a colour table as ours
_COLORS = 256  # what the display pipeline resolves
_LIMITS = (0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.5)  # ends of the scale; few, so that live updates do not flicker
_BLUE, _NAVY = np.array((0.11, 0.40, 0.85)), np.array((0.02, 0.10, 0.40))
_RED, _MAROON = np.array((0.87, 0.16, 0.12)), np.array((0.42, 0.02, 0.05))


def write_log_jacobian(node: Any, array: np.ndarray, geometry: dict, threshold: float = 0.0) -> None:
    """Fill a volume node with the log-Jacobian and colour it.

    Args:
        node: a vtkMRMLScalarVolumeNode in a scene.
        array: (k, j, i) log of the determinant; folds are NaN or at most :data:`FOLD`.
        geometry: LPS mm.
        threshold: values closer to 0 than this are transparent.
    """
    values = np.array(array, dtype=np.float32)
    np.nan_to_num(values, copy=False, nan=FOLD, neginf=FOLD, posinf=-FOLD)
    write_volume(node, np.maximum(values, np.float32(FOLD)), geometry)
    set_colors(node, threshold)


def set_colors(node: Any, threshold: float = 0.0) -> None:
    """Give a log-Jacobian volume its colour table and a range centred on 0; values closer to 0 than ``threshold`` are
    transparent. Also the way to change the threshold."""
    limit = _limit(node)
    display, table = node.GetDisplayNode(), _color_table(node)
    _fill(table, limit, threshold)
    step = limit / (_COLORS // 2 - 1)
    modified = display.StartModify()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(-limit - step, limit)  # one colour below the scale is left for folds
    display.SetInterpolate(False)  # a blend of a fold and its neighbour would take the colour of neither
    if display.GetColorNodeID() != table.GetID():
        display.SetAndObserveColorNodeID(table.GetID())
    display.EndModify(modified)


def fold_count(node: Any) -> int:
    """The number of folded voxels of a log-Jacobian volume."""
    return int(np.count_nonzero(slicer.util.arrayFromVolume(node) <= FOLD + 1e-3))


def show_legend(node: Any, visible: bool = True) -> Any:
    """Show or hide the colour legend of a log-Jacobian volume; its display node, or None where Slicer has none."""
    logic = getattr(slicer, "vtkSlicerColorLogic", None)
    if logic is None or not node.GetScene().IsNodeClassRegistered("vtkMRMLColorLegendDisplayNode"):
        return None
    legend = logic.GetColorLegendDisplayNode(node)
    if legend is None and visible:
        legend = logic.AddDefaultColorLegendDisplayNode(node.GetDisplayNode())
        legend.SetTitleText("log J")
        legend.SetLabelFormat("%.2g")
    if legend is not None:
        legend.SetVisibility(visible)
    return legend


def _limit(node: Any) -> float:
    """The end of the scale: the first of a few that all values but folds lie within."""
    values = slicer.util.arrayFromVolume(node)
    regular = values[values > FOLD + 1e-3]
    largest = float(np.abs(regular).max()) if regular.size else 0.0
    return next((limit for limit in _LIMITS if largest <= limit), _LIMITS[-1])


def _color_table(node: Any) -> Any:
    """The volume's own table, made on first use."""
    current = node.GetDisplayNode().GetColorNode()
    if current is not None and current.GetAttribute(ROLE) is not None:
        return current
    table = node.GetScene().AddNewNodeByClass("vtkMRMLColorTableNode", f"{node.GetName()} colours")
    table.SetTypeToUser()
    table.SetAttribute(ROLE, "log-Jacobian")
    table.SetAttribute("Category", "NePhi")
    table.SetNumberOfColors(_COLORS)
    return table


def _fill(table: Any, limit: float, threshold: float) -> None:
    modified = table.StartModify()
    for index, color in enumerate(_colors(limit, threshold)):
        table.SetColor(index, "fold" if index == 0 else "", *color.tolist())
    table.EndModify(modified)


def _colors(limit: float, threshold: float) -> np.ndarray:
    """(256, 4) RGBA: entry 0 is folds, 1 to 255 run from -limit to limit with 0 in the middle."""
    middle = _COLORS // 2
    value = (np.arange(_COLORS) - middle) * limit / (middle - 1)
    size = np.abs(value)[:, None]
    near = np.clip(size / FULL, 0, 1)
    beyond = np.clip((size - FULL) / FULL, 0, 1)
    shrinks = value[:, None] < 0
    full = np.where(shrinks, _BLUE, _RED)
    dark = np.where(shrinks, _NAVY, _MAROON)
    rgb = (1 - near) + near * full + beyond * (dark - full)
    alpha = np.where(size < threshold, 0.0, np.sqrt(near))
    rgba = np.hstack([rgb, alpha])
    rgba[0] = (*FOLD_COLOR, 1.0)
    return np.clip(rgba, 0, 1)
