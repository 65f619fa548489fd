"""How much information two small volumes share at many turns, shifts and sizes of one of them.

A look over all orientations says how far a linear map stands out among them, and where else to start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..geometry import POINTS_AT_ONCE, some_of
from ..images.interpolation import linear
from .matching import MaskedImage, share_met

TURNS = {2: 48, 3: 1200}  # of the first look: 7.5 degrees apart in 2D, about 25 in 3D
SIZES = (0.75, 1.0, 1.33)
KEPT = 24  # turns that are improved
ROUNDS = 12  # of improvements: the last steps are a small part of a voxel
STEPS = 0.2, 0.2, 0.12  # the first ones: of turns (radians), shifts (shares of the radius), logarithms of sizes
BINS = 16
SAMPLES = 1500  # fixed points that are looked at
FAR = 0.5  # of the radius: the mean distance at which two maps are different solutions
WORTHWHILE = 0.6  # of the best score: what is refined further


@dataclass(frozen=True)
class Poses:
    """Linear maps x -> linear (x - fixed centre) + shift + moving centre.

    Attributes:
        linear: (n, d, d) float64.
        shift: (n, d) float64 mm.
    """

    linear: Tensor
    shift: Tensor

    def __getitem__(self, chosen: Tensor) -> Poses:
        return Poses(self.linear[chosen], self.shift[chosen])


class Scan:
    """Two small volumes, ready to be compared at many poses.

    The score is the mutual information of the intensities and of the local structure, added, times the share of the
    smaller image that is met: little overlap is easily alike.

    Args:
        fixed, moving: intensities of both.
        fixed_detail, moving_detail: their structure.
        sizes: whether the moving image may be larger or smaller.
    """

    def __init__(self, fixed: MaskedImage, moving: MaskedImage, fixed_detail: MaskedImage, moving_detail: MaskedImage,
                 sizes: bool) -> None:
        self._sizes, self._dim = sizes, fixed.grid.dim
        self._centers = [torch.from_numpy(level.center(level.values if level.inside.all() else level.inside))
                         for level in (fixed, moving)]  # of mass where there is no mask: the image's own means little
        chosen = torch.nonzero(fixed.inside.flatten())[:, 0]
        chosen = chosen[some_of(len(chosen), SAMPLES)]
        self._points = fixed.grid.points("cpu", dtype=torch.float64)[chosen] - self._centers[0]
        self._radius = float(self._points.pow(2).sum(1).mean().sqrt())
        self._bins = [_binned(level.values).flatten()[chosen] for level in (fixed, fixed_detail)]
        self._volumes = torch.stack([moving.values, moving_detail.values, moving.inside.float()])
        self._grid = moving.grid
        self._larger = fixed.volume / moving.volume

    def pose(self, matrix: np.ndarray) -> Poses:
        """A matrix (d + 1, d + 1), fixed to moving LPS mm, as one pose."""
        found = torch.from_numpy(np.array(matrix, dtype=np.float64))
        return Poses(found[None, :-1, :-1],
                     (found[:-1, :-1] @ self._centers[0] + found[:-1, -1] - self._centers[1])[None])

    def matrix(self, pose: Poses) -> np.ndarray:
        """The inverse of :meth:`pose`."""
        matrix = np.eye(self._dim + 1)
        matrix[:-1, :-1] = pose.linear[0].numpy()
        matrix[:-1, -1] = (pose.shift[0] + self._centers[1] - pose.linear[0] @ self._centers[0]).numpy()
        return matrix

    def turns(self) -> Poses:
        """Turns about the centres, spread evenly over all there are, in all sizes."""
        sizes = torch.tensor(SIZES if self._sizes else (1.0,), dtype=torch.float64)
        linears = (sizes[:, None, None, None] * rotations(self._dim, TURNS[self._dim])).flatten(0, 1)
        return Poses(linears, torch.zeros(linears.shape[:2], dtype=torch.float64))

    def scores(self, poses: Poses) -> Tensor:
        """(n) float64."""
        at_once = max(1, POINTS_AT_ONCE // len(self._points))
        return torch.cat([self._scores(linears, shifts) for linears, shifts in
                          zip(poses.linear.split(at_once), poses.shift.split(at_once))])

    def _scores(self, linears: Tensor, shifts: Tensor) -> Tensor:
        to_index = torch.from_numpy(self._grid.world_to_index)
        offsets = (shifts + self._centers[1]) @ to_index[:-1, :-1].T + to_index[:-1, -1]
        index = self._points.float() @ (to_index[:-1, :-1] @ linears).mT.float() + offsets[:, None].float()
        *channels, inside = linear(self._volumes, index.flatten(0, 1)).view(3, *index.shape[:2])
        met = ((inside > 0.5) & self._grid.holds(index)).double()
        information = sum(_information(fixed, _binned(moving), met) for fixed, moving in zip(self._bins, channels))
        return information * share_met(met.mean(1), linears, self._larger)

    def improved(self, poses: Poses) -> tuple[Poses, Tensor]:
        """Poses moved step by step to where they share more, and their scores; steps that do not help are halved."""
        turns = self._dim * (self._dim - 1) // 2
        unit = torch.eye(turns + self._dim + self._sizes, dtype=torch.float64)
        unit = torch.cat([unit, -unit])
        count, scores = len(poses.linear), self.scores(poses)
        rows, steps = torch.arange(count), torch.ones(count, dtype=torch.float64)
        for _ in range(ROUNDS):
            moves = unit * steps[:, None, None]
            turned = poses.linear[:, None] @ _turned(STEPS[0] * moves[..., :turns])
            grown = (STEPS[2] * moves[..., -1]).exp()[..., None, None] if self._sizes else 1.0
            shifted = poses.shift[:, None] + STEPS[1] * self._radius * moves[..., turns:turns + self._dim]
            tried = Poses((turned * grown).flatten(0, 1), shifted.flatten(0, 1))
            best = self.scores(tried).view(count, -1).max(1)
            better = best.values > scores
            chosen = tried[rows * len(unit) + best.indices]
            poses = Poses(chosen.linear.where(better[:, None, None], poses.linear),
                          chosen.shift.where(better[:, None], poses.shift))
            scores, steps = best.values.where(better, scores), steps.where(better, steps / 2)
        return poses, scores

    def solutions(self, poses: Poses, scores: Tensor) -> list[np.ndarray]:
        """The matrices of those poses of a first look that share most once they are improved and that are
        different from each other, best first."""
        poses, scores = self.improved(poses[scores.topk(min(KEPT, len(scores))).indices])
        found: list[int] = []
        for number in scores.argsort(descending=True).tolist():
            if scores[number] >= WORTHWHILE * scores.max() and all(
                    self.apart(poses[[number]], poses[[other]]) > FAR for other in found):
                found.append(number)
        return [self.matrix(poses[[number]]) for number in found]

    def apart(self, first: Poses, second: Poses) -> Tensor:
        """(n) mean distances between where two lists of poses take the fixed points, in radii of the fixed mask."""
        moved = [self._points @ poses.linear.mT + poses.shift[:, None] for poses in (first, second)]
        return (moved[0] - moved[1]).norm(dim=-1).mean(1) / self._radius


def rotations(dim: int, count: int) -> Tensor:
    """Rotations spread evenly over all there are, (count, d, d) float64.

    In 3D the super-Fibonacci spiral of quaternions (Alexa, CVPR 2022).
    """
    step = torch.arange(count, dtype=torch.float64)
    if dim == 2:
        return _turned(2 * math.pi / count * step[:, None])
    share = (step + 0.5) / count
    angles = 2 * math.pi * (step + 0.5)[:, None] / torch.tensor([math.sqrt(2), 1.533751168755204288118041],
                                                               dtype=torch.float64)
    lengths = torch.stack([share.sqrt(), (1 - share).sqrt()], 1)
    x, z, y, w = torch.cat([lengths * angles.sin(), lengths * angles.cos()], 1).unbind(1)
    half = torch.acos(w.clamp(-1, 1))
    axis = torch.stack([x, y, z], 1) / half.sin().clamp(min=1e-12)[:, None]
    return _turned(2 * half[:, None] * axis)


def turn_of(matrix: np.ndarray) -> float:
    """By how many degrees a linear map (d + 1, d + 1) turns, about any axis."""
    left, _, right = np.linalg.svd(matrix[:-1, :-1])
    trace = float(np.trace(left @ right))
    return math.degrees(math.acos(np.clip(trace / 2 if len(matrix) == 3 else (trace - 1) / 2, -1, 1)))


def _turned(vectors: Tensor) -> Tensor:
    """Rotations by angles (..., 1) in 2D, or by rotation vectors (..., 3): (..., d, d)."""
    zero = torch.zeros_like(vectors[..., 0])
    if vectors.shape[-1] == 1:
        rows = [zero, -vectors[..., 0], vectors[..., 0], zero]
    else:
        x, y, z = vectors.unbind(-1)
        rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    side = math.isqrt(len(rows))
    return torch.linalg.matrix_exp(torch.stack(rows, -1).unflatten(-1, (side, side)))


def _binned(values: Tensor) -> Tensor:
    return (values.clamp(0, 1) * (BINS - 1)).round().long()


def _information(fixed: Tensor, moving: Tensor, weights: Tensor) -> Tensor:
    """The mutual information (nats) of binned values (m) with each of (n, m), weighted by (n, m): (n)."""
    count = len(moving)
    cell = (torch.arange(count)[:, None] * BINS + fixed) * BINS + moving
    joint = torch.bincount(cell.flatten(), weights.flatten(), minlength=count * BINS**2).view(count, BINS, BINS)
    joint = joint / joint.sum((1, 2), keepdim=True).clamp(min=1)

    def entropy(probabilities: Tensor) -> Tensor:
        return -torch.xlogy(probabilities, probabilities).flatten(1).sum(1)

    return entropy(joint.sum(1)) + entropy(joint.sum(2)) - entropy(joint)
