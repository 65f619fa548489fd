"""Masks and labels on a volume's grid, from segmentations and label maps of any geometry."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import slicer
import vtk

from .errors import NodeError
from .geometry import ijk_to_ras, vtk_matrix
from .resample import image_array, onto, oriented, transform_to_world, volume_matrix
from .volumes import VolumeData

log = logging.getLogger(__name__)

_LABELMAP, _SURFACE = "Binary labelmap", "Closed surface"


@dataclass(frozen=True)
class Labels:
    """Labels on the grid of a volume.

    Attributes:
        array: (k, j, i) int32, 0 is background.
        names: label -> name of the segment, or the number itself for a label map.
        name: what messages call them, for instance ``fixed labels 'Lobes'``.
    """

    array: np.ndarray
    names: dict[int, str]
    name: str


def read_mask(node: Any, segment_id: Optional[str], volume: VolumeData, role: str) -> Optional[np.ndarray]:
    """A mask on a volume's grid, nearest voxel; parent transforms of the node are honoured, and so are the volume's.

    Args:
        node: a vtkMRMLSegmentationNode or vtkMRMLLabelMapVolumeNode, or None for no mask.
        segment_id: one segment of a segmentation; without it all that are visible. Label maps count where not zero.
        volume: whose grid the mask is for.
        role: "fixed" or "moving", for messages.

    Returns:
        (k, j, i) uint8 of 0 and 1, or None.

    Raises:
        NodeError: it is neither, empty, or has nothing inside the volume.
    """
    if node is None:
        return None
    name = f"{role} mask '{node.GetName()}'"
    mask = np.zeros(volume.array.shape, dtype=np.uint8)
    used, filled = [], False
    for part in parts(node, segment_id, name):
        filled = filled or not part.empty
        mask |= part.onto(volume.geometry)
        used.append(part.name)
    if not filled:
        raise NodeError(f"The {name} is empty; draw something in it, or choose another or none.")
    if not mask.any():
        raise NodeError(f"The {name} has nothing inside the {volume.name}; choose one that belongs to it, or none.")
    log.info("The %s is %s, %d voxels.", name, " and ".join(used), int(mask.sum()))
    return mask


def read_labels(node: Any, volume: VolumeData, role: str) -> Labels:
    """All segments of a segmentation, or all values of a label map, on a volume's grid, nearest voxel.

    Where segments overlap the later one is taken.

    Raises:
        NodeError: as :func:`read_mask` does.
    """
    name = f"{role} labels '{node.GetName()}'"
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        (part,) = parts(node, None, name)
        array = onto(part.shape, volume.geometry, part.transform).astype(np.int32)
        names = {int(value): str(value) for value in np.unique(array) if value != 0}
    else:
        array, names = np.zeros(volume.array.shape, dtype=np.int32), {}
        for label, part in enumerate(parts(node, None, name, visible=False), start=1):
            array[part.onto(volume.geometry) > 0] = label
            names[label] = part.name
    if not array.any():
        raise NodeError(f"The {name} have nothing inside the {volume.name}; choose labels that belong to it, or none.")
    return Labels(array, names, name)


def match_labels(fixed: Labels, moving: Labels) -> tuple[Labels, Labels]:
    """Both with only the labels whose names they share, and the same number for the same name.

    Raises:
        NodeError: they share no name.
    """
    shared = [name for name in fixed.names.values() if name in moving.names.values()]
    if not shared:
        raise NodeError(f"The {fixed.name} ({', '.join(fixed.names.values())}) and the {moving.name} "
                        f"({', '.join(moving.names.values())}) have no name in common; give what belongs together the "
                        "same name.")
    numbers = {name: number for number, name in enumerate(shared, start=1)}
    return _renumbered(fixed, numbers), _renumbered(moving, numbers)


def _renumbered(labels: Labels, numbers: dict[str, int]) -> Labels:
    array = np.zeros_like(labels.array)
    for label, name in labels.names.items():
        if name in numbers:
            array[labels.array == label] = numbers[name]
    return Labels(array, {number: name for name, number in numbers.items()}, labels.name)


# -------------------------------------------------------------------------------------------------- parts of a node


@dataclass(frozen=True)
class Part:
    """A segment, or a whole label map.

    Attributes:
        name: of the segment.
        shape: a vtkOrientedImageData, or a closed vtkPolyData.
        transform: takes it to the world (RAS); None is where it is.
        color: RGB 0 to 1, or None.
    """

    name: str
    shape: Any
    transform: Optional[vtk.vtkAbstractTransform]
    color: Optional[tuple[float, float, float]] = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        if self.shape is None or self.shape.GetNumberOfPoints() == 0:
            return True
        return self.shape.IsA("vtkImageData") and not image_array(self.shape).any()

    def onto(self, geometry: dict) -> np.ndarray:
        """On a grid, nearest voxel: (k, j, i) uint8 of 0 and 1."""
        if self.empty:
            return np.zeros(tuple(reversed(geometry["size"])), dtype=np.uint8)
        if self.shape.IsA("vtkImageData"):
            return (onto(self.shape, geometry, self.transform) != 0).astype(np.uint8)
        return _inside(self.shape, geometry, self.transform)


def parts(node: Any, segment_id: Optional[str], name: str, visible: bool = True) -> Iterator[Part]:
    """The segments of a segmentation, one of them or all (that are visible), or a label map as one part.

    Raises:
        NodeError: it is neither, or has no such segments; ``name`` is what the message calls it.
    """
    transform = transform_to_world(node)
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        if node.GetImageData() is None:
            raise NodeError(f"The {name} holds no image; load its file again or choose another.")
        yield Part(node.GetName(), oriented(node.GetImageData(), volume_matrix(node)), transform)
        return
    if not node.IsA("vtkMRMLSegmentationNode"):
        raise NodeError(f"The {name} is neither a segmentation nor a label map; convert it or choose another.")
    segmentation = node.GetSegmentation()
    for segment in _segment_ids(node, segment_id, name, visible):
        found = segmentation.GetSegment(segment)
        yield Part(found.GetName(), _shape(node, segment, name), transform, found.GetColor())


def _segment_ids(node: Any, segment_id: Optional[str], name: str, visible: bool) -> list[str]:
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    every = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    if segment_id:
        if segment_id not in every:
            raise NodeError(f"The {name} has no segment {segment_id}; choose one that it has.")
        return [segment_id]
    if not every:
        raise NodeError(f"The {name} has no segments; add one, or choose another or none.")
    if not visible or display is None:
        return every
    shown = [segment for segment in every if display.GetSegmentVisibility(segment)]
    if not shown:
        raise NodeError(f"The {name} has no visible segment; show those to use, or choose one segment.")
    return shown


def _shape(node: Any, segment_id: str, name: str) -> Any:
    """The voxels of a segment, or the surface of one that has no voxels; the node is not converted."""
    segmentation = node.GetSegmentation()
    if segmentation.ContainsRepresentation(_LABELMAP):
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(segment_id, image)
        return image
    if segmentation.ContainsRepresentation(_SURFACE):
        return segmentation.GetSegment(segment_id).GetRepresentation(_SURFACE)
    raise NodeError(f"The {name} has neither voxels nor closed surfaces; create its binary labelmap in the "
                    "Segmentations module.")


def _inside(surface: vtk.vtkPolyData, geometry: dict, transform: Optional[vtk.vtkAbstractTransform]) -> np.ndarray:
    """The voxels whose centres lie inside a closed surface, (k, j, i) uint8 of 0 and 1."""
    to_index = vtk.vtkGeneralTransform()
    to_index.Concatenate(vtk_matrix(np.linalg.inv(ijk_to_ras(geometry))))
    if transform is not None:
        to_index.Concatenate(transform)  # applied first
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputData(surface)
    moved.SetTransform(to_index)
    stencil = vtk.vtkPolyDataToImageStencil()
    stencil.SetInputConnection(moved.GetOutputPort())
    stencil.SetOutputWholeExtent(*(bound for n in geometry["size"] for bound in (0, n - 1)))
    image = vtk.vtkImageStencilToImage()
    image.SetInputConnection(stencil.GetOutputPort())
    image.SetOutputScalarTypeToUnsignedChar()
    image.Update()
    return image_array(image.GetOutput())
