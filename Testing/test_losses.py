"""The terms of the loss: what they are zero for, what they grow with and what they do not see."""

from dataclasses import replace

import pytest
import torch
from nephi.align.patches import PatchLattice
from nephi.align.regularity import consistency, prior, round_trips
from nephi.errors import InputError
from nephi.images.similarity import HISTOGRAM_BINS, SIMILARITIES, local_ncc, mind_ssc, similarity_named
from nephi.maps.field import Architecture
from nephi.maps.neural import NePhi, latent_grid

EVERY = pytest.mark.parametrize("name", list(SIMILARITIES))
SIZE, SIDE = 48, 4


def _image(shift=0):
    """A smooth random image in [0, 1], (1, SIZE, SIZE), shifted by whole pixels."""
    noise = torch.randn(1, 1, SIZE + 16, SIZE + 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(3):
        noise = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return noise[0, :, 8:-8, 8 + shift:SIZE + 8 + shift]


def _patches(channels):
    """(C, T, K) from (C, SIZE, SIZE)."""
    cut = channels.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE)
    return cut.reshape(len(channels), -1, SIDE * SIDE)


def _loss(name, fixed, warped, weights=None):
    similarity = SIMILARITIES[name]
    prepare = similarity.prepare or (lambda values: values)
    a, b = _patches(prepare(fixed)), _patches(prepare(warped))
    return float(similarity.loss(a, b, a.new_ones(a.shape[1:]) if weights is None else weights))


@EVERY
def test_a_similarity_is_least_for_equal_images_and_grows_with_misalignment(name):
    losses = [_loss(name, _image(), _image(shift)) for shift in (0, 1, 2, 4)]
    assert losses == sorted(losses)
    assert losses[1] > losses[0] + 0.01


@EVERY
def test_a_similarity_of_equal_images_is_zero(name):
    levels = HISTOGRAM_BINS - 1  # between the bins' centres an intensity is shared by two, and the histogram blurs
    image = (_image() * levels).round() / levels
    assert _loss(name, image, image) == pytest.approx(0.0, abs=1e-6)


@EVERY
@pytest.mark.parametrize("channels", [1, 3])
def test_every_similarity_takes_channels_patches_and_weights_and_gives_a_number_with_a_gradient(name, channels):
    generator = torch.Generator().manual_seed(1)
    fixed, warped = (torch.rand(channels, 5, 8, generator=generator) for _ in range(2))
    warped.requires_grad_()
    loss = SIMILARITIES[name].loss(fixed, warped, torch.ones(5, 8))
    assert loss.shape == ()
    loss.backward()
    assert torch.isfinite(warped.grad).all() and warped.grad.abs().max() > 0


@EVERY
def test_samples_outside_the_mask_do_not_matter(name):
    generator = torch.Generator().manual_seed(2)
    fixed, warped, other = (torch.rand(1, 12, 16, generator=generator) for _ in range(3))
    weights = (torch.rand(12, 16, generator=generator) > 0.4).float()
    weights[3] = 0
    changed = torch.where(weights.bool(), warped, other)
    loss = SIMILARITIES[name].loss
    assert torch.allclose(loss(fixed, warped, weights), loss(fixed, changed, weights), atol=1e-6)
    assert not torch.allclose(loss(fixed, warped, torch.ones(12, 16)), loss(fixed, changed, torch.ones(12, 16)))


@EVERY
def test_a_draw_with_no_sample_inside_the_mask_gives_a_finite_loss_and_gradient(name):
    fixed, warped = torch.rand(2, 1, 4, 8, generator=torch.Generator().manual_seed(3))
    warped.requires_grad_()
    loss = SIMILARITIES[name].loss(fixed, warped, torch.zeros(4, 8))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(warped.grad).all()


@EVERY
def test_flat_images_give_a_finite_loss_and_gradient(name):
    warped = torch.full((1, 4, 8), 0.5, requires_grad=True)
    loss = SIMILARITIES[name].loss(torch.full((1, 4, 8), 0.5), warped, torch.ones(4, 8))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(warped.grad).all()


@pytest.mark.parametrize("name", ["mind", "nmi"])
def test_mind_and_mutual_information_do_not_see_an_inverted_contrast(name):
    assert _loss(name, _image(), 1 - _image()) == pytest.approx(_loss(name, _image(), _image()), abs=1e-6)
    assert _loss(name, _image(), 1 - _image()) < _loss(name, _image(), 1 - _image(2))


@pytest.mark.parametrize("name", ["ncc", "lncc"])
def test_correlation_does_not_see_brightness_but_minds_an_inverted_contrast(name):
    assert _loss(name, _image(), _image() + 0.2) == pytest.approx(0.0, abs=1e-6)
    assert _loss(name, _image(), 1 - _image()) > _loss(name, _image(), _image(4))


def test_flat_patches_count_less_than_structure_in_local_correlation():
    generator = torch.Generator().manual_seed(5)
    a, b = torch.rand(2, 1, 3, 64, generator=generator)
    strong, faint = (float(local_ncc(a * s, b * s, torch.ones(3, 64))) for s in (1.0, 0.01))
    assert strong > 0.5 and abs(faint) < 0.05


@pytest.mark.parametrize(("shape", "channels"), [((9, 10), 4), ((7, 8, 9), 12)])
def test_mind_has_four_channels_in_two_dimensions_and_twelve_in_three_between_zero_and_one(shape, channels):
    values = torch.rand(1, *shape, generator=torch.Generator().manual_seed(6))
    described = mind_ssc(values)
    assert described.shape == (channels, *shape)
    assert described.min() >= 0 and described.max() <= 1
    assert torch.allclose(described.max(0).values, torch.ones(shape))


def test_an_unknown_similarity_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="Unknown similarity 'ssd'; choose one of ncc, lncc, mind, nmi."):
        similarity_named("ssd")


def _nodes(dim, fraction=1.0):
    """Patches of a lattice over [-1, 1]^dim and their nodes in double precision."""
    lattice = PatchLattice((-1.0,) * dim, (1.0,) * dim, 0.05, 4, 1)

    def everywhere(points):
        return torch.ones(len(points), dtype=torch.bool)

    drawn = lattice.draw(everywhere, fraction, torch.Generator().manual_seed(9), torch.device("cpu"))
    return replace(drawn, nodes=drawn.nodes.double(), axes=[axis.double() for axis in drawn.axes])


def _no_error(points):
    return torch.zeros_like(points)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_round_trip_of_linear_maps_that_are_inverse_ends_where_it_began(dim):
    nodes = _nodes(dim).nodes
    matrix = torch.eye(dim, dtype=torch.float64) + 0.05
    there, back = nodes @ matrix.T - nodes, nodes @ torch.linalg.inv(matrix).T - nodes
    closed = round_trips(torch.stack([there, back]), _nodes(dim), _no_error)
    assert float(closed.mean_square) == pytest.approx(0.0, abs=1e-9)


def test_the_round_trip_of_two_shifts_is_charged_the_square_of_their_sum():
    patches = _nodes(2)
    shift = torch.tensor([0.03, 0.0], dtype=torch.float64).expand_as(patches.nodes)
    closed = round_trips(torch.stack([shift, 2 * shift]), patches, _no_error)
    assert float(closed.mean_square) == pytest.approx(0.09**2, rel=1e-4)


def test_the_round_trip_counts_the_error_of_the_coarser_levels_and_can_make_it_good():
    patches = _nodes(2)
    still = torch.zeros(2, *patches.nodes.shape, dtype=torch.float64)
    error = torch.tensor([0.02, -0.01], dtype=torch.float64)

    def before(points):
        return error.expand_as(points)

    assert float(round_trips(still, patches, before).mean_square) == pytest.approx(float(error.pow(2).sum()), rel=1e-4)
    mended = torch.stack([still[0], still[1] - error])
    assert float(round_trips(mended, patches, before).mean_square) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("fraction", [1.0, 0.02])
def test_the_round_trip_leaves_out_nodes_that_are_carried_where_nothing_is_known(fraction):
    patches = _nodes(2, fraction)
    hop = torch.full_like(patches.nodes, 5.0)  # beyond the lattice
    hop[0] = 0.0
    assert float(round_trips(torch.stack([hop, hop]), patches, _no_error).mean_square) == 0.0


def _consistency(matrix, inverse, margin=0.1, fraction=1.0):
    """Of the maps phi(x) = matrix x and psi(y) = inverse y."""
    patches = _nodes(len(matrix), fraction)
    nodes = patches.nodes
    displacements = torch.stack([nodes @ matrix.T - nodes, nodes @ inverse.T - nodes])
    return consistency(displacements, round_trips(displacements, patches, _no_error), patches, margin)


@pytest.mark.parametrize("dim", [2, 3])
def test_maps_that_are_each_others_inverse_have_no_inconsistency(dim):
    generator = torch.Generator().manual_seed(7)
    matrix = torch.eye(dim, dtype=torch.float64) + 0.1 * torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    found = _consistency(matrix, torch.linalg.inv(matrix))
    assert float(found.gradient) == pytest.approx(0.0, abs=1e-9) and float(found.shrinkage) == 0.0
    expected = [(moves - torch.eye(dim)).pow(2).sum() for moves in (matrix, torch.linalg.inv(matrix))]
    assert float(found.roughness) == pytest.approx(float(sum(expected)) / 2)


def test_maps_that_are_not_inverse_are_charged_what_their_composition_does():
    found = _consistency(torch.diag(torch.tensor([1.2, 1.0], dtype=torch.float64)), torch.eye(2, dtype=torch.float64))
    assert float(found.gradient) == pytest.approx(0.04)


def test_patches_with_a_node_that_is_carried_where_nothing_is_known_have_no_inconsistency():
    patches = _nodes(2, 0.02)
    hop = torch.full((2, *patches.nodes.shape), 5.0, dtype=torch.float64)  # beyond the lattice
    hop[:, 0] = 0.0
    assert float(consistency(hop, round_trips(hop, patches, _no_error), patches, 0.1).gradient) == 0.0


def test_folds_and_near_folds_are_charged():
    for stretch, charge in ((1.0, 0.0), (0.05, 0.05**2), (-0.5, 0.6**2)):
        matrix = torch.diag(torch.tensor([stretch, 1.0], dtype=torch.float64))
        shrinkage = _consistency(matrix, torch.eye(2, dtype=torch.float64)).shrinkage
        assert float(shrinkage) == pytest.approx(charge / 2, abs=1e-6)  # the other map does not fold


@pytest.mark.parametrize("cells", [1, 3])
def test_slopes_are_the_differences_across_each_cell_of_a_patch(cells):
    lattice = PatchLattice((-1.0,) * 3, (1.0,) * 3, 0.1, 4, cells)
    patches = lattice.draw(lambda points: torch.ones(len(points), dtype=torch.bool), 1.0,
                           torch.Generator().manual_seed(2), torch.device("cpu"))
    x, y, z = patches.nodes.unbind(-1)
    slopes = patches.slopes(torch.stack([x - 2 * y, 3 * z], dim=-1))
    expected = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 3.0]])
    assert slopes.shape == (len(patches.origins), cells**3, 3, 2)
    assert torch.allclose(slopes, expected.expand_as(slopes), atol=1e-4)


def test_the_prior_has_a_finite_gradient_where_the_codes_are_zero_and_pulls_them_back_elsewhere():
    grid = latent_grid((-1.0, -1.0), (1.0, 1.0), 1.0)
    architecture = Architecture(2, frequencies=2, hidden=4, channels=3, shared=2)
    model = NePhi.random(architecture, grid, 0.0, torch.Generator().manual_seed(0))
    local, shared = model.code.local.coefficients, model.code.shared
    prior(model).backward()
    assert torch.isfinite(local.grad).all() and torch.isfinite(shared.grad).all()
    with torch.no_grad():
        local.fill_(0.2)
        shared.fill_(-0.2)
    model.code.zero_grad()
    prior(model).backward()
    assert (local.grad > 0).all() and (shared.grad < 0).all()
    assert float(prior(model).detach()) == pytest.approx(0.2 * 3**0.5 + 0.2 * 2**0.5, rel=1e-4)
