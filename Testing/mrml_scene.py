"""A MRML scene as 3D Slicer starts with, and nodes to put into it; for tests on slicer-core."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

_open: list[Callable[[], None]] = []


def new_scene() -> slicer.vtkMRMLScene:
    """An empty scene, which ``slicer.mrmlScene`` becomes; logics and views of the last one are closed first."""
    close_scene()
    slicer.mrmlScene = scene = slicer.vtkMRMLScene()
    for kind in (slicer.vtkMRMLColorLegendDisplayNode, slicer.vtkMRMLMarkupsJsonStorageNode):
        scene.RegisterNodeClass(kind())  # Slicer's modules do this when they are loaded
    return scene


@atexit.register
def close_scene() -> None:
    """Close the logics and views of the current scene."""
    while _open:
        _open.pop()()


def at_end(close: Callable[[], None]) -> None:
    """Have something called before the next scene is made: Slicer's logics must not outlive their scene."""
    _open.append(close)


def read_bundle(path: str) -> None:
    """A new scene from a .mrb file, which Slicer unpacks into its cache folder."""
    scene, cache, manager = new_scene(), slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(os.path.dirname(path))
    manager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(manager)
    assert scene.ReadFromMRB(path)


def add_colors(scene: slicer.vtkMRMLScene) -> None:
    """Slicer's own colour tables, grey among them, without which a volume is not drawn."""
    logic = slicer.vtkMRMLColorLogic()
    logic.SetMRMLScene(scene)
    at_end(lambda: logic.SetMRMLScene(None))


def add_node(kind: str, name: str = "") -> slicer.vtkMRMLNode:
    """A node of class ``vtkMRML<kind>Node`` in the current scene."""
    return slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)


def add_volume(array: np.ndarray, matrix: np.ndarray | None = None, name: str = "volume", kind: str = "ScalarVolume"):
    """A volume node of an array (k, j, i), placed by a (4, 4) matrix from voxel indices to RAS."""
    node = add_node(kind, name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(as_vtk(np.eye(4) if matrix is None else matrix))
    node.CreateDefaultDisplayNodes()
    return node


def add_linear(matrix: np.ndarray, parent=None):
    """A linear transform node with this (4, 4) to-parent matrix, RAS."""
    node = add_node("Transform", "linear")
    node.SetMatrixTransformToParent(as_vtk(matrix))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def add_points(points: Sequence[Sequence[float]], name: str = "points"):
    """A markups node of control points, RAS."""
    node = add_node("MarkupsFiducial", name)
    for point in np.asarray(points, dtype=float).tolist():
        node.AddControlPoint(vtk.vtkVector3d(*point))
    return node


def add_segmentation(labels: dict[str, np.ndarray], matrix: np.ndarray, name: str = "segmentation"):
    """A segmentation node: segment name -> mask (k, j, i) on the grid of a (4, 4) matrix from indices to RAS."""
    node = add_node("Segmentation", name)
    node.CreateDefaultDisplayNodes()
    for segment, mask in labels.items():
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(*reversed(mask.shape))
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        scalars = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
        scalars[:] = mask.astype(np.uint8).ravel()
        image.SetImageToWorldMatrix(as_vtk(matrix))
        node.AddSegmentFromBinaryLabelmapRepresentation(image, segment)
    return node


def as_vtk(matrix: np.ndarray) -> vtk.vtkMatrix4x4:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    return result


def oblique_matrix() -> np.ndarray:
    """Turned, flipped, anisotropic and far from the origin: (4, 4) from indices to RAS."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3] = turn * (0.9, 1.7, 2.6)
    matrix[:3, 3] = -51.0, 80.5, -434.5
    return matrix


def turn_matrix(degrees: float, offset: Sequence[float], scale: float = 1.0) -> np.ndarray:
    """A turn about an oblique axis, a scale and a shift: (4, 4)."""
    transform = vtk.vtkTransform()
    transform.Translate(*offset)
    transform.RotateWXYZ(degrees, 0.4, -0.5, 0.77)
    transform.Scale(scale, scale, scale)
    return np.array([[transform.GetMatrix().GetElement(i, j) for j in range(4)] for i in range(4)])


def noise(shape: Sequence[int] = (9, 12, 15), seed: int = 0) -> np.ndarray:
    """Random values without any symmetry, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
