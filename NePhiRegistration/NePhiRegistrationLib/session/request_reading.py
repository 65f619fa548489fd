"""From input nodes to a request for the worker, one node at a time."""

from __future__ import annotations

import logging
from typing import Any, Optional

import numpy as np

from ..i18n import tr as _
from ..mrml import landmark_nodes, mask_nodes, transform_nodes, volume_nodes
from ..mrml.node_error import NodeError
from .event_loop import Steps
from .values import KINDS, Inputs, Outputs

logger = logging.getLogger(__name__)

_ROLES = {
    "fixed": "fixed volume", "moving": "moving volume", "fixedMask": "fixed mask", "movingMask": "moving mask",
    "initialTransform": "initial transform", "guideFixed": "fixed guide points", "guideMoving": "moving guide points",
    "landmarksFixed": "fixed landmarks", "landmarksMoving": "moving landmarks", "fixedLabels": "fixed labels",
    "movingLabels": "moving labels", "forward": "forward transform", "inverse": "inverse transform",
    "warped": "warped volume", "logJacobian": "log-Jacobian volume", "table": "table",
}
"""What messages call the nodes."""


def check(inputs: Inputs, outputs: Optional[Outputs] = None) -> None:
    """Refuse what can be seen at once, before any voxel is looked at.

    Raises:
        NodeError: naming what is missing or chosen twice.
    """
    for role in ("fixed", "moving"):
        if getattr(inputs, role) is None:
            raise NodeError(_("No {role} volume is chosen; choose one.").format(role=role))
    volume_nodes.check_pair(inputs.fixed, inputs.moving)
    if (inputs.fixedLabels is None) != (inputs.movingLabels is None):
        raise NodeError(_("Labels are chosen for one volume only; choose them for both or for none."))
    chosen = _chosen(inputs)
    for role, node in chosen.items():
        if node is not None and node.GetScene() is None:
            raise NodeError(_("{name}, chosen as {role}, is not in the scene any more; choose another.").format(
                name=node.GetName(), role=role))
    _check_kinds({"initialTransform": inputs.initialTransform})
    if outputs is not None:
        check_outputs(inputs, outputs)
        if not outputs.createMissing and not dict(outputs.nodes()):
            raise NodeError(_("No output is chosen; choose at least one or have the missing ones created."))
        _check_free(chosen, outputs)
    landmark_nodes.read_landmark_pairs(inputs.guideFixed, inputs.guideMoving)
    landmark_nodes.read_landmark_pairs(inputs.landmarksFixed, inputs.landmarksMoving)
    transform_nodes.read_initial(inputs.initialTransform, inputs.moving)


def check_outputs(inputs: Inputs, outputs: Outputs) -> None:
    """Refuse to write into an input, into one node twice, or into a node of another kind.

    Raises:
        NodeError: naming the node and its roles.
    """
    _check_kinds(dict(outputs.nodes()))
    volume_nodes.check_outputs(_chosen(inputs), {_ROLES[name]: node for name, node in outputs.nodes()})


def _chosen(inputs: Inputs) -> dict[str, Any]:
    """What messages call an input -> its node, or None."""
    return {_ROLES[name]: getattr(inputs, name) for name in Inputs.names() if name in _ROLES}


def _check_free(chosen: dict[str, Any], outputs: Outputs) -> None:
    """Refuse to write into a transform that an input lies under: the input would move with what is found."""
    for name in ("forward", "inverse"):
        transform = getattr(outputs, name)
        for role, node in chosen.items():
            if transform is not None and node is not None and transform_nodes.above(transform, node):
                raise NodeError(_("{node}, the {role}, lies under {transform}, which is to be overwritten; take it out "
                                  "of the transform, or choose another {output}.").format(
                    node=node.GetName(), role=role, transform=transform.GetName(), output=_ROLES[name]))


def _check_kinds(nodes: dict[str, Any]) -> None:
    for name, node in nodes.items():
        words, kind = KINDS[name]
        if node is not None and not (node.IsA(f"vtkMRML{kind}Node") and not node.IsA("vtkMRMLLabelMapVolumeNode")):
            raise NodeError(_("{name} is no {kind}; choose another node for the {role}.").format(
                name=node.GetName(), kind=words, role=_ROLES[name]))


class Reading:
    """Reads the inputs of a registration.

    Args:
        inputs: checked by :func:`check`.
        fields: of the request, beside those that are read.

    Attributes:
        fields, arrays: of the request (docs/worker.md), complete after the last of :meth:`steps`.
        label_names: label -> name of the segment.
    """

    kind = "register"

    def __init__(self, inputs: Inputs, **fields: Any) -> None:
        self._inputs = inputs
        self.fields: dict[str, Any] = fields
        self.arrays: dict[str, np.ndarray] = {}
        self.label_names: dict[str, str] = {}

    def steps(self) -> Steps:
        """Read a part of a node in each step.

        Raises:
            NodeError: a node that cannot be used, one sentence.
        """
        inputs, read = self._inputs, {}
        initial = transform_nodes.read_initial(inputs.initialTransform, inputs.moving)
        self.fields.update(initial=None if initial is None else initial.tolist(), names={})
        for role in ("fixed", "moving"):
            read[role] = yield from volume_nodes.volume_steps(getattr(inputs, role), role)
            self.fields[role], self.arrays[role] = read[role].geometry, read[role].array
            self.fields["names"][role] = getattr(inputs, role).GetName()
            yield
        for role, volume in read.items():
            node = getattr(inputs, f"{role}Mask")
            segment = _segment_id(node, getattr(inputs, f"{role}Segment"))
            mask = yield from mask_nodes.mask_steps(node, segment, volume, role)
            if mask is not None:
                self.arrays[f"{role}_mask"] = mask
            yield
        self._points("guide", inputs.guideFixed, inputs.guideMoving, read)
        self._points("landmarks", inputs.landmarksFixed, inputs.landmarksMoving, read)
        if inputs.fixedLabels is not None:
            yield from self._labels(read)

    def _points(self, name: str, fixed: Any, moving: Any, read: dict[str, volume_nodes.VolumeData]) -> None:
        pairs = landmark_nodes.read_landmark_pairs(fixed, moving, read["fixed"], read["moving"])
        if pairs is not None:
            self.arrays[f"{name}_fixed"], self.arrays[f"{name}_moving"] = pairs

    def _labels(self, read: dict[str, volume_nodes.VolumeData]) -> Steps:
        fixed = yield from mask_nodes.label_steps(self._inputs.fixedLabels, read["fixed"], "fixed")
        moving = yield from mask_nodes.label_steps(self._inputs.movingLabels, read["moving"], "moving")
        fixed, moving = yield from mask_nodes.match_steps(fixed, moving)
        self.arrays["fixed_labels"], self.arrays["moving_labels"] = fixed.array, moving.array
        self.label_names = {str(label): name for label, name in fixed.names.items()}
        yield


def _segment_id(node: Any, said: Optional[str]) -> Optional[str]:
    """The ID of a segment, for scripts also by its name."""
    if not said or node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return said
    return node.GetSegmentation().GetSegmentIdBySegmentName(said) or said


class Onwards:
    """The request that goes on from a finished registration; there is nothing to read.

    Args:
        name: of that registration on the wire.
        iterations: how many, at the finest level.
        label_names: of that registration.
    """

    kind = "continue"

    def __init__(self, name: str, iterations: int, label_names: dict[str, str]) -> None:
        self.fields, self.arrays = {"of": name, "iterations": iterations}, {}
        self.label_names = label_names

    def steps(self) -> Steps:
        """None."""
        return iter(())
