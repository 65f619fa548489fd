"""The rules for choices: what scripts are refused with, and what the panel says is missing."""

from __future__ import annotations

from typing import Any, Optional

from ..i18n import tr as _
from ..mrml import landmark_nodes, transform_nodes, volume_nodes
from ..mrml.node_error import NodeError
from .values import KINDS, Inputs, Outputs

_ROLES = {
    "fixed": "fixed volume", "moving": "moving volume", "fixedMask": "fixed mask", "movingMask": "moving mask",
    "fixedExclude": "fixed exclusion", "movingExclude": "moving exclusion",
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
    _check_volumes(inputs)
    if (inputs.fixedLabels is None) != (inputs.movingLabels is None):
        raise NodeError(_("Labels are chosen for one volume only; choose labels for both volumes or for neither."))
    chosen = _chosen(inputs)
    _check_kinds({"initialTransform": inputs.initialTransform})
    if outputs is not None:
        check_outputs(inputs, outputs)
        _check_free(chosen, outputs)
    landmark_nodes.read_landmark_pairs(inputs.guideFixed, inputs.guideMoving)
    landmark_nodes.read_landmark_pairs(inputs.landmarksFixed, inputs.landmarksMoving)
    transform_nodes.read_initial(inputs.initialTransform, inputs.moving)


def check_outputs(inputs: Inputs, outputs: Outputs) -> None:
    """Refuse to write nowhere, into an input, into one node twice, or into a node of another kind.

    Raises:
        NodeError: naming the node and its roles.
    """
    if not outputs.createMissing and not dict(outputs.nodes()):
        raise NodeError(_("No output is chosen; choose at least one, or have missing outputs created."))
    _check_kinds(dict(outputs.nodes()))
    taken = {node.GetID(): role for role, node in _chosen(inputs).items()}
    for name, node in outputs.nodes():
        role = _ROLES[name]
        if node.GetID() in taken:
            raise NodeError(_("{name} is chosen as {first} and as {second}; choose another node for {second}.").format(
                name=node.GetName(), first=taken[node.GetID()], second=role))
        taken[node.GetID()] = role


def _check_volumes(inputs: Inputs) -> None:
    """Refuse what is missing, the same volume twice, nodes that left the scene, and volumes without voxels."""
    fixed, moving = inputs.fixed, inputs.moving
    if fixed is None and moving is None:
        raise NodeError(_("Choose a fixed and a moving volume."))
    if fixed is None or moving is None:
        raise NodeError(_("Choose a {role} volume.").format(role="fixed" if fixed is None else "moving"))
    if fixed is moving:
        raise NodeError(_("The fixed and the moving volume are the same ({name}); choose two volumes.").format(
            name=fixed.GetName()))
    for role, node in _chosen(inputs).items():
        if node.GetScene() is None:
            raise NodeError(_("{name}, chosen as {role}, is not in the scene any more; choose another.").format(
                name=node.GetName(), role=role))
    for role in ("fixed", "moving"):
        volume_nodes.checked_kind(getattr(inputs, role), role)


def _chosen(inputs: Inputs) -> dict[str, Any]:
    """What messages call an input -> its node."""
    nodes = {name: getattr(inputs, name) for name in Inputs.names() if name in _ROLES}
    return {_ROLES[name]: node for name, node in nodes.items() if node is not None}


def _check_free(chosen: dict[str, Any], outputs: Outputs) -> None:
    """Refuse to write into a transform that an input lies under: the input would move with what is found."""
    for name in ("forward", "inverse"):
        transform = getattr(outputs, name)
        for role, node in chosen.items():
            if transform is not None and transform_nodes.above(transform, node):
                raise NodeError(_("{node}, the {role}, lies under {transform}, which is to be overwritten; take it out "
                                  "of the transform, or choose another {output}.").format(
                    node=node.GetName(), role=role, transform=transform.GetName(), output=_ROLES[name]))


def _check_kinds(nodes: dict[str, Any]) -> None:
    for name, node in nodes.items():
        words, kind = KINDS[name]
        if node is not None and not (node.IsA(f"vtkMRML{kind}Node") and not node.IsA("vtkMRMLLabelMapVolumeNode")):
            raise NodeError(_("{name} is not a {kind}; choose another node for the {role}.").format(
                name=node.GetName(), kind=words, role=_ROLES[name]))
