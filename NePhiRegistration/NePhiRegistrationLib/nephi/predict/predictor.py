"""Learned registration: trained weights that turn a linearly aligned pair into NePhi models in one pass."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Optional, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..geometry import POINTS_AT_ONCE, POINTS_IN_CACHE, Frame, Grid, apply_affine
from ..images.image import Image
from ..images.interpolation import stretched
from ..images.resampling import downsample, sample
from ..maps.displacement_map import DisplacementMap
from ..maps.field import Architecture
from ..maps.neural import LatentCode, NePhi
from ..maps.spline import Spline
from ..storage import PathLike
from .encoder import Encoder, EncoderSizes
from .weights import FORMAT, digest, find, full, half

WHOLE = "encoder.whole.1.weight"  # of the only layer that depends on the size of the cube
MOST_PASSES = 8
SMOOTHED = 1.1  # images this much finer than the cube are averaged before they are read


@dataclass(frozen=True)
class Design:
    """What a predictor is made of.

    Attributes:
        sizes: of the encoder.
        architecture: of the fields.
        passes: how often it is applied, each time to the moving image carried by the passes before.
    """

    sizes: EncoderSizes
    architecture: Architecture
    passes: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.passes <= MOST_PASSES:
            raise ValueError(f"There are {self.passes} passes; there can be 1 to {MOST_PASSES}.")

    @classmethod
    def from_dict(cls, values: dict) -> Design:
        """The inverse of ``dataclasses.asdict``, also through JSON."""
        sizes = {**values["sizes"], "widths": tuple(values["sizes"]["widths"])}
        return cls(EncoderSizes(**sizes), Architecture(**values["architecture"]), int(values["passes"]))


class Predictor(nn.Module):
    """An encoder and two trained fields, which all pairs share.

    Attributes:
        design: its sizes.
        name: what messages and provenance call it.
        provenance: how it was trained, plain values for JSON.
    """

    def __init__(self, design: Design, seed: int = 0, name: str = "untrained") -> None:
        super().__init__()
        self.design, self.name, self.provenance = design, name, {}
        with torch.random.fork_rng(devices=[]):  # torch's layers draw their weights from the global generator
            torch.manual_seed(seed)
            self.encoder = Encoder(design.sizes)
        self.forward_field, self.inverse_field = design.architecture.new_fields(torch.Generator().manual_seed(seed))

    @property
    def hash(self) -> str:
        """SHA-256 of the weights as they are saved."""
        return digest(self._arrays())

    def model(self, local: Tensor, shared: Tensor) -> NePhi:
        """The model of one pair, on the predictor's own fields.

        Args:
            local: (k, j, i, C) from the encoder.
            shared: (G,) from the encoder.
        """
        code = LatentCode(self.design.sizes.latent_grid, Spline(local), shared)
        return NePhi(self.design.architecture, code, (self.forward_field, self.inverse_field))

    def check_dimension(self, image: Image) -> None:
        """Refuse images of another dimension than the predictor's.

        Raises:
            InputError: it is another.
        """
        dim = self.design.sizes.dim
        if image.grid.dim != dim:
            raise InputError(f"The weights {self.name} are for {dim}D images and the {image.name} is "
                             f"{image.grid.dim}D; use other weights or none.")

    @torch.no_grad()
    def predict(self, fixed: Image, moving: Image, affine: np.ndarray) -> tuple[NePhi, ...]:
        """The models that align a pair after its linear alignment, in the order of ``Transform.stages``.

        They are the caller's own: optimising them changes neither the predictor nor any other pair.

        Args:
            fixed, moving: intensities in [0, 1], as ``images.normalise`` makes them.
            affine: (d + 1, d + 1) fixed to moving LPS mm.

        Raises:
            InputError: images of another dimension than the predictor's.
        """
        self.check_dimension(fixed)
        self.eval()
        device, cube = fixed.values.device, self.design.sizes.grid
        to_world = Frame.of(fixed.grid).to_world_matrix
        points = cube.points(device)
        here = on_cube(fixed, points, to_world, cube)
        models: tuple[NePhi, ...] = ()
        carried: Optional[DisplacementMap] = None
        while len(models) < self.design.passes:
            if models:
                carried = carried_on(models[-1], carried, self.design.sizes)
            there = on_cube(moving, points if carried is None else carried.map(points), affine @ to_world, cube)
            local, shared = self.encoder(torch.stack([here, there])[None])
            models = (*models, copy.deepcopy(self.model(local[0], shared[0])).requires_grad_(False))
        return models

    def save(self, path: PathLike) -> None:
        """Write the weights as a NumPy archive without pickles, in half precision, whole or not at all."""
        arrays = self._arrays()
        FORMAT.write(path, {"design": asdict(self.design), "provenance": self.provenance, "sha256": digest(arrays)},
                     arrays)

    @classmethod
    def load(cls, name: PathLike, device: Union[str, torch.device]) -> Predictor:
        """Read weights, shipped ones by their name or any by their path; nothing in the file is executed.

        Raises:
            InputError: no such weights, a damaged file, or one of a newer version.
        """
        path = find(name)
        header, arrays = FORMAT.read(path)
        if digest(arrays) != header.get("sha256"):
            raise InputError(f"The weights {path} are damaged (their hash is not the one they were saved with); "
                             "fetch them again.")
        try:
            design = Design.from_dict(header["design"])
            _check_shapes(design, arrays)
            predictor = cls(design, name=path.stem)
            predictor.load_state_dict({key: torch.from_numpy(full(value)) for key, value in arrays.items()})
            predictor.provenance = dict(header["provenance"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
            raise InputError(f"The weights {path} do not fit their own description "
                             f"({' '.join(str(error).split())[:200]}); fetch them again.") from error
        return predictor.to(device).eval().requires_grad_(False)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {key: half(tensor.detach().cpu().numpy()) for key, tensor in self.state_dict().items()}


def _check_shapes(design: Design, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse a design of other sizes than the arrays of its file, before memory is taken for it."""
    sizes = design.sizes
    if len(sizes.widths) + sizes.depth > len(arrays):
        raise ValueError("there are fewer arrays than layers")
    with torch.device("meta"):
        expected = Encoder(sizes).state_dict()
    for name, tensor in expected.items():
        if arrays[f"encoder.{name}"].shape != tuple(tensor.shape):
            raise ValueError(f"encoder.{name} has the shape {arrays[f'encoder.{name}'].shape}")
    design.architecture.check({**arrays, "code.shared": np.empty(sizes.shared)}, sizes.dim)


def resized(predictor: Predictor, size: int) -> Predictor:
    """The same weights for cubes of another size, to be trained further.

    Only one layer knows the size, the global code's, which reads the whole grid of the last block: its weights are
    interpolated linearly over that grid, with the same sum.
    """
    sizes = predictor.design.sizes
    result = Predictor(replace(predictor.design, sizes=replace(sizes, size=size)), name=predictor.name)
    state, (before, after) = predictor.state_dict(), (sizes.coarsest, result.design.sizes.coarsest)
    weights = state[WHOLE].view(-1, sizes.widths[-1], *(before,) * sizes.dim)
    weights = stretched(weights, (after,) * sizes.dim) * (before / after) ** sizes.dim
    result.load_state_dict({**state, WHOLE: weights.flatten(1)})
    return result


def widened(model: NePhi, low: Sequence[float], high: Sequence[float]) -> NePhi:
    """A copy to be optimised whose latent grid covers a box too, the codes at its border repeated.

    Args:
        low, high: (d,) corners of the box, frame coordinates.
    """
    code, grid = model.code, model.code.grid
    cell, corners = grid.spacing[0], np.asarray(code.corners)
    reach = max(*(corners[0] - np.asarray(low)), *(np.asarray(high) - corners[1]), 0.0)
    extra = math.ceil(reach / cell)
    local = code.local.coefficients.detach().movedim(-1, 0)[None]
    local = F.pad(local, (extra,) * 2 * grid.dim, mode="replicate")[0].movedim(0, -1)
    wider = LatentCode(grid.window([-extra] * grid.dim, [n + 2 * extra for n in grid.size]), Spline(local),
                       code.shared.detach().clone())
    return NePhi(model.architecture, wider, copy.deepcopy(model.fields)).requires_grad_(True)


def on_cube(image: Image, points: Tensor, matrix: np.ndarray, cube: Grid) -> Tensor:
    """An image at the points of the encoder's cube, without aliasing; 0 where the image does not reach.

    Args:
        points: (n^d, d) cube coordinates, those of the cube's voxels or where they are carried; on the image's device.
        matrix: (d + 1, d + 1) from there to LPS mm.

    Returns:
        The intensities, shaped ``cube.shape``.
    """
    values, grid = image.values, image.grid
    spacing = _mm(matrix, cube)
    if spacing > SMOOTHED * min(grid.spacing):
        values, grid = downsample(values, grid, max(spacing, min(grid.spacing)))
    parts = [sample(values, grid, apply_affine(matrix, part)) for part in points.split(POINTS_AT_ONCE)]
    return torch.cat(parts).view(cube.shape)


def carried_on(model: NePhi, before: Optional[DisplacementMap], sizes: EncoderSizes) -> DisplacementMap:
    """Where a model and those before it take the points of the encoder's cube, as displacements at its voxels.

    The model, which acts first, is evaluated at every half latent cell, or every second voxel if that is more, and
    interpolated linearly between, which its smoothness allows.

    Args:
        before: what this function gave for the model before, or None.
    """
    cube = sizes.grid
    lattice = cube.with_spacing(cube.spacing[0] * max(2.0, sizes.stride / 2))
    axis = torch.arange(lattice.size[0], device=model.forward.device) * lattice.spacing[0] + lattice.origin[0]
    parts = []
    for points, moved in model.forward.on_lattice([axis] * cube.dim, POINTS_IN_CACHE):
        parts.append((moved if before is None else before.map(moved)) - points)
    displacement = torch.cat(parts).view(*lattice.shape, cube.dim).movedim(-1, 0)[None]
    return DisplacementMap(stretched(displacement, cube.shape)[0].movedim(0, -1), cube)


def _mm(matrix: np.ndarray, cube: Grid) -> float:
    """The side (mm) of a voxel of the cube after a matrix."""
    return cube.spacing[0] * abs(np.linalg.det(matrix[:-1, :-1])) ** (1 / cube.dim)
