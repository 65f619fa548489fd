"""Linear pre-alignment: the matrix from fixed to moving world coordinates that shares most information.

Mattes mutual information with SimpleITK, on two coarse levels, from the best of several starts.
"""

from __future__ import annotations

import logging
import math
from typing import Optional

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import apply_matrix
from ..images.image import Image, normalise
from ..images.masks import region
from ..images.resampling import downsample, filled
from .matching import MaskedImage, Matcher

log = logging.getLogger(__name__)
KINDS = ("translation", "rigid", "similarity", "affine")
SAMPLES = 60_000  # voxels at the finer level: enough for at most 15 parameters, few enough for seconds


def align(fixed: Image, moving: Image, fixed_mask: Optional[Tensor] = None, moving_mask: Optional[Tensor] = None,
          kind: str = "affine", initial: Optional[np.ndarray] = None, seed: int = 0) -> np.ndarray:
    """Find the linear map that brings fixed points onto moving points.

    Args:
        fixed, moving: images of the same dimension, anywhere in the world, of any contrast.
        fixed_mask, moving_mask: (k, j, i) bool on the image's own grid; what to align.
        kind: "translation", "rigid", "similarity" or "affine"; how ``initial`` or a translation may be refined.
        initial: (d + 1, d + 1) fixed to moving LPS mm; where to start, instead of searching for a start.
        seed: of the samples.

    Returns:
        (d + 1, d + 1) float64, fixed to moving LPS mm. It never shares less information than its start.

    Raises:
        InputError: an unknown kind, or an initial transform after which the images do not overlap.
    """
    if kind not in KINDS:
        raise InputError(f"There is no linear transform {kind!r}; use one of {', '.join(KINDS)}.")
    fixed_mask, moving_mask = region(fixed, fixed_mask), region(moving, moving_mask)
    fine = max(_spacing(fixed, fixed_mask), _spacing(moving, moving_mask))
    levels = [(_level(fixed, fixed_mask, s), _level(moving, moving_mask, s)) for s in (2 * fine, fine)]
    pairs = [Matcher(_detail(a), _detail(b), seed) for a, b in levels]
    starts = {"given": np.asarray(initial, dtype=np.float64)} if initial is not None else _starts(*levels[0])
    scores = {name: pairs[0].shared(matrix) for name, matrix in starts.items()}
    best = max(scores, key=lambda name: scores[name])
    log.info("Linear alignment starts from %s: %s.", best, {k: round(v, 4) for k, v in scores.items()})
    if initial is not None and scores[best] == 0:
        raise InputError("After the initial transform the images (or their masks) do not overlap; "
                         "leave it out, or check that it maps fixed points to moving points.")
    candidates = [starts[best]]
    for pair in pairs:
        candidates.append(pair.refine(candidates[-1], kind))
    result = max(candidates, key=pairs[-1].shared)
    log.info("Linear alignment (%s), fixed to moving LPS mm:\n%s", kind, np.array2string(result, precision=4))
    return result


def _spacing(image: Image, mask: Optional[Tensor]) -> float:
    """The spacing (mm) that leaves about SAMPLES voxels inside; not finer than the image."""
    voxel = math.prod(image.grid.spacing)
    volume = voxel * (image.grid.count if mask is None else int(mask.sum()))
    return max(voxel, volume / SAMPLES) ** (1 / image.grid.dim)


def _level(image: Image, mask: Optional[Tensor], spacing: float) -> MaskedImage:
    values = filled(normalise(image.values, mask, image.name), image.known)
    values, grid = downsample(values, image.grid, spacing)
    if mask is None:
        return MaskedImage(values, torch.ones_like(values, dtype=torch.bool), grid)
    share, _ = downsample(mask.float(), image.grid, spacing)
    return MaskedImage(values, share > 0.5 * share.max(), grid)  # the maximum, for a mask thinner than the new voxels


def _detail(level: MaskedImage) -> MaskedImage:
    """Intensities less their local mean, over their local deviation, inside the mask; again in [0, 1].

    What is left is structure (vessels, folds, edges). Density that changes with breathing, a bias field and
    the outline of the mask, which would win at coarse resolution, are gone.
    """
    weight = level.inside.to(level.values.dtype)
    share = _blur(weight).clamp(min=1e-6)
    residual = (level.values - _blur(level.values * weight) / share) * weight
    deviation = (_blur(residual**2) / share).sqrt()
    return MaskedImage(0.5 + (residual / (deviation + 0.02)).clamp(-3, 3) / 6, level.inside, level.grid)


def _blur(values: Tensor) -> Tensor:
    """A Gaussian of 2 voxels along every axis, to 3 sigma; zero outside."""
    for axis, n in enumerate(values.shape):
        index = torch.arange(n, dtype=values.dtype)
        distance = (index[:, None] - index).abs()
        weights = torch.exp(-(distance**2) / 8) * (distance <= 6) / math.sqrt(8 * math.pi)
        values = (values.movedim(axis, -1) @ weights).movedim(-1, axis)
    return values


def _starts(fixed: MaskedImage, moving: MaskedImage) -> dict[str, np.ndarray]:
    """Translations worth a try, by name."""
    ones_fixed, ones_moving = torch.ones_like(fixed.values), torch.ones_like(moving.values)
    offsets = {
        "the identity": np.zeros(fixed.grid.dim),
        "the centres of the fields of view": moving.grid.center - fixed.grid.center,
        "the centres of the masks": moving.center(ones_moving) - fixed.center(ones_fixed),
        "the centres of mass": moving.center(moving.values) - fixed.center(fixed.values),
        "the best correlation": _best_shift(fixed, moving),
    }
    return {name: _translation(offset) for name, offset in offsets.items()}


def _best_shift(fixed: MaskedImage, moving: MaskedImage) -> np.ndarray:
    """The translation (mm) of the largest masked normalised correlation, over all shifts at once.

    Padfield, "Masked object registration in the Fourier domain", IEEE TIP 2012. The absolute value, for
    contrasts may be opposite; shifts with little overlap are left out, for little is easily alike.
    """
    corners = apply_matrix(fixed.grid.world_to_index, moving.grid.corners())
    low, high = corners.min(0), corners.max(0)
    moving = moving.on(fixed.grid.window(low, np.ceil(high - low) + 1))  # its own box, in steps of the fixed grid
    arrays = (moving.values, fixed.values, moving.inside.float(), fixed.inside.float())
    correlation = sitk.MaskedFFTNormalizedCorrelation(*[sitk.GetImageFromArray(array.numpy()) for array in arrays],
                                                      requiredFractionOfOverlappingPixels=0.5)
    score = np.abs(sitk.GetArrayViewFromImage(correlation))
    index = np.unravel_index(score.argmax(), score.shape)[::-1]
    last = np.asarray(fixed.grid.size) - 1  # where the first voxels of both meet
    return fixed.grid.index_to_world[:-1, :-1] @ (low + index - last)


def _translation(offset: np.ndarray) -> np.ndarray:
    matrix = np.eye(len(offset) + 1)
    matrix[:-1, -1] = offset
    return matrix
