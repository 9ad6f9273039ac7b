"""The divergence against dense Jacobians, its random estimate against its known mean and variance, and its sign."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.fields import Grid, Mask
from p2d.flow import divergence
from p2d.flow.velocity import PERIODIC, LocalField, rings
from p2d.training.workers import Workers

GRIDS = [(4, 5), (3, 3), (3, 6)]  # sides above the radius: no cell is its own neighbour
RADII = [1.0, 1.5, 2.0]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_field(radius: float, activation: str = "silu", species: int = 2, grid: Grid = PERIODIC) -> LocalField:
    """A field in float64 whose features are standardised by numbers far from 0 and 1."""
    features = species * (1 + len(rings(radius)))
    mean = torch.randn(features, generator=seeded(1))
    std = 0.5 + torch.rand(features, generator=seeded(2))
    return LocalField((7, 5), radius, activation, mean, std, seeded(), species, grid).double()


def random_states(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 2, height, width, generator=seeded(3), dtype=torch.float64)


def signs(*shape: int) -> Tensor:
    return torch.randint(2, shape, generator=seeded(4)).double() * 2 - 1


def dense_jacobian(field, x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(field, x[None]).reshape(x.numel(), x.numel())


def traces(field, x: Tensor) -> Tensor:
    return torch.stack([dense_jacobian(field, state).trace() for state in x])


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("radius", RADII)
def test_the_exact_divergence_is_the_trace_of_the_jacobian(height, width, radius):
    field, x = random_field(radius), random_states(3, height, width)
    # float64: sums of up to 40 slopes of order 10
    assert_close(divergence.exact(field, x)[0], traces(field, x), rtol=1e-12, atol=1e-12)


def test_the_exact_divergence_holds_with_a_ring_of_eight():
    field, x = random_field(5**0.5), random_states(3, 4, 5)
    assert_close(divergence.exact(field, x)[0], traces(field, x), rtol=1e-12, atol=1e-12)  # float64, as above


@pytest.mark.parametrize("radius", [1.0, 1.5])
def test_the_exact_divergence_holds_on_two_rows_where_both_neighbours_are_one_cell(radius):
    field, x = random_field(radius), random_states(3, 2, 6)
    assert_close(divergence.exact(field, x)[0], traces(field, x), rtol=1e-12, atol=1e-12)  # float64, as above


GROUNDS = {
    "periodic": Grid((4, 5)),
    "narrow": Grid((2, 3)),
    "mirror": Grid((4, 3), edges=("mirror", "mirror")),
    "open": Grid((3, 4), edges=("periodic", "open")),
    "mask": Grid((4, 4), edges=("mirror", "periodic"), mask=Mask.of(np.arange(16).reshape(4, 4) % 5 != 2)),
    "line": Grid((1, 6)),
    "mirror line": Grid((6, 1), edges=("mirror", "periodic")),
}


@pytest.mark.parametrize("grid", GROUNDS.values(), ids=GROUNDS)
@pytest.mark.parametrize("radius", [1.0, 2.0])
@pytest.mark.parametrize("species", [1, 2, 3])
def test_the_exact_divergence_holds_at_walls_and_of_any_number_of_species(grid, radius, species):
    field = random_field(radius, species=species, grid=grid)
    x = torch.randn(2, species, *grid.shape, generator=seeded(3), dtype=torch.float64)
    exact, v = divergence.exact(field, x)
    assert_close(exact, traces(field, x), rtol=1e-12, atol=1e-12)  # float64, as above
    assert_close(v, field(x), rtol=1e-13, atol=1e-13)
    cells = species * int(grid.inside(0).sum())
    of_basis = (divergence.of_basis(field, x) * field.last).sum() * cells
    assert_close(of_basis, exact.sum(), rtol=1e-11, atol=1e-11)  # float64: of each basis function, added up


@pytest.mark.parametrize("activation", ["tanh", "softplus", "relu", "leaky_relu"])
def test_the_exact_divergence_holds_for_every_activation(activation):
    field, x = random_field(1.5, activation), random_states(3, 4, 5)
    assert_close(divergence.exact(field, x)[0], traces(field, x), rtol=1e-12, atol=1e-12)  # float64, as above


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("radius", RADII)
def test_the_probes_see_the_jacobian(height, width, radius):
    field, x = random_field(radius), random_states(2, height, width)
    probes = signs(3, *x.shape)
    jacobians = torch.stack([dense_jacobian(field, state) for state in x])
    e = probes.flatten(2)
    # float64: sums of up to 1,600 entries of order 10
    expected = torch.einsum("nbi,bij,nbj->b", e, jacobians, e) / 3
    assert_close(divergence.hutchinson(field, x, probes)[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("radius", RADII)
def test_both_ways_return_the_velocity_too(height, width, radius):
    field, x = random_field(radius), random_states(3, height, width)
    # the same formula in float64, with and without its derivative
    assert_close(divergence.exact(field, x)[1], field(x), rtol=1e-13, atol=1e-13)
    probes = signs(2, *x.shape)
    assert_close(divergence.hutchinson(field, x, probes)[1], field(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("radius", RADII)
def test_probes_agree_with_the_exact_divergence_within_their_standard_error(height, width, radius):
    field, x = random_field(radius), random_states(1, height, width)
    draws = 3000
    estimates, _ = divergence.hutchinson(field, x.repeat(draws, 1, 1, 1), signs(2, draws, *x.shape[1:]))
    error = (estimates.mean() - divergence.exact(field, x)[0]) / (estimates.std() / draws**0.5)
    assert error.abs() < 4  # chance: 1 in 16,000
    assert estimates.std() > 0.1  # the error is that of real probes


@pytest.mark.parametrize("probes", [1, 3])
def test_the_variance_of_the_probes_is_that_of_the_entries_off_the_diagonal(probes):
    x = random_states(1, 3, 4)
    matrix = torch.randn(24, 24, generator=seeded(5), dtype=torch.float64)
    draws = 20_000

    def linear(states: Tensor) -> Tensor:
        return (states.flatten(1) @ matrix.T).view_as(states)

    estimates, _ = divergence.hutchinson(linear, x.repeat(draws, 1, 1, 1), signs(probes, draws, *x.shape[1:]))
    # Var[e' A e] = 2 sum of squares off the diagonal of the symmetric part of A, and a share of it for each probe
    symmetric = (matrix + matrix.T) / 2
    variance = 2 * (symmetric.square().sum() - symmetric.diagonal().square().sum()) / probes
    # a variance of nearly normal numbers has the relative standard error (2 / draws)^(1/2) = 1 %: five of these
    assert_close(estimates.var(), variance, rtol=0.05, atol=0)
    assert (estimates.mean() - matrix.trace()).abs() < 4 * (variance / draws).sqrt()


@pytest.mark.parametrize("seed", range(3))
def test_one_probe_is_exact_where_cells_do_not_see_each_other(seed):
    x = random_states(2, 4, 5)
    probe = torch.randint(2, (1, *x.shape), generator=seeded(seed)).double() * 2 - 1
    estimate, _ = divergence.hutchinson(torch.sin, x, probe)
    # signs have the square 1; float64 sums of 40 numbers below 1
    assert_close(estimate, torch.cos(x).sum(dim=(1, 2, 3)), rtol=0, atol=1e-13)


@pytest.mark.parametrize("radius", RADII)
def test_the_exact_divergence_has_the_gradient_of_its_differences_in_the_state(radius):
    field, x = random_field(radius), random_states(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda states: divergence.exact(field, states)[0], x, atol=1e-7)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("estimate", ["exact", "hutchinson"])
def test_the_divergence_has_the_gradient_of_its_differences_in_every_weight(radius, estimate):
    field, x = random_field(radius), random_states(2, 3, 4)

    def mean_square() -> Tensor:
        if estimate == "exact":
            return divergence.exact(field, x)[0].square().mean()
        return divergence.hutchinson(field, x, signs(2, *x.shape))[0].square().mean()

    slopes = torch.autograd.grad(mean_square(), list(field.parameters()))
    for weight, slope in zip(field.parameters(), slopes, strict=True):
        direction = torch.randn(weight.shape, generator=seeded(6), dtype=torch.float64)
        ends = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                weight += step * direction
            ends.append(mean_square().item())
        with torch.no_grad():
            weight += 1e-5 * direction
        # central differences of 1e-5: 1e-10 of the third derivative, and rounding 1e-16 / 1e-5 of values up to 1,000
        difference = torch.tensor((ends[0] - ends[1]) / 2e-5, dtype=torch.float64)
        assert_close((slope * direction).sum(), difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("sign", [1, -1])
def test_of_v_and_its_negative_the_one_that_damps_is_taken(radius, sign):
    field, x = random_field(radius), random_states(4, 4, 5)
    with torch.no_grad():
        field.last.mul_(sign)
    before = field(x)
    mean = divergence.exact(field, x)[0].sum() / x.numel()
    assert abs(mean) > 0.01
    told, _ = divergence.choose_direction(field, x, Workers())
    assert_close(field(x), -mean.sign() * before, rtol=0, atol=0)
    # float64: states one at a time, or all at once; hidden units of slopes up to 10 that partly cancel
    assert_close(told, -abs(mean.item()), rtol=1e-11, atol=0)
    assert divergence.choose_direction(field, x, Workers())[0] == told
    assert_close(field(x), -mean.sign() * before, rtol=0, atol=0)


def test_a_direction_is_as_sure_as_its_divergence_is_beyond_what_is_left_open():
    field, x = random_field(1.0), random_states(4, 4, 5)
    mean, z = divergence.choose_direction(field, x, Workers())
    assert z == 0  # nothing is known of the error
    left = torch.randn(field.last.numel(), 7, generator=seeded(5), dtype=torch.float64)
    means = []
    for change in left.mT:
        moved = random_field(1.0)
        with torch.no_grad():
            moved.last.copy_(field.last + change.view_as(field.last))
        means.append(divergence.exact(moved, x)[0].sum().item() / x.numel())
    error = math.hypot(*(each - mean for each in means))  # linear in the last layer
    assert_close(divergence.choose_direction(field, x, Workers(), left)[1], abs(mean) / error, rtol=1e-9, atol=0)


def saturating_field() -> LocalField:
    """dv/dt = 0, du/dt = log(1 + e^u) - u / 2: grows where u > 0 and damps where u < 0."""
    field = LocalField((1,), 1.0, "softplus", generator=seeded()).double()
    with torch.no_grad():
        field.weights[0].copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        field.biases[0].zero_()
        field.last.copy_(torch.tensor([[0.0, -0.5, 0.0, 0.0, 0.0, 1.0], [0.0] * 6]))
    return field


@dataclass(frozen=True)
class Beside(Workers):
    """A worker beside others whose sums are known."""

    others: tuple[Tensor, ...] = ()

    def total(self, sums: Tensor) -> Tensor:
        return sums + next(each for each in self.others if each.shape == sums.shape)


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [0, 1], [2, 3], [1], []])
@torch.no_grad()
def test_the_direction_is_that_of_all_workers_states(chosen):
    # two states that grow and two that damp, by less: a worker that holds those that damp alone is to turn the field
    x = torch.tensor([3.0, 2.0, -1.0, -0.5], dtype=torch.float64).view(4, 1, 1, 1).expand(4, 2, 4, 5)
    mine = torch.isin(torch.arange(4), torch.tensor(chosen, dtype=torch.int64))
    field, fresh = saturating_field(), saturating_field()
    theirs = sum(divergence.of_basis(field, state) for state in x[~mine].split(1)) if len(x[~mine]) else 0 * field.last
    told, _ = divergence.choose_direction(field, x[mine], Beside(others=(theirs, x.new_tensor(float((~mine).sum())))))
    # the slope of log(1 + e^u) is 1 / (1 + e^-u), and dv/dt has none; float64 sums of 160 numbers below 1
    expected = sum(1 / (1 + math.exp(-u)) - 0.5 for u in (3, 2, -1, -0.5)) / 8
    assert_close(told, -expected, rtol=1e-13, atol=0)
    assert_close(field.last, -fresh.last, rtol=0, atol=0)


def test_a_field_in_float32_is_turned_as_that_in_float64_is():
    x = random_states(4, 4, 5)
    exact, rounded = random_field(1.0), random_field(1.0).float()
    told = [divergence.choose_direction(field, x.float(), Workers())[0] for field in (exact, rounded)]
    assert_close(told[1], told[0], rtol=1e-5, atol=0)  # float32 sums of 40 slopes of order 1
    assert_close(rounded.last, exact.last.float(), rtol=0, atol=0)
