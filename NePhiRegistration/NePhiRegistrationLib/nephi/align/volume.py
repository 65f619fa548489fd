"""Images as the optimisation reads them: on an isotropic grid in the fixed image's frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..geometry import Grid
from ..images.interpolation import linear_in_unit, nearest


@dataclass(frozen=True)
class Volume:
    """Channels on a grid whose world is the fixed image's frame.

    All volumes of a level share their grid, so the positions of its many sample points are computed once, in the
    grid's unit coordinates: -1 at the first voxel and 1 at the last along each axis, as torch reads them.

    Attributes:
        values: (C, k, j, i) floating point.
        grid: in frame units, its axes along those of the frame.
    """

    values: Tensor
    grid: Grid

    @cached_property
    def unit_scale(self) -> Tensor:
        """Unit coordinates per frame unit, (d)."""
        last = self.values.new_tensor([max(1, n - 1) for n in self.grid.size])
        return 2 / (last * self.values.new_tensor(self.grid.spacing))

    @cached_property
    def _origin(self) -> Tensor:
        return self.values.new_tensor(self.grid.origin)

    def to_unit(self, points: Tensor) -> Tensor:
        """Unit coordinates of frame coordinates, (..., d)."""
        return (points - self._origin) * self.unit_scale - 1

    def at(self, unit: Tensor) -> Tensor:
        """Linear interpolation at unit coordinates (..., d): (C, ...); the border value beyond the border."""
        return linear_in_unit(self.values, unit.reshape(-1, unit.shape[-1])).view(-1, *unit.shape[:-1])

    def covers(self, points: Tensor) -> Tensor:
        """Whether the nearest voxel's last channel, a mask, is non-zero at frame coordinates (n, d): (n) bool."""
        index = (points - self._origin) / self.grid.spacing[0]
        return nearest(self.values[-1:], index)[0] > 0
