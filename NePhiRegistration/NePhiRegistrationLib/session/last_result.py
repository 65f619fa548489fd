"""What a logic remembers of its last result, as long as its scene is open."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import slicer

from ..i18n import tr as _
from ..mrml import transform_archive
from ..mrml.node_error import NodeError
from .values import Inputs, Outputs


class LastResult:
    """The transform that is meant where none is named, and the nodes around it.

    Attributes:
        task: the registration that can be continued, or None.
    """

    def __init__(self) -> None:
        self.task: Any = None
        self._exact: Optional[bytes] = None
        self._inputs, self._outputs = Inputs(), Outputs()
        self._scene: Any = None
        self._observer = 0

    def set(self, exact: bytes, inputs: Inputs, outputs: Outputs, task: Any = None) -> None:
        """Remember a result instead of what was there."""
        self._exact, self._inputs, self._outputs, self.task = exact, inputs, outputs, task

    def clear(self, _caller: Any = None, _event: Any = None) -> None:
        """Let go of nodes, which hold their voxels as long as anybody holds them."""
        self._exact, self._inputs, self._outputs, self.task = None, Inputs(), Outputs(), None

    def follow(self, scene: Optional[Any]) -> None:
        """Clear it when this scene is closed; None ends it."""
        if self._scene is not None:
            self._scene.RemoveObserver(self._observer)
        self._scene = scene
        if scene is not None:
            self._observer = scene.AddObserver(scene.StartCloseEvent, self.clear)

    def exact(self, transform: Optional[Any]) -> np.ndarray:
        """The bytes of the .nephi file of a forward transform node, or of the last result, (n,) uint8.

        Raises:
            NodeError: there are none.
        """
        data = self._exact if transform is None else transform_archive.load(transform)
        if data is None and transform is None:
            raise NodeError(_("There is no transform; register first, or give the forward transform of a "
                              "registration."))
        if data is None:
            raise NodeError(_("The transform '{name}' has no exact map; choose the forward transform of a "
                              "registration.").format(name=transform.GetName()))
        return np.frombuffer(data, np.uint8)

    def output(self, name: str) -> Any:
        """An output of the last result: a transform node, or the table.

        Raises:
            NodeError: it is not in the scene.
        """
        node = getattr(self._outputs, name)
        if node is None or node.GetScene() is None:
            if name == "table":
                raise NodeError(_("There is no table of a registration in the scene; give one."))
            raise NodeError(_("There is no {direction} transform of a registration in the scene; give one.").format(
                direction=name))
        return node

    def around(self, transform: Optional[Any]) -> tuple:
        """The nodes of a result that are in the scene: its volumes, and the outputs that are known."""
        nodes = [self._inputs.fixed, self._inputs.moving, *(node for _name, node in self._outputs.nodes())]
        if transform is not None and transform is not self._outputs.forward:
            pair = _pair(transform)
            nodes = [transform, *pair]
            if None not in pair:
                nodes += [node for node in slicer.util.getNodesByClass("vtkMRMLTransformNode", transform.GetScene())
                          if node is not transform and _pair(node) == pair]
        return tuple(node for node in nodes if node is not None and node.GetScene() is not None)

    def volume(self, transform: Optional[Any], side: str) -> Any:
        """The fixed or moving volume of a transform node, or of the last result.

        Raises:
            NodeError: it is not in the scene.
        """
        if transform is not None:
            node = transform.GetNodeReference(f"spatialRegistration{side.capitalize()}")
        if transform is None or (node is None and transform is self._outputs.forward):  # which may have left the scene
            node = getattr(self._inputs, side)
        if node is None or node.GetScene() is None:
            raise NodeError(_("The {role} volume that the transform belongs to is not in the scene; load it and "
                              "register again, or, in a script, give the volume.").format(role=side))
        return node


def _pair(transform: Any) -> tuple:
    """The volumes that a transform node joins, None where it does not say."""
    return tuple(transform.GetNodeReference(f"spatialRegistration{side}") for side in ("Fixed", "Moving"))
