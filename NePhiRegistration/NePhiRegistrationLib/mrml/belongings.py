"""What else belongs to a registered volume: the nodes that a result can be applied to, and why not to others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import slicer

from ..i18n import tr as _
from .node_error import NodeError
from .transform_nodes import above

SIDE = "NePhi.LiesOn"
"""The attribute of a node that was carried: "fixed" or "moving", the volume on which it lies."""

_OUTPUT = "NePhi.program"  # an attribute of all outputs

CLASSES = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLMarkupsNode", "vtkMRMLModelNode")


@dataclass(frozen=True)
class Belonging:
    """A node that may belong to a registered volume.

    Attributes:
        kind: what the user calls it.
        obstacle: why it cannot be carried, one sentence, or nothing.
    """

    node: Any
    kind: str
    obstacle: str


def belongings(scene: Any, to: str, others: Iterable[Any], transforms: Iterable[Any]) -> list[Belonging]:
    """All nodes that users see and that may belong to the volume that is carried, by kind and name.

    Args:
        to: "fixed" or "moving": nodes that were carried there before are left out, and so are outputs of registrations.
        others: nodes that do not belong, such as the registered volumes themselves.
        transforms: of the result; see :func:`check`.
    """
    left_out, transforms = [node for node in others if node is not None], list(transforms)
    found = []
    for kind in CLASSES:
        nodes = [node for node in slicer.util.getNodesByClass(kind, scene)
                 if not node.GetHideFromEditors() and node.GetSaveWithScene() and node not in left_out
                 and node.GetAttribute(SIDE) != to and node.GetAttribute(_OUTPUT) is None]
        found += [Belonging(node, kind_name(node), obstacle(node, transforms))
                  for node in sorted(nodes, key=lambda node: node.GetName() or "")]
    return found


def kind_name(node: Any) -> str:
    """What the user calls nodes of this kind."""
    names = {"vtkMRMLLabelMapVolumeNode": _("label map"), "vtkMRMLVolumeNode": _("volume"),
             "vtkMRMLSegmentationNode": _("segmentation"), "vtkMRMLMarkupsNode": _("markups"),
             "vtkMRMLModelNode": _("model")}
    return next((name for kind, name in names.items() if node.IsA(kind)), node.GetNodeTagName())


def obstacle(node: Any, transforms: Iterable[Any]) -> str:
    """The sentence of :func:`check`, or nothing."""
    try:
        check(node, transforms)
    except NodeError as error:
        return str(error)
    return ""


def check(node: Any, transforms: Iterable[Any]) -> None:
    """Make sure that a node can be carried.

    Args:
        transforms: the transform nodes of the result; what lies under one of them would be moved twice.

    Raises:
        NodeError: it cannot.
    """
    if not hasattr(node, "IsA"):
        raise NodeError(_("{what!r} is no node; give nodes of the scene.").format(what=node))
    name = node.GetName()
    if not any(node.IsA(kind) for kind in CLASSES):
        raise NodeError(_("'{name}' is no volume, segmentation, markups or model; choose one of these.").format(
            name=name))
    for transform in transforms:
        if transform is not None and above(transform, node):
            raise NodeError(_("'{name}' already lies under '{transform}', which would move it twice; take it out of "
                              "that transform.").format(name=name, transform=transform.GetName()))
    if node.IsA("vtkMRMLMarkupsROINode") or node.IsA("vtkMRMLMarkupsPlaneNode"):
        raise NodeError(_("'{name}' is a box or a plane, which cannot bend; place another one.").format(name=name))
    if node.IsA("vtkMRMLVolumeNode"):
        _check_volume(node, name)
    elif node.IsA("vtkMRMLSegmentationNode") and not _segments(node):
        raise NodeError(_("'{name}' has no segments; draw one first.").format(name=name))
    elif node.IsA("vtkMRMLMarkupsNode") and not node.GetNumberOfDefinedControlPoints():
        raise NodeError(_("'{name}' has no points; place some first.").format(name=name))
    elif node.IsA("vtkMRMLModelNode") and (node.GetMesh() is None or not node.GetMesh().GetNumberOfPoints()):
        raise NodeError(_("'{name}' has no points; load it again.").format(name=name))


def _segments(node: Any) -> int:
    segmentation = node.GetSegmentation()
    return 0 if segmentation is None else segmentation.GetNumberOfSegments()


def _check_volume(node: Any, name: str) -> None:
    tensors = ("vtkMRMLDiffusionTensorVolumeNode", "vtkMRMLDiffusionWeightedVolumeNode")
    if any(node.IsA(kind) for kind in tensors):
        raise NodeError(_("'{name}' holds directions in each voxel, which would have to turn with it; carry a scalar "
                          "volume made from it.").format(name=name))
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or not image.GetNumberOfPoints():
        raise NodeError(_("'{name}' holds no image; load it again.").format(name=name))
