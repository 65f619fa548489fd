"""A map of the fixed image's frame as a map of the world."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import POINTS_IN_CACHE, Frame, Grid, apply_affine
from .map import Map


class FramedMap(Map):
    """x in LPS mm to inner(x) in LPS mm, without gradients; displacements are added in the points' own precision.

    Args:
        inner: a map of frame coordinates.
        frame: of the fixed image.
        domain: the fixed image's grid.
    """

    def __init__(self, inner: Map, frame: Frame, domain: Grid) -> None:
        self.inner, self.frame, self.domain = inner, frame, domain

    @property
    def device(self) -> torch.device:
        """That of the inner map."""
        return self.inner.device

    @torch.no_grad()
    def map(self, points: Tensor) -> Tensor:
        parts = [self.inner.map(part) - part for part in self._to_frame(points)]
        return points + (torch.cat(parts) * self.frame.scale).to(points)

    @torch.no_grad()
    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where points (n, d) LPS mm go, and the Jacobian there, (n, d, d): the same in the frame as in mm."""
        moved, jacobians = [], []
        for part in self._to_frame(points):
            there, jacobian = self.inner.with_jacobian(part)
            moved.append(there - part)
            jacobians.append(jacobian)
        return points + (torch.cat(moved) * self.frame.scale).to(points), torch.cat(jacobians).to(points)

    def _to_frame(self, points: Tensor) -> tuple[Tensor, ...]:
        """Frame coordinates, (n, d) float32 on the map's device, in parts."""
        exact = points.double() if points.device.type == "cpu" else points
        return apply_affine(self.frame.to_frame_matrix, exact).to(self.device, torch.float32).split(POINTS_IN_CACHE)
