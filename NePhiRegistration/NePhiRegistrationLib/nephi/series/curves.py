"""What is measured of each frame of a tracked series: motion, volumes, ventilation, likeness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import random_points
from ..images.image import Image
from ..images.masks import dilate
from ..images.resampling import sample_at
from ..judge.folds import fold_percent
from ..judge.likeness import similarity
from ..maps.determinant import determinant_at
from ..maps.sampled import sampled
from ..maps.transform import Transform
from .steps import Seen

POINTS = 5000  # random ones at which motion is measured
SMOOTH = 1.5  # voxels, the width of the Gaussian by which densities are averaged: noise is divided by otherwise
LUNG = -300.0  # HU; lungs are on average below
RIM = 2.0  # voxels at the border of the lungs, into which interpolation carries the wall
_ML = 1e-3  # per mm^3


@dataclass(frozen=True)
class Measured:
    """One frame, seen from the reference.

    Attributes:
        numbers: name -> value, one row of a table.
        volumes: label -> volume, ml.
        ventilation: by density, (*grid.shape) float32: the share by which the lungs' volume grows if their mass stays;
            None where it is not asked for.
    """

    numbers: dict[str, float]
    volumes: dict[int, float] = field(default_factory=dict)
    ventilation: Optional[Tensor] = None


@dataclass(frozen=True)
class Regions:
    """The voxels of regions that were drawn on a frame, at their places in the reference. Labels carried there by the
    nearest voxel would gain or lose whole layers along flat borders.

    Attributes:
        labels: (n,) whole numbers, none 0.
        index: (n, d) continuous indices (i, j, k) on the reference's grid.
        volumes: (n,) float64 ml, of each voxel carried there.
    """

    labels: Tensor
    index: Tensor
    volumes: Tensor

    @classmethod
    def drawn(cls, labels: Tensor, frame: Transform, tolerance: float) -> Regions:
        """Those of a label image.

        Args:
            labels: (*shape) whole numbers on the frame.
            frame: from the reference to the frame that they were drawn on.
            tolerance: the error of the splines through which they are carried, voxels.
        """
        there, grid, last = labels != 0, frame.moving_grid, torch.tensor(frame.fixed_grid.size) - 1
        points, back = grid.to_world(there.nonzero().flip(-1).float()), frame.inverse
        if frame.stages and len(points):
            splines = sampled(back, there, tolerance)
            back = splines.map if splines.faithful else back
        index = frame.fixed_grid.to_index(back.map(points).cpu()).clamp(torch.zeros_like(last), last)
        shares = determinant_at(back, points).double().clamp_min(0) if len(points) else torch.zeros(0).double()
        return cls(labels[there], index, shares * float(np.prod(grid.spacing)) * _ML)

    def carried(self, determinants: Tensor) -> dict[int, float]:
        """label -> volume in a frame, ml, by the determinants of the map from the reference to it."""
        volumes = self.volumes * sample_at(determinants[None], self.index)[0]
        return {label: float(volumes[self.labels == label].sum()) for label in self.labels.unique().tolist()}


class Curves:
    """Measures frame after frame.

    Args:
        reference: the space in which all is measured.
        regions: whose volumes are followed.
        lungs: whether the mask shows lungs and the voxels are HU, so that ventilation can be told.

    Raises:
        InputError: ventilation without a mask, or of what is no lung in HU.
    """

    def __init__(self, reference: Seen, regions: Optional[Regions] = None, lungs: bool = False) -> None:
        self._reference, self._regions, self._mask = reference, regions, reference.mask
        self._lungs = None
        if lungs:
            self._lungs = lungs_in(reference)
            core = ~dilate(~self._lungs, reference.image.grid, RIM * max(reference.image.grid.spacing))
            self._core = core if bool(core.any()) else self._lungs
        grid = reference.image.grid
        self._voxel_ml = float(np.prod(grid.spacing)) * _ML
        self.points = random_points(grid, POINTS, self._mask)

    def of(self, transform: Transform, frame: Image, warped: Image, determinants: Tensor) -> Measured:
        """Measure one frame.

        Args:
            frame: as it is.
            warped: carried onto the reference.
            determinants: of the map from the reference to the frame, (*grid.shape).
        """
        lengths = (transform.forward.map(self.points).cpu() - self.points).norm(dim=1)
        reference = self._reference.image.values
        before = similarity(reference, frame.values, self._mask)["ncc"] if frame.grid.same_as(
            self._reference.image.grid) else float("nan")
        numbers = {
            "mean_mm": float(lengths.mean()), "p95_mm": float(lengths.quantile(0.95)), "max_mm": float(lengths.max()),
            "volume_ratio": float((determinants if self._mask is None else determinants[self._mask]).double().mean()),
            "folds_percent": fold_percent(determinants, self._mask),
            "ncc_before": before, "ncc_after": similarity(reference, warped.values, self._mask)["ncc"]}
        ventilation = None
        if self._lungs is not None:
            numbers.update(self._air(warped.values, determinants))
            ventilation = self._by_density(warped.values)
            numbers.update(_compared(ventilation, determinants - 1, self._core))
        return Measured(numbers, self._regions.carried(determinants) if self._regions else {}, ventilation)

    def _air(self, warped: Tensor, determinants: Tensor) -> Mapping[str, float]:
        volume = determinants[self._lungs].double()
        air = (-warped[self._lungs].double() / 1000).clamp(0, 1)
        return {name: float(total.sum()) * self._voxel_ml for name, total in (("lungs_ml", volume),
                                                                              ("air_ml", air * volume))}

    def _by_density(self, warped: Tensor) -> Tensor:
        """The volume after by the volume before, less 1, of tissue that keeps its mass."""
        here, there = (self._smooth((values + 1000).clamp_min(1), self._core.float())
                       for values in (self._reference.image.values, warped))
        return torch.where(self._core, here / there - 1, 0.0)

    def _smooth(self, density: Tensor, inside: Tensor) -> Tensor:
        """Averages over what is inside alone."""
        grid = self._reference.image.grid
        sigma = [SMOOTH * step for step in grid.spacing]
        total, share = (torch.from_numpy(sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(
            Image(values, grid).to_sitk(), sigma))) for values in (density * inside, inside))
        return (total / share.clamp_min(1e-3)).clamp_min(1)


def lungs_in(reference: Seen) -> Tensor:
    """The mask of a frame, (*shape) bool, if it shows lungs in HU.

    Raises:
        InputError: it does not, or there is none.
    """
    if reference.mask is None:
        raise InputError("Ventilation is measured inside the lungs; give their masks with --masks.")
    mean = float(reference.image.values[reference.mask].mean())
    if not -1024 <= mean < LUNG:
        raise InputError(f"The mask of the {reference.image.name} holds {mean:.0f} on average, which are no lungs in "
                         "Hounsfield units; leave --ventilation out, or give lung masks and a CT.")
    return reference.mask


def _compared(density: Tensor, jacobian: Tensor, where: Tensor) -> dict[str, float]:
    """Both kinds of ventilation on average, and Pearson's correlation, NaN where one is constant as in the reference
    itself."""
    both = torch.stack([density, jacobian])[:, where].double()
    varies = bool((both.std(dim=1) > 1e-6).all())
    return {**dict(zip(("ventilation_density", "ventilation_jacobian"), both.mean(dim=1).tolist())),
            "ventilation_correlation": float(torch.corrcoef(both)[0, 1]) if varies else float("nan")}
