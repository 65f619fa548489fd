"""A transform known in closed form, with the parts of the engine's own, for tests of what is made from one."""

from __future__ import annotations

import math

import numpy as np
import torch
from nephi.geometry import Grid
from nephi.maps.affine_map import AffineMap
from nephi.maps.map import Composition, Map, MapPair
from torch import Tensor


class Wave(Map):
    """x + u(x), u_a = stretch sin(w (x_a - c_a)) + shear sin(w (x_b - c_b)), b the axis after a, c the middle."""

    def __init__(self, domain: Grid, stretch: float, shear: float, wavelength: float) -> None:
        self.domain = domain
        self._stretch, self._shear, self._w = stretch, shear, 2 * math.pi / wavelength
        self._center = torch.from_numpy(np.asarray(domain.center))

    def displacement(self, points: Tensor) -> Tensor:
        wave = torch.sin(self._w * (points - self._center))
        return self._stretch * wave + self._shear * wave.roll(-1, dims=-1)

    def map(self, points: Tensor) -> Tensor:
        x = points.double()
        return (x + self.displacement(x)).to(points)

    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        slope = self._w * torch.cos(self._w * (points.double() - self._center))
        dim = points.shape[-1]
        matrix = torch.eye(dim, dtype=torch.float64) + torch.diag_embed(self._stretch * slope)
        for a in range(dim):
            b = (a + 1) % dim
            matrix[..., a, b] += self._shear * slope[..., b]
        return self.map(points), matrix.to(points)


class Undone(Map):
    """The inverse of a wave, exact to 1e-9 mm, by fixed-point iteration."""

    def __init__(self, wave: Wave) -> None:
        self.domain, self._wave = wave.domain, wave

    def map(self, points: Tensor) -> Tensor:
        x = y = points.double()
        for _ in range(60):
            x = y - self._wave.displacement(x)
        return x.to(points)

    def with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor]:
        x = self.map(points.double())
        return x.to(points), torch.linalg.inv(self._wave.jacobian(x)).to(points)


class ClosedForm:
    """x -> affine(wave(x)) and back, built as a :class:`nephi.maps.transform.Transform` is."""

    def __init__(self, fixed_grid: Grid, moving_grid: Grid | None = None, affine: np.ndarray | None = None,
                 stretch: float = 2.0, shear: float = 1.0, wavelength: float = 60.0) -> None:
        self.fixed_grid, self.moving_grid = fixed_grid, moving_grid or fixed_grid
        self.affine = np.eye(fixed_grid.dim + 1) if affine is None else affine
        self.provenance = {"engine": "closed form"}
        wave = Wave(fixed_grid, stretch, shear, wavelength)
        self.deformation = MapPair(wave, Undone(wave))

    @property
    def forward(self) -> Composition:
        return Composition([self.deformation.forward, AffineMap(self.affine)], self.fixed_grid)

    @property
    def inverse(self) -> Composition:
        return Composition([AffineMap(np.linalg.inv(self.affine)), self.deformation.inverse], self.moving_grid)


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
