"""Which of several linear maps is right, told by single places that the images show again.

The outlines of an organ, which most voxels see, hardly tell a turn from a shift; single places do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import numpy as np
import SimpleITK as sitk
from torch import Tensor

from ..geometry import apply_affine
from ..images.image import Image
from ..judge.residual import Residual, ResidualSearch
from ..maps.affine_map import AffineMap
from .initial import matrix_of
from .matching import MaskedImage

RECOGNISED = 0.3  # mean agreement of places that other maps do not reach by chance
CONFIRMED = 0.82  # mean agreement that only a map near the right one reaches
CLEAR = 3.0  # standard errors by which the agreement at one map has to exceed that at another
SETTLED = 6  # turned maps that settle: those at which most places agree
ROUNDS = 2  # of settling
KEPT = 0.6  # share of the places found that a rigid map is fitted to: those that it fits best
FITS = 3  # of a rigid map, each to the places that fit the one before

Looked = tuple[np.ndarray, Optional[Residual]]
"""A linear map and where it takes the places."""


@dataclass(frozen=True)
class Recognition:
    """Places all over the fixed image, looked for where linear maps take them."""

    search: ResidualSearch

    @classmethod
    def between(cls, fixed: MaskedImage, moving: MaskedImage) -> Optional[Recognition]:
        """None where the fixed image shows nothing."""
        search = ResidualSearch.between(*(Image(side.values, side.grid) for side in (fixed, moving)), fixed.inside,
                                        spread=True)
        return None if search is None else cls(search)

    def confirms(self, matrix: np.ndarray) -> bool:
        """Whether the images show the same at so many places that no other map can be right."""
        return _agreement(self._looked(matrix)) > CONFIRMED

    def of(self, turned: list[np.ndarray], shifted: np.ndarray) -> Optional[np.ndarray]:
        """The turned map at which the images show the same at most places, if they are clearly more than at the shifted
        one; or the shifted one, if it gains clearly by settling.

        Args:
            turned, shifted: (d + 1, d + 1) fixed to moving LPS mm.

        Returns:
            One of them, settled; None if places say nothing.
        """
        looked = sorted(map(self._looked, turned), key=_agreement)[-SETTLED:]
        given = self._looked(shifted)
        moved, best = self._settled(given), max(map(self._settled, looked), key=_agreement)
        return next((better[0] for better, other in ((best, moved), (moved, given)) if _clear(better[1], other[1])),
                    None)

    def best(self, matrices: list[np.ndarray]) -> np.ndarray:
        """The matrix at which the images show the same at most places."""
        return max(map(self._looked, matrices), key=_agreement)[0]

    def _looked(self, matrix: np.ndarray) -> Looked:
        return matrix, self.search.of(AffineMap(matrix))

    def _settled(self, one: Looked) -> Looked:
        """A map moved rigidly to where it takes most places to where they were found (block matching: Ourselin et al.,
        Image and Vision Computing 2001), if more agree there."""
        for _ in range(ROUNDS):
            matrix, found = one
            if found is None:
                break
            after = self._looked(matrix @ _rigid(found.points, found.displacements, found.found & found.seen))
            if _agreement(after) <= _agreement(one):
                break
            one = after
        return one


def _clear(better: Optional[Residual], other: Optional[Residual]) -> bool:
    """Whether the images agree at clearly more places at one map than at another."""
    if better is None or other is None:
        return False
    gain = better.agreement - other.agreement
    certain = CLEAR * float(gain.std()) / math.sqrt(len(gain))
    return float(better.agreement.mean()) > RECOGNISED and float(gain.mean()) > certain


def _rigid(points: Tensor, displacements: Tensor, kept: Tensor) -> np.ndarray:
    """The rigid map (d + 1, d + 1) of points (n, d) by displacements that most of those kept (n,) follow."""
    dim = points.shape[1]
    matrix = np.eye(dim + 1)
    for _ in range(FITS):
        if int(kept.sum()) <= dim:
            break
        start, end = points[kept].double(), (points + displacements)[kept].double()
        kind = {2: sitk.Euler2DTransform, 3: sitk.VersorRigid3DTransform}[dim]()
        matrix = matrix_of(sitk.LandmarkBasedTransformInitializer(
            kind, start.flatten().tolist(), end.flatten().tolist()))
        left = (apply_affine(matrix, points.double()) - points - displacements).norm(dim=1)
        kept = kept & (left <= left[kept].quantile(KEPT))
    return matrix


def _agreement(one: Looked) -> float:
    return 0.0 if one[1] is None else float(one[1].agreement.mean())
