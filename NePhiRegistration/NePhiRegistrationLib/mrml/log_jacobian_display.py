"""The log-Jacobian volume and its colours: blue shrinks, red grows, no change is clear, folds are yellow.

A volume has a colour table of its own, because its opacity carries the threshold and its ends follow the values; a
procedural colour node has no opacity.
"""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np
import slicer
import vtk

from . import color_legend
from .volume_nodes import add_display, write_image, write_volume

FULL = math.log(2.0)
"""The |log J| of full colour: volume halved or doubled. Beyond it the colour only darkens."""

FOLD = math.log(1e-3)
"""The value of folded voxels, the engine's own: log of the smallest determinant it takes a logarithm of."""

THRESHOLD = 0.05
"""Changes of volume below about 5 % are transparent unless asked for: they hide the anatomy and say little."""

FOLD_COLOR = (1.0, 210 / 255, 0.0)
"""Yellow, as in the engine's report: a colour that the scale does not have."""

OUTLIERS = 200
"""One in so many values may lie beyond the scale: a few extreme ones would leave no colour to all others."""

SAMPLES = 1 << 20  # about so many values tell the scale

ROLE = "NePhi.ColorsOf"  # marks a colour table as ours
EVERYWHERE = "NePhi.Everywhere"  # the reference from a log-Jacobian to the hidden volume with its other image
_EXTENT = "NePhi.Extent"
_THRESHOLD = "NePhi.Threshold"
_COLORS = 256  # what the display pipeline resolves
_LIMITS = (0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.5)  # ends of the scale; few, so that live updates do not flicker
_BLUE, _NAVY = np.array((0.11, 0.40, 0.85)), np.array((0.02, 0.10, 0.40))
_RED, _MAROON = np.array((0.87, 0.16, 0.12)), np.array((0.42, 0.02, 0.05))


def write_log_jacobian(node: Any, array: np.ndarray, geometry: dict) -> None:
    """Fill a volume node with the log-Jacobian and colour it.

    Args:
        node: a vtkMRMLScalarVolumeNode in a scene.
        array: (k, j, i) log of the determinant; folds are NaN or at most :data:`FOLD`.
        geometry: LPS mm.
    """
    values = cleaned(array)
    node.SetAttribute(_EXTENT, None)
    write_volume(node, values, geometry)
    show_scale(node, scale_end(largest(values)))


def write_images(node: Any, limited: vtk.vtkImageData, whole: vtk.vtkImageData, geometry: dict, end: float) -> None:
    """As :func:`write_log_jacobian`, for cleaned values in images, which become the node's own.

    Args:
        limited: 0 where nothing was compared; this is shown.
        whole: for :func:`show_everywhere`; it stays in a hidden volume that is not saved with the scene.
        end: of the scale.
    """
    add_display(node)
    node.GetDisplayNode().SetAutoWindowLevel(False)  # its own range follows, and nobody shall look for another
    node.SetAttribute(_EXTENT, None if limited is whole else "compared")
    if limited is not whole:
        _other(node).SetAndObserveImageData(whole)
    write_image(node, limited, geometry)
    show_scale(node, end)


def shows_everywhere(node: Any) -> Optional[bool]:
    """Whether a log-Jacobian is shown where nothing was compared too; None where there is no choice, as in a scene that
    was saved."""
    extent = node.GetAttribute(_EXTENT)
    return None if extent is None or node.GetNodeReference(EVERYWHERE) is None else extent == "everywhere"


def show_everywhere(node: Any, everywhere: bool) -> None:
    """Show a log-Jacobian everywhere, or only where images were compared; nothing happens without a choice."""
    if shows_everywhere(node) in (None, everywhere):
        return
    other = node.GetNodeReference(EVERYWHERE)
    shown, hidden = node.GetImageData(), other.GetImageData()
    node.SetAttribute(_EXTENT, "everywhere" if everywhere else "compared")
    other.SetAndObserveImageData(shown)
    node.SetAndObserveImageData(hidden)


def cleaned(array: np.ndarray) -> np.ndarray:
    """Log-Jacobians as float32 in memory of their own, all of them numbers, and folds :data:`FOLD`."""
    values = np.array(array, dtype=np.float32)
    np.nan_to_num(values, copy=False, nan=FOLD, neginf=FOLD, posinf=-FOLD)
    return np.maximum(values, np.float32(FOLD), out=values)


def largest(values: np.ndarray, compared: Optional[np.ndarray] = None) -> float:
    """The absolute value that all but one in :data:`OUTLIERS` of cleaned log-Jacobians keep, folds apart.

    Args:
        compared: (k, j, i) bool, where they count.
    """
    every = (slice(None, None, max(1, int((values.size / SAMPLES) ** (1 / 3)))),) * values.ndim
    values = values[every]
    regular = values > FOLD + 1e-3 if compared is None else (values > FOLD + 1e-3) & compared[every]
    return float(np.quantile(np.abs(values[regular]), 1 - 1 / OUTLIERS)) if regular.any() else 0.0


def scale_end(value: float) -> float:
    """The end of the scale: the first of a few that a value lies within, clear of the colour of folds."""
    return next((limit for limit in _LIMITS if value <= 0.99 * limit), _LIMITS[-1])


def set_colors(node: Any, threshold: Optional[float] = None) -> None:
    """Colour a volume that holds a log-Jacobian, or change its threshold.

    Args:
        threshold: values closer to 0 than this are transparent; above all values, only folds are left. None keeps what
            was set.
    """
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    limit = node.GetDisplayNode().GetWindowLevelMax() if is_colored(node) else \
        scale_end(largest(slicer.util.arrayFromVolume(node)))
    show_scale(node, limit, threshold)


def is_colored(node: Any) -> bool:
    """Whether a volume has the colours of a log-Jacobian, and so holds one that was written here."""
    display = node.GetDisplayNode()
    return display is not None and _is_ours(display.GetColorNode())


def show_legend(node: Any, visible: bool = True) -> Any:
    """Show or hide the colour legend of a log-Jacobian volume; its display node, or None where Slicer has none."""
    return color_legend.show_legend(node, "log J", visible)


def show_scale(node: Any, limit: float, threshold: Optional[float] = None) -> None:
    """Put the colours and the range of the scale on a volume that has a display."""
    table, display = _color_table(node), node.GetDisplayNode()
    if threshold is None:
        threshold = float(table.GetAttribute(_THRESHOLD) or THRESHOLD)
    _fill(table, limit, threshold)
    modified = display.StartModify()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(-limit, limit)
    display.SetInterpolate(True)  # a fold is far below the scale: it grows by less than a voxel and is easier to find
    display.SetAndObserveColorNodeID(table.GetID())
    display.EndModify(modified)


def _other(node: Any) -> Any:
    """The hidden volume beside a log-Jacobian, made on first use."""
    other = node.GetNodeReference(EVERYWHERE)
    if other is None:
        other = slicer.vtkMRMLScalarVolumeNode()
        other.SetName(f"{node.GetName()} everywhere")
        other.SetHideFromEditors(True)
        other.SetSaveWithScene(False)
        node.GetScene().AddNode(other)
        node.SetNodeReferenceID(EVERYWHERE, other.GetID())
    return other


def _is_ours(color: Any) -> bool:
    return color is not None and color.GetAttribute(ROLE) is not None


def _color_table(node: Any) -> Any:
    """The volume's own table, made on first use."""
    current = node.GetDisplayNode().GetColorNode()
    if _is_ours(current):
        return current
    table = node.GetScene().AddNewNodeByClass("vtkMRMLColorTableNode", f"{node.GetName()} colours")
    table.SetTypeToUser()
    table.SetAttribute(ROLE, "log-Jacobian")
    table.SetAttribute("Category", "NePhi")
    table.SetNumberOfColors(_COLORS)
    return table


def _fill(table: Any, limit: float, threshold: float) -> None:
    values, colors = _scale(limit), _colors(limit, threshold)
    modified = table.StartModify()
    table.SetAttribute(_THRESHOLD, repr(float(threshold)))
    for index, (value, color) in enumerate(zip(values, colors)):
        name = "fold" if index == 0 else f"{value:.3f}"  # a colour without a name is left out of the legend
        table.SetColor(index, name, *color.tolist())
    table.EndModify(modified)


def _scale(limit: float) -> np.ndarray:
    """The value of each colour, from -limit to limit; the first entry is for folds, which lie below."""
    return np.linspace(-limit, limit, _COLORS)


def _colors(limit: float, threshold: float) -> np.ndarray:
    """(256, 4) RGBA of :func:`_scale`. Slicer knows only clear and not clear, so nothing fades into clear."""
    value = _scale(limit)[:, None]
    size = np.abs(value)
    near = np.clip(size / FULL, 0, 1)
    beyond = np.clip((size - FULL) / FULL, 0, 1)
    full = np.where(value < 0, _BLUE, _RED)
    dark = np.where(value < 0, _NAVY, _MAROON)
    rgb = 1 + near**0.7 * (full - 1) + beyond * (dark - full)
    clear = size < max(threshold, 0.6 * float(value[1, 0] - value[0, 0]))  # at least the two colours beside 0
    rgba = np.hstack([rgb, np.where(clear, 0.0, 1.0)])
    rgba[0] = (*FOLD_COLOR, 1.0)
    return np.clip(rgba, 0, 1)
