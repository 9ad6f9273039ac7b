"""Heun's method against matrix exponentials, and the steps that it is stable with."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from p2d.fields import laplacian
from p2d.flow.integrate import DECAYING, TURNING, heun, stable_step, stiffest_rate

HEUN_LIMIT = 2.0  # rate times step up to which a decaying mode decays

MIXING = torch.tensor([[-0.3, 0.8], [-0.5, 0.1]], dtype=torch.float64)


def random_states(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 2, height, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def mixing(x: Tensor) -> Tensor:
    """Each cell's species mixed by a matrix: oscillates and decays."""
    return torch.einsum("ij,bjhw->bihw", MIXING, x)


def mixing_and_diffusion(x: Tensor) -> Tensor:
    return mixing(x) + 0.1 * laplacian(x)


def carried_on(drift, x: Tensor, dt: float, steps: int) -> Tensor:
    for _ in range(steps):
        x = heun(drift, x, dt)
    return x


def exactly_after(drift, x: Tensor, time: float) -> Tensor:
    """exp(time A) x of a linear drift A x."""
    entries = x[0].numel()
    basis = torch.eye(entries, dtype=torch.float64).view(entries, *x.shape[1:])
    matrix = drift(basis).flatten(1).T
    return (x.flatten(1) @ torch.matrix_exp(time * matrix).T).view_as(x)


def checkerboard(side: int) -> Tensor:
    """The shortest wave: the eigenvector of the Laplacian to -8."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return ((-1.0) ** (rows + columns)).double().expand(1, 2, side, side)


@pytest.mark.parametrize("drift", [mixing, mixing_and_diffusion])
def test_half_the_step_leaves_a_quarter_of_the_error(drift):
    x = random_states(2, 4, 6)
    exact = exactly_after(drift, x, 2.0)
    errors = [(carried_on(drift, x, 2.0 / steps, steps) - exact).norm() for steps in (50, 100, 200)]
    # the next order is a step times a rate of about 1 smaller: 2 to 4 % of the error at these steps
    for coarse, fine in itertools.pairwise(errors):
        assert_close(coarse / fine, torch.tensor(4.0, dtype=torch.float64), rtol=0.05, atol=0)
    assert 1e-6 < errors[-1] / exact.norm() < 1e-2


def test_a_step_is_the_exponential_to_second_order():
    x, dt = random_states(2, 4, 6), 0.3
    expected = x + dt * mixing(x) + dt**2 / 2 * mixing(mixing(x))
    assert_close(heun(mixing, x, dt), expected, rtol=0, atol=1e-14)  # float64 sums of numbers of order 1


def test_a_constant_drift_is_followed_exactly():
    x, v = random_states(2, 4, 6), random_states(2, 4, 6).flip(0)
    assert_close(heun(lambda _: v, x, 0.3), x + 0.3 * v, rtol=0, atol=1e-15)  # float64


def test_a_drift_that_is_not_linear_is_taken_where_the_first_stage_leads():
    x = torch.full((1, 2, 3, 3), 2.0, dtype=torch.float64)
    # dx = -x^2 dt: from 2 with the slope -4 to 1.6, where the slope is -2.56
    expected = 2 + 0.1 / 2 * (-4 - 2.56)
    assert_close(heun(lambda y: -(y**2), x, 0.1), torch.full_like(x, expected), rtol=1e-15, atol=0)


def test_a_kick_is_added_and_its_effect_on_the_drift_too():
    x, kick, dt = random_states(2, 4, 6), random_states(2, 4, 6).flip(0), 0.3
    # linear: the kick is half a step further when the step ends, to first order
    expected = heun(mixing, x, dt) + kick + dt / 2 * mixing(kick)
    assert_close(heun(mixing, x, dt, kick), expected, rtol=0, atol=1e-14)  # float64 sums of numbers of order 1
    still = torch.zeros_like(x)
    assert_close(heun(torch.zeros_like, x, dt, kick), x + kick, rtol=0, atol=0)
    assert_close(heun(mixing, x, dt, still), heun(mixing, x, dt), rtol=0, atol=0)


@pytest.mark.parametrize("dt", [0.02, 0.1, 0.4])
def test_kicks_keep_the_variance_of_langevin_dynamics_to_second_order(dt):
    # dx = -x dt + (2 dt)^(1/2) n has the variance 1; a step is x -> a x + b (2 dt)^(1/2) n, so that of the steps is
    one, zero = torch.ones(1, 2, 1, 1, dtype=torch.float64), torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    a = heun(torch.neg, one, dt).flatten()[0].item()
    b = heun(torch.neg, zero, dt, one).flatten()[0].item()
    variance = b**2 * 2 * dt / (1 - a**2)
    assert abs(variance - 1) < dt**2
    assert variance != 1


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("diffusion", [1.0, 0.16])
def test_the_stiffest_rate_of_diffusion_is_that_of_the_shortest_wave(side, diffusion):
    rate = stiffest_rate(lambda x: diffusion * laplacian(x), random_states(4, side, side))
    # 4 x 4: the next rate is 6; (6 / 8)^60 = 3e-8 of its power in the noise is left, some 10 times that of the shortest
    assert_close(rate, 8 * diffusion, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 48)])
def test_on_large_grids_it_comes_near_from_below(height, width):
    rate = stiffest_rate(laplacian, random_states(2, height, width))
    # waves of rates above 8 (1 - e) are a share of about e of all, and 30 iterations tell rates 1 / 30 apart
    assert 0.95 * 8 < rate <= 8 * (1 + 1e-12)


def test_rates_of_growth_and_of_turning_count_as_rates_of_decay_do():
    x = random_states(2, 4, 6)

    def turning(y: Tensor) -> Tensor:
        return 3.0 * torch.stack([y[:, 1], -y[:, 0]], dim=1)

    for drift, rate in ((lambda y: 5.0 * y, 5.0), (lambda y: -5.0 * y, 5.0), (turning, 3.0)):
        assert_close(stiffest_rate(drift, x), rate, rtol=1e-14, atol=0)  # float64: every change is stretched alike


def test_the_rate_is_that_at_the_state_and_the_largest_of_all_states():
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64).view(3, 1, 1, 1).repeat(1, 2, 4, 4)
    # d/dx of -x^3 at 2 is -12
    assert_close(stiffest_rate(lambda y: -(y**3), x), 12.0, rtol=1e-14, atol=0)  # float64
    assert_close(stiffest_rate(lambda y: -(y**3), x[::2]), 3.0, rtol=1e-14, atol=0)


def test_the_rate_leaves_the_state_and_the_global_stream_of_random_numbers_alone():
    x = random_states(1, 4, 4)
    before, stream = x.clone(), torch.random.get_rng_state()
    first = stiffest_rate(laplacian, x)
    assert_close(x, before, rtol=0, atol=0)
    assert_close(torch.random.get_rng_state(), stream, rtol=0, atol=0)
    assert stiffest_rate(laplacian, x) == first


@pytest.mark.parametrize("rate", [0.1, 8.0])
def test_the_stable_step_is_a_share_of_the_limit(rate):
    assert_close(stable_step(rate) * rate, DECAYING, rtol=1e-15, atol=0)
    assert stable_step(rate) * rate < 2


def test_a_drift_that_does_not_depend_on_the_state_has_no_rate_and_any_step():
    assert stiffest_rate(torch.ones_like, random_states(2, 4, 4)) == 0
    assert stable_step(0.0) == math.inf


@pytest.mark.parametrize("diffusion", [1.0, 0.16])
def test_within_the_stable_step_the_shortest_wave_decays_and_beyond_the_limit_it_grows(diffusion):
    wave, rate = checkerboard(4), 8 * diffusion
    found = stiffest_rate(lambda x: diffusion * laplacian(x), random_states(2, 4, 4))

    def growth(dt: float) -> float:
        return (heun(lambda x: diffusion * laplacian(x), wave, dt).norm() / wave.norm()).item()

    # a step multiplies the wave by 1 - z + z^2 / 2 with z = rate dt; float64
    for z in (0.4, 1.0, DECAYING, 1.5 * HEUN_LIMIT):
        assert_close(growth(z / rate), 1 - z + z**2 / 2, rtol=1e-13, atol=0)
    assert growth(stable_step(found)) < 0.7
    assert growth(0.99 * HEUN_LIMIT / rate) < 1 < growth(1.01 * HEUN_LIMIT / rate)
    assert growth(1.5 * HEUN_LIMIT / found) > 2


def test_diffusion_carried_on_with_the_stable_step_dies_down_and_with_twice_that_blows_up():
    x = random_states(2, 8, 8)
    x = x - x.mean(dim=(-2, -1), keepdim=True)
    step = stable_step(stiffest_rate(laplacian, x))
    # the slowest wave of 8 x 8 has the rate 0.59 and a step of 0.2: a factor of 0.89 a step
    assert carried_on(laplacian, x, step, 60).norm() < 1e-2 * x.norm()
    assert carried_on(laplacian, x, 2 * step, 60).norm() > 1e3 * x.norm()


def test_a_turning_mode_hardly_grows_at_the_step_for_such():
    def turning(y: Tensor) -> Tensor:
        return 3 * torch.stack([y[:, 1], -y[:, 0]], dim=1)

    x = random_states(1, 4, 6)
    dt = stable_step(stiffest_rate(turning, x), TURNING)
    growth = carried_on(turning, x, dt, 20).norm() / x.norm()
    # (1 + z^4 / 4)^(1/2) a step, z = rate dt
    assert_close(growth, torch.tensor((1 + TURNING**4 / 4) ** 10, dtype=torch.float64), rtol=1e-6, atol=0)
    assert growth < 1.02
