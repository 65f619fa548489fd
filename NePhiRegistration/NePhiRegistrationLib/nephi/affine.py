"""Linear pre-alignment: the matrix from fixed to moving world coordinates that shares most information.

Mattes mutual information with SimpleITK, on two coarse levels, from the best of several starts.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .errors import InputError
from .geometry import Grid, apply_affine
from .images import Image, PathLike, downsample, normalise, reason, sample

log = logging.getLogger(__name__)

KINDS = ("translation", "rigid", "similarity", "affine")
SAMPLES = 60_000  # voxels at the finer level: enough for at most 15 parameters, few enough for seconds
BINS = 32
LISTEN = 0.05  # s between looks for an interruption, which Windows does not give to a thread that waits


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
    fixed_mask = foreground(fixed) if fixed_mask is None else fixed_mask
    moving_mask = foreground(moving) if moving_mask is None else moving_mask
    fine = max(_spacing(fixed, fixed_mask), _spacing(moving, moving_mask))
    levels = [(_level(fixed, fixed_mask, s), _level(moving, moving_mask, s)) for s in (2 * fine, fine)]
    pairs = [_Pair(_detail(a), _detail(b), seed) for a, b in levels]
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


def read_initial_transform(path: PathLike) -> np.ndarray:
    """Read a linear ITK transform file (.tfm, .txt, .mat, .h5); a composite of linear ones is multiplied out.

    Returns:
        (d + 1, d + 1) float64, fixed to moving LPS mm: ITK's own convention for resampling.

    Raises:
        InputError: it cannot be read or has a part that is not linear.
    """
    name = f"initial transform {Path(path).name}"
    if not Path(path).exists():
        raise InputError(f"The {name} does not exist ({path}); check the path.")
    try:
        return _matrix(sitk.ReadTransform(str(path)), name)
    except RuntimeError as error:
        raise InputError(f"The {name} cannot be read as an ITK transform ({reason(error)}); "
                         "save a linear transform as .tfm, .txt, .mat or .h5.") from error


def _matrix(transform: sitk.Transform, name: str = "transform") -> np.ndarray:
    """The homogeneous matrix of a linear SimpleITK transform, by what it does to the axes."""
    transform = transform.Downcast()
    if isinstance(transform, sitk.CompositeTransform):
        matrix = np.eye(transform.GetDimension() + 1)
        for n in range(transform.GetNumberOfTransforms()):  # the last one added is the first one applied
            matrix = matrix @ _matrix(transform.GetNthTransform(n), name)
        return matrix
    if not transform.IsLinear():
        raise InputError(f"The {name} has a part that is not linear ({transform.GetName()}); give an affine one.")
    dim = transform.GetDimension()
    matrix = np.eye(dim + 1)
    matrix[:-1, -1] = transform.TransformPoint([0.0] * dim)
    for axis in range(dim):
        matrix[:-1, axis] = transform.TransformVector(list(np.eye(dim)[axis]), [0.0] * dim)
    return matrix


@dataclass(frozen=True)
class _Level:
    """One image at one resolution: intensities in [0, 1] and which of them to look at, (k, j, i) on ``grid``."""

    values: Tensor
    inside: Tensor
    grid: Grid

    def center(self, weights: Tensor) -> np.ndarray:
        """The centre of mass of ``weights``, (k, j, i), inside; (d,) LPS mm."""
        weights = (weights * self.inside).double().flatten()
        return ((weights[:, None] * self.grid.points().double()).sum(0) / weights.sum()).numpy()

    def on(self, grid: Grid) -> _Level:
        """The same resampled to another grid."""
        both = sample(torch.stack([self.values, self.inside.float()]), self.grid, grid.points())
        return _Level(both[0].reshape(grid.shape), both[1].reshape(grid.shape) > 0.5, grid)


def foreground(image: Image) -> Optional[Tensor]:
    """The voxels above the minimum, if the rest is padding (skull-stripped, cropped to a circle); else None."""
    inside = image.values > image.values.min()
    seen = image.values[inside]
    padded = seen.numel() < 0.9 * inside.numel() and bool(seen.min() < seen.max())
    return inside if padded else None


def _spacing(image: Image, mask: Optional[Tensor]) -> float:
    """The spacing (mm) that leaves about SAMPLES voxels inside; not finer than the image."""
    voxel = math.prod(image.grid.spacing)
    volume = voxel * (image.grid.count if mask is None else int(mask.sum()))
    return max(voxel, volume / SAMPLES) ** (1 / image.grid.dim)


def _level(image: Image, mask: Optional[Tensor], spacing: float) -> _Level:
    values, grid = downsample(normalise(image.values, mask, image.name), image.grid, spacing)
    if mask is None:
        return _Level(values, torch.ones_like(values, dtype=torch.bool), grid)
    share, _ = downsample(mask.float(), image.grid, spacing)
    return _Level(values, share > 0.5 * share.max(), grid)  # the maximum, for a mask thinner than the new voxels


def _detail(level: _Level) -> _Level:
    """Intensities less their local mean, over their local deviation, inside the mask; again in [0, 1].

    What is left is structure (vessels, folds, edges). Density that changes with breathing, a bias field and
    the outline of the mask, which would win at coarse resolution, are gone.
    """
    weight = level.inside.to(level.values.dtype)
    share = _blur(weight).clamp(min=1e-6)
    residual = (level.values - _blur(level.values * weight) / share) * weight
    deviation = (_blur(residual**2) / share).sqrt()
    return _Level(0.5 + (residual / (deviation + 0.02)).clamp(-3, 3) / 6, level.inside, level.grid)


def _blur(values: Tensor) -> Tensor:
    """A Gaussian of 2 voxels along every axis, to 3 sigma; zero outside."""
    for axis, n in enumerate(values.shape):
        index = torch.arange(n, dtype=values.dtype)
        distance = (index[:, None] - index).abs()
        weights = torch.exp(-(distance**2) / 8) * (distance <= 6) / math.sqrt(8 * math.pi)
        values = (values.movedim(axis, -1) @ weights).movedim(-1, axis)
    return values


def _starts(fixed: _Level, moving: _Level) -> dict[str, np.ndarray]:
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


def _best_shift(fixed: _Level, moving: _Level) -> np.ndarray:
    """The translation (mm) of the largest masked normalised correlation, over all shifts at once.

    Padfield, "Masked object registration in the Fourier domain", IEEE TIP 2012. The absolute value, for
    contrasts may be opposite; shifts with little overlap are left out, for little is easily alike.
    """
    axes = fixed.grid.axes * np.asarray(fixed.grid.spacing)
    corners = np.linalg.solve(axes, moving.grid.corners().T).T  # the moving box in steps of the fixed grid
    low, high = corners.min(0), corners.max(0)
    box = Grid(tuple(int(n) for n in np.ceil(high - low) + 1), fixed.grid.spacing, tuple(axes @ low),
               fixed.grid.direction)
    moving = moving.on(box)
    shape = [a + b - 1 for a, b in zip(fixed.grid.shape, box.shape)]
    a, b = fixed.inside.double(), moving.inside.double()
    f, m = fixed.values * a, moving.values * b

    def correlate(left: Tensor, right: Tensor) -> Tensor:
        """sum_x left(x) right(x + t) for every shift t."""
        return torch.fft.irfftn(torch.fft.rfftn(left, shape).conj() * torch.fft.rfftn(right, shape), shape)

    count = correlate(a, b).round().clamp(min=1)
    sum_f, sum_m = correlate(f, b), correlate(a, m)
    covariance = correlate(f, m) - sum_f * sum_m / count
    variance_f = (correlate(f * f, b) - sum_f**2 / count).clamp(min=1e-6)
    variance_m = (correlate(a, m * m) - sum_m**2 / count).clamp(min=1e-6)
    score = torch.where(count > count.max() / 2, covariance.abs() / (variance_f * variance_m).sqrt(), 0)
    shift = np.array(np.unravel_index(int(score.argmax()), shape))
    shift = np.where(shift < np.asarray(box.shape), shift, shift - np.asarray(shape))  # negative shifts wrap round
    return axes @ shift[::-1] + np.asarray(box.origin) - np.asarray(fixed.grid.origin)


def _translation(offset: np.ndarray) -> np.ndarray:
    matrix = np.eye(len(offset) + 1)
    matrix[:-1, -1] = offset
    return matrix


class _Pair:
    """Two images at one resolution, ready to be compared and refined."""

    def __init__(self, fixed: _Level, moving: _Level, seed: int) -> None:
        self.fixed, self.moving, self.seed = fixed, moving, seed
        self.images = [Image(level.values, level.grid).to_sitk() for level in (fixed, moving)]
        self.masks = [Image(level.inside, level.grid).to_sitk(sitk.sitkUInt8) for level in (fixed, moving)]
        self.points = fixed.grid.points()[fixed.inside.flatten()]

    def shared(self, matrix: np.ndarray) -> float:
        """Mutual information times the share of the fixed image that is met: little overlap is easily alike."""
        met = sample(self.moving.inside, self.moving.grid, apply_affine(matrix, self.points), "nearest")
        try:
            method = self._method()
            method.SetInitialTransform(_to_sitk(matrix))
            return -method.MetricEvaluate(*self.images) * float(met.float().mean())
        except RuntimeError:  # ITK's word for no overlap
            return 0.0

    def refine(self, matrix: np.ndarray, kind: str) -> np.ndarray:
        """Improve a matrix by a transform of this kind, applied to the fixed points before it."""
        step = max(self.fixed.grid.spacing)
        residual = _residual(kind, self.points.double().mean(0).tolist())
        method = self._method()
        method.SetMovingInitialTransform(_to_sitk(matrix))
        method.SetInitialTransform(residual, inPlace=True)
        method.SetOptimizerAsGradientDescent(
            learningRate=1.0, numberOfIterations=100, convergenceMinimumValue=1e-6, convergenceWindowSize=10,
            estimateLearningRate=method.EachIteration, maximumStepSizeInPhysicalUnits=step / 4)
        method.SetOptimizerScalesFromPhysicalShift()
        try:
            with _one_itk_thread():
                _execute(method, self.images)
        except RuntimeError as error:
            log.warning("Linear alignment stopped early: %s", reason(error))
            return matrix
        return matrix @ _matrix(residual)

    def _method(self) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricFixedMask(self.masks[0])
        method.SetMetricMovingMask(self.masks[1])
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.5, self.seed + 1)  # 0 would mean the clock
        method.SetInterpolator(sitk.sitkLinear)
        return method


def _execute(method: sitk.ImageRegistrationMethod, images: list[sitk.Image]) -> None:
    """Run a method so that it can be interrupted (Ctrl-C, a cancelled task): Python hears of an interruption between
    its own instructions only, so ITK runs in another thread and is told to stop after its next iteration."""
    stop = threading.Event()
    method.AddCommand(sitk.sitkIterationEvent, lambda: method.StopRegistration() if stop.is_set() else None)
    with ThreadPoolExecutor(1) as pool:
        try:
            running = pool.submit(method.Execute, *images)
            while not wait([running], LISTEN).done:
                pass
            running.result()
        finally:
            stop.set()


@contextlib.contextmanager
def _one_itk_thread() -> Iterator[None]:
    """Several threads add up a metric in an order of their own: never the same result twice.

    The metric takes its threads from ITK's global default only, so that is lent for the moment and put back.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _residual(kind: str, center: list[float]) -> sitk.Transform:
    """The identity of a kind of transform, turning about ``center``."""
    dim = len(center)
    if kind == "translation":
        return sitk.TranslationTransform(dim)
    transform = {
        "rigid": {2: sitk.Euler2DTransform, 3: sitk.Euler3DTransform}[dim],
        "similarity": {2: sitk.Similarity2DTransform, 3: sitk.Similarity3DTransform}[dim],
        "affine": lambda: sitk.AffineTransform(dim),
    }[kind]()
    transform.SetCenter(center)
    return transform


def _to_sitk(matrix: np.ndarray) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(len(matrix) - 1)
    transform.SetMatrix(matrix[:-1, :-1].flatten().tolist())
    transform.SetTranslation(matrix[:-1, -1].tolist())
    return transform
