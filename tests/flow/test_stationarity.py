"""The stationarity objective on ensembles whose flows are known, and its observables against automatic derivatives."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.dynamics.gray_scott import laplacian
from p2d.flow import divergence
from p2d.flow.stationarity import HELD_OUT_OBSERVABLES, Observables, Stationarity, z_scores
from p2d.flow.velocity import LocalField, feature_statistics
from p2d.training.data import MemoryData
from p2d.workers import Workers

GRIDS = [(8, 8), (6, 11), (3, 4)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def white_states(count: int, height: int, width: int, seed: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 2, height, width, generator=seeded(seed), dtype=dtype)


def smooth_states(count: int, height: int, width: int) -> Tensor:
    x = white_states(count, height, width)
    return x + 0.2 * laplacian(x)


def rotation(x: Tensor) -> Tensor:
    """v = (x_v, -x_u) at every cell: keeps an ensemble whose species are independent and alike."""
    return torch.stack([x[:, 1], -x[:, 0]], dim=1)


def exact_observables(count: int = 7) -> Observables:
    """Observables in float64, standardised by numbers far from 0 and 1."""
    mean = torch.randn(4, generator=seeded(1), dtype=torch.float64)
    std = 0.5 + torch.rand(4, generator=seeded(2), dtype=torch.float64)
    observables = Observables(count, 5, mean, std)
    observables.directions = observables.directions.double()
    observables.phases = observables.phases.double()
    return observables


def values(observables: Observables, x: Tensor) -> Tensor:
    """g_j(x), [B, J], written out."""
    u, v = x[:, 0], x[:, 1]
    z = torch.stack([u, v, laplacian(u), laplacian(v)], dim=-1)
    z = (z - observables.mean) / observables.std
    return torch.cos(z @ observables.directions.T + observables.phases.T[0]).mean(dim=(1, 2))


def standardising_observables(x: Tensor, count: int = 40, seed: int = 0) -> Observables:
    return Observables(count, seed, *feature_statistics(x))


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_a_rate_is_the_derivative_of_the_observable_along_the_velocity(height, width):
    observables = exact_observables()
    x = white_states(3, height, width, dtype=torch.float64)
    v = white_states(3, height, width, seed=4, dtype=torch.float64)
    _, slopes = torch.func.jvp(lambda states: values(observables, states), (x,), (v,))
    # float64 means of numbers of order 10
    assert_close(observables.rates(x, v), slopes, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_rates_are_linear_in_the_velocity(height, width):
    observables = exact_observables()
    x, v, w = (white_states(3, height, width, seed=s, dtype=torch.float64) for s in (3, 4, 5))
    summed = 2 * observables.rates(x, v) - 3 * observables.rates(x, w)
    assert_close(observables.rates(x, 2 * v - 3 * w), summed, rtol=0, atol=1e-13)  # float64


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_rates_of_terms_add_up_to_the_rates_of_their_field(height, width):
    observables = exact_observables()
    field = LocalField((6, 3), generator=seeded()).double()
    x = white_states(3, height, width, dtype=torch.float64)
    basis = field.basis(field.standardised(x)).unflatten(-1, (height, width))
    rates = observables.rows(x, basis) @ field.last.flatten()
    # float64 means of numbers of order 100, in another order
    assert_close(rates, observables.rates(x, field(x)), rtol=0, atol=1e-11)


@pytest.mark.parametrize("states", [white_states, smooth_states])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 11)])
def test_a_flow_that_keeps_the_ensemble_has_no_mean_rates(states, height, width):
    x = states(400, height, width)
    z = z_scores(standardising_observables(x).rates(x, rotation(x)).double())
    # 40 correlated standard normal numbers
    assert 0.5 < z.square().mean().sqrt() < 1.5
    assert z.abs().max() < 4


@pytest.mark.parametrize("states", [white_states, smooth_states])
@pytest.mark.parametrize("velocity", [lambda x: -x, laplacian, torch.ones_like])
def test_flows_that_do_not_keep_the_ensemble_have_mean_rates(states, velocity):
    x = states(400, 8, 8)
    z = z_scores(standardising_observables(x).rates(x, velocity(x)).double())
    assert z.square().mean().sqrt() > 20


def test_z_scores_are_means_over_their_standard_errors():
    rates = torch.tensor([[1.0, -2.0], [2.0, 0.0], [3.0, 5.0]], dtype=torch.float64)
    # variances 1 and 13 with n - 1 in the denominator, standard errors (1/3)^(1/2) and (13/3)^(1/2)
    expected = torch.tensor([2 * math.sqrt(3), math.sqrt(3 / 13)], dtype=torch.float64)
    assert_close(z_scores(rates), expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", [("solve",), ("held out",), ("step", 3)])
def test_observables_of_other_streams_are_others(name):
    task = Stationarity(LocalField((3,), generator=seeded()), 8, seed=0)
    first, again, other = task.draw(8, *name), task.draw(8, *name), task.draw(8, "another")
    assert_close(first.directions, again.directions, rtol=0, atol=0)
    assert_close(first.phases, again.phases, rtol=0, atol=0)
    assert (first.directions - other.directions).abs().min() > 0


def linear_task(velocity: list[list[float]], x: Tensor) -> Stationarity:
    """The task of the field v = velocity @ (u, v, lap u, lap v) / std, standardised on x."""
    mean, std = feature_statistics(x)
    field = LocalField((3,), mean=torch.zeros_like(mean), std=std, generator=seeded())
    with torch.no_grad():
        field.last.zero_()
        field.last[:, 1:5] = torch.tensor(velocity)
    return Stationarity(field, 8, seed=0)


ROTATION, CONTRACTION = [[0, 1, 0, 0], [-1, 0, 0, 0]], [[-1, 0, 0, 0], [0, -1, 0, 0]]


def losses_of_batches(velocity: list[list[float]], count: int, size: int) -> tuple[Tensor, Tensor]:
    """The loss of `count` batches, and with the square of one mean in place of the product of two halves' means."""
    task = linear_task(velocity, white_states(50, 8, 8))
    products, squares = [], []
    for step in range(count):
        sums = task(white_states(size, 8, 8, seed=1000 + step), list(range(size)), step).detach()
        first, second, square = sums[:-4].view(3, -1)
        power = (sums[-2] / sums[-1] - 1) ** 2
        products.append(task.loss(sums) - power)
        squares.append((((first + second) / size).square() / (square / size)).mean())
    return torch.stack(products), torch.stack(squares)


def test_the_loss_of_a_flow_that_keeps_the_ensemble_is_zero_on_average():
    count, size = 300, 16
    product, square = losses_of_batches(ROTATION, count, size)
    assert product.mean().abs() < 4 * product.std() / count**0.5
    # the square of a mean of 16 has the sampling variance beside it: 1 / 16 of the mean square
    assert (square.mean() - 1 / size).abs() < 4 * square.std() / count**0.5
    assert product.std() / count**0.5 < 0.1 / size


def test_the_loss_of_a_flow_that_changes_the_ensemble_is_its_squared_mean_rate():
    count = 60
    product, _ = losses_of_batches(CONTRACTION, count, 16)
    task = linear_task(CONTRACTION, white_states(50, 8, 8))
    x = white_states(200, 8, 8, seed=5)
    v = task.model(x).detach()
    rates = torch.stack([task.draw(64, "step", step).rates(x, v) for step in range(count)])
    truth = (rates.mean(dim=1).square() / rates.square().mean(dim=1)).mean().item()
    # the mean square of 16 in the denominator is off by its relative variance over 16: below 2 %
    assert abs(product.mean().item() - truth) < 4 * product.std().item() / count**0.5 + 0.02 * truth
    assert truth > 0.3


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_sums_of_two_halves_add_up_to_those_of_the_batch(height, width):
    x, ids = white_states(6, height, width), [4, 9, 2, 7, 30, 1]
    task = Stationarity(LocalField((6,), generator=seeded()), 8, seed=0)
    parts = task(x[::2], ids[::2], 11) + task(x[1::2], ids[1::2], 11)
    # float32 sums of 6 samples: halves belong to the ids
    assert_close(parts, task(x, ids, 11), rtol=1e-5, atol=1e-5)


def test_the_loss_is_its_formula():
    rng = seeded(8)
    first, second = torch.randn(3, 5, generator=rng), torch.randn(4, 5, generator=rng)
    rates = torch.cat([first, second])
    product = first.mean(dim=0) * second.mean(dim=0)
    expected = (product / rates.square().mean(dim=0)).mean() + (30.0 / 20.0 - 1) ** 2
    sizes = torch.tensor([3.0, 4.0, 30.0, 20.0])
    sums = torch.cat([first.sum(dim=0), second.sum(dim=0), rates.square().sum(dim=0), sizes])
    task = Stationarity(LocalField((3,), generator=seeded()), 8, seed=0)
    assert_close(task.loss(sums), expected, rtol=1e-5, atol=1e-6)  # float32


def shaped_states(count: int) -> Tensor:
    """u of power spectrum 1 / (1 - 0.3 lap), v white: of linear local fields (v, 0.3 lap u - u) alone keeps them."""
    x = white_states(count, 8, 8)
    k = 4 * torch.sin(math.pi * torch.arange(8) / 8) ** 2
    power = 1 / (1 + 0.3 * (k[:, None] + k))
    x[:, 0] = torch.fft.ifft2(torch.fft.fft2(x[:, 0]) * power.sqrt()).real
    return x


def keeping_velocity(x: Tensor) -> Tensor:
    return torch.stack([x[:, 1], 0.3 * laplacian(x[:, 0]) - x[:, 0]], dim=1)


def solved_task(x: Tensor, field_seed: int = 0) -> Stationarity:
    mean, std = feature_statistics(x)
    task = Stationarity(LocalField((4,), mean=mean, std=std, generator=seeded(field_seed)), 64, seed=0)
    task.after_epoch(MemoryData(x, torch.arange(len(x)), x[:0], torch.arange(0)), Workers())
    return task


def test_the_last_layer_is_solved_to_the_flow_that_keeps_the_ensemble():
    x, fresh = shaped_states(300), shaped_states(350)[300:]
    v, truth = solved_task(x).model(fresh).detach(), keeping_velocity(fresh)
    cosine = (v * truth).sum() / (v.norm() * truth.norm())
    # 300 snapshots of 64 cells: rates err by 1 / sqrt(300 * 64) = 0.7 % of their spread, in 13 unknowns
    assert cosine.abs() > 0.99


def test_the_solved_velocity_has_mean_square_one_on_its_data():
    x = shaped_states(300)
    # features and their products are summed in float32
    assert_close(solved_task(x).model(x).square().mean(), torch.tensor(1.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_of_the_two_directions_of_time_the_damping_one_is_taken(seed):
    x = torch.rand(40, 2, 8, 8, generator=seeded(seed))
    task = solved_task(x, field_seed=seed)
    assert divergence.exact(task.model, x[:16])[0].sum() < 0


@pytest.mark.parametrize("split", [1, 5, 9])
def test_held_out_z_scores_are_those_of_all_states_however_they_are_shared(split):
    x = white_states(12, 6, 11)
    task = Stationarity(LocalField((6,), generator=seeded()), 8, seed=0)
    sums = [task.validate(part, [], last=True)["held_out"] for part in (x[:split], x[split:])]
    observables = task.draw(HELD_OUT_OBSERVABLES, "held out")
    z = z_scores(observables.rates(x, task.model(x)).detach().double())
    metrics = task.metrics({"held_out": sums[0] + sums[1]})
    # rates are float32, one state at a time or all at once
    np.testing.assert_allclose(metrics["z_rms"], z.square().mean().sqrt(), rtol=1e-4)
    np.testing.assert_allclose(metrics["z_max"], z.abs().max(), rtol=1e-4)
    assert metrics["validation_loss"] == metrics["z_rms"]


def test_a_worker_without_held_out_states_adds_nothing():
    task = Stationarity(LocalField((6,), generator=seeded()), 8, seed=0)
    sums = task.validate(torch.zeros(0, 2, 6, 11), [], last=True)["held_out"]
    assert_close(sums, torch.zeros(3, HELD_OUT_OBSERVABLES, dtype=torch.float64), rtol=0, atol=0)
