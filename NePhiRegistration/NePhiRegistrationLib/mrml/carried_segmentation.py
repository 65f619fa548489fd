"""Segmentations carried by a transform, onto the grid they are wanted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable

import numpy as np
import slicer
import vtk

from ..i18n import tr as _
from .carried_volume import moved_through, nothing_there
from .mask_nodes import Part, parts
from .node_error import NodeError
from .node_geometry import ijk_to_ras, vtk_matrix
from .slabs import SLAB, Gradual, fill_slabs
from .vtk_images import new_image

_LABELMAP = "Binary labelmap"


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
    found = [_moved(part, transform.GetTransformToParent())
             for part in parts(source, None, f"segmentation '{source.GetName()}'", visible=False)]
    is_map = source.IsA("vtkMRMLLabelMapVolumeNode")
    layers = [_labels(found[0], geometry)] if is_map else \
        [(part.onto(geometry), [(part.name, part.color)]) for part in found]
    modified = target.StartModify()
    try:
        target.SetAndObserveTransformNodeID(None)
        target.GetSegmentation().RemoveAllSegments()
        target.GetSegmentation().SetSourceRepresentationName(_LABELMAP)
        if target.GetDisplayNode() is None:
            target.CreateDefaultDisplayNodes()
        for voxels, segments in layers:
            image = new_image(voxels, kind=slicer.vtkOrientedImageData)
            image.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(geometry)))
            for value, (name, color) in enumerate(segments, start=1):
                _add(target, image, value, name, color)
    finally:
        target.EndModify(modified)


def carried_segments(source: Any, to_parent: vtk.vtkAbstractTransform, geometry: dict, whole: bool = False
                     ) -> Gradual[dict[str, Any]]:
    """All segments of a segmentation on another grid, nearest voxel; what is not on the grid is cut off.

    Args:
        source: a vtkMRMLSegmentationNode; its parent transforms apply first.
        to_parent: carries points of the world to where they shall be, RAS.
        geometry: the grid, LPS mm.
        whole: refuse where a segment would not stay what it is: voxels, of which some are left.

    Returns:
        Segment ID -> vtkOrientedImageData of 0 and 1, cropped to the segment.

    Raises:
        NodeError: nothing of it lies on the grid, or it cannot stay ``whole``.
    """
    segmentation, images = source.GetSegmentation(), {}
    name = f"segmentation '{source.GetName()}'"
    mask = np.empty(tuple(reversed(geometry["size"])), np.uint8)
    for number, part in enumerate(parts(source, None, name, visible=False)):
        if whole and not part.voxels:
            raise NodeError(_("'{segment}' of '{name}' is a surface and would become voxels; carry it as a new node."
                              ).format(segment=part.name, name=source.GetName()))
        yield from fill_slabs(mask, _moved(part, to_parent).reader(geometry), SLAB // 16)
        image = _cropped(mask, geometry)
        if whole and image is None and not part.empty:
            raise NodeError(_("Nothing of '{segment}' of '{name}' would be left on the other volume; carry it as a new "
                              "node.").format(segment=part.name, name=source.GetName()))
        images[segmentation.GetNthSegmentID(number)] = image
    if not any(image is not None for image in images.values()):
        raise NodeError(nothing_there(source))
    return {segment: slicer.vtkOrientedImageData() if image is None else image for segment, image in images.items()}


def put_segments(target: Any, images: dict[str, Any], source: Any) -> None:
    """Give a segmentation the segments of another one, or its own, with other voxels in the world; all else of them is
    kept."""
    segmentation, modified = target.GetSegmentation(), target.StartModify()
    try:
        target.SetAndObserveTransformNodeID(None)
        segmentation.SetSourceRepresentationName(_LABELMAP)
        for name, image in images.items():
            segment = source.GetSegmentation().GetSegment(name)
            if target is not source:
                segment, like = slicer.vtkSegment(), segment
                segment.DeepCopyMetadata(like)
            _show(segment, {_LABELMAP: image}, 1)
            if target is not source:
                segmentation.AddSegment(segment, name)
        segmentation.CollapseBinaryLabelmaps(False)
        _tell(segmentation)
    finally:
        target.EndModify(modified)


def keep_segments(node: Any) -> Callable[[], None]:
    """What puts the shapes of a segmentation's segments back, and its parent transform."""
    segmentation, parent = node.GetSegmentation(), node.GetTransformNodeID()
    main = segmentation.GetSourceRepresentationName()
    kept = []
    for number in range(segmentation.GetNumberOfSegments()):
        segment, names = segmentation.GetNthSegment(number), []
        segment.GetContainedRepresentationNames(names)
        kept.append((segment, {name: segment.GetRepresentation(name) for name in names}, segment.GetLabelValue()))

    def put_back() -> None:
        modified = node.StartModify()
        try:
            node.SetAndObserveTransformNodeID(parent)
            for segment, shapes, value in kept:
                _show(segment, shapes, value)
            segmentation.SetSourceRepresentationName(main)
            _tell(segmentation)
        finally:
            node.EndModify(modified)

    return put_back


def _show(segment: Any, shapes: dict[str, Any], value: int) -> None:
    """Give a segment these representations and no others."""
    segment.RemoveAllRepresentations()
    segment.SetLabelValue(value)
    for name, shape in shapes.items():
        segment.AddRepresentation(name, shape)


def _tell(segmentation: Any) -> None:
    """Tell whoever follows the segmentation of other shapes: shapes that are exchanged tell nobody."""
    segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)


def _cropped(mask: np.ndarray, geometry: dict) -> Any:
    """The part of a mask on a grid that is not 0, as a vtkOrientedImageData; None where there is none."""
    if not mask.any():
        return None
    ends = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in (2, 1, 0)]
    i, j, k = (slice(low, high + 1) for low, high in ends)
    image = new_image(mask[k, j, i], kind=slicer.vtkOrientedImageData)
    image.SetExtent(*np.concatenate(ends).tolist())
    image.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(geometry)))
    return image


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
    segment.AddRepresentation(_LABELMAP, image)
    segment.SetLabelValue(value)
    target.GetSegmentation().AddSegment(segment)


def _moved(part: Part, to_parent: vtk.vtkAbstractTransform) -> Part:
    """A part under a transform in addition to its own."""
    return replace(part, transform=moved_through(to_parent, part.transform))
