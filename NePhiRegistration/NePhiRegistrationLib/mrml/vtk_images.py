"""Voxels of a node, and those voxels on another grid, as Slicer itself resamples."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from ..i18n import tr as _
from .node_geometry import ijk_to_ras, numpy_matrix, vtk_matrix


def image_array(image: vtk.vtkImageData) -> np.ndarray:
    """The voxels, (k, j, i) or (k, j, i, components): a view of VTK's memory, writing to it writes to the image."""
    scalars = image.GetPointData().GetScalars()
    shape = tuple(reversed(image.GetDimensions()))
    components = scalars.GetNumberOfComponents()
    return numpy_support.vtk_to_numpy(scalars).reshape(shape if components == 1 else (*shape, components))


def new_image(array: np.ndarray, components: int = 1, kind: Optional[type] = None) -> Any:
    """A vtkImageData (or ``kind``) holding a copy of an array (k, j, i) or (k, j, i, components)."""
    image = (kind or vtk.vtkImageData)()
    values = array.astype(np.uint8) if array.dtype == bool else array
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    image.SetDimensions(*reversed(values.shape[:3]))
    image.AllocateScalars(numpy_support.get_vtk_array_type(values.dtype), components)
    image_array(image)[...] = values
    return image


def oriented(image: vtk.vtkImageData, matrix: np.ndarray) -> Any:
    """A vtkOrientedImageData of an image, sharing its voxels, placed by a (4, 4) matrix from indices to RAS mm."""
    result = slicer.vtkOrientedImageData()
    result.ShallowCopy(image)
    result.SetImageToWorldMatrix(vtk_matrix(matrix))
    return result


def volume_matrix(node: Any) -> np.ndarray:
    """(4, 4) from voxel indices of a volume node to RAS mm, before parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return numpy_matrix(matrix)


def transform_to_world(node: Any) -> Optional[vtk.vtkGeneralTransform]:
    """The parent transforms of a node as one map to world (RAS), or None when it has none."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return None
    transform = vtk.vtkGeneralTransform()
    parent.GetTransformToWorld(transform)
    return transform


def onto(image: Any, geometry: dict, transform: Optional[vtk.vtkAbstractTransform] = None, linear: bool = False,
         background: float = 0.0) -> np.ndarray:
    """An oriented image on another grid, (k, j, i) of the image's type.

    Args:
        image: a vtkOrientedImageData with one component.
        geometry: the grid in world (LPS mm).
        transform: moves the image to world first (RAS).
        linear: trilinear, otherwise the nearest voxel.
        background: the value outside the image.
    """
    reference = slicer.vtkOrientedImageData()
    size = geometry["size"]
    reference.SetExtent(0, size[0] - 1, 0, size[1] - 1, 0, size[2] - 1)
    reference.SetImageToWorldMatrix(vtk_matrix(ijk_to_ras(geometry)))
    result = slicer.vtkOrientedImageData()
    done = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        image, reference, result, linear, False, transform, background)
    if not done:
        raise RuntimeError(_("Slicer could not resample the image."))
    return image_array(result)
