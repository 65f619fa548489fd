"""What helps to judge a registration, all of it through nodes: layers, layouts, comparisons, the deformation drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import slicer
import vtk

from .node_geometry import ijk_to_ras, vtk_matrix
from .slab_writing import empty
from .slabs import Making, Steps, fill, outcome
from .transform_nodes import grid_transform
from .volume_nodes import add_display, checked_kind, copy_display, place, volume_steps
from .vtk_images import image_array, volume_matrix

LAYOUT = 7411
"""The number of the layout fixed | warped | overlay; any that no other module uses."""

COMPARED = ("NePhiFixed", "NePhiWarped", "NePhiOverlay")
"""The layout names of its three slice views."""

_RESAMPLED = "NePhi.Resampled"
_VIEW = """<item><view class="vtkMRMLSliceNode" singletontag="{tag}">
<property name="orientation" action="default">{orientation}</property>
<property name="viewlabel" action="default">{label}</property>
<property name="viewcolor" action="default">{color}</property>
<property name="viewgroup" action="default">{group}</property>
</view></item>"""
_LABELS, _SHADES = ("F", "W", "O"), ("#4C78A8", "#E0803C", "#6B8E4E")

# ----------------------------------------------------------------------------------------------- layers and layouts


def composites(scene: Any, names: Optional[Sequence[str]] = None) -> list[Any]:
    """The slice composite nodes of a scene; with ``names`` those of these layout names, in their order."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)
    if names is None:
        return [node for node in nodes if node.GetLayoutName() not in COMPARED]
    by_name = {node.GetLayoutName(): node for node in nodes}
    return [by_name[name] for name in names if name in by_name]


def show_layers(views: Sequence[Any], background: Any, foreground: Any = None, opacity: float = 0.5) -> None:
    """Put volumes into slice views (composite nodes); None leaves a layer empty. The label layer is not touched."""
    for view in views:
        modified = view.StartModify()
        view.SetBackgroundVolumeID(background.GetID() if background is not None else None)
        view.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        view.SetForegroundOpacity(opacity)
        view.SetCompositing(view.Alpha)
        view.EndModify(modified)
        _touch_legends(view.GetScene())


def layers(views: Sequence[Any]) -> list[tuple[Any, Optional[str], Optional[str], float]]:
    """What slice views show: each view with the IDs of its background and foreground, and the foreground's opacity."""
    return [(view, view.GetBackgroundVolumeID(), view.GetForegroundVolumeID(), view.GetForegroundOpacity())
            for view in views]


def put_back(shown: Sequence[tuple[Any, Optional[str], Optional[str], float]]) -> None:
    """Let slice views show again what :func:`layers` found; views and volumes that are gone are passed over."""
    for view, background, foreground, opacity in shown:
        scene = view.GetScene()
        if scene is not None:
            found = [scene.GetNodeByID(name) if name else None for name in (background, foreground)]
            show_layers([view], *found, opacity)


def set_opacity(views: Sequence[Any], opacity: float) -> None:
    """How much of the foreground is seen, 0 to 1; alternating between 0 and 1 flickers."""
    for view in views:
        view.SetForegroundOpacity(opacity)


def show_comparison(scene: Any, fixed: Any, warped: Any, opacity: float = 0.5, orientation: str = "Axial") -> int:
    """Switch to three linked slice views: fixed, warped, and one over the other.

    Returns:
        The layout that was shown before, for :func:`leave_comparison`.
    """
    layout = layout_node(scene)
    before = layout.GetViewArrangement()
    register_layout(layout, orientation)
    layout.SetViewArrangement(LAYOUT)
    for view, (back, front) in zip(composites(scene, COMPARED), ((fixed, None), (warped, None), (fixed, warped))):
        show_layers([view], back, front, opacity)
        view.SetLinkedControl(True)
    return before


def leave_comparison(scene: Any, before: Optional[int]) -> None:
    """Go back to a layout; without one, as in a scene that was saved with the comparison, to Slicer's usual one."""
    layout = layout_node(scene)
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView if before in (None, LAYOUT) else before)


def compares(scene: Any) -> bool:
    """Whether the scene shows the three views of :func:`show_comparison`."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return node is not None and node.GetViewArrangement() == LAYOUT


def layout_node(scene: Any) -> Any:
    """The layout node of the scene, made where there is none."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is None:
        node = slicer.vtkMRMLLayoutNode()
        node.SetSingletonTag("vtkMRMLLayoutNode")  # as Slicer's own: there is one, and it outlives the scene's content
        scene.AddNode(node)
    return node


def register_layout(layout: Any, orientation: str = "Axial") -> None:
    """Describe the three views to a layout node; a saved scene that shows them can only be opened where they are."""
    description = _layout_xml(orientation)
    if not layout.IsLayoutDescription(LAYOUT):
        layout.AddLayoutDescription(LAYOUT, description)
    else:
        layout.SetLayoutDescription(LAYOUT, description)


def overlay_jacobian(views: Sequence[Any], anatomy: Any, log_jacobian: Any, opacity: float = 0.6) -> None:
    """Show a log-Jacobian volume over an anatomical one in slice views."""
    show_layers(views, anatomy, log_jacobian, opacity)


def _touch_legends(scene: Any) -> None:
    """A colour legend looks at what its view shows only when it is itself modified."""
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode", scene):
        legend.Modified()


def _layout_xml(orientation: str) -> str:
    views = "".join(_VIEW.format(tag=tag, orientation=orientation, label=label, color=color, group=LAYOUT)
                    for tag, label, color in zip(COMPARED, _LABELS, _SHADES))
    return f'<layout type="horizontal" split="true">{views}</layout>'


# ------------------------------------------------------------------------------------------- the deformation drawn


def show_moving(node: Any, moving: Any, transform: Any) -> None:
    """As :func:`moving_steps`, at once."""
    outcome(moving_steps(node, moving, transform))


def moving_steps(node: Any, moving: Any, transform: Any, applied: Any = None) -> Steps:
    """Make a volume node show the moving volume as a transform carries it, while the moving volume stays as it is.

    The voxels are shared, not copied, in a single step, unless the moving volume's parent transforms bend or shear its
    grid. The node is not saved and not listed. It follows the transform by itself, so that a preview written into it
    moves the image.

    Args:
        node: a vtkMRMLScalarVolumeNode of its own, never an output.
        moving: the moving volume node.
        transform: the forward transform node, or one of :func:`transforms.show_amount`.
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


def _resampled(node: Any, moving: Any) -> Making[tuple[Any, np.ndarray]]:
    """The voxels of a volume under a transform that bends its grid; those that the node has, while nothing changed."""
    state = f"{moving.GetID()} {moving.GetImageData().GetMTime()} " \
            f"{moving.GetParentTransformNode().GetTransformToWorldMTime()} {volume_matrix(moving).tolist()}"
    if node.GetAttribute(_RESAMPLED) == state and node.GetImageData() is not None:
        return node.GetImageData(), volume_matrix(node)
    data = yield from volume_steps(moving, "moving")
    image = empty(data.array.shape, 1, data.array.dtype)
    yield from fill(image_array(image), lambda part: data.array[part])
    node.SetAttribute(_RESAMPLED, state)
    return image, ijk_to_ras(data.geometry)


def show_grid(transform: Any, spacing_mm: float = 10.0) -> Any:
    """Draw a transform in slice views as a bent grid; its display node."""
    display = _deformation_display(transform, slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID)
    display.SetGridSpacingMm(spacing_mm)
    display.SetGridResolutionMm(max(1.0, spacing_mm / 4))
    display.SetGridScalePercent(100)
    return display


def show_arrows(transform: Any, spacing_mm: float = 8.0) -> Any:
    """Draw a transform in slice views as arrows; its display node."""
    display = _deformation_display(transform, slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GLYPH)
    display.SetGlyphSpacingMm(spacing_mm)
    display.SetGlyphScalePercent(100)
    display.SetGlyphType(slicer.vtkMRMLTransformDisplayNode.GLYPH_TYPE_ARROW)
    return display


def hide_deformation(transform: Any) -> None:
    """Draw a transform no more."""
    if transform.GetDisplayNode() is not None:
        transform.GetDisplayNode().SetVisibility(False)


def _displacement_colors(transform: Any) -> vtk.vtkColorTransferFunction:
    """Yellow where little moves, red where most does."""
    field = grid_transform(transform)
    largest = 10.0
    if field is not None:
        vectors = image_array(field.GetDisplacementGrid())[::2, ::2, ::2]
        largest = max(float(np.sqrt((vectors.astype(np.float32) ** 2).sum(-1)).max()), 0.1)
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
