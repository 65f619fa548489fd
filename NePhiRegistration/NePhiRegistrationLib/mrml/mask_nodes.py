"""Masks and labels on a volume's grid, from segmentations and label maps of any geometry."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

import numpy as np
import slicer
import vtk

from ..i18n import tr as _
from .node_error import NodeError
from .node_geometry import geometry_from, ijk_to_ras, is_grid, lost, numpy_matrix, same_geometry, vtk_matrix
from .slabs import SLAB, Gradual, fill_slabs, slab_geometry, slab_slices
from .volume_nodes import VolumeData
from .vtk_images import image_array, onto, oriented, transform_to_world, volume_matrix

log = logging.getLogger(__name__)

_LABELMAP, _SURFACE = "Binary labelmap", "Closed surface"


@dataclass(frozen=True)
class Labels:
    """Labels on the grid of a volume.

    Attributes:
        array: (k, j, i) of an integer type that holds them all, 0 is background.
        names: label -> name of the segment, or the number itself for a label map.
        name: what messages call them, for instance ``fixed labels 'Lobes'``.
    """

    array: np.ndarray
    names: dict[int, str]
    name: str


def read_mask(node: Any, segment_id: Optional[str], volume: VolumeData, role: str) -> Gradual[Optional[np.ndarray]]:
    """A mask on a volume's grid, nearest voxel; parent transforms of the node are honoured, and so are the volume's.

    Args:
        node: a vtkMRMLSegmentationNode or vtkMRMLLabelMapVolumeNode, or None for no mask.
        segment_id: one segment of a segmentation; without it all that are visible. Label maps count where not zero.
        volume: whose grid the mask is for.
        role: "fixed", "moving", "fixed exclusion" or "moving exclusion", for messages.

    Returns:
        (k, j, i) uint8 of 0 and 1, or None.

    Raises:
        NodeError: it is neither, empty, or has nothing inside the volume.
    """
    if node is None:
        return None
    name = f"{role} mask '{node.GetName()}'"
    mask, used = np.zeros(volume.array.shape, dtype=np.uint8), seated(parts(node, segment_id, name), volume, name)
    for part in used:
        inside = part.reader(volume.geometry)
        yield from fill_slabs(mask, lambda slab, inside=inside: mask[slab] | inside(slab))
    count = int(np.count_nonzero(mask.view(bool)))
    if not count and all(part.empty for part in used):
        raise NodeError(_("The {name} is empty; draw a region in it, or choose another mask or None.").format(
            name=name))
    if not count:
        raise NodeError(_("The {name} does not overlap the {volume}; choose one that does, or None.").format(
            name=name, volume=volume.name))
    log.info("The %s is %s, %d voxels.", name, " and ".join(part.name for part in used), count)
    return mask


def read_labels(node: Any, volume: VolumeData, role: str) -> Gradual[Labels]:
    """All segments of a segmentation, or all values of a label map, on a volume's grid, nearest voxel.

    Where segments overlap the later one is taken.

    Raises:
        NodeError: as :func:`read_mask` does, or a label map has voxels that are not whole numbers.
    """
    name = f"{role} labels '{node.GetName()}'"
    found = seated(parts(node, None, name, visible=False), volume, name)
    is_map = node.IsA("vtkMRMLLabelMapVolumeNode")
    array = np.zeros(volume.array.shape, dtype=found[0].integer_type if is_map else np.int32)
    if is_map:
        values = found[0].values(volume.geometry)
        yield from fill_slabs(array, lambda slab: _whole(values(slab), name))
    else:
        for label, part in enumerate(found, start=1):
            inside = part.reader(volume.geometry)
            yield from fill_slabs(
                array, lambda slab, inside=inside, label=label: np.where(inside(slab), label, array[slab]))
    present = yield from _values(array)
    if not present:
        raise NodeError(_("The {name} do not overlap the {volume}; choose labels that do, or None."
                          ).format(name=name, volume=volume.name))
    names = {value: str(value) for value in present} if is_map else \
        {label: part.name for label, part in enumerate(found, start=1)}
    return Labels(array, names, name)


def match_labels(fixed: Labels, moving: Labels) -> Gradual[tuple[Labels, Labels]]:
    """Both with only the labels whose names they share, and the same number for the same name.

    Raises:
        NodeError: they share no name.
    """
    shared = [name for name in fixed.names.values() if name in moving.names.values()]
    if not shared:
        raise NodeError(_("The {fixed} ({fixed_names}) and the {moving} ({moving_names}) share no name; give "
                          "corresponding segments the same name.").format(
            fixed=fixed.name, fixed_names=", ".join(fixed.names.values()),
            moving=moving.name, moving_names=", ".join(moving.names.values())))
    numbers = {name: number for number, name in enumerate(shared, start=1)}
    return (yield from _renumbered(fixed, numbers)), (yield from _renumbered(moving, numbers))


def _renumbered(labels: Labels, numbers: dict[str, int]) -> Gradual[Labels]:
    old = np.array(sorted(labels.names), dtype=labels.array.dtype)
    new = np.array([numbers.get(labels.names[label], 0) for label in old.tolist()], dtype=np.int32)

    def renumber(part: slice) -> np.ndarray:
        values = labels.array[part]
        at = np.minimum(np.searchsorted(old, values), len(old) - 1)
        return np.where(old[at] == values, new[at], 0)

    array = np.empty(labels.array.shape, dtype=np.int32)
    yield from fill_slabs(array, renumber, SLAB // 4)
    return Labels(array, {number: name for name, number in numbers.items()}, labels.name)


def _whole(values: np.ndarray, name: str) -> np.ndarray:
    """The values, when none would change as an integer."""
    if values.dtype.kind == "f":
        fractions = int(np.count_nonzero(~(values == np.round(values)) | (np.abs(values) >= 2.0**63)))
        if fractions:
            raise NodeError(_("The {name} have {count} voxels that are not whole numbers; choose a label map or a "
                              "segmentation.").format(name=name, count=fractions))
    return values


def _values(array: np.ndarray) -> Gradual[list[int]]:
    """The values beside 0, in their order."""
    found: set[int] = set()
    for part in slab_slices(array.shape, SLAB // 4):
        found.update(np.unique(array[part]).tolist())
        yield
    return sorted(found - {0})


# -------------------------------------------------------------------------------------------------- parts of a node


Reader = Callable[[slice], np.ndarray]
"""Gives slices k of something on a grid."""


@dataclass(frozen=True)
class Part:
    """A segment, or a whole label map.

    Attributes:
        name: of the segment.
        shape: a vtkOrientedImageData, which segments may share, or a closed vtkPolyData.
        transform: takes it to the world (RAS); None is where it is.
        color: RGB 0 to 1, or None.
        label: the value of its voxels; None is all but 0.
        lattice: the geometry of the label image that it is or was cropped from, where nothing else moves it; or None.
    """

    name: str
    shape: Any
    transform: Optional[vtk.vtkAbstractTransform]
    color: Optional[tuple[float, float, float]] = None
    label: Optional[int] = None
    lattice: Optional[dict] = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return self._shapeless or (self.shape.IsA("vtkImageData") and not self._mine(image_array(self.shape)).any())

    @property
    def voxels(self) -> bool:
        """Whether it is an image, not a surface."""
        return self.shape is not None and bool(self.shape.IsA("vtkImageData"))

    @property
    def integer_type(self) -> np.dtype:
        """In which the values of its voxels stay what they are: their own type, or int64 for floating point."""
        kind = np.dtype(np.uint8) if self._shapeless else image_array(self.shape).dtype
        return np.dtype(np.int64) if kind.kind == "f" else kind

    def onto(self, geometry: dict) -> np.ndarray:
        """On a grid, nearest voxel: (k, j, i) uint8 of 0 and 1."""
        return self.reader(geometry)(slice(None))

    def reader(self, geometry: dict) -> Reader:
        """Gives slices k of the part on a grid, nearest voxel: uint8 of 0 and 1."""
        if not self._shapeless and not self.shape.IsA("vtkImageData"):
            return _inside(self.shape, geometry, self.transform)
        values = self.values(geometry)
        return lambda part: self._mine(values(part)).astype(np.uint8)

    def values(self, geometry: dict) -> Reader:
        """Gives slices k of the voxels' values on a grid, nearest voxel."""
        if self._shapeless:
            i, j, k = geometry["size"]
            return lambda part: np.zeros((len(range(k)[part]), j, i), dtype=np.uint8)
        same = _on_lattice(self.shape, geometry) if self.transform is None else None
        return same or (lambda part: onto(self.shape, slab_geometry(geometry, part), self.transform))

    @property
    def _shapeless(self) -> bool:
        return self.shape is None or self.shape.GetNumberOfPoints() == 0

    def _mine(self, values: np.ndarray) -> np.ndarray:
        return values != 0 if self.label is None else values == self.label


def parts(node: Any, segment_id: Optional[str], name: str, visible: bool = True) -> Iterator[Part]:
    """The segments of a segmentation, one of them or all (that are visible), or a label map as one part.

    Raises:
        NodeError: it is neither, or has no such segments; ``name`` is what the message calls it.
    """
    transform = transform_to_world(node)
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        if node.GetImageData() is None:
            raise NodeError(_("The {name} holds no image; load its file again or choose another.").format(name=name))
        image = oriented(node.GetImageData(), volume_matrix(node))
        yield Part(node.GetName(), image, transform, lattice=_lattice(image) if transform is None else None)
        return
    if not node.IsA("vtkMRMLSegmentationNode"):
        raise NodeError(_("The {name} is neither a segmentation nor a label map; convert it or choose another.").format(
            name=name))
    segmentation = node.GetSegmentation()
    lattice = _reference(segmentation) if transform is None else None
    for segment in _segment_ids(node, segment_id, name, visible):
        found = segmentation.GetSegment(segment)
        shape, label = _shape(found, name)
        drawn = lattice is not None and shape.IsA("vtkOrientedImageData") and _same_axes(shape, lattice)
        yield Part(found.GetName(), shape, transform, found.GetColor(), label, lattice if drawn else None)


def seated(found: Iterator[Part], volume: VolumeData, name: str) -> list[Part]:
    """Parts of a mask or of labels where they belong beside a volume, as the engine's function of that name has it.

    Where a label image has lost its header and has the volume's numbers of voxels it is taken voxel by voxel, which is
    logged; with other numbers it is refused.

    Raises:
        NodeError: it is.
    """
    result = list(found)
    for at, part in enumerate(result):
        own, grid = part.lattice, volume.geometry
        if own is None or same_geometry(own, grid) or not lost(own, grid):
            continue
        if list(own["size"]) != list(grid["size"]):
            if sorted(own["size"]) != sorted(grid["size"]) and np.allclose(grid["origin"], 0):
                continue  # at the volume's own origin a small label image may be right
            raise NodeError(_("The {name} has lost its header (origin 0) and has {own} voxels, not {size} as the "
                              "{volume}; load it anew with that volume's header.").format(
                name=name, own=_sizes(own), size=_sizes(grid), volume=volume.name))
        log.warning("The %s has lost its header (origin 0) and as many voxels along each axis as the %s: it is taken "
                    "voxel by voxel; check in a viewer that its axes are in the same order.", name, volume.name)
        result[at] = replace(part, shape=oriented(part.shape, ijk_to_ras(grid)), lattice=grid)
    return result


def _sizes(geometry: dict) -> str:
    return " x ".join(map(str, geometry["size"]))


def _lattice(image: Any) -> Optional[dict]:
    """The geometry of an oriented image whose axes are at right angles and whose extent begins at 0."""
    to_world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    matrix = numpy_matrix(to_world)
    return geometry_from(matrix, image.GetDimensions()) if is_grid(matrix) and not any(image.GetExtent()[::2]) else None


def _reference(segmentation: Any) -> Optional[dict]:
    """The geometry of the label image that a segmentation came from, or of the volume that it was drawn on."""
    converter, image = slicer.vtkSegmentationConverter, slicer.vtkOrientedImageData()
    text = segmentation.GetConversionParameter(converter.GetReferenceImageGeometryParameterName())
    return _lattice(image) if text and converter.DeserializeImageGeometry(text, image, False) else None


def _same_axes(image: Any, lattice: dict) -> bool:
    """Whether the voxels of an oriented image are some of those of a grid, by the same indices."""
    to_world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    return np.allclose(numpy_matrix(to_world), ijk_to_ras(lattice), atol=1e-3 * min(lattice["spacing"]))


def _segment_ids(node: Any, segment_id: Optional[str], name: str, visible: bool) -> list[str]:
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    every = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    if segment_id:
        if segment_id not in every:
            raise NodeError(_("The {name} has no segment {segment}; choose an existing segment.").format(
                name=name, segment=segment_id))
        return [segment_id]
    if not every:
        raise NodeError(_("The {name} has no segments; add one, or choose another node or None.").format(name=name))
    if not visible or display is None:
        return every
    shown = [segment for segment in every if display.GetSegmentVisibility(segment)]
    if not shown:
        raise NodeError(_("The {name} has no visible segment; show the segments to use, or choose one segment.").format(
            name=name))
    return shown


def _shape(segment: Any, name: str) -> tuple[Any, Optional[int]]:
    """The voxels of a segment and their value, or the surface of one that has no voxels; nothing is converted."""
    image = segment.GetRepresentation(_LABELMAP)
    if image is not None:
        return image, segment.GetLabelValue()
    surface = segment.GetRepresentation(_SURFACE)
    if surface is None:
        raise NodeError(_("The {name} has neither voxels nor closed surfaces; create its binary labelmap in the "
                          "Segmentations module.").format(name=name))
    return surface, None


def _on_lattice(image: Any, geometry: dict) -> Optional[Reader]:
    """Gives slices k of an oriented image whose voxels lie on those of a grid, as far as it reaches; else None."""
    to_world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    between = np.linalg.inv(numpy_matrix(to_world)) @ ijk_to_ras(geometry)
    extent, size = np.reshape(image.GetExtent(), (3, 2)), np.asarray(geometry["size"])
    first = np.rint(between[:3, 3]).astype(int) - extent[:, 0]  # of the grid, in the image's array
    off = np.abs(between[:3, :3] - np.eye(3)) @ size + np.abs(between[:3, 3] - np.rint(between[:3, 3]))
    if off.max() > 1e-3:  # voxels
        return None
    array = image_array(image)
    shape = np.array(array.shape[::-1])
    low, high = np.clip(-first, 0, size), np.clip(shape - first, 0, size)  # of the image, in the grid

    def read(part: slice) -> np.ndarray:
        start, stop, _step = part.indices(int(size[2]))
        values = np.zeros((stop - start, size[1], size[0]), array.dtype)
        bottom, top = max(start, low[2]), min(stop, high[2])
        if bottom < top:
            values[bottom - start:top - start, low[1]:high[1], low[0]:high[0]] = array[
                bottom + first[2]:top + first[2], low[1] + first[1]:high[1] + first[1],
                low[0] + first[0]:high[0] + first[0]]
        return values

    return read


def _inside(surface: vtk.vtkPolyData, geometry: dict, transform: Optional[vtk.vtkAbstractTransform]) -> Reader:
    """Gives slices k of the voxels whose centres lie inside a closed surface, uint8 of 0 and 1."""
    to_index = vtk.vtkGeneralTransform()
    to_index.Concatenate(vtk_matrix(np.linalg.inv(ijk_to_ras(geometry))))
    if transform is not None:
        to_index.Concatenate(transform)  # applied first
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputData(surface)
    moved.SetTransform(to_index)
    stencil = vtk.vtkPolyDataToImageStencil()
    stencil.SetInputConnection(moved.GetOutputPort())
    image = vtk.vtkImageStencilToImage()
    image.SetInputConnection(stencil.GetOutputPort())
    image.SetOutputScalarTypeToUnsignedChar()
    i, j, k = geometry["size"]

    def read(part: slice) -> np.ndarray:
        start, stop, _step = part.indices(k)
        stencil.SetOutputWholeExtent(0, i - 1, 0, j - 1, start, stop - 1)
        image.Update()
        return image_array(image.GetOutput())

    return read
