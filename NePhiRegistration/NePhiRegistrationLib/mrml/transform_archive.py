"""The exact map in the scene: the bytes of a .nephi file as a text node beside the transform it belongs to."""

from __future__ import annotations

import base64
from typing import Any, Optional

import slicer

ROLE = "NePhi.Archive"
"""The node reference from the forward transform node to the text node."""

_ENCODING = "base64"


def store(transform_node: Any, data: bytes) -> Any:
    """Keep the bytes of a .nephi file with a transform node, in its scene; what it kept before is replaced.

    Returns:
        The vtkMRMLTextNode, hidden from the user and saved with the scene.
    """
    node = transform_node.GetNodeReference(ROLE)
    if node is None:
        node = slicer.vtkMRMLTextNode()
        node.SetName(f"{transform_node.GetName()} exact map")
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(True)
        transform_node.GetScene().AddNode(node)
        transform_node.SetNodeReferenceID(ROLE, node.GetID())
    node.SetAttribute("NePhi.Encoding", _ENCODING)
    node.SetText(base64.b64encode(data).decode("ascii"))
    return node


def present(transform_node: Any) -> bool:
    """Whether a transform node has kept something; it is not looked at."""
    return transform_node.GetNodeReference(ROLE) is not None


def load(transform_node: Any) -> Optional[bytes]:
    """What :func:`store` kept, or None when the node has nothing or something that is no longer whole."""
    node = transform_node.GetNodeReference(ROLE)
    if node is None or node.GetText() is None or node.GetAttribute("NePhi.Encoding") != _ENCODING:
        return None
    try:
        return base64.b64decode(node.GetText(), validate=True)
    except ValueError:
        return None
