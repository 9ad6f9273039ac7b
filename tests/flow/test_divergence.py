"""The divergence against dense Jacobians, and its random estimate against its known mean and variance."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.flow import divergence
from p2d.flow.velocity import LocalField

GRIDS = [(4, 5), (3, 3), (2, 6)]
CORNERS = [False, True]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_field(with_corners: bool) -> LocalField:
    """A field in float64 whose features are standardised by numbers far from 0 and 1."""
    features = 6 if with_corners else 4
    mean = torch.randn(features, generator=seeded(1))
    std = 0.5 + torch.rand(features, generator=seeded(2))
    return LocalField((7, 5), with_corners, mean, std, seeded()).double()


def random_states(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 2, height, width, generator=seeded(3), dtype=torch.float64)


def signs(*shape: int) -> Tensor:
    return torch.randint(2, shape, generator=seeded(4)).double() * 2 - 1


def dense_jacobian(field, x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(field, x[None]).reshape(x.numel(), x.numel())


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("with_corners", CORNERS)
def test_the_exact_divergence_is_the_trace_of_the_jacobian(height, width, with_corners):
    field, x = random_field(with_corners), random_states(3, height, width)
    traces = torch.stack([dense_jacobian(field, state).trace() for state in x])
    # float64: sums of up to 40 slopes of order 10
    assert_close(divergence.exact(field, x)[0], traces, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("with_corners", CORNERS)
def test_both_ways_return_the_velocity_too(height, width, with_corners):
    field, x = random_field(with_corners), random_states(3, height, width)
    # the same formula in float64, with and without its derivative
    assert_close(divergence.exact(field, x)[1], field(x), rtol=1e-13, atol=1e-13)
    probes = signs(2, *x.shape)
    assert_close(divergence.hutchinson(field, x, probes)[1], field(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("height", "width"), GRIDS)
@pytest.mark.parametrize("with_corners", CORNERS)
def test_probes_agree_with_the_exact_divergence_within_their_standard_error(height, width, with_corners):
    field, x = random_field(with_corners), random_states(1, height, width)
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


@pytest.mark.parametrize("with_corners", CORNERS)
def test_the_exact_divergence_has_the_gradient_of_its_differences_in_the_state(with_corners):
    field, x = random_field(with_corners), random_states(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda states: divergence.exact(field, states)[0], x, atol=1e-7)


@pytest.mark.parametrize("with_corners", CORNERS)
@pytest.mark.parametrize("estimate", ["exact", "hutchinson"])
def test_the_divergence_has_the_gradient_of_its_differences_in_every_weight(with_corners, estimate):
    field, x = random_field(with_corners), random_states(2, 3, 4)

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
