"""Patches of sample points: where they lie, what carries the field for them, and their randomness."""

import pytest
import torch
from nephi.align.patches import PatchLattice

CPU = torch.device("cpu")
LATTICES = {
    2: PatchLattice((-0.9, -0.5), (0.8, 0.7), 0.05, 4, 1),
    3: PatchLattice((-0.9, -0.5, -0.3), (0.8, 0.7, 0.6), 0.1, 3, 2),
}
BOTH = pytest.mark.parametrize("dim", [2, 3])


def _everywhere(points):
    return torch.ones(len(points), dtype=torch.bool)


def _draw(dim, wanted=_everywhere, fraction=1.0, seed=0):
    return LATTICES[dim].draw(wanted, fraction, torch.Generator().manual_seed(seed), CPU)


@BOTH
def test_patches_cover_the_box_and_reach_beyond_it_by_at_most_one_patch(dim):
    lattice, patches = LATTICES[dim], _draw(dim)
    edge = lattice.per_side * lattice.spacing
    low, high = torch.tensor(lattice.low), torch.tensor(lattice.high)
    points = patches.points.reshape(-1, dim)
    assert ((points > low - edge) & (points < high + edge)).all()
    assert (patches.nodes >= low - edge - 1e-5).all() and (patches.nodes <= high + edge + 1e-5).all()
    inside = low + torch.rand(50, dim, generator=torch.Generator().manual_seed(1)) * (high - low)
    near = torch.cdist(inside, points, compute_mode="donot_use_mm_for_euclid_dist").min(1).values
    assert (near <= lattice.spacing * dim**0.5 / 2 + 1e-5).all()


@BOTH
def test_the_points_of_a_patch_are_a_cube_around_its_centre(dim):
    lattice, patches = LATTICES[dim], _draw(dim)
    count = lattice.per_side**dim
    assert patches.points.shape == (len(patches.origins), count, dim)
    centre = patches.origins + lattice.per_side * lattice.spacing / 2
    assert torch.allclose(patches.points.mean(1), centre, atol=1e-5)
    assert float(patches.offsets[1, 0] - patches.offsets[0, 0]) == pytest.approx(lattice.spacing)


@BOTH
def test_only_patches_whose_centres_are_wanted_are_kept(dim):
    def wanted(points):
        return (points**2).sum(1) < 0.2

    patches = _draw(dim, wanted)
    centres = patches.origins + LATTICES[dim].per_side * LATTICES[dim].spacing / 2
    assert 0 < len(patches.origins) < len(_draw(dim).origins)
    assert wanted(centres).all()
    assert len(patches.nodes) < len(_draw(dim).nodes)


def test_a_fraction_keeps_about_that_share_of_the_patches():
    assert len(_draw(2, fraction=0.5).origins) == pytest.approx(len(_draw(2).origins) / 2, rel=0.4)


def test_no_patch_at_all_is_an_empty_draw():
    patches = _draw(3, lambda points: torch.zeros(len(points), dtype=torch.bool))
    assert len(patches.origins) == 0 and len(patches.nodes) == 0


@BOTH
def test_the_weights_of_the_nodes_are_a_partition_of_unity(dim):
    patches = _draw(dim)
    assert (patches.weights >= 0).all()
    assert torch.allclose(patches.weights.sum(1), torch.ones(len(patches.weights)))


@BOTH
def test_linear_functions_of_the_nodes_are_reproduced_at_the_points(dim):
    patches = _draw(dim)
    matrix = torch.randn(dim, 2, generator=torch.Generator().manual_seed(3))
    spread = patches.spread(patches.nodes @ matrix + 0.3)
    assert torch.allclose(spread, patches.points @ matrix + 0.3, atol=1e-5)


@BOTH
def test_the_used_nodes_are_those_of_the_lattice_spanned_by_the_axes(dim):
    patches = _draw(dim, lambda points: points[:, 0] > 0)
    lattice = torch.stack(torch.meshgrid(*reversed(patches.axes), indexing="ij"), dim=-1).flip(-1).reshape(-1, dim)
    assert torch.allclose(lattice[patches.used], patches.nodes)


def test_the_same_generator_draws_the_same_patches_and_the_next_draw_others():
    generator = torch.Generator().manual_seed(4)
    first, second = (LATTICES[3].draw(_everywhere, 1.0, generator, CPU) for _ in range(2))
    assert torch.equal(first.origins, _draw(3, seed=4).origins)
    assert not torch.equal(first.axes[0][:3], second.axes[0][:3])


@BOTH
@pytest.mark.parametrize("fraction", [1.0, 0.1])
def test_node_values_lie_in_the_dense_lattice_where_their_index_says(dim, fraction):
    patches = _draw(dim, fraction=fraction)
    dense = patches.dense(patches.nodes + 3)
    assert dense.shape == (dim, *(len(axis) for axis in reversed(patches.axes)))
    assert torch.equal(dense[(slice(None), *patches.index.T.flip(0))].T, patches.nodes + 3)
    assert int((dense[0] != 0).sum()) == len(patches.nodes)
    origin = torch.stack([axis[0] for axis in patches.axes])
    assert torch.allclose(origin + patches.index * patches.step, patches.nodes, atol=1e-5)


@BOTH
def test_some_patches_can_be_spread_alone(dim):
    patches = _draw(dim)
    chosen = torch.tensor([3, 1])
    assert torch.equal(patches.spread(patches.nodes, chosen), patches.spread(patches.nodes)[chosen])
