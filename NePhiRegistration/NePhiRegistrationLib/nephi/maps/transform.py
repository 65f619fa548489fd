"""The result of a registration: a map of world points both ways, which can be composed, evaluated and saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Union

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import Frame, Grid, apply_affine
from ..storage import atomic_path, pack_header, unpack
from .neural import DIRECTIONS, FORWARD, Architecture, NePhi
from .spline import LatentBox

logger = logging.getLogger(__name__)

FORMAT = "nephi-transform"
FORMAT_VERSION = 1
POINTS_AT_ONCE = 1 << 13  # keeps a layer's values within the processor's cache


@dataclass(frozen=True)
class Transform:
    """What aligns a moving image with a fixed one: affine(phi_1(phi_2(...(x)))), and the way back.

    The forward direction takes fixed points to moving points, which is what resampling the moving image needs; the
    inverse direction takes moving points to fixed points through the other fields, not by numerical inversion.

    Attributes:
        fixed_grid, moving_grid: where the two images' voxels are.
        affine: (d + 1, d + 1) float64, fixed to moving LPS mm.
        models: coarse to fine; the finest acts first on fixed points, the coarsest last.
        provenance: what made it, plain values for JSON.
    """

    fixed_grid: Grid
    moving_grid: Grid
    affine: np.ndarray
    models: tuple[NePhi, ...] = ()
    provenance: dict = field(default_factory=dict)

    @cached_property
    def frame(self) -> Frame:
        """The coordinates of the fields."""
        return Frame.of(self.fixed_grid)

    @property
    def device(self) -> torch.device:
        """Where the fields are."""
        return self.models[0].code.local.device if self.models else torch.device("cpu")

    def map_points(self, points: Tensor, direction: str = FORWARD) -> Tensor:
        """Map world points (n, d) LPS mm, in the points' own type and on their device.

        Args:
            direction: "forward", fixed to moving, or "inverse", moving to fixed.
        """
        check_direction(direction)
        if direction == FORWARD:
            return apply_affine(self.affine, self.nonlinear(points, direction))
        return self.nonlinear(apply_affine(np.linalg.inv(self.affine), points), direction)

    def nonlinear(self, points: Tensor, direction: str = FORWARD) -> Tensor:
        """The fields alone, in the fixed image's space: (n, d) LPS mm to (n, d) LPS mm."""
        check_direction(direction)
        if not self.models:
            return points
        start = self._to_frame(points)
        parts = [self.map_in_frame(part, direction) - part for part in start.split(POINTS_AT_ONCE)]
        moved = torch.cat(parts) if parts else start
        return points + (moved * self.frame.scale).to(points)

    @torch.no_grad()
    def map_in_frame(self, points: Tensor, direction: str) -> Tensor:
        """The fields alone on frame coordinates (n, d), all at once, without gradients."""
        for model in self._in_order(direction):
            points = model.map(points, direction)
        return points

    @torch.no_grad()
    def jacobian(self, points: Tensor, direction: str = FORWARD) -> Tensor:
        """The exact Jacobian of :meth:`map_points` at world points (n, d): (n, d, d), [n, i, a] = dy_i / dx_a."""
        check_direction(direction)
        affine = self.affine if direction == FORWARD else np.linalg.inv(self.affine)
        linear = torch.as_tensor(affine[:-1, :-1].copy(), dtype=points.dtype, device=points.device)
        if direction != FORWARD:
            points = apply_affine(affine, points)
        parts = [self._jacobian_in_frame(part, direction) for part in self._to_frame(points).split(POINTS_AT_ONCE)]
        inner = torch.cat(parts).to(points) if parts else points.new_zeros(0, *linear.shape)
        return linear @ inner if direction == FORWARD else inner @ linear

    def _jacobian_in_frame(self, points: Tensor, direction: str) -> Tensor:
        dim = points.shape[-1]
        total = torch.eye(dim, device=points.device).expand(len(points), dim, dim)
        for model in self._in_order(direction):
            points, jacobian = model.map_with_jacobian(points, direction)
            total = jacobian @ total
        return total

    def _in_order(self, direction: str) -> Iterator[NePhi]:
        return reversed(self.models) if direction == FORWARD else iter(self.models)

    def _to_frame(self, points: Tensor) -> Tensor:
        return apply_affine(self.frame.to_frame_matrix, points.to(torch.float64 if points.device.type == "cpu"
                                                                  else points.dtype)).to(self.device, torch.float32)

    def save(self, path: Union[str, PathLike]) -> None:
        """Write a ``.nephi`` file: a NumPy archive without pickles, whole or not at all."""
        header = {
            "format": FORMAT, "version": FORMAT_VERSION, "provenance": self.provenance,
            "fixed_grid": self.fixed_grid.to_dict(), "moving_grid": self.moving_grid.to_dict(),
            "affine": self.affine.tolist(),
            "models": [{"architecture": m.architecture.to_dict(), "low": m.code.box.low, "cell": m.code.box.cell,
                        "cells": m.code.box.cells} for m in self.models],
        }
        arrays = {f"{i}/{name}": tensor.detach().cpu().numpy()
                  for i, model in enumerate(self.models) for name, tensor in model.state_dict().items()}
        arrays["header"] = pack_header(header)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Union[str, PathLike], device: Union[str, torch.device] = "cpu") -> Transform:
        """Read a ``.nephi`` file; nothing in it is executed.

        Raises:
            InputError: not a file of ours, truncated, or of a newer version.
        """
        header, arrays = _read_archive(Path(path))
        try:
            grids = [Grid.from_dict(header[name]) for name in ("fixed_grid", "moving_grid")]
            models = tuple(_model(entry, _of_model(arrays, i)).to(device).requires_grad_(False)
                           for i, entry in enumerate(header["models"]))
            affine = np.asarray(header["affine"], dtype=np.float64)
            if affine.shape != (grids[0].dim + 1,) * 2 or not np.isfinite(affine).all():
                raise ValueError("the affine matrix is damaged")
            return cls(grids[0], grids[1], affine, models, dict(header["provenance"]))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path} is damaged ({error}); register the pair again.") from error


def check_direction(direction: str) -> None:
    """Refuse a direction that is neither "forward" nor "inverse".

    Raises:
        InputError: it is not.
    """
    if direction not in DIRECTIONS:
        raise InputError(f"Unknown direction {direction!r}; use 'forward' (fixed to moving) or 'inverse'.")


def _read_archive(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read the transform {path}: {error.strerror or error}.") from error
    try:
        header, arrays = unpack(data)
    except ValueError as error:
        raise InputError(f"{path} is not a NePhi transform or is truncated ({len(data)} bytes); "
                         "give the .nephi file of a registration.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{path} is not a NePhi transform; give the .nephi file of a registration.")
    if not isinstance(header.get("version"), int) or header["version"] > FORMAT_VERSION:
        raise InputError(f"{path} has format version {header.get('version')}, newer than {FORMAT_VERSION}, the newest "
                         "known here; update NePhi registration.")
    return header, arrays


def _of_model(arrays: dict[str, np.ndarray], number: int) -> dict[str, Tensor]:
    prefix = f"{number}/"
    return {name[len(prefix):]: torch.from_numpy(array) for name, array in arrays.items() if name.startswith(prefix)}


def _model(entry: dict, state: dict[str, Tensor]) -> NePhi:
    architecture = Architecture(**entry["architecture"])
    box = LatentBox(tuple(entry["low"]), float(entry["cell"]), tuple(entry["cells"]))
    if tuple(state["code.local"].shape) != (*box.shape, architecture.channels):
        raise ValueError(f"a latent code of shape {tuple(state['code.local'].shape)} in a box of {box.shape}")
    model = NePhi.random(architecture, box, 0.0, torch.Generator())
    model.load_state_dict(state)
    return model
