"""Synthetic images: a breathing chest in 3D as a pair and as a series, whose true deformation is known; a triangle and
a circle in 2D.

The chest is a function of space, so all images are evaluated, not resampled: fixed(x) = chest(x) and
moving(y) = chest(phi^-1(y)), where phi takes fixed points to moving points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Union

import numpy as np
import torch
from torch import Tensor

from ..geometry import Grid, apply_affine
from .image import Image

FIELD_OF_VIEW = 288.0  # mm, the side of the cube
DIAPHRAGM = -70.0  # mm, the height of the domes' foot; z is up, y is to the back, x to the left, 0 in the middle
FINER, FINEST = 0.8, 0.5  # radius of a fine vessel to that of its parent, and the smallest, mm
LUNG_CENTERS = ((-66.0, 0.0), (66.0, 0.0))  # mm, right and left
HEART = ((22.0, -25.0, -48.0), (50.0, 42.0, 52.0))  # mm, centre and half axes


@dataclass(frozen=True)
class Phantom:
    """A pair with its true deformation.

    Attributes:
        fixed, moving: the images, HU.
        fixed_mask, moving_mask: the lungs, (k, j, i) bool.
        landmarks_fixed, landmarks_moving: corresponding forks of vessels, (n, 3) float64 LPS mm.
        forward: the true map of fixed points to moving points, (n, 3) LPS mm.
        inverse: the true map of moving points to fixed points, (n, 3) LPS mm.
    """

    fixed: Image
    moving: Image
    fixed_mask: Tensor
    moving_mask: Tensor
    landmarks_fixed: Tensor
    landmarks_moving: Tensor
    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]


def lung_phantom(size: int = 96, seed: int = 0, fine_vessels: int = 0) -> Phantom:
    """A chest breathed in (fixed) and out (moving, turned and shifted a little).

    Args:
        size: voxels along each side of the 288 mm cube; 96 gives 3 mm.
        seed: of the vessels, the breathing and the noise.
        fine_vessels: in each lung, grown from the large ones; about 1000 leave no part of a lung empty, as in people.
    """
    chest = _Person(size, seed, fine_vessels)
    forward, inverse = chest.forward, chest.inverse
    fixed, fixed_mask = chest.breathed_in()
    grid = fixed.grid
    moving_grid = replace(grid, origin=tuple(o + s for o, s in zip(grid.origin, (6, -4, 9))))
    moving, moving_mask = chest.image(moving_grid, inverse(moving_grid.points("cpu")), -820.0, "phantom breathed out")
    landmarks = chest.forks()
    return Phantom(fixed, moving, fixed_mask, moving_mask, landmarks, forward(landmarks), forward, inverse)


def breathed_in(size: int = 96, seed: int = 0, fine_vessels: int = 0) -> Image:
    """The fixed image of :func:`lung_phantom` alone, in half the time."""
    return _Person(size, seed, fine_vessels).breathed_in()[0]


@dataclass(frozen=True)
class BreathingSeries:
    """One breath with its true motion, which ends where it began.

    Attributes:
        frames: the phases, HU, all on one grid; the first is breathed in.
        masks: the lungs in each, (k, j, i) bool.
        landmarks: forks of vessels in each, (n, 3) float64 LPS mm, in the same order.
        to_frame: of each, the true map of points of the first frame, (n, 3) LPS mm.
        from_frame: of each, its inverse.
    """

    frames: tuple[Image, ...]
    masks: tuple[Tensor, ...]
    landmarks: tuple[Tensor, ...]
    to_frame: tuple[Callable[[Tensor], Tensor], ...]
    from_frame: tuple[Callable[[Tensor], Tensor], ...]


def breathing_series(size: int = 96, phases: int = 10, seed: int = 0) -> BreathingSeries:
    """A chest that breathes out and in again, on another way than out, as tissue does; the lungs keep their mass, so
    that they are denser where they are smaller.

    Args:
        size: voxels along each side of the 288 mm cube; 96 gives 3 mm.
        phases: evenly spaced over the breath.
        seed: of the vessels, the breathing and the noise.
    """
    chest = _Person(size, seed, 0)
    grid, landmarks = chest.grid, chest.forks()
    out, aside = chest.displacement, _aside
    frames, masks, there, back = [], [], [], []
    for phase in range(phases):
        angle = math.pi * phase / phases
        amounts = math.sin(angle) ** 2, math.sin(2 * angle)

        def move(points: Tensor, amounts: tuple[float, float] = amounts) -> Tensor:
            return amounts[0] * out(points) + amounts[1] * aside(points)

        forward, inverse = _both_ways(np.eye(4), move)
        points = inverse(grid.points("cpu"))
        frame, lungs = chest.image(grid, points, -860.0, f"phantom phase {phase}", 1 / _volume_change(forward, points))
        for values, value in ((frames, frame), (masks, lungs), (there, forward), (back, inverse)):
            values.append(value)
    return BreathingSeries(tuple(frames), tuple(masks), tuple(way(landmarks) for way in there), tuple(there),
                           tuple(back))


class _Person:
    """The vessels and the breathing of one seed, and images of them."""

    def __init__(self, size: int, seed: int, fine_vessels: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.vessels = _grow_vessels(self.generator)
        if fine_vessels:
            self.vessels = torch.cat([self.vessels, _grow_fine_vessels(self.vessels, fine_vessels, self.generator)])
        self.displacement, turn = _breathing(self.generator)
        self.forward, self.inverse = _both_ways(turn, self.displacement)
        self._size = size

    @property
    def grid(self) -> Grid:
        """The whole field of view."""
        spacing = FIELD_OF_VIEW / self._size
        return Grid.aligned((self._size,) * 3, spacing, (-(FIELD_OF_VIEW - spacing) / 2,) * 3)

    def forks(self) -> Tensor:
        """Forks of vessels that can be seen, (n, 3) float64 LPS mm, more than a voxel inside the lungs of both images,
        however coarse they are."""
        ends = self.vessels[self.vessels[:, 6] > 1.0, 3:6]
        ends = ends[_lungs(ends) > 8]
        return ends[torch.randperm(len(ends), generator=self.generator)[:60]]

    def breathed_in(self) -> tuple[Image, Tensor]:
        """The fixed image and the lungs in it."""
        return self.image(self.grid, self.grid.points("cpu"), -860.0, "phantom breathed in")

    def image(self, grid: Grid, points: Tensor, parenchyma: float, name: str, density: Union[float, Tensor] = 1.0
              ) -> tuple[Image, Tensor]:
        """An image and its lungs on a grid whose voxels show points of the chest breathed in, the lungs denser by
        factors (n)."""
        values, lungs = _chest(points, self.vessels, FIELD_OF_VIEW / self._size, parenchyma, density)
        noise = 15 * torch.randn(values.shape, generator=self.generator, dtype=values.dtype)
        return Image((values + noise).reshape(grid.shape), grid, name), lungs.reshape(grid.shape)


def shapes_2d(size: int = 128, seed: int = 0) -> tuple[Image, Image, Tensor, Tensor]:
    """A filled triangle (fixed) and a filled circle (moving), 1 on 0 with soft edges, 1 mm pixels.

    Returns:
        The two images and their label masks, (size, size) bool.
    """
    generator = torch.Generator().manual_seed(seed)
    grid = Grid.aligned((size, size), 1.0, (0.0, 0.0))
    points = grid.points("cpu").double()
    jitter = 0.03 * size * (torch.rand(2, 2, generator=generator, dtype=torch.float64) - 0.5)
    middle, turn = (size - 1) / 2, float(torch.rand(1, generator=generator)) * 2 * math.pi / 3
    angles = turn + 2 * math.pi / 3 * torch.arange(3, dtype=torch.float64)
    normals = torch.stack([angles.cos(), angles.sin()], dim=1)
    triangle = 0.17 * size - ((points - middle - jitter[0]) @ normals.T).amax(1)
    circle = 0.24 * size - (points - middle - jitter[1]).norm(dim=1)
    images = [Image((d + 0.5).clamp(0, 1).float().reshape(grid.shape), grid, name)
              for d, name in ((triangle, "triangle"), (circle, "circle"))]
    return images[0], images[1], (triangle > 0).reshape(grid.shape), (circle > 0).reshape(grid.shape)


# -------------------------------------------------------------------------------------------------- breathing


def _breathing(generator: torch.Generator) -> tuple[Callable[[Tensor], Tensor], np.ndarray]:
    """Displacements u, which are smooth and a contraction, and a small turn with a shift A, (4, 4)."""
    centers = (torch.rand(8, 3, generator=generator, dtype=torch.float64) - 0.5) * 180
    pushes = torch.randn(8, 3, generator=generator, dtype=torch.float64) * 2.0
    affine = _turn(2.0 + torch.rand(1, generator=generator).item(), np.array([5.0, -6.0, 8.0]))

    def displacement(x: Tensor) -> Tensor:
        """Breathing out, (n, 3) mm: the diaphragm rises, the ribs come in, and a few local pushes."""
        side, depth, height = x.unbind(1)
        inside = torch.exp(-((side / 125) ** 4) - (depth / 95) ** 4)
        rise = 18 * inside * torch.exp(-(((height - DIAPHRAGM - 10) / 60) ** 2))
        narrow = torch.exp(-((height / 110) ** 2))
        u = torch.stack([-0.03 * side * narrow, -0.05 * (depth - 60) * narrow * inside, rise], dim=1)
        middle, push = centers.to(x), pushes.to(x)
        squared = (x**2).sum(1, keepdim=True) - 2 * x @ middle.T + (middle**2).sum(1)
        return u + torch.exp(-squared / (2 * 35.0**2)) @ push

    return displacement, affine


def _aside(points: Tensor) -> Tensor:
    """What sets the way in apart from the way out, (n, 3) mm: the middle of the chest moves to the back."""
    near = torch.exp(-points.square().sum(1) / (2 * 60.0**2))
    return near[:, None] * points.new_tensor([1.0, 4.0, -1.5])


def _both_ways(affine: np.ndarray, displacement: Callable[[Tensor], Tensor]
               ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """phi(x) = A (x + u(x)) and its inverse; u is smooth and a contraction, so phi is a diffeomorphism."""

    def forward(points: Tensor) -> Tensor:
        return apply_affine(affine, points + displacement(points))

    def inverse(points: Tensor) -> Tensor:
        y = apply_affine(np.linalg.inv(affine), points)
        x = y - displacement(y)
        for _ in range(60):  # x = y - u(x) is a contraction
            previous, x = x, y - displacement(x)
            if float((x - previous).abs().max()) < 1e3 * torch.finfo(x.dtype).eps:
                break
        return x

    return forward, inverse


def _volume_change(forward: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """The Jacobian determinant of a map at points (n, 3): (n)."""
    steps = 0.5 * torch.eye(3).to(points)  # mm
    columns = [forward(points + step) - forward(points - step) for step in steps]
    return torch.linalg.det(torch.stack(columns, dim=2))


def _turn(degrees: float, offset: np.ndarray) -> np.ndarray:
    """A rotation about z and a shift (mm), (4, 4)."""
    matrix, angle = np.eye(4), math.radians(degrees)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:3, 3] = offset
    return matrix


# ---------------------------------------------------------------------------------------------------- anatomy


def _chest(points: Tensor, vessels: Tensor, spacing: float, parenchyma: float, density: Union[float, Tensor]
           ) -> tuple[Tensor, Tensor]:
    """HU and which points are lung, at points (n, 3) mm; edges as soft as a voxel of ``spacing``, the parenchyma denser
    by a factor, or by one for each point."""

    def soft(distance: Tensor) -> Tensor:
        return (distance / spacing + 0.5).clamp(0, 1)

    def paint(hu: Tensor, value: float, distance: Tensor) -> Tensor:
        return torch.lerp(hu, torch.full_like(hu, value), soft(distance))

    x, y, z = points.unbind(1)
    angle = torch.atan2(y / 96, x / 136)
    radius = ((x.abs() / 136) ** 2.4 + (y.abs() / 96) ** 2.4) ** (1 / 2.4)
    body = (1 - radius) * 105  # mm below the skin, roughly
    lungs = _lungs(points)
    hu = paint(torch.full_like(x, -1000.0), -100.0, body)  # skin and fat
    hu = paint(hu, 45.0, body - 9)  # muscle and organs
    below = torch.minimum(_dome(x, y) - 4 - z, body - 22)
    hu = paint(hu, 65.0, torch.minimum(below, 20 - x))  # liver
    hu = torch.where((lungs < -8) & (lungs > -30) & (z > DIAPHRAGM), hu - 60 * soft(body - 24), hu)  # mediastinal fat
    hu = paint(hu, 40.0, _ellipsoid(points, *HEART) - 4)
    fall = z + 0.35 * y + 9 * torch.sin(angle) + 144  # ribs slope down to the front
    rib = 5.0 - torch.hypot(torch.remainder(fall, 26) - 13, (body - 16) * 1.3)
    hu = paint(hu, 380.0, torch.minimum(rib, 115 + z.new_zeros(()) - z.abs()))
    hu = paint(hu, 120.0, 17 - torch.hypot(x, y - 62))  # spongy bone of the spine, then vertebrae around it
    vertebra = torch.minimum(17 - torch.hypot(x, y - 62), 9 - (torch.remainder(z, 25) - 12.5).abs())
    hu = paint(hu, 330.0, vertebra)
    texture = 12 * (torch.sin(x / 9 + y / 13) + torch.sin(y / 11 - z / 8) + torch.sin(z / 14 + x / 12))
    air = parenchyma + 0.5 * y + texture
    air = air + (density - 1) * (1000 + air)
    hu = torch.lerp(hu, air, soft(lungs))
    hu = torch.where(lungs > -spacing, _paint_vessels(hu, points, vessels, spacing, lungs > -spacing), hu)
    windpipe = torch.minimum(8.5 - torch.hypot(x, y - 12), z - 30)
    return paint(hu, -990.0, windpipe), lungs > 0


def _ellipsoid(points: Tensor, center: tuple, axes: tuple) -> Tensor:
    """About the distance (mm) inside an ellipsoid's surface; negative outside."""
    offset = (points - points.new_tensor(center)) / points.new_tensor(axes)
    return (1 - offset.norm(dim=1)) * min(axes)


def _dome(x: Tensor, y: Tensor) -> Tensor:
    """The height (mm) of the diaphragm."""
    domes = [torch.exp(-(((x - cx) / 42) ** 2) - ((y + 8 - cy) / 48) ** 2) for cx, cy in LUNG_CENTERS]
    return DIAPHRAGM - 26 + 46 * domes[0] + 38 * domes[1]


def _lungs(points: Tensor) -> Tensor:
    """About the distance (mm) inside the lungs; negative outside."""
    x, y, z = points.unbind(1)
    sides = []
    for cx, cy in LUNG_CENTERS:
        up = ((z - DIAPHRAGM) / 190).clamp(0, 1)  # from the foot to the apex, where the lung is narrow
        width = (1 - up**3).clamp(min=1e-4).sqrt()
        lean = math.copysign(16.0, cx) * up  # the apices come together
        across = ((x - cx + lean).abs() / (46 * width)) ** 2.2 + ((y - cy).abs() / (76 * width)) ** 2.2
        sides.append((1 - across ** (1 / 2.2)) * 46 * width)
    inside = torch.minimum(torch.maximum(*sides), z - _dome(x, y))
    return torch.minimum(inside, -_ellipsoid(points, *HEART))


def _paint_vessels(hu: Tensor, points: Tensor, vessels: Tensor, spacing: float, where: Tensor) -> Tensor:
    """Blood along the vessels; those thinner than a voxel are fainter."""
    near = points[where]
    filled = torch.zeros(len(near), dtype=points.dtype)
    for vessel in vessels.to(points.dtype):
        start, end, radius = vessel[:3], vessel[3:6], float(vessel[6])
        reach = (end - start).abs() / 2 + radius + spacing
        close = ((near - (start + end) / 2).abs() <= reach).all(1).nonzero()[:, 0]
        offset, axis = near[close] - start, end - start
        along = ((offset @ axis) / (axis @ axis)).clamp(0, 1)
        distance = (offset - along[:, None] * axis).norm(dim=1)
        blood = ((radius - distance) / spacing + 0.5).clamp(0, 1) * min(1.0, 2 * radius / spacing)
        filled[close] = torch.maximum(filled[close], blood)
    result = hu.clone()
    result[where] = torch.lerp(hu[where], torch.full_like(filled, 50.0), filled)
    return result


def _grow_vessels(generator: torch.Generator) -> Tensor:
    """Trees from the two hila, (n, 7): start, end (mm) and radius (mm) of straight tubes inside the lungs."""
    tubes: list[Tensor] = []
    for cx, cy in LUNG_CENTERS:
        hilum = torch.tensor([0.45 * cx, cy + 8.0, 0.0], dtype=torch.float64)
        for height in (1.3, 0.5, -0.3, -1.2):
            for depth in (-0.6, 0.7):
                direction = torch.tensor([math.copysign(1.0, cx), depth, height], dtype=torch.float64)
                _branch(tubes, hilum, direction, 30.0, 4.0, generator)
    return torch.stack(tubes)


def _branch(tubes: list[Tensor], start: Tensor, direction: Tensor, length: float, radius: float,
            generator: torch.Generator) -> None:
    """Grow one tube and, from its end, two thinner ones (Murray's law), until they are fine or leave the lung."""
    if radius < 0.8:
        return
    wander = 0.45 * torch.randn(3, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm() + wander
    direction = direction / direction.norm()
    reach = torch.tensor([1.0, 0.8, 0.6, 0.4], dtype=torch.float64)[:, None] * length
    fits = (_lungs(start + reach * direction) > 3).nonzero()
    if not len(fits):
        return
    end = start + float(reach[fits[0, 0]]) * direction  # as long as it stays within the lung
    tubes.append(torch.cat([start, end, torch.tensor([radius], dtype=torch.float64)]))
    for _ in range(2):
        _branch(tubes, end, direction, 0.82 * length, 0.79 * radius, generator)


def _grow_fine_vessels(large: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random places in each lung, joined one by one to the nearest vessel so far, (2 count, 7)."""
    fine: list[Tensor] = []
    for side in (-1, 1):
        own = large[torch.sign(large[:, 3]) == side]
        ends, radii = own[:, 3:6], own[:, 6]
        box = ends.new_tensor([[side * 66 - 50, -85, DIAPHRAGM - 20], [side * 66 + 50, 85, 125]])
        for place in _places(box, count, generator):
            nearest = int((ends - place).square().sum(1).argmin())
            radius = (FINER * radii[nearest]).clamp(min=FINEST)
            fine.append(torch.cat([ends[nearest], place, radius[None]]))
            way = torch.tensor([[0.5], [1.0]], dtype=ends.dtype)
            ends = torch.cat([ends, ends[nearest] + way * (place - ends[nearest])])
            radii = torch.cat([radii, radius.expand(2)])
    return torch.stack(fine)


def _places(box: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random places inside a lung, (count, 3) mm, within a box given by two of its corners (2, 3)."""
    places = box[:0]
    while len(places) < count:
        drawn = box[0] + (box[1] - box[0]) * torch.rand(count, 3, generator=generator, dtype=box.dtype)
        places = torch.cat([places, drawn[_lungs(drawn) > 2]])
    return places[:count]
