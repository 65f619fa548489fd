"""Segmentations carried by a transform, onto the grid they are wanted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import slicer
import vtk

from .mask_nodes import parts
from .node_geometry import ijk_to_ras, vtk_matrix
from .vtk_images import new_image


def carry_segments(target: Any, source: Any, transform: Any, geometry: dict) -> None:
    """Fill a segmentation with another one's segments as a transform carries them; names and colours are kept.

    Voxels are looked up through the transform's from-parent map, the nearest one; with the forward transform, segments
    of the moving volume arrive on the fixed one. What the target held is replaced, its parent transform is taken off.

    Args:
        target: a vtkMRMLSegmentationNode.
        source: a vtkMRMLSegmentationNode or vtkMRMLLabelMapVolumeNode; a label map becomes one segment.
        transform: the transform node.
        geometry: the grid of the result, LPS mm.

    Raises:
        NodeError: the source is neither, or has no segments.
    """
    carried = [(part.name, part.color, _moved(part, transform).onto(geometry))
               for part in parts(source, None, f"segmentation '{source.GetName()}'", visible=False)]
    modified = target.StartModify()
    try:
        target.SetAndObserveTransformNodeID(None)
        target.GetSegmentation().RemoveAllSegments()
        target.GetSegmentation().SetSourceRepresentationName("Binary labelmap")
        for name, color, mask in carried:
            image = new_image(mask, kind=slicer.vtkOrientedImageData)
            image.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(geometry)))
            target.AddSegmentFromBinaryLabelmapRepresentation(image, name, *([] if color is None else [color]))
    finally:
        target.EndModify(modified)
    if target.GetDisplayNode() is None:
        target.CreateDefaultDisplayNodes()


def _moved(part: Any, transform: Any) -> Any:
    """A part under the transform in addition to its own."""
    to_world = vtk.vtkGeneralTransform()
    to_world.Concatenate(transform.GetTransformToParent())
    if part.transform is not None:
        to_world.Concatenate(part.transform)  # applied first
    return replace(part, transform=to_world)
