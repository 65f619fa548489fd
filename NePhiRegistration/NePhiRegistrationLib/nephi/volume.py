"""Images as the optimisation reads them: on an isotropic grid in the fixed image's frame."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .geometry import Grid
from .interpolation import linear, nearest


@dataclass(frozen=True)
class Volume:
    """Channels on a grid whose world is the fixed image's frame.

    Attributes:
        values: (C, k, j, i) floating point.
        grid: in frame units, its axes along those of the frame.
    """

    values: Tensor
    grid: Grid

    def at(self, points: Tensor) -> Tensor:
        """Linear interpolation at points (n, d), frame coordinates: (C, n); the border value beyond the border."""
        return linear(self.values, self._index(points))

    def covers(self, points: Tensor) -> Tensor:
        """Whether the nearest voxel's first channel is non-zero: (n) bool; for masks."""
        return nearest(self.values[:1], self._index(points))[0] > 0

    def _index(self, points: Tensor) -> Tensor:
        low = points.new_tensor(self.grid.origin)
        return (points - low) / self.grid.spacing[0]
