"""The result of a registration: the map between two images both ways, and its file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Union

import numpy as np
import torch
from torch import Tensor

from ..archive import ArchiveFormat, Bytes
from ..errors import InputError
from ..geometry import Frame, Grid
from ..storage import PathLike
from .affine_map import AffineMap
from .field import Architecture
from .framed import FramedMap
from .map import Composition, MapPair
from .neural import LatentCode, NePhi
from .spline import EXTRA, Spline, SplineMap

FORMAT = ArchiveFormat("nephi-transform", 2, "a NePhi transform", "give the .nephi file of a registration",
                       compressed=False)  # packing would save 7 % for most of a second


Stage = Union[NePhi, MapPair]
"""A NePhi, or two splines over one lattice; in frame coordinates."""


@dataclass(frozen=True)
class Transform:
    """What aligns a moving image with a fixed one: affine(phi_1(phi_2(...(x)))), and the way back.

    ``forward`` takes fixed points to moving points, LPS mm, which is what resampling the moving image needs;
    ``inverse`` takes moving points to fixed points through the other fields, not by numerical inversion.

    Attributes:
        fixed_grid, moving_grid: where the two images' voxels are.
        affine: (d + 1, d + 1) float64, fixed to moving LPS mm.
        stages: phi_1, phi_2, ..., coarse to fine, in the fixed image's frame; the finest acts first on fixed points.
        provenance: what made it, plain values for JSON.
    """

    fixed_grid: Grid
    moving_grid: Grid
    affine: np.ndarray
    stages: tuple[Stage, ...] = ()
    provenance: dict = field(default_factory=dict)

    @cached_property
    def forward(self) -> Composition:
        """Fixed points to moving points; its domain is the fixed image's grid."""
        return Composition([self.deformation.forward, AffineMap(self.affine, self.fixed_grid)], self.fixed_grid)

    @cached_property
    def inverse(self) -> Composition:
        """Moving points to fixed points; its domain is the moving image's grid."""
        back = AffineMap(np.linalg.inv(self.affine), self.moving_grid)
        return Composition([back, self.deformation.inverse], self.moving_grid)

    @cached_property
    def deformation(self) -> MapPair:
        """All stages together, without the affine, in the fixed image's space."""
        frame = Frame.of(self.fixed_grid)
        there = Composition([stage.forward for stage in reversed(self.stages)])
        back = Composition([stage.inverse for stage in self.stages])
        return MapPair(*(FramedMap(way, frame, self.fixed_grid) for way in (there, back)))

    def save(self, path: PathLike) -> None:
        """Write a ``.nephi`` file: a NumPy archive without pickles, whole or not at all."""
        FORMAT.write(path, *self._packed())

    def to_bytes(self) -> bytes:
        """What :meth:`save` writes."""
        return FORMAT.pack(*self._packed())

    @classmethod
    def load(cls, path: PathLike, device: Union[str, torch.device] = "cpu") -> Transform:
        """Read a ``.nephi`` file of this or an earlier version; nothing in it is executed.

        Raises:
            InputError: not a file of ours, truncated, or of a newer version.
        """
        return cls._unpacked(*FORMAT.read(path), str(path), device)

    @classmethod
    def from_bytes(cls, data: Bytes, device: Union[str, torch.device] = "cpu", name: str = "The transform"
                   ) -> Transform:
        """As :meth:`load`, from the bytes of a file.

        Args:
            name: for messages.
        """
        return cls._unpacked(*FORMAT.unpack(data, name), name, device)

    def _packed(self) -> tuple[dict, dict[str, np.ndarray]]:
        """The header and the arrays of a file."""
        described, arrays = [], {}
        for number, stage in enumerate(self.stages):
            entry, tensors = _packed(stage)
            described.append(entry)
            arrays.update({f"{number}/{name}": tensor.detach().cpu().numpy() for name, tensor in tensors.items()})
        return {"provenance": self.provenance, "fixed_grid": self.fixed_grid.to_dict(),
                "moving_grid": self.moving_grid.to_dict(), "affine": self.affine.tolist(), "models": described}, arrays

    @classmethod
    def _unpacked(cls, header: dict, arrays: dict[str, np.ndarray], name: str, device: Union[str, torch.device]
                  ) -> Transform:
        try:
            grids = [Grid.from_dict(header[side]) for side in ("fixed_grid", "moving_grid")]
            stages = tuple(_unpacked(entry, _of_stage(arrays, i), torch.device(device))
                           for i, entry in enumerate(header["models"]))
            if any(way.dim != grids[0].dim for way in (grids[1], *map(lattice_of, stages))):
                raise ValueError("its parts have different dimensions")
            affine = np.asarray(header["affine"], dtype=np.float64)
            if affine.shape != (grids[0].dim + 1,) * 2 or not np.isfinite(affine).all():
                raise ValueError("the affine matrix is damaged")
            return cls(grids[0], grids[1], affine, stages, dict(header["provenance"]))
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
            raise InputError(f"{name} is damaged ({error}); register the pair again.") from error


def _of_stage(arrays: dict[str, np.ndarray], number: int) -> dict[str, Tensor]:
    prefix = f"{number}/"
    return {name[len(prefix):]: torch.from_numpy(array) for name, array in arrays.items() if name.startswith(prefix)}


def _packed(stage: Stage) -> tuple[dict, dict[str, Tensor]]:
    """What a file says of a stage, and its arrays by name."""
    lattice = lattice_of(stage)
    if isinstance(stage, MapPair):
        described, arrays = {"kind": "splines"}, {way: getattr(stage, way).spline.coefficients
                                                  for way in ("forward", "inverse")}
    else:
        described = {"kind": "fields", "architecture": asdict(stage.architecture)}
        arrays = {"code.local": stage.code.local.coefficients, "code.shared": stage.code.shared}
        for way, part in zip(("forward_field", "inverse_field"), stage.fields):
            arrays.update({f"{way}.{name}": tensor for name, tensor in part.state_dict().items()})
    return {**described, "low": lattice.origin, "cell": lattice.spacing[0],
            "cells": [n - 1 for n in lattice.size]}, arrays


def lattice_of(stage: Stage) -> Grid:
    """The nodes of a stage's latent code or splines, in frame coordinates."""
    return stage.forward.lattice if isinstance(stage, MapPair) else stage.code.grid


def _unpacked(entry: dict, arrays: dict[str, Tensor], device: torch.device) -> Stage:
    lattice = Grid.aligned([n + 1 for n in entry["cells"]], entry["cell"], entry["low"])
    if entry.get("kind", "fields") == "splines":
        splines = (_spline(arrays[way], lattice, lattice.dim) for way in ("forward", "inverse"))
        return MapPair(*(SplineMap(spline.to(device).requires_grad_(False), lattice) for spline in splines))
    architecture = Architecture(**entry["architecture"])
    code = LatentCode(lattice, _spline(arrays["code.local"], lattice, architecture.channels), arrays["code.shared"])
    architecture.check(arrays, lattice.dim)
    fields = architecture.new_fields(torch.Generator())
    for way, part in zip(("forward_field", "inverse_field"), fields):
        part.load_state_dict({name[len(way) + 1:]: tensor for name, tensor in arrays.items() if name.startswith(way)})
    return NePhi(architecture, code, fields).to(device).requires_grad_(False)


def _spline(coefficients: Tensor, lattice: Grid, channels: int) -> Spline:
    expected = (*(n + EXTRA for n in lattice.shape), channels)
    if tuple(coefficients.shape) != expected:
        raise ValueError(f"a spline of shape {tuple(coefficients.shape)} where {expected} is meant")
    return Spline(coefficients)
