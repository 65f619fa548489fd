"""Registrations of a series one by one: each is kept as a file when it is done, and taken from there when it is asked
for again with the same images, masks and options."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, TypeVar

from torch import Tensor

from .. import __version__
from ..align.registration import Progress, follow, register
from ..device import pick_device
from ..errors import InputError
from ..images.image import Image
from ..maps.transform import Transform
from ..options import Options

T = TypeVar("T")
Work = Generator[Progress, None, T]
"""Long work: progress comes out of it, and at the end a result; closing it cancels."""


@dataclass(frozen=True)
class Seen:
    """An image of a series as a registration sees it.

    Attributes:
        image: the image.
        mask: (*shape) bool on its grid, what to align; None is its foreground.
    """

    image: Image
    mask: Optional[Tensor] = None

    @property
    def key(self) -> str:
        """Tells these voxels from others."""
        digest = hashlib.sha256(json.dumps(self.image.grid.to_dict()).encode())
        for part in (self.image.values, self.image.known, self.mask):
            digest.update(b"none" if part is None else part.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Steps:
    """Registrations with the same options, kept in a folder.

    Attributes:
        folder: where they are kept; it exists. None keeps nothing.
        options: of all of them.
    """

    folder: Optional[Path]
    options: Options

    def between(self, fixed: Seen, moving: Seen, name: str, before: Optional[Transform] = None,
                guides: Optional[tuple[Tensor, Tensor]] = None) -> Work[Transform]:
        """Register a pair of frames.

        Args:
            name: of the step, for progress and its file.
            before: the neighbour's result, from which to go on.
            guides: corresponding points, (m, d) LPS mm each, that guide the registration.

        Raises:
            InputError, DeviceMemoryError: as :func:`nephi.align.registration.register`; the folder is full.
        """
        steps = (register(fixed.image, moving.image, self.options, fixed.mask, moving.mask, landmarks=guides)
                 if before is None else
                 follow(fixed.image, moving.image, before, self.options, fixed.mask, moving.mask, guides))
        return (yield from self._kept(steps, name, fixed, moving, before, guides))

    def onto(self, fixed: Seen, moving: Seen, name: str, start: Transform) -> Work[Transform]:
        """Register a pair of frames from a transform on that stays as it is; levels are added to it. The images bear
        the start out already, and what is added is small."""
        options = replace(self.options, step_back="never")
        steps = register(fixed.image, moving.image, options, fixed.mask, moving.mask, start.affine,
                         start=start.stages)
        return (yield from self._kept(steps, name, fixed, moving, start, None))

    def _kept(self, steps: Generator[Progress, None, None], name: str, fixed: Seen, moving: Seen,
              before: Optional[Transform], guides: Optional[tuple[Tensor, Tensor]]) -> Work[Transform]:
        if self.folder is None:
            with contextlib.closing(steps):
                for state in steps:
                    yield replace(state, phase=f"{name}, {state.phase}")
            return state.transform
        told = [__version__, self.options.to_dict(), fixed.key, moving.key,
                hashlib.sha256(before.to_bytes()).hexdigest() if before else None,
                [points.tolist() for points in guides or ()]]
        key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{name.replace(' ', '_')}.nephi"
        with contextlib.closing(steps):
            found = self._found(path, key)
            if found is not None:
                yield Progress(name, 1, 1, found)
                return found
            for state in steps:
                yield replace(state, phase=f"{name}, {state.phase}")
        transform = replace(state.transform, provenance={**state.transform.provenance, "step": key})
        transform.save(path)
        return transform

    def _found(self, path: Path, key: str) -> Optional[Transform]:
        try:
            found = Transform.load(path, pick_device(self.options.device)) if path.is_file() else None
        except InputError:  # of another version, or damaged: it is made anew
            return None
        return found if found is not None and found.provenance.get("step") == key else None
