"""A transform known in closed form, with the methods of the engine's own, for tests of what is made from one."""

from __future__ import annotations

import math

import numpy as np
import torch
from nephi.geometry import Grid, apply_affine
from torch import Tensor


class ClosedForm:
    """x -> affine(x + u(x)), u_a = stretch sin(w (x_a - c_a)) + shear sin(w (x_b - c_b)), b the axis after a.

    The inverse is exact to 1e-9 mm, by fixed-point iteration.
    """

    def __init__(self, fixed_grid: Grid, moving_grid: Grid | None = None, affine: np.ndarray | None = None,
                 stretch: float = 2.0, shear: float = 1.0, wavelength: float = 60.0) -> None:
        self.fixed_grid = fixed_grid
        self.moving_grid = moving_grid or fixed_grid
        self.affine = np.eye(fixed_grid.dim + 1) if affine is None else affine
        self.provenance = {"engine": "closed form"}
        self._stretch, self._shear, self._w = stretch, shear, 2 * math.pi / wavelength
        self._center = torch.from_numpy(np.asarray(fixed_grid.center))

    def map_points(self, points: Tensor, direction: str = "forward") -> Tensor:
        if direction == "forward":
            return apply_affine(self.affine, self._deform(points.double())).to(points.dtype)
        return self._undo(apply_affine(np.linalg.inv(self.affine), points.double())).to(points.dtype)

    def nonlinear(self, points: Tensor, direction: str = "forward") -> Tensor:
        move = self._deform if direction == "forward" else self._undo
        return move(points.double()).to(points.dtype)

    def jacobian(self, points: Tensor, direction: str = "forward") -> Tensor:
        points = points.double()
        if direction == "forward":
            return self._jacobian(points).float()
        return torch.linalg.inv(self._jacobian(self.map_points(points, "inverse"))).float()

    def _jacobian(self, points: Tensor) -> Tensor:
        slope = self._w * torch.cos(self._w * (points - self._center))
        dim = points.shape[-1]
        matrix = torch.eye(dim, dtype=points.dtype) + torch.diag_embed(self._stretch * slope)
        for a in range(dim):
            b = (a + 1) % dim
            matrix[..., a, b] += self._shear * slope[..., b]
        return torch.from_numpy(self.affine[:-1, :-1]) @ matrix

    def _displacement(self, points: Tensor) -> Tensor:
        wave = torch.sin(self._w * (points - self._center))
        return self._stretch * wave + self._shear * wave.roll(-1, dims=-1)

    def _deform(self, points: Tensor) -> Tensor:
        return points + self._displacement(points)

    def _undo(self, points: Tensor) -> Tensor:
        x = points
        for _ in range(60):
            x = points - self._displacement(x)
        return x


def oblique_grid(dim: int = 3) -> Grid:
    """A non-cubic, anisotropic, oblique grid whose axes are flipped and swapped."""
    if dim == 2:
        c, s = math.cos(0.3), math.sin(0.3)
        return Grid((40, 31), (1.5, 2.0), (12.0, -30.0), (c, -s, s, c))
    c, s = math.cos(0.25), math.sin(0.25)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    flip = np.array([[0, 0, -1.0], [1, 0, 0], [0, -1.0, 0]])
    return Grid((26, 21, 17), (1.6, 2.1, 3.0), (40.0, -25.0, 310.0), tuple((turn @ flip).flatten().tolist()))


def partner_grid(transform: ClosedForm) -> Grid:
    """An axis-aligned grid of another spacing, where the transform's affine takes the middle of its fixed grid."""
    size, spacing = np.array((24, 30, 20)), np.array((2.0, 1.5, 2.2))
    middle = transform.affine[:-1, :-1] @ transform.fixed_grid.center + transform.affine[:-1, -1]
    origin = middle - (size - 1) * spacing / 2
    return Grid(tuple(size.tolist()), tuple(spacing.tolist()), tuple(origin.tolist()), tuple(np.eye(3).flatten()))


def tilted_affine(dim: int = 3) -> np.ndarray:
    """A linear map with rotation, scale, shear and an offset."""
    matrix = np.eye(dim + 1)
    matrix[:-1, :-1] += 0.06 * np.arange(dim * dim).reshape(dim, dim) / dim - 0.05
    matrix[:-1, -1] = np.arange(dim) * 7.0 - 9.0
    return matrix
