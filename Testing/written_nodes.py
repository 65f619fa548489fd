"""Reads back what mrml/ has written into nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from NePhiRegistrationLib.mrml.deformation_nodes import deformation
from NePhiRegistrationLib.mrml.log_jacobian_display import FOLD
from NePhiRegistrationLib.mrml.node_geometry import FLIP
from NePhiRegistrationLib.mrml.transform_nodes import ATTRIBUTE, grid_geometry
from NePhiRegistrationLib.mrml.vtk_images import image_array


def read_displacement(node: Any) -> tuple[np.ndarray, dict]:
    """The displacements (k, j, i, 3), LPS mm, of a transform node, and their geometry."""
    found = deformation(node)
    if found.transform.IsA("vtkOrientedBSplineTransform"):
        return image_array(found.image) * FLIP, {}
    field = found.transform
    vectors = image_array(field.GetDisplacementGrid()) * field.GetDisplacementScale() + field.GetDisplacementShift()
    return np.multiply(vectors, FLIP).astype(np.float32), grid_geometry(field)


def read_provenance(node: Any) -> dict[str, str]:
    """What made a node."""
    names = [name for name in node.GetAttributeNames() if name.startswith(ATTRIBUTE)]
    return {name[len(ATTRIBUTE):]: node.GetAttribute(name) for name in names}


def fold_count(node: Any) -> int:
    """The number of folded voxels of a log-Jacobian volume."""
    return int(np.count_nonzero(slicer.util.arrayFromVolume(node) <= FOLD + 1e-3))
