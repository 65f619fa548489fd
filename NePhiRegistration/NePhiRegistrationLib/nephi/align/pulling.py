"""A finished map pulled to pairs of points: it follows them, and stays as it is at some distance from them.

A further stage, which acts first on fixed points, takes each fixed point to where the map so far comes from: g(x_i) =
forward^-1(y_i). Its displacement is a sum of Wendland's C2 functions, one around each point, which vanish beyond their
radius [1]. The farther a point has to go the wider is its function, so that the stage does not fold; its inverse is
found by Newton's method.

[1] H. Wendland, Piecewise polynomial, positive definite and compactly supported radial functions of minimal degree,
Advances in Computational Mathematics 4, 1995.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Frame, Grid, apply_affine
from ..maps.determinant import determinant_image
from ..maps.inverting import inverted, preimages
from ..maps.map import MapPair
from ..maps.spline import SplineMap
from ..maps.transform import Transform

REACH = 0.2  # of half the fixed image's longest side: how far around a point moves with it, at least
WIDTH = 5.0  # times its way: with 2.1 the steepest place of Wendland's function would nearly fold
WIDER = 1.5  # times, where points that are close together would fold the map
TRIALS = 5
NODES = 10.0  # to the smallest radius
MOST_NODES = 300_000
ROUNDS = 2  # splines miss the functions by a little, which is made good
LEAST = 0.1  # the smallest determinant of the stage


@torch.no_grad()
def pulled(transform: Transform, fixed: Tensor, moving: Tensor) -> Transform:
    """A transform whose forward map takes points to points, both ways.

    Args:
        fixed, moving: corresponding points, (n, d) LPS mm each.

    Raises:
        InputError: they are so close together and go so different ways that the map would fold.
    """
    frame, device = Frame.of(transform.fixed_grid), transform.forward.device
    targets, points = moving.to(device).float(), fixed.to(device).float()
    guess = transform.inverse.map(targets)
    sources = preimages(transform.forward, targets, guess, 1e-3 * transform.fixed_grid.voxel)
    points, sources = (apply_affine(frame.to_frame_matrix, part.double().cpu()) for part in (points, sources))
    ways = sources - points
    radii = (WIDTH * ways.norm(dim=1)).clamp_min(REACH)
    for _ in range(TRIALS):
        stage = _stage(points, ways, radii)
        if float(determinant_image(stage, stage.lattice).min()) > LEAST:
            break
        radii = WIDER * radii
    else:
        raise InputError(_refusal(fixed, moving))
    back = inverted(stage)
    pair = MapPair(*(SplineMap.from_coefficients(way.spline.coefficients.float().to(device), way.lattice)
                     for way in (stage, back)))
    noted = {**transform.provenance, "pulled_to_points": len(points)}
    return replace(transform, stages=(*transform.stages, pair), provenance=noted)


def _stage(points: Tensor, ways: Tensor, radii: Tensor) -> SplineMap:
    """x + s(x) with s(points) = ways, in frame coordinates."""
    low, high = (points - radii[:, None]).amin(0), (points + radii[:, None]).amax(0)
    cell = max(float(radii.min()) / NODES, (float((high - low).prod()) / MOST_NODES) ** (1 / points.shape[1]))
    size = ((high - low) / cell).ceil().int() + 3
    lattice = Grid.aligned(size.tolist(), cell, (low - cell).tolist())
    between, nodes = _bumps(points, points, radii), lattice.points("cpu", dtype=torch.float64)
    left, values = ways, torch.zeros_like(nodes)
    for _ in range(ROUNDS):
        weights = torch.linalg.lstsq(between, left, driver="gelsd").solution
        for start, stop in lattice.chunks(100_000):
            values[start:stop] += _bumps(nodes[start:stop], points, radii) @ weights
        stage = SplineMap.through(values.view(*lattice.shape, lattice.dim), lattice)
        left = ways - stage.displacement(points)
    return stage


def _bumps(at: Tensor, centers: Tensor, radii: Tensor) -> Tensor:
    """(n, m): Wendland's function around each of m centres at n points."""
    r = (torch.cdist(at, centers) / radii).clamp_max(1.0)
    return (1 - r).square().square() * (4 * r + 1)


def _refusal(fixed: Tensor, moving: Tensor) -> str:
    """Which two points stretch the most between each other."""
    apart = [torch.cdist(part.double(), part.double()) for part in (fixed, moving)]
    ratio = (apart[1] + 1e-6) / (apart[0] + 1e-6)
    strain = torch.maximum(ratio, 1 / ratio).fill_diagonal_(0)
    first, second = divmod(int(strain.argmax()), len(fixed))
    return (f"The map would fold between the landmarks {first + 1} and {second + 1} ({apart[0][first, second]:.1f} mm "
            f"apart in the fixed image, {apart[1][first, second]:.1f} mm in the moving one); correct or delete one.")
