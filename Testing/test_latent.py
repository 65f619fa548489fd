"""The latent code as a cubic B-spline: its reads, their derivatives and its lattice."""

import pytest
import torch
from nephi.maps.spline import MARGIN, LatentBox, LatentCode, cubic_bspline

BOXES = {2: LatentBox((-0.6, -0.4), 0.3, (4, 3)), 3: LatentBox((-0.6, -0.4, -0.2), 0.3, (3, 2, 1))}


def _code(dim, channels=2, requires_grad=True):
    box = BOXES[dim]
    code = LatentCode.random(box, channels, 3, 1.0, torch.Generator().manual_seed(dim)).double()
    return code.requires_grad_(requires_grad)


def _points(dim, count, seed=0, edge=0.01):
    """Inside the box and off the cell faces, where the third derivative jumps."""
    box = BOXES[dim]
    generator = torch.Generator().manual_seed(seed)
    cell = torch.stack([torch.randint(n, (count,), generator=generator) for n in box.cells], dim=-1)
    within = edge + (1 - 2 * edge) * torch.rand(count, dim, generator=generator, dtype=torch.float64)
    return torch.tensor(box.low, dtype=torch.float64) + box.cell * (cell + within)


def test_a_box_of_whole_cells_covers_what_it_should_and_is_centred_on_it():
    box = LatentBox.covering((-1.0, 0.0, 2.0), (1.0, 0.5, 2.9), 0.3)
    assert box.cells == (7, 2, 3)
    assert all(a <= b + 1e-9 for a, b in zip(box.low, (-1.0, 0.0, 2.0)))
    assert all(a >= b - 1e-9 for a, b in zip(box.high, (1.0, 0.5, 2.9)))
    assert box.low[0] + box.high[0] == pytest.approx(0.0)
    assert box.shape == (3 + MARGIN, 2 + MARGIN, 7 + MARGIN)


def test_a_code_that_does_not_fit_its_box_is_refused():
    with pytest.raises(ValueError, match="does not fit the box's nodes"):
        LatentCode(BOXES[2], torch.zeros(4, 4, 2), torch.zeros(1))


def test_the_four_weights_of_a_spline_sum_to_one_and_their_slopes_to_zero():
    weights, slopes = cubic_bspline(torch.linspace(0, 1, 11, dtype=torch.float64))
    assert torch.allclose(weights.sum(-1), torch.ones(11, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(slopes.sum(-1), torch.zeros(11, dtype=torch.float64), atol=1e-12)
    assert (weights >= 0).all()


@pytest.mark.parametrize("dim", [2, 3])
def test_the_lattice_reads_what_the_points_read(dim):
    code = _code(dim)
    box = code.box
    axes = [torch.linspace(low, high, 4 + axis, dtype=torch.float64)
            for axis, (low, high) in enumerate(zip(box.low, box.high))]
    lattice = code.on_lattice(axes)
    assert lattice.shape == (*(len(axis) for axis in reversed(axes)), 2)
    points = torch.stack(torch.meshgrid(*reversed(axes), indexing="ij"), dim=-1).flip(-1).reshape(-1, dim)
    assert torch.allclose(lattice.flatten(0, -2), code.at(points), atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_constant_coefficients_are_read_as_that_constant(dim):
    code = _code(dim, requires_grad=False)
    code.local.fill_(1.7)
    values, slopes = code.at_with_jacobian(_points(dim, 20))
    assert torch.allclose(values, torch.full_like(values, 1.7), atol=1e-12)
    assert torch.allclose(slopes, torch.zeros_like(slopes), atol=1e-12)


def test_coefficients_that_rise_linearly_are_read_as_a_linear_function_of_the_right_axis():
    code = _code(3, requires_grad=False)
    box = code.box
    nodes = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in box.shape], indexing="ij"), -1)
    code.local.copy_(nodes[..., [2, 0]])  # the first channel rises along x, the second along z
    points = _points(3, 20)
    values, slopes = code.at_with_jacobian(points)
    node = (points - torch.tensor(box.low, dtype=torch.float64)) / box.cell + 1  # node 1 lies on the box's corner
    assert torch.allclose(values, node[:, [0, 2]], atol=1e-12)
    expected = torch.zeros(3, 2, dtype=torch.float64)
    expected[0, 0] = expected[2, 1] = 1 / box.cell
    assert torch.allclose(slopes, expected.expand(20, 3, 2), atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_derivative_of_a_read_agrees_with_finite_differences(dim):
    code = _code(dim, requires_grad=False)
    points, step = _points(dim, 15), 1e-5
    _, slopes = code.at_with_jacobian(points)
    for axis in range(dim):
        shift = step * torch.eye(dim, dtype=torch.float64)[axis]
        difference = (code.at(points + shift) - code.at(points - shift)) / (2 * step)
        assert torch.allclose(slopes[:, axis], difference, atol=1e-7)


@pytest.mark.parametrize("dim", [2, 3])
def test_reads_and_their_derivatives_are_continuous_across_the_cell_faces(dim):
    code = _code(dim, requires_grad=False)
    faces = torch.tensor(code.box.low, dtype=torch.float64) + code.box.cell * torch.eye(dim, dtype=torch.float64)
    for before, after in zip(code.at_with_jacobian(faces - 1e-9), code.at_with_jacobian(faces + 1e-9)):
        assert torch.allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_reads_can_be_differentiated_twice_in_the_points_and_the_coefficients(dim):
    code = _code(dim, channels=1)
    points = _points(dim, 2, seed=4).requires_grad_()
    local = code.local.detach().clone().requires_grad_()

    def read(points, local):
        return torch.func.functional_call(_Both(code), {"code.local": local}, (points,))

    assert torch.autograd.gradcheck(read, (points, local))
    assert torch.autograd.gradgradcheck(read, (points, local))


def test_the_lattice_can_be_differentiated_in_the_coefficients():
    code = _code(2, channels=1)
    axes = [torch.linspace(-0.5, 0.5, 3, dtype=torch.float64), torch.linspace(-0.3, 0.4, 3, dtype=torch.float64)]
    local = code.local.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda local: torch.func.functional_call(_Lattice(code), {"code.local": local}, (axes,)), (local,))


def test_a_random_code_is_the_same_for_the_same_generator():
    draws = [LatentCode.random(BOXES[3], 4, 2, 0.01, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0].local, draws[1].local) and torch.equal(draws[0].shared, draws[1].shared)
    assert not torch.equal(draws[0].local, draws[2].local)


class _Both(torch.nn.Module):
    """A code's value and derivative."""

    def __init__(self, code):
        super().__init__()
        self.code = code

    def forward(self, points):
        return self.code.at_with_jacobian(points)


class _Lattice(_Both):
    def forward(self, axes):
        return self.code.on_lattice(axes)
