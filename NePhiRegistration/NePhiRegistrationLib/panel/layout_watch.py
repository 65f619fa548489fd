"""Whether the scene shows the layout fixed | warped | overlay, which also others change: toolbar, scripts, scenes."""

from __future__ import annotations

from typing import Any, Callable

import slicer
import vtk

from ..mrml import slice_views


class LayoutWatch:
    """Whether a scene shows the three views, and a call when that has changed.

    Args:
        changed: called for changes that others made.

    Attributes:
        compares: whether it does; set it before changing the layout oneself.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.compares = False
        self._changed = changed
        self._node: Any = None
        self._tag = 0

    def follow(self, scene: Any) -> None:
        """Watch the layout node of a scene from now on; None ends it."""
        node = slice_views.layout_node(scene) if scene is not None else None
        if node is self._node:
            return
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._look)
            self.compares = slice_views.compares(scene)

    def _look(self, _caller: Any, _event: Any) -> None:
        compares = slice_views.compares(self._node.GetScene() or slicer.mrmlScene)
        if compares != self.compares:
            self.compares = compares
            self._changed()
