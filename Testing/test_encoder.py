"""The encoder: where its code lies, how it starts, and that a pair is on its own."""

import pytest
import torch
from nephi.maps.spline import Spline
from nephi.predict.encoder import Encoder, EncoderSizes, cues


def _sizes(dim=2, **changes):
    values = {"dim": dim, "size": 32, "widths": (8, 16, 16), "local_block": 2, "channels": 4, "shared": 3, **changes}
    return EncoderSizes(**values)


def _pairs(count, dim=2):
    return torch.rand(count, 2, *(32,) * dim, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dim", [2, 3])
def test_the_codes_fit_the_latent_grid_in_both_dimensions(dim):
    sizes = _sizes(dim)
    local, shared = Encoder(sizes).eval()(_pairs(2, dim))
    assert local.shape == (2, *(n + 2 for n in sizes.latent_grid.shape), 4)
    assert shared.shape == (2, 3)


def test_a_ramp_in_the_features_is_the_same_ramp_in_the_frame():
    sizes = _sizes(channels=1, shared=0)
    nodes = 32 // sizes.stride
    centres = (torch.arange(nodes) + 0.5) * 2 / nodes - 1
    ramp = torch.nn.functional.pad(centres.expand(1, 1, nodes, nodes), (2,) * 4, mode="replicate").movedim(1, -1)[0]
    points = torch.tensor([[0.3, -0.2], [-0.5, 0.6], [0.0, 0.0]])
    read = Spline(ramp).at(sizes.latent_grid.to_index(points))
    assert torch.allclose(read[:, 0], points[:, 0], atol=1e-6)


def test_the_latent_grid_covers_the_cube_of_the_images():
    corners = _sizes().latent_grid.corners()
    assert corners[0].max() < -1 and corners[-1].min() > 1


def test_codes_start_near_zero_but_are_not_zero():
    local, shared = Encoder(_sizes())(_pairs(4))
    assert 0 < float(local.detach().abs().mean()) < 0.05
    assert 0 < float(shared.detach().abs().mean()) < 0.05


@pytest.mark.parametrize("dim", [2, 3])
def test_what_the_whole_pair_tells_is_a_code_linear_in_space(dim):
    sizes = _sizes(dim, channels=dim)
    encoder = Encoder(sizes).eval()
    with torch.no_grad():
        for last in (encoder.local, encoder.linear):
            last.weight.zero_()
        wanted = torch.randn(dim + 1, dim, generator=torch.Generator().manual_seed(1))
        encoder.linear.bias.copy_(wanted.flatten())
        local, _ = encoder(_pairs(1, dim))
    points = 2 * torch.rand(20, dim, generator=torch.Generator().manual_seed(2)) - 1
    read = Spline(local[0]).at(sizes.latent_grid.to_index(points))
    assert torch.allclose(read, wanted[0] + points @ wanted[1:], atol=1e-5)


def test_deeper_encoders_have_more_weights_and_the_same_codes():
    shallow, deep = Encoder(_sizes()), Encoder(_sizes(depth=2))
    assert sum(p.numel() for p in deep.parameters()) > sum(p.numel() for p in shallow.parameters())
    assert deep(_pairs(2))[0].shape == shallow(_pairs(2))[0].shape


@pytest.mark.parametrize("dim", [2, 3])
def test_the_force_points_along_a_small_displacement(dim):
    sizes = _sizes(dim, size=64 if dim == 2 else 32)
    points = sizes.grid.points("cpu")
    voxel = sizes.grid.spacing[0]

    def blob(points):
        return torch.exp(-points.pow(2).sum(1) / 0.2).view(1, *sizes.grid.shape)

    shift = torch.zeros(dim)
    shift[0] = 0.7 * voxel  # x, the last axis of an array
    pair = torch.stack([blob(points), blob(points - shift)], dim=1)
    found = cues(pair)
    assert torch.equal(found[:, :2], 2 * pair - 1)
    edge = (points.norm(dim=1) > 0.2) & (points.norm(dim=1) < 0.5) & (points[:, 0].abs() > 0.8 * points.norm(dim=1))
    force = found[0, 2:].flatten(1)[:, edge]
    assert float(force[-1].mean()) < 0 and float(force[-1].abs().mean()) > 3 * float(force[:-1].abs().mean())


def test_images_that_agree_have_no_force():
    pair = _pairs(1)[:, :1].repeat(1, 2, 1, 1)
    assert float(cues(pair)[:, 2:].abs().max()) == 0


@pytest.mark.parametrize("changes", [{"cues": True}, {"norm": "group"}, {"cues": True, "norm": "group", "depth": 1}])
@pytest.mark.parametrize("dim", [2, 3])
def test_every_kind_of_encoder_makes_codes_of_the_same_shape(dim, changes):
    local, shared = Encoder(_sizes(dim, size=16, widths=(8, 16, 16, 16, 16), **changes))(torch.rand(2, 2, *(16,) * dim))
    nodes = _sizes(dim, size=16, widths=(8, 16)).latent_grid.shape
    assert local.shape == (2, *(n + 2 for n in nodes), 4) and shared.shape == (2, 3)


def test_with_group_norms_a_pair_never_depends_on_the_others_of_its_batch():
    encoder = Encoder(_sizes(norm="group"))
    together, alone = encoder(_pairs(3))[0][1], encoder(_pairs(3)[1:2])[0][0]
    assert torch.allclose(together, alone, atol=1e-6)


def test_at_inference_a_pair_does_not_depend_on_the_others_of_its_batch():
    encoder = Encoder(_sizes())
    encoder(_pairs(4))  # running statistics
    encoder.eval()
    together, alone = encoder(_pairs(3))[0][1], encoder(_pairs(3)[1:2])[0][0]
    assert torch.allclose(together, alone, atol=1e-6)


def test_the_local_code_sees_what_only_deeper_blocks_can_see():
    encoder = Encoder(_sizes(widths=(4, 4, 4, 4, 4))).eval()
    pair = _pairs(1).requires_grad_()
    local, _ = encoder(pair)
    local[0, 2, 2].sum().backward()  # the first voxel of the features
    assert float(pair.grad[0, :, 30:, 30:].abs().max()) > 0


@pytest.mark.parametrize("changes", [{"size": 30}, {"size": 4}, {"local_block": 4}, {"local_block": 0},
                                     {"norm": "layer"}])
def test_sizes_that_do_not_go_together_are_refused(changes):
    with pytest.raises(ValueError):
        _sizes(**changes)
