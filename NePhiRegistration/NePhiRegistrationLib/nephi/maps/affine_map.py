"""A linear map with an offset."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid, apply_affine
from .map import Map


class AffineMap(Map):
    """y = matrix (x, 1), computed where the points are.

    Args:
        matrix: (d + 1, d + 1) homogeneous, float64.
    """

    def __init__(self, matrix: np.ndarray, domain: Optional[Grid] = None) -> None:
        self.matrix, self.domain = np.asarray(matrix, dtype=np.float64), domain

    @property
    def is_linear(self) -> bool:
        """True."""
        return True

    @property
    def linear(self) -> np.ndarray:
        """(d + 1, d + 1) the matrix."""
        return self.matrix

    def map(self, points: Tensor) -> Tensor:
        return apply_affine(self.matrix, points)

    def mapped_on(self, grid: Grid, matrix: np.ndarray) -> Tensor:
        """As any map's, without a product for each point."""
        return grid.through(matrix @ self.matrix)

    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points (n, d) go, and the matrix at each of them, (n, d, d)."""
        linear = torch.as_tensor(self.matrix[:-1, :-1], dtype=points.dtype, device=points.device)
        return self.map(points), linear.expand(len(points), *linear.shape)
