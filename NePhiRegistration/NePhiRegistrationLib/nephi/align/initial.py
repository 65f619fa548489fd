"""Linear ITK transforms as matrices: where a registration starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, reason
from ..storage import PathLike


def read_initial_transform(path: PathLike) -> np.ndarray:
    """Read a linear ITK transform file (.tfm, .txt, .mat, .h5); a composite of linear ones is multiplied out.

    Returns:
        (d + 1, d + 1) float64, fixed to moving LPS mm: ITK's own convention for resampling.

    Raises:
        InputError: it cannot be read or has a part that is not linear.
    """
    name = f"initial transform {Path(path).name}"
    if not Path(path).exists():
        raise InputError(f"The {name} does not exist ({path}); check the path.")
    try:
        return matrix_of(sitk.ReadTransform(str(path)), name)
    except RuntimeError as error:
        raise InputError(f"The {name} cannot be read as an ITK transform ({reason(error)}); "
                         "save a linear transform as .tfm, .txt, .mat or .h5.") from error


def matrix_of(transform: sitk.Transform, name: str = "transform") -> np.ndarray:
    """The homogeneous matrix of a linear SimpleITK transform, by what it does to the axes."""
    transform = transform.Downcast()
    if isinstance(transform, sitk.CompositeTransform):
        matrix = np.eye(transform.GetDimension() + 1)
        for n in range(transform.GetNumberOfTransforms()):  # the last one added is the first one applied
            matrix = matrix @ matrix_of(transform.GetNthTransform(n), name)
        return matrix
    if not transform.IsLinear():
        raise InputError(f"The {name} has a part that is not linear ({transform.GetName()}); give an affine one.")
    dim = transform.GetDimension()
    matrix = np.eye(dim + 1)
    matrix[:-1, -1] = transform.TransformPoint([0.0] * dim)
    for axis in range(dim):
        matrix[:-1, axis] = transform.TransformVector(list(np.eye(dim)[axis]), [0.0] * dim)
    return matrix


def to_itk(matrix: np.ndarray) -> sitk.AffineTransform:
    """A homogeneous matrix (d + 1, d + 1) as a SimpleITK transform."""
    transform = sitk.AffineTransform(len(matrix) - 1)
    transform.SetMatrix(matrix[:-1, :-1].flatten().tolist())
    transform.SetTranslation(matrix[:-1, -1].tolist())
    return transform
