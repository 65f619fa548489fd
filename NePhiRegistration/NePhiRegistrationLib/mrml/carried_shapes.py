"""Markups and models as points of the world, and those points put elsewhere; what joins the points stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util import numpy_support

from .deformation_nodes import mapped
from .node_geometry import FLIP
from .vtk_images import transform_to_world


def points_of(node: Any) -> np.ndarray:
    """The placed control points of a markups node, or the points of a model, (n, 3) float64 LPS mm in the world."""
    if node.IsA("vtkMRMLMarkupsNode"):
        points = [node.GetNthControlPointPositionWorld(index) for index in _placed(node)]
        return np.reshape(points, (-1, 3)) * FLIP
    points, to_world = numpy_support.vtk_to_numpy(node.GetMesh().GetPoints().GetData()), transform_to_world(node)
    return (points.astype(float) if to_world is None else mapped(to_world, points)) * FLIP


def put_points(node: Any, points: np.ndarray) -> None:
    """Move what :func:`points_of` gives to other points, LPS mm; a parent transform of the node is taken off."""
    modified = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        if node.IsA("vtkMRMLMarkupsNode"):
            for index, point in zip(_placed(node), (points * FLIP).tolist()):
                node.SetNthControlPointPosition(index, *point)
        else:
            node.SetAndObserveMesh(_mesh(node.GetMesh(), points * FLIP))
    finally:
        node.EndModify(modified)


def _placed(node: Any) -> list[int]:
    return [index for index in range(node.GetNumberOfControlPoints())
            if node.GetNthControlPointPositionStatus(index) == node.PositionDefined]


def _mesh(mesh: Any, points: np.ndarray) -> Any:
    """A copy of a mesh with its points (n, 3) elsewhere, and its normals as they are there."""
    moved, places = mesh.NewInstance(), vtk.vtkPoints()
    moved.DeepCopy(mesh)
    places.SetDataType(mesh.GetPoints().GetDataType())
    places.SetNumberOfPoints(len(points))
    numpy_support.vtk_to_numpy(places.GetData())[:] = points
    moved.SetPoints(places)
    data = moved.GetPointData(), moved.GetCellData()
    had = [one.GetNormals() is not None for one in data]
    if not (any(had) and moved.IsA("vtkPolyData")):
        return moved
    for one in data:
        one.SetNormals(None)
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputData(moved)
    normals.SplittingOff()
    normals.ConsistencyOff()
    normals.SetComputePointNormals(had[0])
    normals.SetComputeCellNormals(had[1])
    normals.Update()
    return normals.GetOutput()
