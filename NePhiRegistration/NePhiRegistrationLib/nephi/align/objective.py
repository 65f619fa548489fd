"""What an iteration minimises: the loss of a model on a level of a pair, and its gradient.

Similarity and regularity read both fields at the nodes of one lattice of patches. The fields are
differentiated once, after all that reads the nodes has left its gradient there, so that one small graph is alive at a
time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ..geometry import POINTS_IN_CACHE
from ..images.similarity import local_ncc, ncc, similarity_named
from ..maps.displacement_map import DisplacementMap
from ..maps.neural import NePhi
from ..options import Options
from .patches import Patches, PatchLattice
from .regularity import consistency, prior, round_trips
from .volume import Volume

NODES_AT_ONCE = POINTS_IN_CACHE // 2  # the graph takes its share of the cache

Terms = Iterable[tuple[str, Tensor, float]]
"""Name, value, weight."""


@dataclass(frozen=True)
class Side:
    """One image of a pair in the fixed image's frame.

    Attributes:
        volume: (1 + C + 1, k, j, i): the intensity in [0, 1], the C channels that the similarity compares if those
            are not the intensity, and where to sample, 1 within the dilated mask and the field of view.
        view: its field of view less the voxels that do not count, (1, k, j, i), or None if that covers everything
            sampled.
    """

    volume: Volume
    view: Optional[Volume]


@dataclass(frozen=True)
class Level:
    """A pair at one resolution, the moving image already carried by the coarser levels.

    Attributes:
        fixed, moving: the two images.
        lattice: of the sample patches.
        fraction: of the patches within the mask that are drawn.
        unit: the lengths of the options per frame unit: samples of the finest level.
        error: inverse-consistency error of the coarser levels, the displacements psi(phi(x)) - x, or None.
        landmarks: fixed points and moving points carried to the fixed image's frame, each (m, d), or None.
    """

    fixed: Side
    moving: Side
    lattice: PatchLattice
    fraction: float
    unit: float
    error: Optional[DisplacementMap]
    landmarks: Optional[tuple[Tensor, Tensor]]

    @property
    def ways(self) -> tuple[tuple[Side, Side], tuple[Side, Side]]:
        """The image whose points are mapped and the one they are mapped to, forward and back."""
        return (self.fixed, self.moving), (self.moving, self.fixed)

    def wanted(self, points: Tensor) -> Tensor:
        """Whether points (n, d) lie where either image is sampled: (n) bool."""
        return self.fixed.volume.covers(points) | self.moving.volume.covers(points)

    def coarser_error(self, points: Tensor) -> Tensor:
        """The inverse-consistency error of the coarser levels at points (n, d), frame coordinates: (n, d)."""
        return torch.zeros_like(points) if self.error is None else self.error.displacement(points)


def accumulate(model: NePhi, level: Level, options: Options, share: float, generator: torch.Generator
               ) -> dict[str, float]:
    """Add the loss's gradient at freshly drawn points to that of the model's parameters; the weighted terms.

    Both ways, forward and back, are averaged.

    Args:
        share: of the points that the options ask for.
    """
    total: dict[str, float] = {}
    patches = level.lattice.draw(level.wanted, share * level.fraction, generator, model.forward.device)
    if len(patches.origins):
        displacements = _at_nodes(model, patches)
        leaves = displacements.detach().requires_grad_()
        for (here, there), displacement in zip(level.ways, leaves):
            _descend(total, _similarity_terms(here, there, patches, displacement, options), 0.5)
        _descend(total, _regularity_terms(leaves, patches, level, options), 1.0)
        if leaves.grad is not None:
            # Not backward(leaves.grad): given a gradient, torch imports a library of symbols first, for over a second.
            (displacements * leaves.grad).sum().backward()
    if level.landmarks is not None:
        for number, there in enumerate((model.forward, model.inverse)):
            start, end = level.landmarks[number], level.landmarks[1 - number]
            distance = (there.map(start) - end).pow(2).sum(1).mean() * level.unit**2
            _descend(total, [("landmarks", distance, options.landmark_pull)], 0.5)
    _descend(total, [("prior", prior(model), options.prior)], 1.0)
    return total


@torch.no_grad()
def misfit(level: Level, options: Options, generator: torch.Generator) -> float:
    """The similarity terms of a level's images as they lie, both directions averaged; infinite without overlap."""
    patches = level.lattice.draw(level.wanted, level.fraction, generator, level.fixed.volume.values.device)
    still = torch.zeros_like(patches.nodes)
    found = [list(_similarity_terms(here, there, patches, still, options)) for here, there in level.ways]
    if not all(found):
        return math.inf
    return math.fsum(weight * float(value) for terms in found for _, value, weight in terms) / len(found)


def _descend(total: dict[str, float], terms: Terms, factor: float) -> None:
    """Differentiate the weighted sum of terms that share a graph, and add their values to ``total``."""
    weighted = {name: factor * weight * value for name, value, weight in terms if weight}
    if weighted:
        sum(weighted.values()).backward()
    for name, value in weighted.items():
        total[name] = total.get(name, 0.0) + float(value.detach())


def _at_nodes(model: NePhi, patches: Patches) -> Tensor:
    """Both fields at the nodes: (2, N, d)."""
    codes = model.code.on_lattice(patches.axes).flatten(0, -2)[patches.used]
    parts = list(zip(patches.nodes.split(NODES_AT_ONCE), codes.split(NODES_AT_ONCE)))
    return torch.stack([torch.cat([field(nodes, local, model.code.shared) for nodes, local in parts])
                        for field in model.fields])


def _similarity_terms(here: Side, there: Side, patches: Patches, displacement: Tensor, options: Options) -> Terms:
    chosen = torch.nonzero(here.volume.covers(patches.centres))[:, 0]
    if len(chosen) == 0:
        return
    scale = here.volume.unit_scale
    points = here.volume.to_unit(patches.origins[chosen])[:, None] + patches.offsets * scale
    moved = points + patches.spread(displacement * scale, chosen)
    with torch.no_grad():
        *channels, mask = here.volume.at(points)
        weights = (mask > 0.5).to(mask.dtype)
        if there.view is not None:
            weights = weights * (there.view.at(moved)[0] > 0.5)
    fixed, warped = torch.stack(channels), Volume(there.volume.values[:-1], there.volume.grid).at(moved)
    compared = slice(1, None) if len(channels) > 1 else slice(None)
    yield "similarity", _compare(options, fixed[compared], warped[compared], weights), 1.0
    if options.global_ncc:
        yield "global_ncc", ncc(fixed[:1], warped[:1], weights), options.global_ncc


def _compare(options: Options, fixed: Tensor, warped: Tensor, weights: Tensor) -> Tensor:
    if options.similarity == "lncc":
        return local_ncc(fixed, warped, weights, options.flat_variance)
    similarity = similarity_named(options.similarity)
    return similarity.scale * similarity.loss(fixed, warped, weights)


def _regularity_terms(displacements: Tensor, patches: Patches, level: Level, options: Options) -> Terms:
    closed = round_trips(displacements, patches, level.coarser_error)
    yield "inverse_consistency", closed.mean_square * level.unit**2, options.round_trip
    found = consistency(displacements, closed, patches, options.fold_margin)
    yield "regularity", found.gradient, options.regularity
    yield "smoothness", found.roughness, options.smoothness
    yield "folds", found.shrinkage, options.fold_weight
