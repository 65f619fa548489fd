"""Volumes of any kind carried by a transform, onto the grid they are wanted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk

from ..i18n import tr as _
from .node_error import NodeError
from .slab_writing import empty
from .slabs import SLAB, Gradual, fill_slabs, slab_geometry
from .vtk_images import image_array, new_image, onto, oriented, transform_to_world, volume_matrix


def carried_volume(source: Any, to_parent: vtk.vtkAbstractTransform, geometry: dict) -> Gradual[vtk.vtkImageData]:
    """The voxels of a volume on another grid, of its own type, each component by itself.

    Values between voxels are linear, and rounded where the type is an integer; labels are the nearest voxel's. Parent
    transforms of the source apply first. Outside it is its lowest value, or 0 for labels and several components.

    Args:
        source: a vtkMRMLVolumeNode with voxels.
        to_parent: carries points of the world to where they shall be, RAS.
        geometry: the grid, LPS mm.

    Raises:
        NodeError: nothing of it lies within the grid.
    """
    array, matrix, linear = image_array(source.GetImageData()), volume_matrix(source), not is_labels(source)
    components = 1 if array.ndim == 3 else array.shape[3]
    moved = moved_through(to_parent, transform_to_world(source))
    background = _lowest(array) if linear and components == 1 else 0
    result = empty(tuple(reversed(geometry["size"])), components, array.dtype)
    values = image_array(result)
    for component in range(components):
        one = oriented(source.GetImageData() if components == 1 else new_image(array[..., component]), matrix)
        yield from fill_slabs(
            values if components == 1 else values[..., component],
            lambda part, one=one: onto(one, slab_geometry(geometry, part), moved, linear, background), SLAB // 16)
    if (array != background).any() and not (values != background).any():
        raise NodeError(nothing_there(source))
    return result


def nothing_there(source: Any) -> str:
    """The sentence for a node that does not belong to the volume that is carried."""
    return _("Nothing of '{name}' comes to lie on the other volume; choose what belongs to the volume that is carried."
             ).format(name=source.GetName())


def is_labels(node: Any) -> bool:
    """Whether the values of a volume node are labels, between which there is nothing."""
    return bool(node.IsA("vtkMRMLLabelMapVolumeNode"))


def moved_through(to_parent: vtk.vtkAbstractTransform, to_world: Any) -> vtk.vtkGeneralTransform:
    """A node's way to the world, or None, and then a transform."""
    both = vtk.vtkGeneralTransform()
    both.Concatenate(to_parent)
    if to_world is not None:
        both.Concatenate(to_world)  # applied first
    return both


def _lowest(array: np.ndarray) -> float:
    """The lowest value; NaN and infinite ones do not count."""
    if array.dtype.kind != "f":
        return float(array.min())
    finite = array[np.isfinite(array)]
    return float(finite.min()) if finite.size else 0.0
