"""Pairs from folders of images, read when first needed, kept in memory, drawn at random."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Frame, apply_affine
from ..images.image import Image, normalise
from ..images.masks import dilate, foreground
from ..images.reading import read_image
from ..images.resampling import sample
from ..predict.encoder import EncoderSizes
from ..predict.predictor import on_cube
from . import augment
from .config import Data
from .deformation import KnownMaps
from .examples import Example

logger = logging.getLogger(__name__)

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
NEAR = 0.1  # half sides of the cube: how far around the foreground images are compared
KEPT_BYTES = 4 << 30  # of images held in memory; what does not fit is read again


class Source(Protocol):
    """Something that makes pairs; the same generator state always gives the same pair."""

    def draw(self, generator: torch.Generator) -> Example:
        """A random pair."""


class Folder:
    """The images of a folder, sorted by name; unreadable ones are left out, or are fatal.

    Raises:
        InputError: no folder, no images; with ``strict`` an image that cannot be read; mixed 2D and 3D.
    """

    def __init__(self, path: Path, first: int, last: int, dim: int, strict: bool) -> None:
        files = image_files(path)
        self.files = files[first:last]
        self.path, self._dim, self._strict = path, dim, strict
        if len(self.files) < 2:
            raise InputError(f"The folder {path} has {len(files)} images, of which {len(self.files)} are used; "
                             "training and validation need at least 2.")
        self._skipped: set[Path] = set()
        self._kept: dict[int, Optional[Image]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.files)

    def read(self, number: int) -> Optional[Image]:
        """An image with intensities in [0, 1], or None if it cannot be read.

        Raises:
            InputError: it cannot be read and that is fatal, or it is of another dimension.
        """
        if number in self._kept:
            return self._kept[number]
        image = self._read(number)
        size = 0 if image is None else image.values.nbytes
        if self._bytes + size <= KEPT_BYTES:
            self._kept[number] = image
            self._bytes += size
        return image

    def _read(self, number: int) -> Optional[Image]:
        file = self.files[number]
        try:
            image = read_image(file, "training")
            if image.grid.dim == self._dim:
                return replace(image, values=normalise(image.values, foreground(image), image.name), name=file.name)
        except InputError as error:
            if self._strict:
                raise
            self._skipped.add(file)
            logger.warning("%s Left out, with %d others so far.", error, len(self._skipped) - 1)
            if len(self._skipped) > len(self.files) - 2:
                raise InputError(f"Fewer than 2 images of {self.path} can be read; the last reason: {error}") from error
            return None
        raise InputError(f"{file} is {image.grid.dim}D and [model] dim is {self._dim}; keep 2D and 3D images in "
                         "folders of their own.")


def image_files(folder: Path) -> list[Path]:
    """The images of a folder, sorted by name.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; correct the configuration, or give another --data.")
    return sorted(file for file in folder.iterdir() if file.name.endswith(ENDINGS) and not file.name.startswith("."))


class ImagePairs:
    """Random pairs of a folder's images, or of a list, placed as in the world apart from small random linear maps."""

    def __init__(self, data: Data, sizes: EncoderSizes, root: Path, strict: bool) -> None:
        self._data, self._sizes = data, sizes
        self._folder = Folder(root / data.images, data.first, data.last, sizes.dim, strict)
        self._pairs = read_pairs(root / data.pairs, self._folder.files) if data.pairs else None

    def draw(self, generator: torch.Generator) -> Example:
        """A random pair; pairs with an unreadable image are skipped."""
        while True:
            numbers = self._draw_numbers(generator)
            alone = augment.uniform(generator) < self._data.alone
            images = [self._folder.read(number) for number in numbers]
            if images[0] is not None and images[1] is not None:
                make = self._of_one_image if alone else self._of_two_images
                return make(images[0], images[1], generator)

    def _draw_numbers(self, generator: torch.Generator) -> tuple[int, int]:
        if self._pairs is not None:
            return self._pairs[int(torch.randint(len(self._pairs), (1,), generator=generator))]
        first, step = (int(torch.randint(n, (1,), generator=generator)) for n in
                       (len(self._folder), len(self._folder) - 1))
        return first, (first + 1 + step) % len(self._folder)

    def _of_one_image(self, image: Image, _: Image, generator: torch.Generator) -> Example:
        """An image and itself, seen through a known deformation."""
        frame, maps = Frame.of(image.grid), KnownMaps.random(self._data, self._sizes, generator)
        places = maps.scene_points(self._sizes.grid)
        (fixed, fixed_masks), (moving, moving_masks) = (
            self._seen(image, points, frame.to_world_matrix, generator) for points in places)
        return Example(fixed, moving, fixed_masks, moving_masks, frame.scale, f"{image.name} alone",
                       maps.truth(self._data.truth_points, generator))

    def _of_two_images(self, fixed: Image, moving: Image, generator: torch.Generator) -> Example:
        frame, data, dim, points = Frame.of(fixed.grid), self._data, self._sizes.dim, self._sizes.grid.points("cpu")
        mirror = augment.flip(data, dim, generator)
        (here, fixed_masks), (there, moving_masks) = (
            self._seen(image, points, frame.to_world_matrix @ augment.linear_map(data, dim, generator) @ mirror,
                       generator) for image in (fixed, moving))
        return Example(here, there, fixed_masks, moving_masks, frame.scale, f"{fixed.name} and {moving.name}")

    def _seen(self, image: Image, points: Tensor, matrix: np.ndarray, generator: torch.Generator
              ) -> tuple[Tensor, Tensor]:
        """An image at points of the cube (n^d, d) that ``matrix`` takes to LPS mm, with changed intensities.

        Returns:
            The image, (1, k, j, i), and where to compare and the field of view, (2, k, j, i) bool.
        """
        cube, world, mask = self._sizes.grid, apply_affine(matrix, points), foreground(image)
        values = augment.intensities(on_cube(image, points, matrix, cube), self._data, generator)
        view = image.grid.contains(world).view(cube.shape)
        if image.known is not None:
            view &= sample(image.known, image.grid, world, mode="nearest", fill=False).view(cube.shape)
        wanted = view
        if mask is not None:
            seen = sample(mask, image.grid, world, mode="nearest", fill=False).view(cube.shape)
            wanted = view & dilate(seen, cube, NEAR)
        return values[None] * view, torch.stack([wanted, view])


def read_pairs(path: Path, files: Sequence[Path]) -> list[tuple[int, int]]:
    """The pairs of a CSV file with the columns fixed and moving, as indices of files.

    Raises:
        InputError: no such file or columns, a name that is not among the files, no pairs.
    """
    numbers = {file.name: number for number, file in enumerate(files)}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"Cannot read the list of pairs {path}: {error.strerror or error}.") from error
    pairs = []
    for line, row in enumerate(rows, start=2):
        names = row.get("fixed"), row.get("moving")
        if None in names:
            raise InputError(f"{path} has no columns fixed and moving; its first line must name them.")
        for name in names:
            if name not in numbers:
                raise InputError(f"{path}, line {line}: there is no image {name!r} among those used from the folder.")
        pairs.append((numbers[names[0]], numbers[names[1]]))
    if not pairs:
        raise InputError(f"{path} lists no pairs; give at least one.")
    return pairs


class Mixture:
    """Several sources, each drawn from by its weight."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        if not math.fsum(weights) > 0:
            raise InputError("All [[data]] tables have the weight 0; give at least one a weight.")
        self._sources, self._weights = sources, torch.tensor(weights, dtype=torch.float64)

    def draw(self, generator: torch.Generator) -> Example:
        """A random pair of a random source."""
        number = torch.multinomial(self._weights, 1, generator=generator)
        return self._sources[int(number)].draw(generator)
