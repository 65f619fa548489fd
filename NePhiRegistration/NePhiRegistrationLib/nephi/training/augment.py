"""Random augmentations of a pair: of intensities, which keep the correspondence, and by known linear maps."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..images.interpolation import stretched
from .config import Data


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """A random number between two limits."""
    return low + (high - low) * float(torch.rand(1, generator=generator))


def normal(generator: torch.Generator, deviation: float) -> float:
    """One random number around 0, at most three deviations away."""
    return deviation * max(-3.0, min(3.0, float(torch.randn(1, generator=generator))))


def linear_map(data: Data, dim: int, generator: torch.Generator) -> np.ndarray:
    """A random rotation, scaling and shift of the cube, (d + 1, d + 1)."""
    matrix = np.eye(dim + 1)
    for a in range(dim):
        for b in range(a + 1, dim):
            angle = math.radians(normal(generator, data.turn))
            turn = np.eye(dim + 1)
            turn[[a, a, b, b], [a, b, a, b]] = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
            matrix = matrix @ turn
    for axis in range(dim):
        matrix[:, axis] *= math.exp(normal(generator, data.stretch))
        matrix[axis, -1] = normal(generator, data.shift)
    return matrix


def flip(data: Data, dim: int, generator: torch.Generator) -> np.ndarray:
    """A random mirroring of the cube along the axes that allow it, (d + 1, d + 1)."""
    matrix = np.eye(dim + 1)
    for axis, letter in enumerate("xyz"[:dim]):
        if letter in data.flips and uniform(generator) < 0.5:
            matrix[axis, axis] = -1.0
    return matrix


def intensities(values: Tensor, data: Data, generator: torch.Generator) -> Tensor:
    """An image (k, j, i) in [0, 1] with a random gamma, bias field and noise, still in [0, 1]."""
    values = values.clamp(0, 1) ** math.exp(normal(generator, data.contrast))
    if data.bias:
        coarse = torch.randn((1, 1, *(4,) * values.dim()), generator=generator)
        smooth = stretched(coarse, values.shape)
        values = values * torch.exp(uniform(generator, 0, data.bias) * smooth[0, 0])
        values = values / values.max().clamp(min=1e-6)
    if data.noise:
        noise = torch.randn(values.shape, generator=generator)
        values = (values + uniform(generator, 0, data.noise) * noise).clamp(0, 1)
    return values
