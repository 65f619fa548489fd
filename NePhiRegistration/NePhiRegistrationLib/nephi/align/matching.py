"""Two masked images compared by mutual information, and a linear map between them refined with SimpleITK."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import reason
from ..geometry import Grid, apply_affine
from ..images.image import Image
from ..images.resampling import sample
from .initial import matrix_of, to_itk

log = logging.getLogger(__name__)

BINS = 32
LOOKED_AT = 0.5, 20_000  # share of the fixed voxels, and how many at most: every iteration's time
FEWEST = 4  # voxels along an axis that ITK's recursive Gaussian needs
LISTEN = 0.05  # s between looks for an interruption, which Windows does not give to a thread that waits


@dataclass(frozen=True)
class MaskedImage:
    """One image at one resolution: intensities in [0, 1] and which of them to look at, (k, j, i) on ``grid``."""

    values: Tensor
    inside: Tensor
    grid: Grid

    @property
    def volume(self) -> float:
        """Of the voxels that are looked at, mm^d."""
        return int(self.inside.count_nonzero()) * self.grid.voxel**self.grid.dim

    def center(self, weights: Tensor) -> np.ndarray:
        """The centre of mass of ``weights``, (k, j, i), inside; (d,) LPS mm."""
        weights = (weights * self.inside).double().flatten()
        points = self.grid.points("cpu", dtype=torch.float64)
        return ((weights[:, None] * points).sum(0) / weights.sum()).numpy()

    def on(self, grid: Grid) -> MaskedImage:
        """The same resampled to another grid."""
        both = sample(torch.stack([self.values, self.inside.float()]), self.grid,
                      grid.points("cpu", dtype=torch.float64))
        return MaskedImage(both[0].reshape(grid.shape), both[1].reshape(grid.shape) > 0.5, grid)


def share_met(share: Tensor, linear: Tensor, larger: float) -> Tensor:
    """How much of the smaller image meets the other one: the geometric mean of its share at the size that it has in the
    fixed image's world and in the moving one's. The share of the fixed image alone would grow as a map shrinks it, and
    shares of both images as a map stretches the smaller one.

    Args:
        share: of the fixed image that meets the moving one, (...).
        linear: of the maps from fixed to moving points, (..., d, d).
        larger: how many times the moving image's volume the fixed one has.
    """
    share = share * max(1.0, larger)
    return (share.clamp(max=1) * (share * torch.linalg.det(linear).abs()).clamp(max=1)).sqrt()


class Matcher:
    """Two images at one resolution, ready to be compared and refined.

    ITK sees the fixed image around the origin: it scales the steps of a transform that follows another one as if it
    turned about the origin, whatever its centre is.
    """

    def __init__(self, fixed: MaskedImage, moving: MaskedImage, seed: int) -> None:
        self.fixed, self.moving, self.seed = fixed, moving, seed
        self.points = fixed.grid.points("cpu", dtype=torch.float64)[fixed.inside.flatten()]
        self._larger = fixed.volume / moving.volume
        self._away = np.eye(fixed.grid.dim + 1)  # from around the origin to where the fixed image is
        self._away[:-1, -1] = self.points.mean(0)
        grids = replace(fixed.grid, origin=tuple(fixed.grid.origin - self._away[:-1, -1])), moving.grid
        self.images = [_thick(Image(level.values, grid).to_sitk()) for level, grid in zip((fixed, moving), grids)]
        self.masks = [Image(level.inside, grid).to_sitk(sitk.sitkUInt8) for level, grid in zip((fixed, moving), grids)]

    def shared(self, matrix: np.ndarray) -> float:
        """Mutual information times the share of the smaller one that is met: little overlap is easily alike."""
        try:
            method = self._method()
            method.SetInitialTransform(to_itk(matrix @ self._away))
            overlap = torch.tensor(self.overlap(matrix), dtype=torch.float64)
            linear = torch.from_numpy(np.array(matrix[:-1, :-1], dtype=np.float64))
            return -method.MetricEvaluate(*self.images) * float(share_met(overlap, linear, self._larger))
        except RuntimeError:  # ITK's word for no overlap
            return 0.0

    def overlap(self, matrix: np.ndarray) -> float:
        """The share of the fixed image that meets the moving one."""
        met = sample(self.moving.inside, self.moving.grid, apply_affine(matrix, self.points), "nearest")
        return float(met.float().mean())

    def refine(self, matrix: np.ndarray, kind: str) -> np.ndarray:
        """Improve a matrix by a transform of this kind, applied to the fixed points before it."""
        step = max(self.fixed.grid.spacing)
        residual = _residual(kind, self.fixed.grid.dim)
        method = self._method()
        method.SetMovingInitialTransform(to_itk(matrix @ self._away))
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
        return matrix @ self._away @ matrix_of(residual) @ np.linalg.inv(self._away)

    def _method(self) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricFixedMask(self.masks[0])
        method.SetMetricMovingMask(self.masks[1])
        method.SetMetricSamplingStrategy(method.RANDOM)
        share, most = LOOKED_AT
        method.SetMetricSamplingPercentage(min(share, most / len(self.points)), self.seed + 1)  # 0 would be the clock
        method.SetInterpolator(sitk.sitkLinear)
        return method


def _thick(image: sitk.Image) -> sitk.Image:
    """The image with its border repeated along axes that are too short for ITK's derivatives; its mask says where the
    image itself is."""
    short = [max(0, FEWEST - n) for n in image.GetSize()]
    return sitk.ZeroFluxNeumannPad(image, short, short) if any(short) else image


def _execute(method: sitk.ImageRegistrationMethod, images: list[sitk.Image]) -> None:
    """Run a method so that it can be interrupted (Ctrl-C, a cancelled task): Python hears of an interruption between
    its own instructions only, so ITK runs in another thread and stops after its next iteration when asked."""
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


def _residual(kind: str, dim: int) -> sitk.Transform:
    """The identity of a kind of transform, turning about the origin."""
    return {
        "translation": lambda: sitk.TranslationTransform(dim),
        "rigid": {2: sitk.Euler2DTransform, 3: sitk.Euler3DTransform}[dim],
        "similarity": {2: sitk.Similarity2DTransform, 3: sitk.Similarity3DTransform}[dim],
        "affine": lambda: sitk.AffineTransform(dim),
    }[kind]()
