"""What slice views show: their layers, and the layout fixed | warped | overlay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import slicer

from . import view_fitting

LAYOUT = 7411
"""The number of the layout fixed | warped | overlay; any that no other module uses."""

COMPARED = ("NePhiFixed", "NePhiWarped", "NePhiOverlay")
"""The layout names of its three slice views."""

_VIEW = """<item><view class="vtkMRMLSliceNode" singletontag="{tag}">
<property name="orientation" action="default">{orientation}</property>
<property name="viewlabel" action="default">{label}</property>
<property name="viewcolor" action="default">{color}</property>
<property name="viewgroup" action="default">{group}</property>
</view></item>"""
_LABELS, _SHADES = ("F", "W", "O"), ("#4C78A8", "#E0803C", "#6B8E4E")


def composites(scene: Any, names: Optional[Sequence[str]] = None) -> list[Any]:
    """The slice composite nodes of a scene; with ``names`` those of these layout names, in their order."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)
    if names is None:
        return [node for node in nodes if node.GetLayoutName() not in COMPARED]
    by_name = {node.GetLayoutName(): node for node in nodes}
    return [by_name[name] for name in names if name in by_name]


def in_layout(views: Sequence[Any]) -> list[Any]:
    """Those of some composite nodes whose views the layout shows; all of them where nobody says."""
    hidden = {node.GetLayoutName() for node in view_fitting.slice_nodes(views[0].GetScene())
              if not node.IsMappedInLayout()} if views else set()
    shown = [view for view in views if view.GetLayoutName() not in hidden]
    return shown or list(views)


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


def restore_layers(shown: Sequence[tuple[Any, Optional[str], Optional[str], float]]) -> None:
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
    """Switch to three linked slice views: fixed, warped, and one over the other, at the slice that the user's own views
    show, fitted to the fixed volume; call :func:`fit_comparison` again when the window has given them their sizes.

    Returns:
        The layout that was shown before, for :func:`leave_comparison`.
    """
    layout = layout_node(scene)
    before = layout.GetViewArrangement()
    own = [node for node in view_fitting.slice_nodes(scene) if node.GetLayoutName() not in COMPARED]
    at = view_fitting.position(own, orientation)
    register_layout(layout, orientation)
    layout.SetViewArrangement(LAYOUT)
    for view, (back, front) in zip(composites(scene, COMPARED), ((fixed, None), (warped, None), (fixed, warped))):
        show_layers([view], back, front, opacity)
        view.SetLinkedControl(True)
    fit_comparison(scene, fixed, at)
    return before


def fit_comparison(scene: Any, volume: Any, at: Optional[np.ndarray] = None) -> None:
    """Fit the three views to a volume; see :func:`view_fitting.fit`."""
    if volume is not None and volume.GetImageData() is not None:
        view_fitting.fit(view_fitting.slice_nodes(scene, COMPARED), volume, at)


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


def overlay(views: Sequence[Any], anatomy: Any, colored: Any, opacity: float = 0.6) -> None:
    """Show a volume with colours of its own over an anatomical one in slice views."""
    show_layers(views, anatomy, colored, opacity)


def _touch_legends(scene: Any) -> None:
    """A colour legend looks at what its view shows only when it is itself modified."""
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode", scene):
        legend.Modified()


def _layout_xml(orientation: str) -> str:
    views = "".join(_VIEW.format(tag=tag, orientation=orientation, label=label, color=color, group=LAYOUT)
                    for tag, label, color in zip(COMPARED, _LABELS, _SHADES))
    return f'<layout type="horizontal" split="true">{views}</layout>'
