"""The deformation in a transform node: cubic B-splines and a linear part, as results are, or a displacement grid, as
previews are. Splines keep the same tolerance with some ten times fewer nodes, but are slower to draw through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from .node_geometry import FLIP, ijk_to_ras, numpy_matrix, to_lps, vtk_matrix
from .vtk_images import image_array, new_image

_PROBES = 10  # along each axis: where the largest displacement is looked for


@dataclass(frozen=True)
class Deformation:
    """A from-parent transform as points x to linear(x + displacement(x)), RAS mm.

    Attributes:
        transform: a vtkOrientedBSplineTransform, or a vtkOrientedGridTransform.
        image: its coefficients or displacements.
        linear: (4, 4); the identity with a grid, which holds all.
    """

    transform: Any
    image: Any
    linear: np.ndarray

    @property
    def side(self) -> float:
        """The longest side of its grid, mm."""
        return max(n * step for n, step in zip(self.image.GetDimensions(), self.image.GetSpacing()))

    @property
    def largest(self) -> float:
        """About the largest displacement, mm, the linear part included."""
        ends = [np.linspace(0, n - 1, _PROBES) * step for n, step in zip(self.image.GetDimensions(),
                                                                        self.image.GetSpacing())]
        inside = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
        direction = self.transform.GetGridDirectionMatrix()
        turn = np.eye(3) if direction is None else numpy_matrix(direction)[:3, :3]
        points = inside @ turn.T + np.asarray(self.image.GetOrigin())
        moved = mapped(self.transform, points) @ self.linear[:3, :3].T + self.linear[:3, 3]
        return float(np.linalg.norm(moved - points, axis=1).max())


def deformation(node: Any) -> Optional[Deformation]:
    """What a node's from-parent transform holds, or None when that is anything else."""
    grid = node.GetTransformFromParentAs("vtkOrientedGridTransform", False, True)
    if grid is not None:
        image = grid.GetDisplacementGrid()
        return None if image is None else Deformation(grid, image, np.eye(4))
    parts = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(parts, node.GetTransformFromParent())
    found = [parts.GetItemAsObject(n) for n in range(parts.GetNumberOfItems())]  # in the order of their use
    if not found or not found[0].IsA("vtkOrientedBSplineTransform"):
        return None
    first, *rest = found
    plain = len(rest) <= 1 and all(part.IsA("vtkHomogeneousTransform") for part in rest)
    if not plain or first.GetInverseFlag() or first.GetCoefficientData() is None:
        return None
    linear = numpy_matrix(rest[0].GetMatrix()) if rest else np.eye(4)
    return Deformation(first, first.GetCoefficientData(), linear)


def write_splines(node: Any, coefficients: np.ndarray, geometry: dict, linear: Sequence[Sequence[float]]) -> None:
    """Make a map through splines the from-parent transform of a node. A parent transform of the node is taken off,
    since the map is from world to world.

    Args:
        node: a vtkMRMLTransformNode in a scene.
        coefficients: (k, j, i, 3) LPS mm, of cubic B-splines that are zero beyond them.
        geometry: of their nodes, LPS mm.
        linear: (4, 4) LPS mm, applied after the splines; other programs read it from a saved file too.
    """
    if node.GetParentTransformNode() is not None:
        node.SetAndObserveTransformNodeID(None)
    matrix = vtk.vtkTransform()
    matrix.SetMatrix(vtk_matrix(to_lps(np.asarray(linear, dtype=float))))  # which is its own inverse
    whole = vtk.vtkGeneralTransform()
    whole.Concatenate(matrix)
    whole.Concatenate(_splines(np.multiply(coefficients, FLIP), geometry))  # applied first
    node.SetAndObserveTransformFromParent(whole)


def scaled(found: Deformation, part: float) -> Any:
    """A vtk transform that moves points by a part of a deformation, 0 to 1."""
    if found.transform.IsA("vtkOrientedGridTransform"):
        made = slicer.vtkOrientedGridTransform()
        made.SetDisplacementGridData(found.image)
        made.SetInterpolationModeToLinear()
        made.SetDisplacementScale(part * found.transform.GetDisplacementScale())
    else:
        made = slicer.vtkOrientedBSplineTransform()
        values = new_image((part * image_array(found.image)) @ found.linear[:3, :3].T, 3)
        values.SetSpacing(found.image.GetSpacing())
        values.SetOrigin(found.image.GetOrigin())
        made.SetCoefficientData(values)
        made.SetBorderModeToZero()
        made.SetBulkTransformMatrix(vtk_matrix(np.eye(4) + part * (found.linear - np.eye(4))))
    made.SetGridDirectionMatrix(found.transform.GetGridDirectionMatrix())
    return made


def _splines(coefficients: np.ndarray, geometry: dict) -> Any:
    """A vtkOrientedBSplineTransform of RAS coefficients."""
    image, matrix = new_image(coefficients.astype(np.float64), 3), ijk_to_ras(geometry)
    image.SetSpacing(geometry["spacing"])
    image.SetOrigin(matrix[:3, 3].tolist())
    direction = np.eye(4)
    direction[:3, :3] = matrix[:3, :3] / np.asarray(geometry["spacing"])
    made = slicer.vtkOrientedBSplineTransform()
    made.SetCoefficientData(image)
    made.SetGridDirectionMatrix(vtk_matrix(direction))
    made.SetBorderModeToZero()
    return made


def mapped(transform: Any, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) through a vtk transform."""
    before, after = vtk.vtkPoints(), vtk.vtkPoints()
    before.SetData(numpy_support.numpy_to_vtk(np.ascontiguousarray(points), deep=True))
    transform.TransformPoints(before, after)
    return numpy_support.vtk_to_numpy(after.GetData()).astype(float)
