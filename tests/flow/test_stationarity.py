"""The stationarity objective on ensembles whose flows are known, and its observables against automatic derivatives."""

import dataclasses
import itertools
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.fields import Grid, Mask, laplacian
from p2d.flow import divergence, stationarity
from p2d.flow.solve import solve
from p2d.flow.stationarity import (
    HELD_OUT_OBSERVABLES,
    STEP_OBSERVABLES,
    STEP_STRIDE,
    STRIDE,
    Observables,
    Stationarity,
    at_cells,
    nonlinear_share,
    z_scores,
)
from p2d.flow.velocity import LocalField, feature_statistics, lattice, rings, stencil
from p2d.snapshots.static import Balance
from p2d.training.states import MemoryData
from p2d.training.workers import Workers

GRIDS = [(8, 8), (6, 11), (3, 4)]
RADII = [1.0, 1.5, 2.0]


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
    return Observables(count, 5, mean, std)


def values(observables: Observables, x: Tensor) -> Tensor:
    """g_j(x), [B, J], written out."""
    u, v = x[:, 0], x[:, 1]
    z = torch.stack([u, v, laplacian(u), laplacian(v)], dim=-1)
    z = (z - observables.mean) / observables.std
    return torch.cos(z @ observables.directions.T + observables.phases.T[0]).mean(dim=(1, 2))


def change_of(v: Tensor, radius: float = 1.0) -> Tensor:
    """What a velocity changes the features by, [B, S, H, W]."""
    return stencil(v, radius)


def every(stride: int, x: Tensor) -> Tensor:
    """Numbers of the cells in every such row and column."""
    return lattice(Grid((x.shape[-2], x.shape[-1])), stride)


def random_task(radius: float = 1.0, hidden: tuple[int, ...] = (6,)) -> Stationarity:
    """The task of a field of random weights whose features are standardised by numbers far from 0 and 1."""
    features = 2 + 2 * len(rings(radius))
    mean = torch.randn(features, generator=seeded(1))
    std = 0.5 + torch.rand(features, generator=seeded(2))
    return Stationarity(LocalField(hidden, radius, "silu", mean, std, seeded()), 48, seed=0)


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


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_fields_at_the_cells_of_a_stride_are_every_such_row_and_column(height, width, stride):
    x = white_states(3, height, width)
    cells = [x[..., i, j] for i in range(0, height, stride) for j in range(0, width, stride)]
    assert_close(at_cells(x, every(stride, x)), torch.stack(cells, dim=-1), rtol=0, atol=0)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12)])
def test_rates_over_a_stride_are_on_average_over_its_shifts_those_over_all_cells(height, width, stride):
    observables = exact_observables()
    x, v = (white_states(3, height, width, seed=seed, dtype=torch.float64) for seed in (3, 4))
    sparse = []
    for shift in itertools.product(range(stride), repeat=2):
        cells = every(stride, x)
        moved, change = x.roll(shift, (-2, -1)), at_cells(change_of(v).roll(shift, (-2, -1)), cells)
        sparse.append(observables.rates_of_change(moved, change, cells))
    # float64 means of numbers of order 10, in another order
    assert_close(torch.stack(sparse).mean(dim=0), observables.rates(x, v), rtol=0, atol=1e-13)
    assert torch.stack(sparse).std(dim=0).min() > 1e-3  # no shift has the rates of all


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_rates_of_terms_over_a_stride_add_up_to_those_of_their_field(height, width, stride):
    observables, task = exact_observables(), random_task(hidden=(6, 3))
    x = white_states(3, height, width, dtype=torch.float64)
    basis = task.model.basis(task.model.standardised(x)).unflatten(-1, (height, width))
    cells = every(stride, x)
    rates = observables.rows(x, basis, cells) @ task.model.last.flatten()
    expected = observables.rates_of_change(x, at_cells(change_of(task.model(x)), cells), cells)
    # float64 means of numbers of order 100, in another order
    assert_close(rates, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize(("height", "width"), [*GRIDS, (9, 5), (16, 12)])
def test_the_change_at_the_cells_of_a_step_is_that_of_the_whole_field_there(height, width, radius):
    task = random_task(radius)
    x = white_states(3, height, width, dtype=torch.float64)
    cells = every(STEP_STRIDE, x)
    # float64 sums of numbers of order 10
    expected = at_cells(change_of(task.model(x), radius), cells)
    assert_close(task._change(x, cells.expand(3, -1)), expected, rtol=0, atol=1e-12)


def test_all_is_in_float64():
    task, x = random_task(), white_states(3, 8, 8)
    assert {weight.dtype for weight in task.state_dict().values()} == {torch.float64}
    assert task(x, [0, 1, 2], 0).dtype == torch.float64
    # float32 states are turned into float64 before anything is made of them
    assert_close(task(x, [0, 1, 2], 0), task(x.double(), [0, 1, 2], 0), rtol=0, atol=0)
    for name, sums in task.validate(x, [0, 1, 2], last=True).items():
        assert_close(sums, task.validate(x.double(), [0, 1, 2], last=True)[name], rtol=0, atol=0)


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
    x = white_states(2000, 8, 8, seed=5, dtype=torch.float64)
    cells = every(STEP_STRIDE, x)
    change = at_cells(change_of(task.model(x).detach()), cells)
    draws = [task.draw(STEP_OBSERVABLES, "step", step) for step in range(count)]
    rates = torch.stack([observables.rates_of_change(x, change, cells) for observables in draws])
    truth = (rates.mean(dim=1).square() / rates.square().mean(dim=1)).mean().item()
    # the mean square of 16 in the denominator is off by its relative variance over 16: below 2 %
    assert abs(product.mean().item() - truth) < 4 * product.std().item() / count**0.5 + 0.02 * truth
    assert truth > 0.1  # rates over 4 cells spread more than their mean


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_the_sums_of_two_halves_add_up_to_those_of_the_batch(height, width):
    x, ids, task = white_states(6, height, width), [4, 9, 2, 7, 30, 1], random_task()
    parts = task(x[::2], ids[::2], 11) + task(x[1::2], ids[1::2], 11)
    # float64 sums of 6 samples, of numbers up to 1,000: halves and shifts belong to the ids
    assert_close(parts, task(x, ids, 11), rtol=1e-12, atol=1e-12)


def test_a_step_looks_at_the_cells_of_a_shift_that_belongs_to_the_sample():
    x, task = white_states(1, 8, 12), random_task()
    observables, change = task.draw(STEP_OBSERVABLES, "step", 3), change_of(task.model(x.double()))
    known = []
    for shift in itertools.product(range(STEP_STRIDE), repeat=2):
        moved, cells = change.roll(shift, (-2, -1)), every(STEP_STRIDE, x)
        known.append(observables.rates_of_change(x.double().roll(shift, (-2, -1)), at_cells(moved, cells), cells)[0])
    seen = set()
    for i in range(80):
        first, second, square = task(x, [i], 3)[:-4].view(3, -1)
        rates = first + second  # one sample is in one of the halves
        away = (rates - torch.stack(known)).abs().amax(dim=1)
        assert away.min() < 1e-12  # float64 means of numbers of order 10
        assert_close(square, rates.square(), rtol=1e-14, atol=0)
        seen.add(int(away.argmin()))
    assert len(seen) >= 14  # of 16: 80 draws leave out 16 (15 / 16)^80 = 0.1 on average


def test_a_step_counts_its_samples_cells_and_their_power():
    x, task = white_states(5, 8, 12), random_task()
    n_first, n_second, power, entries = task(x, list(range(5)), 3)[-4:]
    assert n_first + n_second == 5
    assert 0 < n_first < 5
    assert entries == 5 * 2 * 2 * 3  # every fourth row and column of 8 x 12, in two species
    # 60 of 960 entries: their mean square is that of all but for sampling, 4 standard errors
    squares = task.model(x.double()).square()
    assert (power / entries - squares.mean()).abs() < 4 * squares.std() / entries**0.5


def test_the_loss_is_its_formula():
    rng = seeded(8)
    first, second = torch.randn(3, 5, generator=rng), torch.randn(4, 5, generator=rng)
    rates = torch.cat([first, second])
    product = first.mean(dim=0) * second.mean(dim=0)
    expected = (product / rates.square().mean(dim=0)).mean() + (30.0 / 20.0 - 1) ** 2
    sizes = torch.tensor([3.0, 4.0, 30.0, 20.0])
    sums = torch.cat([first.sum(dim=0), second.sum(dim=0), rates.square().sum(dim=0), sizes])
    task = Stationarity(LocalField((3,), generator=seeded()), 8, seed=0)
    assert_close(task.loss(sums), expected, rtol=1e-5, atol=1e-6)  # float32 sums, as they are given here


def shaped_states(count: int) -> Tensor:
    """u of power spectrum 1 / (1 - 0.3 lap), v white: of linear local fields (v, 0.3 lap u - u) alone keeps them."""
    x = white_states(count, 8, 8)
    k = 4 * torch.sin(math.pi * torch.arange(8) / 8) ** 2
    power = 1 / (1 + 0.3 * (k[:, None] + k))
    x[:, 0] = torch.fft.ifft2(torch.fft.fft2(x[:, 0]) * power.sqrt()).real
    return x


def keeping_velocity(x: Tensor) -> Tensor:
    return torch.stack([x[:, 1], 0.3 * laplacian(x[:, 0]) - x[:, 0]], dim=1)


def task_on(x: Tensor, field_seed: int = 0) -> Stationarity:
    mean, std = feature_statistics(x)
    return Stationarity(LocalField((4,), mean=mean, std=std, generator=seeded(field_seed)), 64, seed=0)


def data_of(x: Tensor) -> MemoryData:
    return MemoryData(x, torch.arange(len(x)), x[:0], torch.arange(0))


def solved_task(x: Tensor, field_seed: int = 0) -> Stationarity:
    task = task_on(x, field_seed)
    task.after_epoch(data_of(x), Workers())
    return task


def test_the_last_layer_is_solved_to_the_flow_that_keeps_the_ensemble():
    x, fresh = shaped_states(300), shaped_states(350)[300:]
    v, truth = solved_task(x).model(fresh).detach(), keeping_velocity(fresh)
    cosine = (v * truth).sum() / (v.norm() * truth.norm())
    # 300 snapshots of 16 cells: rates err by 1 / sqrt(300 * 16) = 1.4 % of their spread, in 18 unknowns
    assert cosine.abs() > 0.98


@pytest.mark.parametrize(("cells", "stride"), [(2**21, 1), (1000, STRIDE)])
def test_the_solved_velocity_has_mean_square_one_on_the_cells_of_its_data(cells, stride, monkeypatch):
    monkeypatch.setattr(stationarity, "SOLVE_CELLS", cells)
    x = shaped_states(300)
    squares = solved_task(x).model(x.double()).detach().square()
    # float64, of a basis that is stretched up to 1e6 times
    assert_close(at_cells(squares, every(stride, x)).mean().item(), 1.0, rtol=1e-9, atol=0)
    # on all cells, of which those are a quarter, but for sampling: 4 standard errors
    assert (squares.mean() - 1).abs() < 4 * squares.std() / (squares.numel() / STRIDE**2) ** 0.5


@pytest.mark.parametrize("seed", range(4))
def test_of_the_two_directions_of_time_the_damping_one_is_taken(seed, monkeypatch):
    x = torch.rand(30, 2, 8, 8, generator=seeded(seed))
    task = solved_task(x, field_seed=seed)
    mean = divergence.exact(task.model, x.double())[0].sum().item() / x.numel()
    assert mean < 0
    # float64: of each basis function, which the solve stretches up to 1e6 times
    assert_close(task.direction_metrics["mean_divergence"], mean, rtol=1e-9, atol=0)

    def turned(*given, **more):
        found = solve(*given, **more)
        return dataclasses.replace(found, coefficients=-found.coefficients)

    monkeypatch.setattr(stationarity, "solve", turned)
    again = solved_task(x, field_seed=seed)
    assert_close(again.model.last, task.model.last, rtol=0, atol=0)
    assert again.direction_metrics == pytest.approx(task.direction_metrics, rel=1e-12)


class Asked(MemoryData):
    """Data that notes the positions it is asked for."""

    def states(self, positions: Tensor) -> Tensor:
        self.train_ids[positions] += 1  # the ids count how often
        return super().states(positions)


def test_solve_and_direction_look_at_snapshots_that_are_evenly_spread(monkeypatch):
    monkeypatch.setattr(stationarity, "SOLVE_SNAPSHOTS", 10)
    monkeypatch.setattr(stationarity, "GROUP_CELLS", 64)
    monkeypatch.setattr(stationarity, "DIRECTION_STATES", 4)
    x, counts = shaped_states(25), torch.zeros(25, dtype=torch.int64)
    task_on(x).after_epoch(Asked(x, counts, x[:0], counts[:0]), Workers())
    expected = torch.zeros(25, dtype=torch.int64)
    expected[::3] += 1  # 9 of at most 10 for the solve
    expected[::9] += 1  # and of these 3 of at most 4 for the direction
    expected[0] += 1  # for its shape
    assert_close(counts, expected, rtol=0, atol=0)


def test_how_far_the_data_is_static_is_reported_with_the_z_scores():
    x = torch.rand(60, 2, 24, 24, generator=seeded())
    task = task_on(x)
    sums = task.validate(x[:8], [], last=True)
    assert not {"imbalance", "mean_divergence"} & task.metrics(sums).keys()
    task.after_epoch(data_of(x), Workers())
    metrics = task.metrics(task.validate(x[:8], [], last=True))
    balance = Balance(Grid(x.shape[-2:]), 2)
    z = ((x[::2] - task.model.mean[:2, None, None]) / task.model.std[:2, None, None]).numpy()
    # sums in float64; the fit leaves out what is below 1e-13 of the functions, which rounding moves a little
    assert_close(metrics["imbalance"], balance.imbalance(balance.sums(z)), rtol=1e-5, atol=0)
    # of lap u = (sum of 4 neighbours) - 4 u, of equal variances, u tells 16 parts of 20; some 90 independent functions
    # in 1,920 cells tell 5 % of the rest, and its mean square has a standard error of 4 %
    assert_close(metrics["imbalance"], 20 / 676, rtol=0.2, atol=0)
    assert metrics["mean_divergence"] == task.direction_metrics["mean_divergence"] < 0


@dataclasses.dataclass(frozen=True)
class Joined(Workers):
    """One of several workers, each a thread: it gives its sums and gets those of all, as all_reduce does.

    Between sums one works at a time, in its turn: forward derivatives are not for several threads at once.
    """

    turn: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    barrier: threading.Barrier | None = None
    given: dict[int, Tensor] = dataclasses.field(default_factory=dict)

    def total(self, sums: Tensor) -> Tensor:
        self.given[self.rank] = sums.detach().clone()
        self.turn.release()
        try:
            self.barrier.wait(timeout=10)
            result = sum(self.given[rank] for rank in range(self.size))
            self.barrier.wait(timeout=10)
        finally:
            self.turn.acquire()
        return result


def solved_together(tasks: list[Stationarity], x: Tensor) -> None:
    """Solve as workers do, each with its share of the states."""
    size, turn = len(tasks), threading.Lock()
    barrier, given = threading.Barrier(size), dict[int, Tensor]()

    def work(rank: int) -> None:
        with turn:
            tasks[rank].after_epoch(data_of(x), Joined(rank, size, turn=turn, barrier=barrier, given=given))

    with ThreadPoolExecutor(size) as pool:
        list(pool.map(work, range(size)))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("count", [40, 2])
def test_several_workers_solve_what_one_solves(size, count):
    x = shaped_states(count)
    alone, tasks = task_on(x), [task_on(x) for _ in range(size)]
    alone.after_epoch(data_of(x), Workers())
    solved_together(tasks, x)
    v = alone.model(x).detach()
    for task in tasks:
        # sums in float64, in another order, that the solve stretches up to 1e6 times
        assert_close(task.model(x).detach(), v, rtol=0, atol=1e-8)
        assert_close(task.direction_metrics, alone.direction_metrics, rtol=1e-4, atol=0)  # see above for the imbalance
        assert_close(task.model.last, tasks[0].model.last, rtol=0, atol=0)


@pytest.mark.parametrize("split", [1, 5, 9])
def test_held_out_z_scores_are_those_of_all_states_however_they_are_shared(split):
    x, task = white_states(12, 6, 11), random_task()
    sums = [task.validate(part, [], last=True)["held_out"] for part in (x[:split], x[split:])]
    observables = task.draw(HELD_OUT_OBSERVABLES, "held out")
    z = z_scores(observables.rates(x.double(), task.model(x.double())).detach())
    metrics = task.metrics({"held_out": sums[0] + sums[1]})
    # float64: a variance as the difference of squares, of rates up to ten times their spread
    np.testing.assert_allclose(metrics["z_rms"], z.square().mean().sqrt(), rtol=1e-10)
    np.testing.assert_allclose(metrics["z_max"], z.abs().max(), rtol=1e-10)
    assert metrics["validation_loss"] == metrics["z_rms"]


def test_a_worker_without_held_out_states_adds_nothing():
    sums = random_task().validate(torch.zeros(0, 2, 6, 11), [], last=True)["held_out"]
    assert_close(sums, torch.zeros(3, HELD_OUT_OBSERVABLES, dtype=torch.float64), rtol=0, atol=0)


WALLS = {
    "mirror": Grid((12, 10), edges=("mirror", "mirror")),
    "open": Grid((12, 10), edges=("open", "periodic")),
    "mask": Grid((12, 10), mask=Mask.of(np.hypot(*(np.mgrid[:12, :10] - 5)) < 4.6)),
    "line": Grid((1, 24)),
}


def task_at(grid: Grid, species: int, radius: float) -> Stationarity:
    features = species * (1 + len(rings(radius)))
    mean, std = torch.randn(features, generator=seeded(1)), 0.5 + torch.rand(features, generator=seeded(2))
    field = LocalField((6,), radius, "silu", mean, std, seeded(), species, grid)
    return Stationarity(field, 48, seed=0)


@pytest.mark.parametrize("grid", WALLS.values(), ids=WALLS)
@pytest.mark.parametrize(("species", "radius"), [(1, 1.0), (3, 1.0), (2, 1.5)])
def test_at_walls_a_rate_is_the_mean_derivative_over_the_cells_that_are_known(grid, species, radius):
    task = task_at(grid, species, radius)
    x = torch.randn(2, species, *grid.shape, generator=seeded(3), dtype=torch.float64)
    observables, cells = task.draw(7, "some"), task.cells(x.shape, 1)
    v = task.model(x).detach()

    def means(states: Tensor) -> Tensor:
        z = (at_cells(stencil(states, radius, grid), cells) - observables.mean[:, None]) / observables.std[:, None]
        return torch.cos(observables.directions @ z + observables.phases).mean(dim=-1)

    _, slopes = torch.func.jvp(means, (x,), (v,))
    # float64 means of numbers of order 10
    assert_close(observables.rates(x, v, cells), slopes, rtol=0, atol=1e-12)
    basis = task.model.basis(task.model.standardised(x)).unflatten(-1, grid.shape).detach()
    assert_close(observables.rows(x, basis, cells) @ task.model.last.flatten(), slopes, rtol=0, atol=1e-11)
    tiles = [cells[::3], cells[1::3], cells[2::3]]
    parts = observables.tile_rows(x[:1], basis[:1], tiles)
    assert_close(parts.mean(dim=0), observables.rows(x, basis, cells)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", WALLS.values(), ids=WALLS)
def test_what_nobody_knows_is_not_learnt_from(grid):
    x = torch.randn(30, 2, *grid.shape, generator=seeded(3))
    found = []
    for beyond in (None, 2.0):
        told = x.clone()
        if beyond:
            told[..., ~torch.from_numpy(grid.inside(0))] = beyond
        task = task_at(grid, 2, 1.0)
        sums = task(told, list(range(30)), 3).detach()
        task.after_epoch(data_of(told), Workers())
        found.append([sums, task.model.last.detach(), task.validate(told[:3], [0, 1, 2], True)["held_out"]])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-9)
    known = len(lattice(grid, 1, 2))
    assert 0 < found[0][0][-1] <= 30 * 2 * math.ceil(grid.shape[0] / 4) * math.ceil(grid.shape[1] / 4)
    assert grid.is_closed == (known == grid.shape[0] * grid.shape[1])


def test_what_is_linear_in_the_species_is_told_from_what_is_not():
    phi = torch.randn(6, 5000, generator=seeded(), dtype=torch.float64)
    phi[0] = 1.0
    gram = phi @ phi.T / 5000
    linear = torch.tensor([[0.3, 1.0, -2.0, 0, 0, 0], [0.0, 0.5, 1.0, 0, 0, 0]], dtype=torch.float64)
    other = torch.tensor([[0, 0, 0, 1.0, 0, 2.0], [0, 0, 0, 0, 1.0, 0]], dtype=torch.float64)
    assert nonlinear_share(linear, gram, 3) < 1e-12
    both = linear + 0.1 * other
    v, fit = both @ phi, np.linalg.lstsq(phi[:3].numpy().T, (both @ phi).numpy().T, rcond=None)[0]
    expected = ((v.numpy().T - phi[:3].numpy().T @ fit) ** 2).sum() / v.square().sum().item()
    assert_close(nonlinear_share(both, gram, 3), float(expected), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("shape", "snapshots", "most", "sides"),
    [((64, 64), 100, 20, (4, 4)), ((64, 64), 100, 10, (3, 3)), ((64, 32), 9, 1, (1, 1)), ((20, 20), 9, 99, (1, 1))],
)
def test_the_cells_of_the_solve_lie_in_tiles(shape, snapshots, most, sides):
    tiles = random_task().tiles(torch.Size((1, 2, *shape)), snapshots, most)
    assert len(tiles) == math.prod(sides)
    assert torch.cat(tiles).sort().values.tolist() == list(range(math.prod(shape)))
    for tile in tiles:
        rows, columns = tile // shape[1], tile % shape[1]
        assert rows.max() - rows.min() < math.ceil(shape[0] / sides[0])
        assert columns.max() - columns.min() < math.ceil(shape[1] / sides[1])
