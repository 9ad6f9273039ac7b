"""Noise levels: powers, conversions and draws, against their closed forms."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.score.noise import START, add_noise, alpha_of, draw_sigma, log_sigma, score_of_eps, sigma_of

LEVELS = torch.tensor([1e-4, 0.1, 0.5, 0.8, 0.95, 0.999, 1 - 1e-4], dtype=torch.float64)
SHAPES = [(7, 2, 4, 4), (7, 2, 3, 5)]


def normal(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_powers_of_signal_and_noise_add_up_to_one(shape):
    one, none = torch.ones(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    signal, noise = add_noise(one, none, LEVELS), add_noise(none, one, LEVELS)
    # two square roots squared again: a few float64 roundings of numbers up to 1
    assert_close(signal**2 + noise**2, one, rtol=0, atol=1e-15)
    assert_close(signal[:, 0, 0, 0] ** 2, LEVELS, rtol=1e-15, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_noised_state_is_a_scaled_state_with_sigma_beside_it(shape):
    x, eps = normal(shape), normal(shape, 1)
    a = LEVELS.view(-1, 1, 1, 1)
    # the same sum of two products, rounded otherwise: numbers up to 5
    assert_close(add_noise(x, eps, LEVELS), a.sqrt() * (x + sigma_of(a) * eps), rtol=0, atol=5e-15)


def test_alpha_and_sigma_are_each_others_inverse():
    # 1 - alpha near alpha = 1 loses four digits of float64's sixteen
    assert_close(alpha_of(sigma_of(LEVELS)), LEVELS, rtol=1e-12, atol=0)
    sigma = torch.logspace(-2, 2, 9, dtype=torch.float64)
    assert_close(sigma_of(alpha_of(sigma)), sigma, rtol=1e-11, atol=0)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.5, 1.0), (0.8, 0.5), (0.2, 2.0)])
def test_sigma_at_known_levels(alpha, sigma):
    expected = torch.tensor(sigma, dtype=torch.float64)
    assert_close(sigma_of(torch.tensor(alpha, dtype=torch.float64)), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.3, 0.2), (-1.0, 2.0)])
def test_the_expected_noise_of_gaussian_data_gives_their_score(shape, mean, std):
    a = LEVELS.view(-1, 1, 1, 1)
    x_a = normal(shape).requires_grad_()
    variance = a * std**2 + 1 - a
    expected_noise = (1 - a).sqrt() * (x_a.detach() - a.sqrt() * mean) / variance
    log_p = -((x_a - a.sqrt() * mean) ** 2 / (2 * variance)).sum()
    (score,) = torch.autograd.grad(log_p, x_a)
    # division by sqrt(1 - alpha) undoes the multiplication: float64 rounding
    assert_close(score_of_eps(expected_noise, LEVELS), score, rtol=1e-13, atol=0)


@pytest.mark.parametrize("level", [0.3, 0.8])
@pytest.mark.parametrize("beyond", [0.0, 0.25])
def test_one_level_is_always_drawn(level, beyond):
    expected = sigma_of(torch.tensor(level, dtype=torch.float64)).float().expand(5)
    assert_close(draw_sigma((level,), torch.rand(5), beyond), expected, rtol=1e-6, atol=0)  # of float32


@pytest.mark.parametrize("alpha", [1e-4, 0.3, 0.8, 0.999])
def test_log_sigma_is_that_of_sigma(alpha):
    assert_close(log_sigma(alpha), sigma_of(torch.tensor(alpha, dtype=torch.float64)).log().item(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("levels", [(0.5, 0.999), (0.1, 0.2), (0.0005, 0.9)])
def test_log_sigma_is_drawn_uniformly_from_the_low_level_to_the_high_one(levels):
    uniform = torch.linspace(0, 1, 11, dtype=torch.float64)
    sigma = draw_sigma(levels, uniform)
    assert_close(alpha_of(sigma[[0, -1]]), torch.tensor(levels, dtype=torch.float64), rtol=1e-13, atol=0)
    steps = sigma.log().diff()
    # equal steps of log sigma; float64 rounding of an exponential's logarithm
    assert_close(steps, steps.mean().expand(10), rtol=1e-13, atol=1e-14)
    assert (sigma.diff() < 0).all()


@pytest.mark.parametrize("levels", [(0.5, 0.999), (0.1, 0.2)])
@pytest.mark.parametrize("beyond", [0.2, 0.6])
def test_a_share_of_the_draws_is_noisier_than_the_range(levels, beyond):
    uniform = torch.linspace(0, 1, 101, dtype=torch.float64)
    drawn = draw_sigma(levels, uniform, beyond).log()
    first = round(100 * beyond)  # of the draws within the range
    assert_close(uniform[first].item(), beyond, rtol=1e-15, atol=0)
    # log sigma from START's to the noisy end's, then to the clear end's: a straight line each
    corners = [log_sigma(alpha) for alpha in (START, *levels)]
    expected = np.interp(uniform.numpy(), [0, beyond, 1], corners)
    assert_close(drawn, torch.from_numpy(expected), rtol=0, atol=1e-14)


def test_a_range_that_begins_noisier_than_sampling_does_is_kept_to():
    levels = (START / 4, 0.9)
    drawn = draw_sigma(levels, torch.linspace(0, 1, 101, dtype=torch.float64), 0.2)
    noisy, clear = sigma_of(torch.tensor(levels, dtype=torch.float64))
    assert_close(drawn[:20], noisy.expand(20), rtol=1e-13, atol=0)
    assert_close(drawn[-1], clear, rtol=1e-13, atol=0)
    assert (drawn[20:].diff() < 0).all()
