"""Large results into nodes, slab by slab, for callers that give the window a turn between two steps.

Nodes change with the last step; until then they hold what they held.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import vtk
from vtk.util import numpy_support

from . import log_jacobian_display, volume_nodes
from .slabs import Gradual, fill_slabs
from .vtk_images import image_array


def write_volume(node: Any, array: np.ndarray, geometry: dict, like: Optional[Any] = None) -> Gradual[None]:
    """See :func:`volume_nodes.write_volume`; ``array`` is not bool."""
    image = empty(array.shape, 1, array.dtype)
    yield from fill_slabs(image_array(image), lambda part: array[part])
    volume_nodes.write_image(node, image, geometry, like)


def write_log_jacobian(node: Any, array: np.ndarray, geometry: dict, compared: Optional[np.ndarray] = None
                       ) -> Gradual[None]:
    """See :func:`log_jacobian_display.write_log_jacobian`."""
    whole, limited = empty(array.shape, 1, np.float32), empty(array.shape, 1, np.float32)
    yield from fill_slabs(image_array(whole), lambda part: log_jacobian_display.cleaned(array[part]))
    values = image_array(whole)
    if compared is None:
        limited = whole
    else:
        yield from fill_slabs(image_array(limited), lambda part: np.where(compared[part], values[part], 0))
    end = log_jacobian_display.scale_end(log_jacobian_display.largest(values, compared))
    yield
    log_jacobian_display.write_images(node, limited, whole, geometry, end)


def empty(shape: tuple, components: int, kind: Any) -> vtk.vtkImageData:
    """An image (k, j, i) of a numpy type, to be filled."""
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(shape))
    image.AllocateScalars(numpy_support.get_vtk_array_type(np.dtype(kind)), components)
    return image
