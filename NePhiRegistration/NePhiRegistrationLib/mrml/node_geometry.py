"""Where voxels are: Slicer's RAS matrices and the LPS geometry of the rest of the program.

A geometry is the dictionary of :meth:`nephi.geometry.Grid.to_dict`: ``size`` and ``spacing`` along (i, j, k),
``origin`` and the row-major ``direction`` in LPS mm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
import vtk

FLIP = np.array([-1.0, -1.0, 1.0])
"""Multiplies points and vectors (..., 3) to go from LPS to RAS or back."""

_FLIP_MATRIX = np.diag([-1.0, -1.0, 1.0, 1.0])
_ORTHOGONAL = 1e-4  # the largest cosine between axes of a grid; NRRD and NIfTI headers are this far off in practice

_MOST = 0.5  # of a field of view

_ROUNDING = 0.25  # voxels: axes that are turned to right angles without moving one further were rounded, not sheared


def ijk_to_ras(geometry: dict) -> np.ndarray:
    """(4, 4) from voxel indices (i, j, k) to RAS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(geometry["direction"], (3, 3)) * np.asarray(geometry["spacing"])
    matrix[:3, 3] = geometry["origin"]
    return _FLIP_MATRIX @ matrix


def geometry_from(matrix: np.ndarray, size: Sequence[int]) -> dict:
    """The geometry of ``size`` (i, j, k) voxels that a (4, 4) matrix, for which :func:`is_grid` holds, takes to RAS."""
    lps = _FLIP_MATRIX @ matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    return {"size": [int(n) for n in size], "spacing": spacing.tolist(), "origin": lps[:3, 3].tolist(),
            "direction": (lps[:3, :3] / spacing).flatten().tolist()}


def is_grid(matrix: np.ndarray) -> bool:
    """Whether the axes of a (4, 4) matrix are at right angles and none of them vanishes."""
    axes = matrix[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not (np.isfinite(matrix).all() and lengths.min() > 1e-9):
        return False
    cosines = (axes / lengths).T @ (axes / lengths) - np.eye(3)
    return bool(np.abs(cosines).max() < _ORTHOGONAL)


def turned(matrix: np.ndarray, size: Sequence[int]) -> Optional[np.ndarray]:
    """A (4, 4) matrix of ``size`` (i, j, k) voxels with the nearest axes at right angles, about the middle; None where
    that would move a voxel by more than a quarter of a voxel: the axes are sheared then, not rounded."""
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (np.isfinite(matrix).all() and lengths.min() > 1e-9):
        return None
    left, _lengths, right = np.linalg.svd(matrix[:3, :3] / lengths)
    half = (np.asarray(size) - 1) / 2
    result = matrix.copy()
    result[:3, :3] = left @ right * lengths
    result[:3, 3] += (matrix[:3, :3] - result[:3, :3]) @ half
    # The move is linear in the index, so no voxel is further off than this.
    farthest = np.linalg.norm(np.abs(result[:3, :3] - matrix[:3, :3]) @ half)
    return result if farthest <= _ROUNDING * lengths.min() else None


def same_geometry(first: dict, second: dict, tolerance: float = 1e-3) -> bool:
    """Whether both have their voxels at the same places, within ``tolerance`` voxels."""
    if list(first["size"]) != list(second["size"]):
        return False
    last = np.append(np.asarray(first["size"]) - 1.0, 0.0)
    apart = ijk_to_ras(first) - ijk_to_ras(second)
    # The error is linear in the index, so no voxel is further off than this.
    farthest = np.linalg.norm(np.abs(apart[:3]) @ last + np.abs(apart[:3, 3]))
    return bool(farthest <= tolerance * min(first["spacing"]))


def lost(own: dict, beside: dict) -> bool:
    """Whether a label image says nothing of where its voxels are, and yet puts them where a volume's are not.

    The rule is the engine's (``nephi.images.masks.seated``), which Slicer's process never imports: origin 0, spacing 1
    or the volume's, axes along the world's, and less than half of the fields of view in common.
    """
    plain = np.allclose(own["origin"], 0) and np.allclose(np.abs(np.reshape(own["direction"], (3, 3))), np.eye(3))
    usual = np.allclose(own["spacing"], 1) or np.allclose(own["spacing"], beside["spacing"], rtol=1e-3)
    return bool(plain and usual and min(_share(own, beside), _share(beside, own)) < _MOST)


def _share(geometry: dict, other: dict) -> float:
    """The share of a grid's field of view that lies in another's."""
    axes = [(np.arange(count := min(n, 32)) + 0.5) / count * n - 0.5 for n in geometry["size"]]
    points = np.stack([*(axis.ravel() for axis in np.meshgrid(*axes)), np.ones(math.prod(map(len, axes)))])
    index = (np.linalg.inv(ijk_to_ras(other)) @ ijk_to_ras(geometry) @ points)[:3].T
    return float(((index >= -0.5) & (index <= np.asarray(other["size"]) - 0.5)).all(1).mean())


def to_lps(matrix: np.ndarray) -> np.ndarray:
    """A (4, 4) map of RAS points as a map of LPS points, or the other way round."""
    return _FLIP_MATRIX @ matrix @ _FLIP_MATRIX


def numpy_matrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """(4, 4) float64."""
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def vtk_matrix(matrix: np.ndarray) -> vtk.vtkMatrix4x4:
    """For VTK and MRML."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=np.float64).flatten().tolist())
    return result
