"""The deformation made visible: the moving volume carried by a transform, bent grids and arrows in slice views."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import slicer
import vtk

from .deformation_nodes import deformation
from .node_geometry import ijk_to_ras, vtk_matrix
from .slab_writing import empty
from .slabs import Gradual, fill_slabs
from .volume_nodes import add_display, checked_kind, copy_display, place, read_volume_gradually
from .vtk_images import image_array, volume_matrix

_RESAMPLED = "NePhi.Resampled"
LINES = 25  # of a drawn grid along the longest side


def show_moving(node: Any, moving: Any, transform: Any, applied: Any = None) -> Gradual[None]:
    """Make a volume node show the moving volume as a transform carries it, while the moving volume stays as it is.

    The voxels are shared, not copied, in a single step, unless the moving volume's parent transforms bend or shear its
    grid. The node is not saved and not listed. It follows the transform by itself, so that a preview written into it
    moves the image.

    Args:
        node: a vtkMRMLScalarVolumeNode of its own, never an output.
        moving: the moving volume node.
        transform: the forward transform node, or one of :func:`transform_nodes.scale_field`.
        applied: the forward transform node, which is not applied twice where the moving volume itself lies under it.

    Raises:
        NodeError: moving is no volume that can be read.
    """
    checked_kind(moving, "moving")
    image, (matrix, _parents) = moving.GetImageData(), place(moving, without=applied)
    if matrix is None:
        image, matrix = yield from _resampled(node, moving)
    else:
        node.RemoveAttribute(_RESAMPLED)
    modified = node.StartModify()
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    add_display(node, moving)
    node.GetDisplayNode().SetSaveWithScene(False)
    node.SetIJKToRASMatrix(vtk_matrix(matrix))
    node.SetAndObserveImageData(image)
    node.SetAndObserveTransformNodeID(transform.GetID())
    node.EndModify(modified)
    if moving.GetDisplayNode() is not None:
        copy_display(moving.GetDisplayNode(), node.GetDisplayNode())


def _resampled(node: Any, moving: Any) -> Gradual[tuple[Any, np.ndarray]]:
    """The voxels of a volume under a transform that bends its grid; those that the node has, while nothing changed."""
    parent = moving.GetParentTransformNode()  # none over axes that are themselves sheared
    bent = 0 if parent is None else parent.GetTransformToWorldMTime()
    state = f"{moving.GetID()} {moving.GetImageData().GetMTime()} {bent} {volume_matrix(moving).tolist()}"
    if node.GetAttribute(_RESAMPLED) == state and node.GetImageData() is not None:
        return node.GetImageData(), volume_matrix(node)
    data = yield from read_volume_gradually(moving, "moving")
    image = empty(data.array.shape, 1, data.array.dtype)
    yield from fill_slabs(image_array(image), lambda part: data.array[part])
    node.SetAttribute(_RESAMPLED, state)
    return image, ijk_to_ras(data.geometry)


def show_grid(transform: Any, spacing_mm: Optional[float] = None) -> Any:
    """Draw a transform in slice views as a bent grid, by default of LINES lines along its longest side; its display
    node."""
    spacing_mm = spacing_mm or _side(transform) / LINES
    display = _deformation_display(transform, slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID)
    display.SetGridSpacingMm(spacing_mm)
    display.SetGridResolutionMm(spacing_mm / 4)
    display.SetGridScalePercent(100)
    return display


def show_arrows(transform: Any, spacing_mm: Optional[float] = None) -> Any:
    """Draw a transform in slice views as arrows, as many as :func:`show_grid` draws lines; its display node."""
    spacing_mm = spacing_mm or _side(transform) / LINES
    display = _deformation_display(transform, slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GLYPH)
    display.SetGlyphSpacingMm(spacing_mm)
    display.SetGlyphScalePercent(100)
    display.SetGlyphType(slicer.vtkMRMLTransformDisplayNode.GLYPH_TYPE_ARROW)
    return display


def hide_deformation(transform: Any) -> None:
    """Draw a transform no more."""
    if transform.GetDisplayNode() is not None:
        transform.GetDisplayNode().SetVisibility(False)


def _side(transform: Any) -> float:
    """The longest side (mm) of the grid of a deformation; 250 where there is none."""
    found = deformation(transform)
    return 250.0 if found is None else found.side


def _displacement_colors(transform: Any) -> vtk.vtkColorTransferFunction:
    """Yellow where little moves, red where most does."""
    found = deformation(transform)
    largest = 10.0 if found is None else found.largest or 1.0
    colors = vtk.vtkColorTransferFunction()
    for part, color in ((0.0, (1.0, 1.0, 0.6)), (0.5, (1.0, 0.7, 0.1)), (1.0, (0.9, 0.1, 0.1))):
        colors.AddRGBPoint(part * largest, *color)
    return colors


def _deformation_display(transform: Any, mode: int) -> Any:
    if transform.GetDisplayNode() is None:
        transform.CreateDefaultDisplayNodes()
    display = transform.GetDisplayNode()
    display.SetColorMap(_displacement_colors(transform))
    display.SetVisualizationMode(mode)
    display.SetVisibility3D(False)
    display.SetVisibility2D(True)
    display.SetVisibility(True)
    return display
