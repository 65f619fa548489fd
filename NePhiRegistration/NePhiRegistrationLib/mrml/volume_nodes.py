"""Volume nodes in and out: the voxels and where they are in the world."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import vtk

from ..i18n import tr as _
from . import protected_images
from .node_error import NodeError
from .node_geometry import geometry_from, ijk_to_ras, is_grid, numpy_matrix, turned, vtk_matrix
from .slabs import SLAB, Gradual, fill_slabs, run_now, slab_geometry
from .vtk_images import image_array, new_image, onto, oriented, transform_to_world, volume_matrix

log = logging.getLogger(__name__)

MIN_AXIS = 8  # voxels; the engine's own limit


@dataclass(frozen=True)
class VolumeData:
    """A scalar volume in the world.

    Attributes:
        array: (k, j, i), the node's own type; read only, it may be the node's memory.
        geometry: its grid in world, LPS mm, parent transforms included.
        name: what messages call it, for instance ``fixed volume 'CT'``.
    """

    array: np.ndarray
    geometry: dict
    name: str


def read_volume(node: Any, role: str) -> VolumeData:
    """As :func:`read_volume_gradually`, at once."""
    return run_now(read_volume_gradually(node, role))


def read_volume_gradually(node: Any, role: str) -> Gradual[VolumeData]:
    """The voxels of a scalar volume node and their place in the world.

    Linear parent transforms that keep the voxels on a grid change only the geometry. Axes that are off right angles by
    rounding are turned to right angles. Under any other transform (shear, nonlinear), or with sheared axes of its own,
    the volume is resampled, linearly, on a box along the world's axes at its own spacing. Both are logged.

    Args:
        node: a vtkMRMLScalarVolumeNode.
        role: "fixed" or "moving", for messages.

    Raises:
        NodeError: no node or no voxels, colour or label voxels, fewer than 8 voxels along an axis, voxels that are not
            finite, the same value everywhere.
    """
    name = checked_kind(node, role)
    array = image_array(node.GetImageData())
    low = _checked_values(array, name)
    array.setflags(write=False)
    matrix, transform = place(node)
    if matrix is None:
        return (yield from _resampled(node, transform, name, low))
    return VolumeData(array, geometry_from(matrix, tuple(reversed(array.shape))), name)


def place(node: Any, without: Any = None) -> tuple[Optional[np.ndarray], Optional[vtk.vtkAbstractTransform]]:
    """Where the voxels of a volume node are in the world.

    Args:
        without: a transform node of the world that is left out where it is all that the volume lies under.

    Returns:
        (4, 4) from voxel indices to RAS mm, or None where its parent transforms bend or shear its grid, or its own
        axes are sheared; and those transforms.
    """
    matrix, transform = volume_matrix(node), transform_to_world(node)
    if without is not None and node.GetParentTransformNode() is without and without.GetParentTransformNode() is None:
        transform = None
    linear = np.eye(4) if transform is None else _linear_to_world(node)
    there = None if linear is None else linear @ matrix
    if there is not None and not is_grid(there):
        there = turned(there, node.GetImageData().GetDimensions())
        if there is not None:
            log.warning("The volume '%s' has axes that are off right angles, as rounding leaves them: they are turned "
                        "to right angles, which moves no voxel by more than a quarter of a voxel.", node.GetName())
    return there, transform


def write_volume(node: Any, array: np.ndarray, geometry: dict, like: Optional[Any] = None) -> None:
    """Fill a volume node, which stays the node it is and keeps its display if it has one.

    Voxels of the same size and type are written in place, unless they are protected (:mod:`protected_images`). A parent
    transform of the node is taken off, since the geometry is in the world.

    Args:
        node: a scalar or label map volume node in a scene.
        array: (k, j, i).
        geometry: LPS mm.
        like: a volume whose window and level a new display takes over.
    """
    if list(array.shape) != list(reversed(geometry["size"])):
        raise ValueError(_("An array of shape {shape} does not fit a geometry of size {size}.").format(
            shape=array.shape, size=geometry["size"]))
    add_display(node, like)
    with _placed(node, geometry):
        _put_voxels(node, array)


def write_image(node: Any, image: vtk.vtkImageData, geometry: dict, like: Optional[Any] = None) -> None:
    """As :func:`write_volume`, for voxels in an image, which becomes the node's own."""
    add_display(node, like)
    with _placed(node, geometry):
        node.SetAndObserveImageData(image)


def add_display(node: Any, like: Optional[Any] = None) -> None:
    """Give a volume node that has none a display, as another volume has it or with an automatic window and level.

    Before there are voxels: the automatic ones, which take long to find, are then only looked for when they are needed.
    """
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        if like is not None and like.GetDisplayNode() is not None:
            copy_display(like.GetDisplayNode(), node.GetDisplayNode())


@contextlib.contextmanager
def _placed(node: Any, geometry: dict) -> Iterator[None]:
    """Put the node where the geometry says, and make it and the change of its voxels known as one."""
    modified = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        node.SetIJKToRASMatrix(vtk_matrix(ijk_to_ras(geometry)))
        yield
    finally:
        node.EndModify(modified)


def _put_voxels(node: Any, array: np.ndarray) -> None:
    image = node.GetImageData()
    values = array.astype(np.uint8) if array.dtype == bool else array
    if image is not None and image.GetPointData().GetScalars() is not None and not protected_images.is_protected(image):
        old = image_array(image)
        if old.shape == values.shape and old.dtype == values.dtype:
            old[...] = values
            image.GetPointData().GetScalars().Modified()
            image.Modified()
            node.StorableModified()
            return
    node.SetAndObserveImageData(new_image(values))


def copy_display(source: Any, target: Any) -> None:
    """Show a volume as another is shown. An automatic window is taken over as it is: looking for one takes long."""
    modified = target.StartModify()
    try:
        target.SetAutoWindowLevel(False)
        target.SetWindowLevel(source.GetWindow(), source.GetLevel())
        target.SetAutoThreshold(False)
        target.SetThreshold(source.GetLowerThreshold(), source.GetUpperThreshold())
        target.SetApplyThreshold(source.GetApplyThreshold())
        target.SetInterpolate(source.GetInterpolate())
        target.SetAndObserveColorNodeID(source.GetColorNodeID())
    finally:
        target.EndModify(modified)


def checked_kind(node: Any, role: str) -> str:
    """What messages call a node, when it is a scalar volume with voxels enough; their values are not looked at.

    Raises:
        NodeError: it is not.
    """
    if node is None:
        raise NodeError(_("No {role} volume is chosen; choose one.").format(role=role))
    name = f"{role} volume '{node.GetName()}'"
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise NodeError(_("The {name} is a label map; choose the image it belongs to, and give label maps as masks."
                          ).format(name=name))
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise NodeError(_("The {name} is not a volume ({kind}); choose a scalar volume.").format(
            name=name, kind=node.GetNodeTagName()))
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        raise NodeError(_("The {name} holds no image; load its file again or choose another volume.").format(name=name))
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise NodeError(_("The {name} has {count} values in each voxel (colours, vectors or time points); choose or "
                          "extract a volume with one.").format(name=name, count=components))
    size = image.GetDimensions()
    if min(size) < MIN_AXIS:
        raise NodeError(_("The {name} has {size} voxels; at least {least} along each axis are needed; choose a "
                          "volume, not a single slice.").format(
            name=name, size=" x ".join(map(str, size)), least=MIN_AXIS))
    return name


def _checked_values(array: np.ndarray, name: str) -> float:
    """The lowest value, when not all are the same; NaN and infinite ones do not count, the engine leaves them out."""
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        finite = array[np.isfinite(array)]
        if not finite.size:
            raise NodeError(_("The {name} has only voxels that are not numbers (NaN or infinite); choose another "
                              "volume.").format(name=name))
        low, high = finite.min(), finite.max()
    if low == high:
        raise NodeError(_("The {name} is constant ({value:g} everywhere); choose a volume with varying intensities."
                          ).format(name=name, value=low))
    return float(low)


def _linear_to_world(node: Any) -> Optional[np.ndarray]:
    """The parent transforms as one (4, 4) RAS matrix, or None when one is not linear."""
    matrix = vtk.vtkMatrix4x4()
    parent = node.GetParentTransformNode()
    if not parent.IsTransformToWorldLinear():
        return None
    parent.GetMatrixTransformToWorld(matrix)
    return numpy_matrix(matrix)


def _resampled(node: Any, transform: Optional[vtk.vtkAbstractTransform], name: str, background: float
               ) -> Gradual[VolumeData]:
    """The volume on a box along the world's axes, at its own spacing."""
    image, matrix = node.GetImageData(), volume_matrix(node)
    geometry = _bounding_geometry(image.GetDimensions(), matrix, transform)
    log.warning("The %s is bent or sheared, by its own axes or a transform above it: it is resampled to %s voxels.",
                name, geometry["size"])
    source = oriented(image, matrix)
    values = np.empty(tuple(reversed(geometry["size"])), image_array(image).dtype)
    yield from fill_slabs(values, lambda part: onto(source, slab_geometry(geometry, part), transform, True, background),
                    SLAB // 8)
    return VolumeData(values, geometry, name)


def _bounding_geometry(size: tuple, matrix: np.ndarray, transform: Optional[vtk.vtkAbstractTransform]) -> dict:
    """A grid along the world's axes around all voxel centres; its spacings are those of the nearest voxel axes."""
    ticks = np.linspace(0.0, 1.0, 12)
    unit = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1).reshape(-1, 3)
    faces = unit[((unit == 0) | (unit == 1)).any(1)] * (np.asarray(size) - 1)
    points = faces @ matrix[:3, :3].T + matrix[:3, 3]
    if transform is not None:
        points = np.array([transform.TransformPoint(p) for p in points.tolist()])
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    nearest = np.abs(matrix[:3, :3] / spacing).argmax(1)
    step = spacing[nearest]
    low = points.min(0)
    count = np.ceil((points.max(0) - low) / step - 1e-6).astype(int) + 1
    box = np.eye(4)
    box[:3, :3], box[:3, 3] = np.diag(step), low
    return geometry_from(box, count)
