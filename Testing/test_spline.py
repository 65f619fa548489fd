"""Cubic B-splines: their reads, their derivatives, their lattice, and the map whose displacement is one."""

import pytest
import torch
from closed_form import oblique_grid, tilted_affine
from nephi.geometry import Grid, apply_affine
from nephi.maps.spline import EXTRA, Spline, SplineMap, bspline_slopes, bspline_weights

NODES = {2: (5, 4), 3: (4, 3, 2)}  # along (i, j, k)


def _spline(dim, channels=2, requires_grad=True):
    generator = torch.Generator().manual_seed(dim)
    return Spline.random(NODES[dim][::-1], channels, 1.0, generator).double().requires_grad_(requires_grad)


def _index(dim, count, seed=0, edge=0.01):
    """Between the outermost nodes and off the cell faces, where the third derivative jumps."""
    generator = torch.Generator().manual_seed(seed)
    cell = torch.stack([torch.randint(n - 1, (count,), generator=generator) for n in NODES[dim]], dim=-1)
    return cell + edge + (1 - 2 * edge) * torch.rand(count, dim, generator=generator, dtype=torch.float64)


def _points_of(axes):
    return torch.stack(torch.meshgrid(*reversed(axes), indexing="ij"), dim=-1).flip(-1).reshape(-1, len(axes))


def test_the_four_weights_of_a_spline_sum_to_one_and_their_slopes_to_zero():
    within = torch.linspace(0, 1, 11, dtype=torch.float64)
    weights, slopes = bspline_weights(within), bspline_slopes(within)
    assert torch.allclose(weights.sum(-1), torch.ones(11, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(slopes.sum(-1), torch.zeros(11, dtype=torch.float64), atol=1e-12)
    assert (weights >= 0).all()


@pytest.mark.parametrize("dim", [2, 3])
def test_the_lattice_reads_what_the_points_read(dim):
    spline = _spline(dim)
    axes = [torch.linspace(0, n - 1, 4 + axis, dtype=torch.float64) for axis, n in enumerate(NODES[dim])]
    lattice = spline.on_lattice(axes)
    assert lattice.shape == (*(len(axis) for axis in reversed(axes)), 2)
    values, slopes = spline.with_slopes(_points_of(axes))
    assert torch.allclose(lattice.flatten(0, -2), values, atol=1e-12)
    for axis in range(dim):
        assert torch.allclose(spline.on_lattice(axes, slope=axis).flatten(0, -2), slopes[:, axis], atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_constant_coefficients_are_read_as_that_constant(dim):
    spline = _spline(dim, requires_grad=False)
    spline.coefficients.fill_(1.7)
    values, slopes = spline.with_slopes(_index(dim, 20))
    assert torch.allclose(values, torch.full_like(values, 1.7), atol=1e-12)
    assert torch.allclose(slopes, torch.zeros_like(slopes), atol=1e-12)


def test_coefficients_that_rise_linearly_are_read_as_a_linear_function_of_the_right_axis():
    spline = _spline(3, requires_grad=False)
    shape = [n + EXTRA for n in spline.shape]
    numbers = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in shape], indexing="ij"), -1)
    spline.coefficients.copy_(numbers[..., [2, 0]])  # the first channel rises along x, the second along z
    index = _index(3, 20)
    values, slopes = spline.with_slopes(index)
    assert torch.allclose(values, index[:, [0, 2]] + 1, atol=1e-12)  # coefficient 1 lies on node 0
    expected = torch.zeros(3, 2, dtype=torch.float64)
    expected[0, 0] = expected[2, 1] = 1
    assert torch.allclose(slopes, expected.expand(20, 3, 2), atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_derivative_of_a_read_agrees_with_finite_differences(dim):
    spline = _spline(dim, requires_grad=False)
    index, step = _index(dim, 15), 1e-5
    _, slopes = spline.with_slopes(index)
    for axis in range(dim):
        shift = step * torch.eye(dim, dtype=torch.float64)[axis]
        difference = (spline.at(index + shift) - spline.at(index - shift)) / (2 * step)
        assert torch.allclose(slopes[:, axis], difference, atol=1e-7)


@pytest.mark.parametrize("dim", [2, 3])
def test_reads_and_their_derivatives_are_continuous_across_the_cell_faces(dim):
    spline = _spline(dim, requires_grad=False)
    faces = torch.eye(dim, dtype=torch.float64)
    for before, after in zip(spline.with_slopes(faces - 1e-9), spline.with_slopes(faces + 1e-9)):
        assert torch.allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_reads_can_be_differentiated_twice_in_the_points_and_the_coefficients(dim):
    spline = _spline(dim, channels=1)
    index = _index(dim, 2, seed=4).requires_grad_()
    coefficients = spline.coefficients.detach().clone().requires_grad_()

    def read(index, coefficients):
        return torch.func.functional_call(_Both(spline), {"spline.coefficients": coefficients}, (index,))

    assert torch.autograd.gradcheck(read, (index, coefficients))
    assert torch.autograd.gradgradcheck(read, (index, coefficients))


def test_the_lattice_can_be_differentiated_in_the_coefficients():
    spline = _spline(2, channels=1)
    axes = [torch.linspace(0.3, 3.5, 3, dtype=torch.float64), torch.linspace(0.1, 2.6, 3, dtype=torch.float64)]
    coefficients = spline.coefficients.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: torch.func.functional_call(
        _Lattice(spline), {"spline.coefficients": given}, (axes,)), (coefficients,))


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 5, 2), (7, 3)])
def test_the_natural_spline_goes_through_its_values_and_is_exact_for_lines(shape):
    axes = [torch.arange(n, dtype=torch.float64) for n in reversed(shape)]
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(*shape, 2, generator=generator, dtype=torch.float64)
    assert torch.allclose(Spline.through(values).on_lattice(axes), values, atol=1e-12)
    rise = torch.randn(len(shape), 1, generator=generator, dtype=torch.float64) * torch.tensor(
        [[float(n > 1)] for n in reversed(shape)], dtype=torch.float64)
    line = Spline.through((_points_of(axes) @ rise).view(*shape, 1))
    between = [0.37 * axis for axis in axes]
    assert torch.allclose(line.on_lattice(between).flatten(0, -2), _points_of(between) @ rise, atol=1e-12)


def test_a_random_spline_is_the_same_for_the_same_generator():
    draws = [Spline.random((3, 4), 2, 0.01, torch.Generator().manual_seed(seed)).coefficients for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def _map(lattice):
    values = 0.4 * torch.randn(*lattice.shape, lattice.dim, generator=torch.Generator().manual_seed(2))
    return SplineMap.through(values.double(), lattice)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_jacobian_of_a_spline_map_agrees_with_finite_differences_and_is_the_identity_outside(dim):
    lattice = oblique_grid(dim)
    made, step = _map(lattice), 1e-4
    index = torch.rand(30, dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    points = lattice.to_world(index * (torch.tensor(lattice.size) - 1) * 0.98)
    jacobian = made.jacobian(points)
    for axis in range(dim):
        shift = step * torch.eye(dim, dtype=torch.float64)[axis]
        difference = (made.map(points + shift) - made.map(points - shift)) / (2 * step)
        assert torch.allclose(jacobian[:, :, axis], difference, atol=1e-5)
    corner = lattice.to_world(torch.tensor(lattice.size, dtype=torch.float64)[None] - 1)
    beyond = corner + 3 * (corner - torch.from_numpy(lattice.center))
    assert torch.allclose(made.displacement(beyond), made.displacement(corner), atol=1e-6)
    assert torch.allclose(made.jacobian(beyond)[0], torch.eye(dim, dtype=torch.float64))


def test_the_slope_at_the_outermost_nodes_outlasts_the_rounding_of_their_place():
    spline = _spline(2, requires_grad=False)
    middle = torch.tensor([1.3], dtype=torch.float64)
    last = NODES[2][0] - 1
    exact, beyond = (spline.on_lattice([torch.tensor([last + off], dtype=torch.float64), middle], slope=0)
                     for off in (0.0, 1e-9))
    assert torch.allclose(beyond, exact) and float(exact.abs().min()) > 0


@pytest.mark.parametrize("same_axes", [True, False])
def test_a_spline_map_on_a_grid_is_the_map_at_the_grids_points(same_axes):
    lattice = oblique_grid(3)
    grid = lattice.with_spacing(1.3) if same_axes else Grid((5, 6, 7), (2.0,) * 3, tuple(lattice.center),
                                                            tuple(torch.eye(3).flatten().tolist()))
    made, points = _map(lattice), grid.points("cpu").double()
    assert torch.allclose(made.displacement_on(grid).view(-1, 3).double(), made.displacement(points), atol=1e-4)
    matrix = tilted_affine(3)
    mapped = apply_affine(matrix, made.map(points)).float()
    assert torch.allclose(made.mapped_on(grid, matrix).view(-1, 3), mapped, atol=1e-4)
    steps, after = (torch.from_numpy(part[:-1, :-1].copy()) for part in (grid.index_to_world, matrix))
    exact = after @ made.jacobian(points) @ steps
    assert torch.allclose(torch.cat(list(made.gradients_on(grid, matrix))).view(-1, 3, 3).double(), exact, atol=1e-4)
    differences = torch.gradient(mapped.view(*grid.shape, 3), dim=(2, 1, 0))
    assert torch.allclose(torch.cat(list(made.gradients_on(grid, matrix, differences=True))),
                          torch.stack(differences, dim=-1), atol=1e-4)


class _Both(torch.nn.Module):
    """A spline's value and derivative."""

    def __init__(self, spline):
        super().__init__()
        self.spline = spline

    def forward(self, index):
        return self.spline.with_slopes(index)


class _Lattice(_Both):
    def forward(self, axes):
        return self.spline.on_lattice(axes)
