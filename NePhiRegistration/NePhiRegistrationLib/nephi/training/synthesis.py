"""Synthetic pairs: random scenes, deformed by known maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..geometry import Frame, apply_affine
from ..images.image import Image
from ..images.interpolation import nearest, stretched
from ..images.phantom import FIELD_OF_VIEW, breathed_in
from ..images.reading import read_labels
from ..images.resampling import sample
from ..predict.encoder import EncoderSizes
from . import augment
from .augment import uniform
from .config import Data
from .datasets import image_files
from .deformation import KnownMaps, smooth_upsample
from .examples import Example

CHESTS = 20  # phantoms that are generated; each is deformed anew for every pair
CHEST_SIZE = 128  # voxels along a side of a phantom
FINE_VESSELS = 1000  # in each of its lungs
AIR, DENSE = (-1000.0, -880.0), (-650.0, 200.0)  # HU that become 0 and 1: the windows of lungs and of chests
SKULL = 500  # labels from here on are not of the brain
FEWEST_CENTRES = 12  # of labels, for an affine map between heads
HALF_SIDES = (95.0, 128.0)  # mm, of the cube around a head
BRAIN = np.array([140.0, 175.0, 140.0])  # mm along (x, y, z): the size that all brains are scaled to
LABELS = 1024  # more than any label
LEFT, RIGHT = ([2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 26, 28, 30, 31],
               [41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60, 62, 63])  # FreeSurfer's, paired by mirroring

Scene = Callable[[Tensor], Tensor]
"""The labels at points (n, d) of the cube, (n)."""


class Shapes:
    """Triangles and circles in the plane, both filled or both hollow, with no known map between them."""

    def __init__(self, data: Data, sizes: EncoderSizes) -> None:
        if sizes.dim != 2:
            raise InputError(f"The data of the kind 'shapes' are 2D and [model] dim is {sizes.dim}; set it to 2.")
        self._data, self._sizes = data, sizes

    def draw(self, generator: torch.Generator) -> Example:
        """A random pair of shapes."""
        hollow = uniform(generator) < 0.5
        thickness = uniform(generator, 0.12, 0.2) if hollow else math.inf
        cube = self._sizes.grid
        points, pixel = cube.points("cpu"), cube.spacing[0]
        depths = [_shape(points, generator) for _ in range(2)]
        if hollow:
            depths = [torch.minimum(depth, thickness - depth) for depth in depths]
        images = [(depth / pixel + 0.5).clamp(0, 1).view(1, *cube.shape) for depth in depths]
        labels = tuple((depth > 0).view(cube.shape).to(torch.int32) for depth in depths)
        masks = torch.ones((2, *cube.shape), dtype=torch.bool)
        return Example(*images, masks, masks, 1.0, "shapes", labels=labels)


def _shape(points: Tensor, generator: torch.Generator) -> Tensor:
    """The depth of points (n, 2) below the outline of a random circle or triangle; negative outside."""
    center = torch.tensor([uniform(generator, -0.15, 0.15) for _ in range(2)])
    if uniform(generator) < 0.5:
        return uniform(generator, 0.35, 0.55) - (points - center).norm(dim=1)
    turn = uniform(generator, 0, 2 * math.pi / 3) + 2 * math.pi / 3 * torch.arange(3)
    normals = torch.stack([turn.cos(), turn.sin()], dim=1)
    return uniform(generator, 0.25, 0.38) - ((points - center) @ normals.T).amax(1)


class Blobs:
    """Random smooth shapes, deformed by a known map."""

    def __init__(self, data: Data, sizes: EncoderSizes) -> None:
        self._data, self._sizes = data, sizes

    def draw(self, generator: torch.Generator) -> Example:
        """A random pair of the same shapes."""
        n, dim = self._sizes.size, self._sizes.dim
        count, scale = 4 + int(uniform(generator, 0, 12)), 4 + int(uniform(generator, 0, 8))
        labels = torch.zeros((n,) * dim, dtype=torch.long)
        highest = torch.full((n,) * dim, -math.inf)
        for label in range(count):
            shape = smooth_upsample(torch.randn((1, *(scale,) * dim), generator=generator), n // 2)[None]
            height = stretched(shape, labels.shape)[0, 0]
            labels[height > highest] = label
            highest = torch.maximum(highest, height)

        def scene(points: Tensor) -> Tensor:
            return nearest(labels[None], (points + 1) * (n / 2) - 0.5)[0]

        return _painted((scene, scene), "random shapes", 100.0, self._data, self._sizes, generator)


class LabelMaps:
    """Label maps of whole heads: one against itself deformed by a known map, or against another one.

    Different heads are linearly aligned, as pairs are before a prediction.
    """

    def __init__(self, data: Data, sizes: EncoderSizes, root: Path) -> None:
        if sizes.dim != 3:
            raise InputError(f"The data of the kind 'labels' are 3D and [model] dim is {sizes.dim}; set it to 3.")
        self._files = image_files(root / data.labels)[data.first:data.last]
        if len(self._files) < 2:
            raise InputError(f"The folder {root / data.labels} has {len(self._files)} label maps; give one with at "
                             "least 2.")
        self._data, self._sizes = data, sizes
        self._read = lru_cache(maxsize=64)(_read_map)

    def draw(self, generator: torch.Generator) -> Example:
        """A random pair of heads."""
        first, second = torch.randperm(len(self._files), generator=generator)[:2].tolist()
        other = uniform(generator) < self._data.others
        half, stripped = uniform(generator, *HALF_SIDES), uniform(generator) < self._data.stripped
        heads = [self._read(self._files[number]) for number in (first, second if other else first)]
        matrix = heads[0].to_world(half)
        scenes = heads[0].scene(matrix, stripped), heads[1].scene(heads[0].onto(heads[1]) @ matrix, stripped)
        name = f"{heads[0].name} and {heads[1].name}"
        example = _painted(scenes, name, half, self._data, self._sizes, generator)
        return replace(example, truth=None) if other else example


@dataclass(frozen=True)
class _Head:
    """A label map, the middle of its brain (LPS mm) and the brain's size relative to BRAIN along (x, y, z).

    Attributes:
        centroids: label of the brain -> its centre, (3) LPS mm.
    """

    name: str
    labels: Image
    middle: np.ndarray
    stretch: np.ndarray
    centroids: dict[int, np.ndarray]

    def to_world(self, half: float) -> np.ndarray:
        """(4, 4) from a cube of half a side ``half`` (mm) around the brain, at the common size, to LPS mm."""
        matrix = np.eye(4)
        matrix[:-1, :-1], matrix[:-1, -1] = np.diag(half * self.stretch), self.middle
        return matrix

    def onto(self, other: _Head) -> np.ndarray:
        """(4, 4) the affine map that best takes the centres of the labels to those of another head, LPS mm."""
        common = sorted(set(self.centroids) & set(other.centroids))
        if len(common) < FEWEST_CENTRES:
            return other.to_world(1.0) @ np.linalg.inv(self.to_world(1.0))
        start = np.array([[*self.centroids[label], 1.0] for label in common])
        end = np.array([[*other.centroids[label], 1.0] for label in common])
        return np.linalg.lstsq(start, end, rcond=None)[0].T

    def scene(self, matrix: np.ndarray, stripped: bool) -> Scene:
        """The labels at points of a cube that ``matrix``, (4, 4), takes to LPS mm."""
        def scene(points: Tensor) -> Tensor:
            found = sample(self.labels.values, self.labels.grid, apply_affine(matrix, points), mode="nearest").long()
            return torch.where(found >= SKULL, 0, found) if stripped else found

        return scene


def _read_map(file: Path) -> _Head:
    labels = read_labels(file, "training")
    grid = labels.grid
    lowest, highest = int(labels.values.min()), int(labels.values.max())
    if lowest < 0 or highest >= LABELS:
        raise InputError(f"The label map {file} has labels from {lowest} to {highest}; use labels from 0 to "
                         f"{LABELS - 1}.")
    values = labels.values.to(torch.int16)
    index = torch.nonzero((values > 0) & (values < SKULL))
    if len(index) == 0:
        raise InputError(f"The label map {file} has no label from 1 to {SKULL - 1}; leave it out.")
    brain = index.flip(1).double()
    some = brain[::max(1, len(brain) // 10**6)]
    low, high = grid.to_world(torch.stack([some.quantile(q, dim=0) for q in (0.001, 0.999)])).numpy()
    found = values[tuple(index.T)].long()
    counts = torch.bincount(found, minlength=SKULL)
    sums = torch.stack([torch.bincount(found, weights=axis, minlength=SKULL) for axis in brain.T], dim=1)
    present = torch.nonzero(counts).flatten()
    centres = grid.to_world(sums[present] / counts[present, None]).numpy()
    return _Head(file.name, Image(values, grid, file.name), (low + high) / 2, np.abs(high - low) / BRAIN,
                 dict(zip(present.tolist(), centres)))


class Lungs:
    """Breathing chests: phantoms deformed by a known map."""

    def __init__(self, data: Data, sizes: EncoderSizes) -> None:
        if sizes.dim != 3:
            raise InputError(f"The data of the kind 'lungs' are 3D and [model] dim is {sizes.dim}; set it to 3.")
        self._data, self._sizes = data, sizes
        self._chest = lru_cache(maxsize=CHESTS)(lambda seed: breathed_in(CHEST_SIZE, seed, FINE_VESSELS))

    def draw(self, generator: torch.Generator) -> Example:
        """A random pair of one chest, or of one of its lungs; the air's density differs between breaths."""
        data, sizes = self._data, self._sizes
        chest = self._chest(int(uniform(generator, 0, CHESTS - 1e-6)))
        half = uniform(generator, 0.3, 0.6) * FIELD_OF_VIEW
        middle, box = self._crop(half, generator)
        matrix = Frame(middle, half).to_world_matrix
        air, dense = uniform(generator, *AIR), uniform(generator, *DENSE)
        maps = KnownMaps.random(data, sizes, generator)
        images, masks = [], []
        for points in maps.scene_points(sizes.grid):
            found = sample(chest.values, chest.grid, apply_affine(matrix, points), fill=-1000.0).view(sizes.grid.shape)
            clean = ((found - air) / (dense - air)).clamp(0, 1)
            breath = uniform(generator, 0.8, 1.2)
            edges = torch.tensor([side + uniform(generator, -0.05, 0.05) for side in box])
            view = (sizes.grid.points("cpu").abs() <= edges).all(1).view(sizes.grid.shape)
            seen = _imaged((clean * breath).clamp(0, 1), data, generator) * view
            images.append(torch.stack([seen, clean]))
            masks.append(torch.stack([view, view]))
        return Example(*images, *masks, half, "a chest phantom", maps.truth(data.truth_points, generator))

    @staticmethod
    def _crop(half: float, generator: torch.Generator) -> tuple[tuple[float, ...], list[float]]:
        """The middle (mm) of what is seen, and the half sides of its box in the cube: of one lung, or of the chest."""
        middle = [uniform(generator, -30, 30) for _ in range(3)]
        if uniform(generator) < 0.4:
            return tuple(middle), [2.0] * 3
        side = 1 if uniform(generator) < 0.5 else -1
        middle[:2] = side * 66 + uniform(generator, -10, 10), uniform(generator, -15, 15)
        return tuple(middle), [uniform(generator, 65, 85) / half, uniform(generator, 90, 130) / half, 2.0]


def _painted(scenes: tuple[Scene, Scene], name: str, mm: float, data: Data, sizes: EncoderSizes,
             generator: torch.Generator) -> Example:
    """A fixed and a moving scene of labels, seen through random maps and painted in random intensities.

    The encoder sees one palette for each image, the loss compares both images in one common palette.
    """
    maps = KnownMaps.random(data, sizes, generator)
    labels = tuple(scene(points).view(sizes.grid.shape) for scene, points in zip(scenes, maps.scene_points(sizes.grid)))
    shared = _palette(generator)
    palettes = [shared, shared if uniform(generator) < data.same_contrast else _palette(generator)]
    seen = [_imaged(palette[label], data, generator) for label, palette in zip(labels, palettes)]
    compared = _palette(generator)
    images = [torch.stack([image, _blurred(compared[label], 1.0)]) for image, label in zip(seen, labels)]
    everywhere = torch.ones((2, *sizes.grid.shape), dtype=torch.bool)
    return Example(*images, everywhere, everywhere, mm, name, maps.truth(data.truth_points, generator), labels)


def _palette(generator: torch.Generator) -> Tensor:
    """A random intensity in [0, 1] for each label, the same left and right; the background mostly stays dark."""
    palette = torch.rand(LABELS, generator=generator)
    palette[RIGHT] = palette[LEFT]
    palette[0] = 0.0 if uniform(generator) < 0.7 else palette[0]
    return palette


def _imaged(values: Tensor, data: Data, generator: torch.Generator) -> Tensor:
    """An image as a scanner may show it: blurred, with a random gamma, bias field and noise."""
    return augment.intensities(_blurred(values, uniform(generator, 0, data.coarse)), data, generator)


def _blurred(values: Tensor, width: float) -> Tensor:
    """Averaged over about ``width`` voxels along every axis."""
    taps = torch.exp(-0.5 * (torch.arange(-3, 4) / max(width / 2, 0.1)) ** 2)
    taps = taps / taps.sum()
    for axis in range(values.dim()):
        last = values.movedim(axis, -1)
        padded = F.pad(last.reshape(1, -1, last.shape[-1]), (3, 3), mode="replicate")
        smooth = sum(tap * padded[..., k:k + last.shape[-1]] for k, tap in enumerate(taps.tolist()))
        values = smooth.view(last.shape).movedim(-1, axis)
    return values.contiguous()
