"""Linear pre-alignment: the matrix from fixed to moving world coordinates that shares most information.

Mattes mutual information with SimpleITK, on two coarse levels, from the best of several starts: shifts and, where those
leave it unsure, all orientations.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Optional, Union

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Grid, apply_matrix
from ..images.image import Image, normalise
from ..images.masks import box_of, carried_mask, region
from ..images.resampling import coarser_spacing, downsample, filled
from .matching import MaskedImage, Matcher
from .orientation import FAR, Poses, Scan, turn_of
from .recognition import Recognition

log = logging.getLogger(__name__)
KINDS = ("translation", "rigid", "similarity", "affine")
SAMPLES = 60_000  # voxels at the finer level: enough for at most 15 parameters, few enough for seconds
SMALL = 4000  # voxels of the small volumes at which orientations are searched
KEPT = 4.0  # voxels that are kept for each sample of the finer level, along an axis
CLOSER = 20_000  # the same for a closer look, which sees turns that differ in small structures only
SMALL_SHARE = 0.1  # of the other image: a mask of one image alone that is smaller is looked for there first
AROUND = 8  # voxels of the small volumes around a mask that are kept: what its filters read
SURE = 12.0  # standard deviations over all turns from which on a map needs no search for another
CLEARLY = 1.3  # times the information of any shift and any other turn: what a turn must share to be believed
LOOKED_AT = 8  # solutions of each search that are looked at place by place
TURNED = 4  # of them that are refined
STRETCH = 2.0  # by which an image may be longer than the other along any axis, and along one axis than along another
ASTRAY = 0.5  # of the certainty: a refinement that loses so much of it, as it may between contrasts, is left out
TIE = 0.9  # of the most information: a map that shares that much and turns less is preferred
TURN_STEP = 45.0  # degrees by which a turn is less


@dataclass(frozen=True)
class LinearAlignment:
    """A linear map, and how certain it is.

    ``shared``, ``second`` and ``start`` are on one scale: the information two small volumes share, times the overlap.

    Attributes:
        matrix: (d + 1, d + 1) float64, fixed to moving LPS mm.
        overlap: share of the fixed image (of its mask) that meets the moving image (its mask).
        shared: by this map.
        second: by the best map found that is a different solution, mostly another orientation.
        start: by the identity or, if there was one, by the initial map.
        certainty: how far ``shared`` is above the mean of all orientations, in their standard deviations.
        searched: whether all orientations were searched; an image that a shift aligns well needs no search.
    """

    matrix: np.ndarray
    overlap: float
    shared: float
    second: float
    start: float
    certainty: float
    searched: bool

    @property
    def convincing(self) -> bool:
        """Whether it stands out enough to believe that an image is turned."""
        return self.shared >= CLEARLY * self.second

    def to_dict(self) -> dict:
        """Plain values for JSON, without the matrix."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "matrix"}


def align(fixed: Image, moving: Image, fixed_mask: Optional[Tensor] = None, moving_mask: Optional[Tensor] = None,
          kind: str = "affine", initial: Optional[np.ndarray] = None, seed: int = 0) -> LinearAlignment:
    """Find the linear map that brings fixed points onto moving points.

    Shifts are tried first. If the best one does not stand out from the same images turned at random, all orientations
    are searched.

    Args:
        fixed, moving: images of the same dimension, anywhere in the world, of any contrast.
        fixed_mask, moving_mask: (k, j, i) bool on the image's own grid; what to align.
        kind: "translation", "rigid", "similarity" or "affine"; how ``initial`` or a start may be refined.
        initial: (d + 1, d + 1) fixed to moving LPS mm; where to start, instead of searching for a start.
        seed: of the samples.

    Returns:
        A map that never shares less information than its start, and its evidence.

    Raises:
        InputError: an unknown kind, or an initial transform after which the images do not overlap.
    """
    if kind not in KINDS:
        raise InputError(f"There is no linear transform {kind!r}; use one of {', '.join(KINDS)}.")
    return _aligned((fixed, moving), (fixed_mask, moving_mask), kind, initial, seed)


def _aligned(images: tuple[Image, Image], masks: tuple[Optional[Tensor], Optional[Tensor]], kind: str,
             initial: Optional[np.ndarray], seed: int, recognise: bool = True) -> LinearAlignment:
    """:func:`align`.

    Args:
        recognise: whether places are looked for where the images are unsure.
    """
    regions, rough = _regions(images, masks, kind, initial, seed)
    coarse, fine, small, closer = _levels(*(_Part.of(image, mask) for image, mask in zip(images, regions)))
    pairs = [Matcher(_detail(coarse[0]), _detail(coarse[1]), seed), Matcher(_detail(fine[0]), _detail(fine[1]), seed)]
    starts = {"given": np.asarray(initial, dtype=np.float64)} if initial is not None else _starts(*coarse)
    if initial is None and rough is not None:
        starts["the whole images"] = rough
    scores = {name: pairs[0].shared(matrix) for name, matrix in starts.items()}
    best = max(scores, key=lambda name: scores[name])
    log.info("Linear alignment starts from %s: %s.", best, {k: round(v, 4) for k, v in scores.items()})
    if initial is not None and scores[best] == 0:
        raise InputError("After the initial transform the images (or their masks) do not overlap; "
                         "leave it out, or check that it maps fixed points to moving points.")
    outlook = _Outlook.over(small, kind)
    tried = [starts[best]]
    if initial is None and kind != "translation":
        tried.append(outlook.polished(starts[best]))
    refined = [matrix for start in tried for matrix in (start, pairs[0].refine(start, kind))]
    shared = {id(matrix): sum(pair.shared(matrix) for pair in pairs) for matrix in refined}
    shifted = _preferred(refined, shared)
    unsure = len(tried) > 1 and min(map(outlook.certainty, (tried[1], shifted))) < SURE
    recognition, known = Recognition.between(*fine) if unsure and recognise else None, None
    unsure = unsure and not (recognition and recognition.confirms(shifted))
    turned = outlook.solutions if unsure else []
    if unsure and recognition:
        known = recognition.of([tried[1], *turned[:LOOKED_AT],
                                *_Outlook.over(closer, kind).solutions[:LOOKED_AT]], shifted)
    start = starts.get("given", np.eye(images[0].grid.dim + 1))
    if known is None:
        found = _informed(refined, turned[:TURNED], shared, pairs, kind, outlook, start)
    else:
        result = recognition.best([known, *(pair.refine(known, kind) for pair in pairs)])
        found = outlook.evidence(result, start, refined, pairs[1].overlap(result), True)
    doubtful = known is None and found.shared < found.second
    if kind in ("similarity", "affine") and (doubtful or not _sane(found.matrix, start)):
        log.warning("The images do not tell their sizes: a quite different linear map shares more information, or the "
                    "best one stretches too much; they are aligned rigidly.")
        return _aligned(images, masks, "rigid", initial, seed, recognise=known is not None)
    log.info("Linear alignment (%s), fixed to moving LPS mm:\n%s", kind, np.array2string(found.matrix, precision=4))
    return found


def _informed(refined: list[np.ndarray], turned: list[np.ndarray], shared: dict[int, float], pairs: list[Matcher],
              kind: str, outlook: _Outlook, start: np.ndarray) -> LinearAlignment:
    """The map that shares most information: a shifted one, or a turned one if it stands out."""
    turned = [pairs[0].refine(matrix, kind) for matrix in turned]
    shared = {**shared, **{id(matrix): sum(pair.shared(matrix) for pair in pairs) for matrix in turned}}
    for candidates in (refined + _clear(turned, refined, shared, outlook.scan), refined):
        chosen = _preferred(candidates, shared)
        result = max([chosen, pairs[1].refine(chosen, kind)], key=pairs[1].shared)
        if outlook.certainty(result) < ASTRAY * outlook.certainty(chosen):
            result = chosen
        found = outlook.evidence(result, start, refined + turned, pairs[1].overlap(result), bool(turned))
        if any(chosen is matrix for matrix in refined) or found.convincing:
            break
    return found


def _sane(matrix: np.ndarray, start: np.ndarray) -> bool:
    """Whether a map stretches no more than STRETCH what its start does."""
    lengths = np.linalg.svd(matrix[:-1, :-1] @ np.linalg.inv(start[:-1, :-1]), compute_uv=False)
    return bool(max(lengths.max(), 1 / lengths.min(), lengths.max() / lengths.min()) <= STRETCH)


def _regions(images: tuple[Image, Image], masks: tuple[Optional[Tensor], Optional[Tensor]], kind: str,
             initial: Optional[np.ndarray], seed: int) -> tuple[list[Optional[Tensor]], Optional[np.ndarray]]:
    """Where to look in both images. Where a small mask of the one lies in the other, which has none, the initial map
    says or an alignment of the whole images, which is returned too."""
    found = [region(image, mask) for image, mask in zip(images, masks)]
    if (masks[0] is None) == (masks[1] is None):
        return found, initial
    bare = int(masks[1] is None)
    grid, onto = images[1 - bare].grid, images[bare].grid
    room = onto.count if found[bare] is None else int(found[bare].count_nonzero())
    if int(found[1 - bare].count_nonzero()) * grid.voxel**grid.dim > SMALL_SHARE * room * onto.voxel**onto.dim:
        return found, initial
    rough = align(*images, None, None, kind, None, seed).matrix if initial is None else initial
    carried = carried_mask(found[1 - bare], grid, onto, np.linalg.inv(rough) if bare else rough, found[bare])
    if carried is not None:
        start, size = box_of(carried)
        box = torch.zeros_like(carried)
        box[tuple(slice(max(0, a - n // 2), a + n + n // 2) for a, n in zip(start[::-1], size[::-1]))] = True
        found[bare] = box if found[bare] is None else box & found[bare]
    return found, rough


@dataclass(frozen=True)
class _Outlook:
    """What a first look at all turns showed."""

    scan: Scan
    look: Poses
    scores: Tensor

    @classmethod
    def over(cls, level: tuple[MaskedImage, MaskedImage], kind: str) -> _Outlook:
        """Look at all turns of two small volumes."""
        scan = Scan(*level, _detail(level[0]), _detail(level[1]), kind in ("similarity", "affine"))
        look = scan.turns()
        return cls(scan, look, scan.scores(look))

    @property
    def solutions(self) -> list[np.ndarray]:
        """Where else to start, best first."""
        return self.scan.solutions(self.look, self.scores)

    def polished(self, matrix: np.ndarray) -> np.ndarray:
        """The map near by that shares most."""
        return self.scan.matrix(self.scan.improved(self.scan.pose(matrix))[0])

    def certainty(self, matrix: np.ndarray) -> float:
        """How many standard deviations its score lies above the mean of all turns."""
        score = float(self.scan.scores(self.scan.pose(matrix))[0])
        return (score - float(self.scores.mean())) / max(float(self.scores.std()), 1e-9)

    def evidence(self, matrix: np.ndarray, start: np.ndarray, tried: list[np.ndarray], overlap: float, searched: bool
                 ) -> LinearAlignment:
        """The result with what speaks for it and against it."""
        own, before = self.scan.pose(matrix), self.scan.pose(start)
        others = [self.scan.pose(other) for other in tried]
        scores = torch.cat([self.scores, *(self.scan.scores(pose) for pose in others)])
        others = Poses(torch.cat([self.look.linear, *(pose.linear for pose in others)]),
                       torch.cat([self.look.shift, *(pose.shift for pose in others)]))
        ranked = scores.argsort(descending=True).tolist()  # how far apart poses are costs more than how good they are
        second = next((float(scores[n]) for n in ranked if float(self.scan.apart(others[[n]], own)) > FAR), 0.0)
        shared = float(self.scan.scores(own)[0])
        return LinearAlignment(matrix, overlap, shared, second, float(self.scan.scores(before)[0]),
                               self.certainty(matrix), searched)


def _clear(turned: list[np.ndarray], shifted: list[np.ndarray], shared: dict[int, float], scan: Scan
           ) -> list[np.ndarray]:
    """The turned solutions that share clearly more than every shifted one; none if a different one shares nearly as
    much, for then images like these seem to fit in many orientations. Equal ones are an organ's symmetry."""
    if not turned:
        return []
    best = max(turned, key=lambda matrix: shared[id(matrix)])
    most = shared[id(best)]
    rivals = [matrix for matrix in turned if most / CLEARLY < shared[id(matrix)] < TIE * most
              and float(scan.apart(scan.pose(matrix), scan.pose(best))) > FAR]
    if rivals or most < CLEARLY * max(shared[id(matrix)] for matrix in shifted):
        return []
    return [matrix for matrix in turned if shared[id(matrix)] >= TIE * most]


def _preferred(matrices: list[np.ndarray], shared: dict[int, float]) -> np.ndarray:
    """The matrix that shares most; of those nearly as good, as in an organ that looks alike from two sides, the one
    that turns least."""
    most = max(shared[id(matrix)] for matrix in matrices)
    near = [matrix for matrix in matrices if shared[id(matrix)] >= TIE * most]
    return min(near, key=lambda matrix: (round(turn_of(matrix) / TURN_STEP), -shared[id(matrix)]))


@dataclass(frozen=True)
class _Part:
    """The part of an image around its mask, with normalised intensities.

    Attributes:
        values, mask: (k, j, i) on ``grid``; None means all of it.
    """

    values: Tensor
    mask: Optional[Tensor]
    grid: Grid

    @classmethod
    def of(cls, image: Image, mask: Optional[Tensor]) -> _Part:
        """The box of the mask and as much around it as the filters read."""
        grid = image.grid
        if mask is None:
            return cls(filled(normalise(image.values, None, image.name), image.known), None, grid)
        start, size = box_of(mask)
        around = AROUND * _spacing(grid, int(mask.count_nonzero()), SMALL)
        around = np.ceil(around / np.asarray(grid.spacing)).astype(int)
        low = np.maximum(start - around, 0)
        size = np.minimum(start + size + around, grid.size) - low
        part = tuple(slice(a, a + n) for a, n in zip(low[::-1], size[::-1]))
        known = None if image.known is None else image.known[part]
        values = filled(normalise(image.values[part], mask[part], image.name), known)
        return cls(values, mask[part], grid.window(low, size))

    @property
    def count(self) -> int:
        """The number of voxels inside."""
        return self.grid.count if self.mask is None else int(self.mask.count_nonzero())

    def at(self, spacing: Union[float, Sequence[float]]) -> MaskedImage:
        """The same at a coarser resolution."""
        values, grid = downsample(self.values, self.grid, spacing)
        if self.mask is None:
            return MaskedImage(values, torch.ones_like(values, dtype=torch.bool), grid)
        share, _ = downsample(self.mask.float(), self.grid, spacing)
        return MaskedImage(values, share > 0.5 * share.max(), grid)  # the maximum, for a mask thinner than a new voxel

    def reduced(self, spacing: float) -> _Part:
        """The same without voxels that are much finer than a spacing, so that it is quickly read at it."""
        wanted = coarser_spacing(self.grid, spacing / KEPT)
        if wanted is None:
            return self
        made = self.at(wanted)
        return _Part(made.values, None if self.mask is None else made.inside, made.grid)


def _levels(fixed: _Part, moving: _Part) -> list[tuple[MaskedImage, MaskedImage]]:
    """Both images at the coarser and the finer level of the refinement, and as small volumes of two sizes."""
    sides = (fixed, moving)
    fine, small, closer = (max(_spacing(side.grid, side.count, samples) for side in sides)
                           for samples in (SAMPLES, SMALL, CLOSER))
    sides = tuple(side.reduced(fine) for side in sides)
    return [tuple(side.at(spacing) for side in sides) for spacing in (2 * fine, fine, max(small, 2 * fine), closer)]


def _spacing(grid: Grid, count: int, samples: int) -> float:
    """The spacing (mm) that leaves about so many samples of ``count`` voxels; not finer than the voxels."""
    return grid.voxel * max(1.0, count / samples) ** (1 / grid.dim)


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
