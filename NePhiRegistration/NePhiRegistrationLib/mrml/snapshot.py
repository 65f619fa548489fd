"""What an output node held before a task, put back when the task is cancelled."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Optional

import slicer

from . import comparison_volumes, log_jacobian_display, protected_images, transform_archive, transform_nodes


class Snapshot:
    """A copy of a node's content, references and displays.

    Images and displacement fields are large: they are not copied but kept, and whoever writes into the node through
    this package gives it new ones (:mod:`protected_images`).

    Args:
        node: any storable node in a scene.
    """

    def __init__(self, node: Any) -> None:
        self.node = node
        self._image = _image(node)
        if self._image is not None:
            protected_images.protect(self._image)
        self._content = _copy(node, self._image is None)
        self._references = _references(node)
        self._displays = [(display, Snapshot(display)) for display in _displays(node)]

    def restore(self) -> None:
        """Give the node back what it held; nothing happens when it has left the scene. Nodes that were made for it
        since (a display, colours, an archive) are removed."""
        scene = self.node.GetScene()
        if scene is None or not scene.IsNodePresent(self.node):
            return
        with ExitStack() as steps:  # all are made, in the order from the last to the first, whichever fails
            steps.callback(self._remove_helpers, helpers(self.node))
            for _, display in reversed(self._displays):
                steps.callback(display.restore)
            steps.callback(self._restore_node)

    def _restore_node(self) -> None:
        node = self.node
        modified = node.StartModify()
        try:
            for name in set(node.GetAttributeNames()) - set(self._content.GetAttributeNames()):
                node.RemoveAttribute(name)
            node.CopyContent(self._content, self._image is None)
            _set_references(node, self._references)
        finally:
            node.EndModify(modified)

    def _remove_helpers(self, present: list[Any]) -> None:
        """Remove those of the helpers that were not there before and are not needed now."""
        stay = {id(helper) for helper in helpers(self.node)} | {id(display) for display, _ in self._displays}
        for helper in present:
            if id(helper) not in stay:
                self.node.GetScene().RemoveNode(helper)


def helpers(node: Any) -> list[Any]:
    """The nodes that exist only for this one: its displays, its colour tables and its archive."""
    displays = _displays(node)
    colors = [display.GetColorNode() for display in displays if display.IsA("vtkMRMLVolumeDisplayNode")]
    own = [color for color in colors if color is not None and color.GetAttribute(log_jacobian_display.ROLE) is not None]
    referred = [node.GetNodeReference(role) for role in (transform_archive.ROLE, comparison_volumes.COLORS)]
    return [*displays, *own, *(other for other in referred if other is not None)]


def remove(node: Any) -> None:
    """Take a node that a task has made out of its scene, and what exists only for it."""
    scene = node.GetScene()
    if scene is None:
        return
    for helper in [*helpers(node), node]:
        scene.RemoveNode(helper)


def _copy(node: Any, deep: bool) -> Any:
    """A node of the same class with the same content, in no scene; unless ``deep``, its image is the same."""
    copy = getattr(slicer, node.GetClassName())()
    copy.CopyContent(node, deep)
    return copy


def _image(node: Any) -> Optional[Any]:
    """What is large in a node: the voxels of a volume or of a displacement field."""
    if node.IsA("vtkMRMLVolumeNode"):
        return node.GetImageData()
    field = transform_nodes.grid_transform(node) if node.IsA("vtkMRMLTransformNode") else None
    return None if field is None else field.GetDisplacementGrid()


def _displays(node: Any) -> list[Any]:
    """Its display nodes, and the hidden volume beside a log-Jacobian."""
    if not node.IsA("vtkMRMLDisplayableNode"):
        return []
    displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    return [display for display in [*displays, node.GetNodeReference(log_jacobian_display.EVERYWHERE)]
            if display is not None]


def _references(node: Any) -> dict[str, list[str]]:
    """Role -> IDs of the nodes referred to."""
    roles: list[str] = []
    node.GetNodeReferenceRoles(roles)
    return {role: [node.GetNthNodeReferenceID(role, n) for n in range(node.GetNumberOfNodeReferences(role))]
            for role in roles}


def _set_references(node: Any, wanted: dict[str, list[str]]) -> None:
    present = _references(node)
    for role in {*present, *wanted}:
        if present.get(role, []) != wanted.get(role, []):
            node.RemoveNodeReferenceIDs(role)
            for target in wanted.get(role, []):
                node.AddNodeReferenceID(role, target)
