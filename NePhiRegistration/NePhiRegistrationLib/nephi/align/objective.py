"""What an iteration minimises: the loss of a model on a level of a pair, and its gradient.

Similarity and regularity read both fields at the nodes of one lattice of patches. The fields are
differentiated once, after all that reads the nodes has left its gradient there, so that few small graphs are alive at
a time. What is done for each way alone may run side by side; the sums do not depend on it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ..geometry import POINTS_IN_CACHE
from ..images.similarity import local_ncc, ncc, similarity_named
from ..maps.displacement_map import DisplacementMap
from ..maps.field import Field
from ..maps.neural import NePhi
from ..options import Options
from .both_ways import Both, in_turn
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


def accumulate(model: NePhi, level: Level, options: Options, share: float, generator: torch.Generator,
               both: Both = in_turn) -> dict[str, float]:
    """Add the loss's gradient at freshly drawn points to that of the model's parameters; the weighted terms.

    Both ways, forward and back, are averaged.

    Args:
        share: of the points that the options ask for.
        both: how the two are run.
    """
    total: Counter[str] = Counter()
    patches = level.lattice.draw(level.wanted, share * level.fraction, generator, model.forward.device)
    if len(patches.origins):
        codes = _Codes(model.code.on_lattice(patches.axes).flatten(0, -2)[patches.used], model.code.shared)
        copies = codes.copy(), codes.copy()
        displacements = both(lambda way: _at_nodes(model.fields[way], patches.nodes, copies[way]))
        leaves = [displacement.detach().requires_grad_() for displacement in displacements]
        for terms in both(lambda way: _descend(
                _similarity_terms(*level.ways[way], patches, leaves[way], options), 0.5)):
            total.update(terms)
        total.update(_descend(_regularity_terms(torch.stack(leaves), patches, level, options), 1.0))
        if leaves[0].grad is not None and leaves[1].grad is not None:
            # Not backward(leaf.grad): given a gradient, torch imports a library of symbols first, for over a second.
            both(lambda way: (displacements[way] * leaves[way].grad).sum().backward())
            codes.descend(copies)
    if level.landmarks is not None:
        for number, there in enumerate((model.forward, model.inverse)):
            start, end = level.landmarks[number], level.landmarks[1 - number]
            distance = (there.map(start) - end).pow(2).sum(1).mean() * level.unit**2
            total.update(_descend([("landmarks", distance, options.landmark_pull)], 0.5))
    total.update(_descend([("prior", prior(model), options.prior)], 1.0))
    return dict(total)


@torch.no_grad()
def misfit(level: Level, options: Options, generator: torch.Generator) -> float:
    """The similarity terms of a level's images as they lie, both directions averaged; infinite without overlap."""
    patches = level.lattice.draw(level.wanted, level.fraction, generator, level.fixed.volume.values.device)
    still = torch.zeros_like(patches.nodes)
    found = [list(_similarity_terms(here, there, patches, still, options)) for here, there in level.ways]
    if not all(found):
        return math.inf
    return math.fsum(weight * float(value) for terms in found for _, value, weight in terms) / len(found)


def _descend(terms: Terms, factor: float) -> dict[str, float]:
    """Differentiate the weighted sum of terms that share a graph; their values."""
    weighted = {name: factor * weight * value for name, value, weight in terms if weight}
    if weighted:
        sum(weighted.values()).backward()
    return {name: float(value.detach()) for name, value in weighted.items()}


@dataclass(frozen=True)
class _Codes:
    """Local codes at nodes, (N, C), and the global one, (G); each direction reads a copy of its own."""

    local: Tensor
    shared: Tensor

    def copy(self) -> _Codes:
        """The same numbers, to gather a gradient."""
        return _Codes(*(part.detach().requires_grad_() for part in (self.local, self.shared)))

    def descend(self, copies: Sequence[_Codes]) -> None:
        """Pass on the gradients that copies have gathered."""
        ends = [(part, [getattr(each, name).grad for each in copies])
                for name, part in (("local", self.local), ("shared", self.shared)) if part.requires_grad]
        sum((part * (first + second)).sum() for part, (first, second) in ends).backward()


def _at_nodes(field: Field, nodes: Tensor, codes: _Codes) -> Tensor:
    """A field at the nodes: (N, d)."""
    parts = zip(nodes.split(NODES_AT_ONCE), codes.local.split(NODES_AT_ONCE))
    return torch.cat([field(points, local, codes.shared) for points, local in parts])


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
