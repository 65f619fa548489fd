"""Inputs that change after they were chosen: a landmark placed, voxels read, a segment drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable

import slicer


class NodeWatch:
    """Calls when the points, voxels or segments of a chosen node change.

    Args:
        changed: called without arguments.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._tags: dict[Any, list[int]] = {}

    def follow(self, nodes: Iterable[Any]) -> None:
        """Watch these nodes from now on, and no others; None among them is passed over."""
        wanted = {node for node in nodes if node is not None}
        for node in set(self._tags) - wanted:
            for tag in self._tags.pop(node):
                node.RemoveObserver(tag)
        for node in wanted - set(self._tags):
            self._tags[node] = [node.AddObserver(event, self._node_changed) for event in _events(node)]

    def _node_changed(self, _caller: Any, _event: Any) -> None:
        self._changed()


def _events(node: Any) -> tuple[int, ...]:
    if node.IsA("vtkMRMLMarkupsNode"):
        return node.PointAddedEvent, node.PointRemovedEvent, node.PointModifiedEvent
    if node.IsA("vtkMRMLSegmentationNode"):
        kinds = slicer.vtkSegmentation
        return kinds.SourceRepresentationModified, kinds.SegmentAdded, kinds.SegmentRemoved
    return (slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,) if node.IsA("vtkMRMLVolumeNode") else ()
