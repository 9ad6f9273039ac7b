"""Denoising: exact for Gaussian fields, the symmetries of the physics for any network, and noise that is found."""

import pytest
import torch
from torch.testing import assert_close

from p2d.config import DenoiseConfig
from p2d.fields import Scaling
from p2d.score.denoise import LEAST, LEVELS, denoised, of_equal_noise, training_settings
from p2d.score.model import ScoreModel
from p2d.score.sample import TOGETHER
from p2d.score.spectrum import Spectrum

MEAN = [0.3, -0.7]


def float64(values: list) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def smooth() -> Spectrum:
    """A spectrum without power at wavelengths below four cells."""
    power = [[0.5, 6.0, 1.0, 0.0, 0.0], [-0.1, -3.0, -0.4, 0.0, 0.0], [0.2, 3.0, 0.5, 0.0, 0.0]]
    return Spectrum(float64([0.0, 0.1, 0.2, 0.25, 0.8]), float64(power), float64(MEAN))


@torch.no_grad()
def randomised(gain: float = 1.0) -> ScoreModel:
    """A model in float64 of random weights, that no symmetry but its own commutes with; gain 0: exact for `smooth`."""
    model = ScoreModel((4, 6), (0.9, 0.99), smooth()).double()
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        fan_in = max(1, weight[0].numel())
        weight.copy_(torch.randn(weight.shape, dtype=torch.float64, generator=generator) / fan_in**0.5)
    model.net.head.weight *= gain
    model.net.head.bias *= gain
    return model


def all_of(model: ScoreModel, x: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.cat(list(denoised(model, x, sigma)))


@pytest.mark.parametrize(("height", "width", "quarters"), [(8, 8, (1, 2, 3)), (16, 16, (1, 2, 3)), (8, 12, (2,))])
def test_denoising_commutes_with_turns_and_mirrors(height, width, quarters):
    model = randomised()
    x = normal(3, 2, height, width)
    clean = all_of(model, x, 0.2)
    level = torch.full((3,), 0.2, dtype=torch.float64)
    moves = [lambda s, n=n: torch.rot90(s, n, (-2, -1)) for n in quarters]
    moves += [lambda s: s.flip(-1), lambda s: s.flip(-2), lambda s: torch.rot90(s, 2, (-2, -1)).flip(-1)]
    for move in moves:
        # the same 8 (or 4) estimates, added in another order: float64 rounding of numbers up to 5
        assert_close(all_of(model, move(x), 0.2), move(clean), rtol=0, atol=1e-14)
        once = model.posterior_mean(move(x), level) - move(model.posterior_mean(x, level))
        assert once.abs().mean() > 0.01  # which the network alone does not


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12)])
@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_an_exact_model_denoises_to_the_posterior_mean(height, width, sigma):
    root = smooth().draw(torch.eye(2 * height * width, dtype=torch.float64).view(-1, 2, height, width)).flatten(1)
    prior = root.T @ root
    mean = float64(MEAN).view(1, 2, 1, 1)
    x = mean + smooth().draw(normal(5, 2, height, width)) + sigma * normal(5, 2, height, width, seed=1)
    noised = prior + sigma**2 * torch.eye(len(prior), dtype=torch.float64)
    expected = mean + (prior @ torch.linalg.solve(noised, (x - mean).flatten(1).T)).T.view_as(x)
    # float64 rounding, solved for at a condition number up to 600
    assert_close(all_of(randomised(gain=0), x, sigma), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, TOGETHER, TOGETHER + 3, 2 * TOGETHER])
def test_states_are_denoised_a_few_at_a_time_and_each_as_it_is_alone(count):
    model, x = randomised(), normal(count, 2, 8, 12)
    parts = list(denoised(model, x, 0.2))
    assert [len(p) for p in parts[:-1]] == [TOGETHER] * (len(parts) - 1)
    assert sum(len(p) for p in parts) == count
    alone = torch.cat([all_of(model, state[None], 0.2) for state in x])
    # convolutions may add in another order in batches of another size
    assert_close(torch.cat(parts), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [(0.02, 0.02), (0.02, 3.0), (0.5, 0.0)])
def test_species_are_scaled_to_one_noise(sigma):
    scaling = Scaling((1.0, -40.0), (0.5, 20.0))
    made, level = of_equal_noise(scaling, sigma)
    noises = [noise / scale for noise, scale in zip(sigma, scaling.scale, strict=True)]
    assert made.shift == scaling.shift and level == max(noises)
    for noise, scale, own in zip(sigma, made.scale, scaling.scale, strict=True):
        # that of the most noise keeps its scale to the last bit; one without noise counts as having next to none
        assert noise / scale == pytest.approx(level if noise else 0.0, rel=1e-14)
        assert scale == (own if noise / own == level else pytest.approx(own * max(noise / own / level, LEAST)))


def test_species_of_the_same_noise_keep_their_scales():
    scaling = Scaling((0.5, 0.5, 0.3), (0.3, 0.3, 0.3))
    assert of_equal_noise(scaling, (0.02, 0.02, 0.02)) == (scaling, 0.02 / 0.3)


def test_levels_are_trained_a_little_above_the_noise():
    settings = training_settings(DenoiseConfig(epochs=3), (0.02, 3.0), 0.15)
    assert settings.data_noise == (0.02, 3.0) and settings.epochs == 3 and settings.sampling == 0
    sigma = [((1 - alpha) / alpha) ** 0.5 for alpha in settings.alpha]
    # levels are held in float32
    assert sigma == pytest.approx([0.15 * level for level in reversed(LEVELS)], rel=1e-5)


def test_a_model_that_has_learnt_no_images_is_shown_none():
    model, x = randomised(), normal(2, 2, 8, 8)
    model.augment = False
    with torch.no_grad():
        alone = model.posterior_mean(x, torch.full((2,), 0.2, dtype=torch.float64))
    assert_close(all_of(model, x, 0.2), alone, rtol=0, atol=0)
