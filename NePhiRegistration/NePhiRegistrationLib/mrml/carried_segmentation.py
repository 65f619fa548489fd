"""Segmentations carried by a transform, onto the grid they are wanted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import slicer
import vtk

from .mask_nodes import Part, parts
from .node_geometry import ijk_to_ras, vtk_matrix
from .vtk_images import new_image


def carry_segments(target: Any, source: Any, transform: Any, geometry: dict) -> None:
    """Fill a segmentation with another one's segments as a transform carries them; names and colours are kept.

    Voxels are looked up through the transform's from-parent map, the nearest one; with the forward transform, segments
    of the moving volume arrive on the fixed one. What the target held is replaced, its parent transform is taken off.

    Args:
        target: a vtkMRMLSegmentationNode.
        source: a vtkMRMLSegmentationNode, or a vtkMRMLLabelMapVolumeNode, of which each label becomes a segment that is
            called by its number; if there is but one it has the name of the node.
        transform: the transform node.
        geometry: the grid of the result, LPS mm.

    Raises:
        NodeError: the source is neither, or has no segments.
    """
    found = [_moved(part, transform)
             for part in parts(source, None, f"segmentation '{source.GetName()}'", visible=False)]
    is_map = source.IsA("vtkMRMLLabelMapVolumeNode")
    layers = [_labels(found[0], geometry)] if is_map else \
        [(part.onto(geometry), [(part.name, part.color)]) for part in found]
    modified = target.StartModify()
    try:
        target.SetAndObserveTransformNodeID(None)
        target.GetSegmentation().RemoveAllSegments()
        target.GetSegmentation().SetSourceRepresentationName("Binary labelmap")
        if target.GetDisplayNode() is None:
            target.CreateDefaultDisplayNodes()
        for voxels, segments in layers:
            image = new_image(voxels, kind=slicer.vtkOrientedImageData)
            image.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(geometry)))
            for value, (name, color) in enumerate(segments, start=1):
                _add(target, image, value, name, color)
    finally:
        target.EndModify(modified)


def _labels(part: Part, geometry: dict) -> tuple[np.ndarray, list]:
    """The labels of a label map on a grid, numbered from 1 in (k, j, i), and their (name, no colour)."""
    values = part.values(geometry)(slice(None))
    labels, at = np.unique(values, return_inverse=True)
    numbers = np.where(labels != 0, np.cumsum(labels != 0), 0).astype(np.int16 if len(labels) < 2**15 else np.int32)
    names = [f"{label:.0f}" for label in labels.tolist() if label != 0]
    return numbers[at].reshape(values.shape), [(name, None) for name in (names if len(names) > 1 else [part.name])]


def _add(target: Any, image: Any, value: int, name: str, color: Any) -> None:
    """A segment of one value in an image, which others may share; without a colour it gets one of its own."""
    segment = slicer.vtkSegment()
    segment.SetName(name)
    if color is None:
        color = [0.0, 0.0, 0.0]
        target.GetDisplayNode().GenerateSegmentColor(color)
    segment.SetColor(*color)
    segment.AddRepresentation("Binary labelmap", image)
    segment.SetLabelValue(value)
    target.GetSegmentation().AddSegment(segment)


def _moved(part: Any, transform: Any) -> Any:
    """A part under the transform in addition to its own."""
    to_world = vtk.vtkGeneralTransform()
    to_world.Concatenate(transform.GetTransformToParent())
    if part.transform is not None:
        to_world.Concatenate(part.transform)  # applied first
    return replace(part, transform=to_world)
