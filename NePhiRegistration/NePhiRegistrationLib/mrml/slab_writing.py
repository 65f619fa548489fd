"""Large results into nodes, slab by slab, for callers that give the window a turn between two steps.

Nodes change with the last step; until then they hold what they held.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import vtk
from vtk.util import numpy_support

from . import log_jacobian_display, transform_nodes, volume_nodes
from .node_geometry import FLIP
from .slabs import Gradual, fill_slabs
from .vtk_images import image_array


def write_displacement(node: Any, displacement: np.ndarray, geometry: dict) -> Gradual[None]:
    """See :func:`transform_nodes.write_displacement`."""
    flip = FLIP.astype(np.float32)
    image = empty(displacement.shape[:3], 3, np.float32)
    yield from fill_slabs(image_array(image), lambda part: displacement[part] * flip)
    transform_nodes.write_field(node, image, geometry)


def write_volume(node: Any, array: np.ndarray, geometry: dict, like: Optional[Any] = None) -> Gradual[None]:
    """See :func:`volume_nodes.write_volume`; ``array`` is not bool."""
    image = empty(array.shape, 1, array.dtype)
    yield from fill_slabs(image_array(image), lambda part: array[part])
    volume_nodes.write_image(node, image, geometry, like)


def write_log_jacobian(node: Any, array: np.ndarray, geometry: dict) -> Gradual[None]:
    """See :func:`log_jacobian_display.write_log_jacobian`."""
    image, found = empty(array.shape, 1, np.float32), [0.0]

    def clean(part: slice) -> np.ndarray:
        values = log_jacobian_display.cleaned(array[part])
        found.append(log_jacobian_display.largest(values))
        return values

    yield from fill_slabs(image_array(image), clean)
    volume_nodes.add_display(node)
    node.GetDisplayNode().SetAutoWindowLevel(False)  # its own range follows, and nobody shall look for another
    volume_nodes.write_image(node, image, geometry)
    log_jacobian_display.show_scale(node, log_jacobian_display.scale_end(max(found)))


def empty(shape: tuple, components: int, kind: Any) -> vtk.vtkImageData:
    """An image (k, j, i) of a numpy type, to be filled."""
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(shape))
    image.AllocateScalars(numpy_support.get_vtk_array_type(np.dtype(kind)), components)
    return image
