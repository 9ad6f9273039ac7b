"""Noise levels: powers, conversions and draws, against their closed forms."""

import pytest
import torch
from torch.testing import assert_close

from p2d.score.noise import add_noise, alpha_of, draw_alpha, score_of_eps, sigma_of

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
def test_one_level_is_always_drawn(level):
    assert_close(draw_alpha((level,), torch.rand(5)), torch.full((5,), level), rtol=0, atol=0)


@pytest.mark.parametrize("levels", [(0.5, 0.999), (0.1, 0.2)])
def test_log_sigma_is_drawn_uniformly_from_the_low_level_to_the_high_one(levels):
    uniform = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha = draw_alpha(levels, uniform)
    assert_close(alpha[[0, -1]], torch.tensor(levels, dtype=torch.float64), rtol=1e-13, atol=0)
    steps = sigma_of(alpha).log().diff()
    # equal steps of log sigma; 1 - alpha at 0.999 loses three digits
    assert_close(steps, steps.mean().expand(10), rtol=1e-11, atol=0)
    assert (alpha.diff() > 0).all()
