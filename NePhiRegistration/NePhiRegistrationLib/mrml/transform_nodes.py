"""Transform nodes: displacement fields in, initial transforms out."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import slicer
import vtk

from ..i18n import tr as _
from . import protected_images
from .deformation_nodes import deformation, scaled
from .node_error import NodeError
from .node_geometry import FLIP, geometry_from, ijk_to_ras, numpy_matrix, same_geometry, to_lps, vtk_matrix
from .slabs import SLAB, Gradual, fill_slabs
from .vtk_images import image_array, new_image

ATTRIBUTE = "NePhi."
MOST_NODES = 4_000_000  # of sampled displacements: 48 MB


def write_displacement(node: Any, displacement: np.ndarray, geometry: dict) -> None:
    """Make a map, points to points plus displacement, the from-parent transform of a node.

    Applied to the moving volume, a node that holds fixed-to-moving displacements carries it onto the fixed one. The
    same grid again is written in place, which is cheap enough for previews. A parent transform of the node is taken
    off, since the map is from world to world.

    Args:
        node: a vtkMRMLTransformNode in a scene.
        displacement: (k, j, i, 3) LPS mm, the linear part included.
        geometry: its grid, LPS mm. VTK repeats the displacement of the border outside it.
    """
    if list(displacement.shape) != [*reversed(geometry["size"]), 3]:
        raise ValueError(_("Displacements of shape {shape} do not fit a size of {size}.").format(
            shape=displacement.shape, size=geometry["size"]))
    if node.GetParentTransformNode() is not None:
        node.SetAndObserveTransformNodeID(None)
    current = grid_transform(node)
    if current is not None and _can_be_overwritten(current, geometry):
        image = current.GetDisplacementGrid()
        np.multiply(displacement, FLIP.astype(np.float32), out=image_array(image), casting="same_kind")
        image.GetPointData().GetScalars().Modified()
        image.Modified()
        current.Modified()
        return
    write_field(node, new_image(np.multiply(displacement, FLIP, dtype=np.float32, casting="same_kind"), 3), geometry)


def write_field(node: Any, image: vtk.vtkImageData, geometry: dict) -> None:
    """As :func:`write_displacement`, for RAS vectors in an image, float32, which becomes the node's own."""
    if node.GetParentTransformNode() is not None:
        node.SetAndObserveTransformNodeID(None)
    matrix = ijk_to_ras(geometry)
    image.SetSpacing(geometry["spacing"])
    image.SetOrigin(matrix[:3, 3].tolist())
    direction = np.eye(4)
    direction[:3, :3] = matrix[:3, :3] / np.asarray(geometry["spacing"])
    node.SetAndObserveTransformFromParent(_oriented_grid(image, vtk_matrix(direction)))


def grid_transform(node: Any) -> Optional[Any]:
    """The vtkOrientedGridTransform that is a node's from-parent transform, or None when that is anything else."""
    transform = node.GetTransformFromParentAs("vtkOrientedGridTransform", False, True)
    return None if transform is None or transform.GetDisplacementGrid() is None else transform


def grid_geometry(transform: Any) -> dict:
    """The geometry (LPS mm) of a vtkOrientedGridTransform."""
    image = transform.GetDisplacementGrid()
    matrix = np.eye(4)
    if transform.GetGridDirectionMatrix() is not None:
        matrix[:3, :3] = numpy_matrix(transform.GetGridDirectionMatrix())[:3, :3]
    matrix[:3, :3] = matrix[:3, :3] * np.asarray(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return geometry_from(matrix, image.GetDimensions())


def scale_field(node: Any, source: Any, percent: float) -> None:
    """Make a node hold a part of another node's deformation: 0 is no change and 100 the whole.

    The node is not saved with the scene, and may share the memory of a displacement field. Call it again when that was
    replaced.

    Raises:
        NodeError: the source holds no deformation.
    """
    found = deformation(source)
    if found is None:
        raise NodeError(_("The transform '{name}' does not hold a deformation; choose a transform made by "
                          "NePhi.").format(name=source.GetName()))
    node.SetSaveWithScene(False)
    node.SetAndObserveTransformFromParent(scaled(found, percent / 100.0))


def read_initial(node: Any, moving: Any = None) -> Optional[np.ndarray]:
    """A linear transform that, applied to the moving volume, brings it near the fixed one: (4, 4) LPS, fixed to moving.

    Args:
        node: a transform node, or None for none. It counts in addition to the parents of the moving volume.
        moving: the moving volume node.

    Returns:
        The matrix; None where there is no node, or it :func:`bends`.

    Raises:
        NodeError: it is empty, not invertible, or a parent of the moving volume, which would apply it twice.
    """
    if node is None:
        return None
    if moving is not None and above(node, moving):
        raise NodeError(_("The initial transform '{transform}' is already applied to the moving volume '{volume}'; "
                          "choose no initial transform, or take the volume out of it.").format(
            transform=node.GetName(), volume=moving.GetName()))
    if bends(node):
        own = [way("vtkOrientedGridTransform", False, True)
               for way in (node.GetTransformFromParentAs, node.GetTransformToParentAs)]
        if any(grid is not None and grid.GetDisplacementGrid() is None for grid in own):
            raise NodeError(_("The initial transform '{name}' is nonlinear and holds no displacements; load it again "
                              "or choose another.").format(name=node.GetName()))
        return None
    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformToWorld(matrix)
    to_world = numpy_matrix(matrix)
    if not (np.isfinite(to_world).all() and abs(np.linalg.det(to_world[:3, :3])) > 1e-6):
        raise NodeError(_("The initial transform '{name}' cannot be inverted; choose another or None.").format(
            name=node.GetName()))
    return to_lps(np.linalg.inv(to_world))


def bends(node: Any) -> bool:
    """Whether a transform node, with its parents, is there and not linear."""
    return node is not None and not node.IsTransformToWorldLinear()


def read_displacement(node: Any, around: dict) -> Gradual[tuple[np.ndarray, dict]]:
    """The map from the world to a node's own space, any chain of transforms, inverted ones too, as displacements.

    Args:
        node: a transform node; applied to the moving volume it brings it near the fixed one.
        around: the fixed volume's geometry (LPS mm); the nodes are as far apart as its voxels, if there are not too
            many.

    Returns:
        (k, j, i, 3) float32 LPS mm on a box along the world's axes, and the geometry of that.
    """
    geometry = _box(around)
    transform, grid = vtk.vtkGeneralTransform(), vtk.vtkTransformToGrid()
    node.GetTransformFromWorld(transform)
    grid.SetInput(transform)
    grid.SetGridScalarTypeToFloat()
    grid.SetGridSpacing(geometry["spacing"])
    grid.SetGridOrigin((np.asarray(geometry["origin"]) * FLIP).tolist())
    i, j, k = geometry["size"]
    values = np.empty((k, j, i, 3), np.float32)

    def sampled(part: slice) -> np.ndarray:
        grid.SetGridExtent(0, i - 1, 0, j - 1, part.start, part.stop - 1)
        grid.Update()
        return image_array(grid.GetOutput()) * FLIP

    yield from fill_slabs(values, sampled, SLAB // 16)
    return values, geometry


def set_references(node: Any, fixed: Any, moving: Any) -> None:
    """Say which volumes a transform belongs to, in the way Slicer's registration modules do."""
    node.SetNodeReferenceID(slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole(), fixed.GetID())
    node.SetNodeReferenceID(slicer.vtkMRMLTransformNode.GetMovingNodeReferenceRole(), moving.GetID())


def set_provenance(node: Any, values: dict[str, Any]) -> None:
    """Keep what made a node as its attributes ``NePhi.<key>``; a value of None removes one."""
    for key, value in values.items():
        node.SetAttribute(ATTRIBUTE + key, None if value is None else str(value))


def above(transform: Any, node: Any) -> bool:
    """Whether a transform node is a parent of a node, or a parent's parent."""
    parent = node.GetParentTransformNode()
    while parent is not None and parent is not transform:
        parent = parent.GetParentTransformNode()
    return parent is not None


def _can_be_overwritten(transform: Any, geometry: dict) -> bool:
    """Whether new displacements on this geometry may go into the memory of a field; one read from a file is double."""
    if protected_images.is_protected(transform.GetDisplacementGrid()):
        return False
    plain = transform.GetDisplacementScale() == 1.0 and transform.GetDisplacementShift() == 0.0
    is_float = transform.GetDisplacementGrid().GetScalarType() == vtk.VTK_FLOAT
    return plain and is_float and same_geometry(grid_geometry(transform), geometry, 1e-6)


def _oriented_grid(image: vtk.vtkImageData, direction: Optional[vtk.vtkMatrix4x4]) -> Any:
    """A vtkOrientedGridTransform over an image of RAS vectors."""
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(image)
    transform.SetGridDirectionMatrix(direction)
    transform.SetInterpolationModeToLinear()
    return transform


def _box(around: dict) -> dict:
    """A grid along the axes of RAS around all voxel centres of a geometry, of at most MOST_NODES."""
    last = np.asarray(around["size"]) - 1
    ends = np.stack(np.meshgrid(*[(0, n) for n in last], indexing="ij"), -1).reshape(-1, 3)
    matrix = ijk_to_ras(around)
    corners = ends @ matrix[:3, :3].T + matrix[:3, 3]
    low, side = corners.min(0), np.ptp(corners, axis=0)
    step = max(np.prod(around["spacing"]), np.prod(side) / MOST_NODES) ** (1 / 3)
    box = np.diag([step, step, step, 1.0])
    box[:3, 3] = low
    return geometry_from(box, np.ceil(side / step - 1e-6).astype(int) + 1)
