"""The reverse process: exact for Gaussian random fields, mode by mode, and the same whatever is sampled beside."""

import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import Grid, Mask
from p2d.score.model import ScoreModel
from p2d.score.noise import START, sigma_of
from p2d.score.sample import RHO, TOGETHER, check, choose_together, generate, noise_levels, reverse
from p2d.score.spectrum import Spectrum
from p2d.training.randomness import sample_generator

GRIDS = [(8, 8), (4, 12)]
MEAN = [0.3, -0.7]


def float64(values: list | float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pattern() -> Spectrum:
    """A spectrum that peaks as patterns do, of two species that go against each other."""
    power = [[0.5, 6.0, 1.0, 0.05, 0.01], [-0.1, -3.0, -0.4, -0.01, 0.0], [0.2, 3.0, 0.5, 0.02, 0.01]]
    return Spectrum(float64([0.0, 0.1, 0.2, 0.5, 0.8]), float64(power), float64(MEAN))


def silent(alpha: tuple[float, ...] = (0.5, 0.999), sampled: bool = True) -> ScoreModel:
    """A model in float64 whose network says nothing: it is exact for Gaussian fields of the pattern's spectrum."""
    model = ScoreModel((4,), alpha, pattern(), sampled).double()
    torch.nn.init.zeros_(model.net.head.weight)
    torch.nn.init.zeros_(model.net.head.bias)
    return model


@torch.no_grad()
def randomised() -> ScoreModel:
    model = ScoreModel((4, 6), (0.5, 0.99), pattern(), sampled=True).double()
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        fan_in = max(1, weight[0].numel())
        weight.copy_(torch.randn(weight.shape, dtype=torch.float64, generator=generator) / fan_in**0.5)
    return model


def principal(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Variances and directions of a Gaussian field of the pattern: eigenvalues [2HW], eigenvectors in columns."""
    root = pattern().draw(torch.eye(2 * height * width, dtype=torch.float64).view(-1, 2, height, width)).flatten(1)
    return torch.linalg.eigh(root.T @ root)


def scaled(x: torch.Tensor, factors: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """States with the part along each direction multiplied by its factor, about the mean."""
    mean = float64(MEAN).view(1, 2, 1, 1)
    return mean + ((x - mean).flatten(1) @ directions * factors @ directions.T).view_as(x)


@pytest.mark.parametrize(("steps", "alpha"), [(2, (0.5, 0.999)), (10, (0.5, 0.999)), (32, (0.1, 0.9))])
def test_noise_levels_fall_from_the_gaussian_end_to_the_clearest_level_and_then_to_none(steps, alpha):
    levels = float64(noise_levels(silent(alpha), steps))
    assert len(levels) == steps + 1
    assert levels[-1] == 0
    # the levels alpha are held in float32, and 1 - alpha at 0.999 loses three of its seven digits
    assert_close(levels[[0, -2]], sigma_of(float64([START, alpha[1]])), rtol=1e-4, atol=0)
    # Karras et al. 2022, Eq. 5: sigma^(1 / rho) falls in equal steps
    fall = (levels[:-1] ** (1 / RHO)).diff()
    assert (fall < 0).all()
    assert_close(fall, fall.mean().expand(steps - 1), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_heuns_method_is_of_second_order_in_the_step(height, width):
    model = silent()
    variances, directions = principal(height, width)
    first, *_, last, _ = noise_levels(model, 2)
    start = float64(MEAN).view(1, 2, 1, 1) + first * normal(2, 2, height, width)
    # along each direction dy / dsigma = sigma y / (variance + sigma^2)
    exact = scaled(start, ((variances + last**2) / (variances + first**2)).sqrt(), directions)
    errors = []
    for steps in (50, 100, 200):
        found = reverse(model, start, noise_levels(model, steps)[:-1])
        errors.append((found - exact).norm() / exact.norm())
    # halving the steps quarters the error, up to the next order's share of it, and the last is small
    for coarse, fine in itertools.pairwise(errors):
        assert 3.6 < coarse / fine < 4.4
    assert errors[-1] < 1e-3


@pytest.mark.parametrize(("height", "width"), GRIDS)
@torch.no_grad()
def test_the_last_step_ends_at_the_posterior_mean(height, width):
    model = randomised()
    y = normal(3, 2, height, width)
    expected = model.posterior_mean(y, torch.full((3,), 0.1, dtype=torch.float64))
    # y - sigma (y - E) / sigma: float64 rounding of numbers up to 5
    assert_close(reverse(model, y, [0.1, 0.0]), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_samples_of_a_silent_model_have_the_covariance_of_its_spectrum(height, width):
    model = silent()
    levels = noise_levels(model, 64)
    variances, directions = principal(height, width)
    mean = float64(MEAN).view(1, 2, 1, 1)
    along = (directions.T.reshape(-1, 2, height, width) * (variances + levels[0] ** 2).sqrt().view(-1, 1, 1, 1)) + mean
    root = (reverse(model, along, levels) - mean).flatten(1)
    covariance = root.T @ root
    # the field with noise of the clearest level, seen through its posterior mean: S^2 / (S + sigma^2)
    seen = variances**2 / (variances + levels[-2] ** 2)
    expected = directions * seen @ directions.T
    # Heun's error of 64 steps, up to 0.5 % of each direction's variance, which falls with their square
    assert_close(covariance, expected, rtol=0, atol=0.01 * variances.max().item())
    found = (directions.T @ covariance @ directions).diagonal()
    assert_close(found, seen, rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("height", "width", "churn"), [pytest.param(16, 16, 0.0, marks=pytest.mark.slow), (8, 32, 0.4)]
)
def test_generated_patterns_have_the_power_of_the_spectrum(height, width, churn):
    made = torch.cat(list(generate(silent(), list(range(100)), (height, width), 32, seed=1, churn=churn)))
    assert made.shape == (100, 2, height, width)
    spectrum = pattern()
    deviation = made - float64(MEAN).view(1, 2, 1, 1)
    power = deviation.square().mean(dim=(0, 2, 3))
    # about 25 modes of a state hold its power: a relative sd of sqrt(2 / (25 * 100)) = 0.03, and 1 % of Heun's method
    assert_close(power, spectrum.variance((height, width)), rtol=0.1, atol=0)
    # the mean of a state has variance S(0) / HW, that of all of them a 100th of it; four sd
    sd = (spectrum.power[[0, 2], 0] / (height * width * 100)).sqrt()
    assert ((deviation.mean(dim=(0, 2, 3)) / sd).abs() < 4).all()
    correlation = deviation.prod(dim=1).mean() / power.prod().sqrt()
    assert correlation < -0.6  # the species go against each other: -3 / sqrt(18) = -0.7 at the peak


def test_a_pattern_starts_from_a_gaussian_field_of_the_spectrum_with_noise():
    model, shown = silent(), []
    inside = model.posterior_mean
    model.posterior_mean = lambda y, sigma: shown.append((y, sigma)) or inside(y, sigma)
    next(generate(model, [7], (8, 12), steps=2, seed=3))
    start, sigma = shown[0]
    field, noise = torch.randn(2, 2, 8, 12, generator=sample_generator(3, 0, 7)).unbind()
    mean = float64(MEAN).view(1, 2, 1, 1)
    assert sigma.item() == noise_levels(model, 2)[0]
    # the numbers are drawn in float32: rounding 6e-8 of 22 times 4
    assert_close(start, mean + pattern().draw(field[None].double()) + sigma * noise, rtol=0, atol=2e-5)


@pytest.mark.parametrize("churn", [0.0, 0.4])
def test_a_pattern_depends_on_seed_and_id_and_not_on_what_is_beside_it(churn):
    model = randomised()
    ids = [7, 0, 3, 100, 2**40, 5, 6, 8, 9, 1, 11]
    parts = list(generate(model, ids, (8, 12), 6, 2, churn))
    assert [len(p) for p in parts] == [TOGETHER, len(ids) - TOGETHER]
    made = torch.cat(parts)
    alone = torch.cat([next(generate(model, [i], (8, 12), 6, 2, churn)) for i in ids])
    backwards = torch.cat(list(generate(model, ids[::-1], (8, 12), 6, 2, churn))).flip(0)
    # convolutions may add in another order in batches of another size, and 11 evaluations pass it on
    assert_close(alone, made, rtol=0, atol=1e-11)
    assert_close(backwards, made, rtol=0, atol=1e-11)
    other = torch.cat(list(generate(model, ids, (8, 12), 6, 3, churn)))
    everything = torch.cat([made, other]).flatten(1)
    apart = torch.cdist(everything, everything) + torch.eye(2 * len(ids)) * 1e9
    assert apart.min() > 1  # no two alike, of any ids and seeds


def test_a_gpu_is_given_as_many_patterns_together_as_fill_it_and_fit():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert [choose_together(gpu, (side, side)) for side in (64, 128, 512, 2048)] == [1024, 256, 16, TOGETHER]
    assert choose_together(cpu, (64, 64)) == TOGETHER


def test_churn_raises_the_noise_of_every_step_that_stays_within_the_levels():
    model, told = silent(), []
    inside = model.posterior_mean
    model.posterior_mean = lambda y, sigma: told.append(sigma.item()) or inside(y, sigma)
    list(generate(model, [0], (8, 8), steps=5, seed=1, churn=0.4))
    levels = noise_levels(model, 5)
    raised = [1.4 * s if 1.4 * s <= levels[0] else s for s in levels[:-2]]
    # a step looks at where it starts from and at where it goes to; the last, to no noise, only at its start
    expected = [level for pair in zip(raised, levels[1:], strict=False) for level in pair] + [levels[-2]]
    assert_close(torch.tensor(told), torch.tensor(expected), rtol=1e-12, atol=0)


def test_generating_leaves_the_global_stream_alone():
    model = silent()
    before = torch.get_rng_state()
    made = [next(generate(model, [4], (8, 8), steps=3, seed=0)) for _ in range(2)]
    assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    assert_close(made[0], made[1], rtol=0, atol=0)


@pytest.mark.parametrize(("alpha", "told"), [((0.8,), "0.8"), ((0.5, 0.999), "0.5 to 0.999")])
def test_a_model_that_knows_no_noisier_levels_is_refused(alpha, told):
    model = silent(alpha, sampled=False)
    with pytest.raises(UserError, match=f"knows alpha = {told} and nothing noisier.*--sampling"):
        noise_levels(model, 10)
    with pytest.raises(UserError, match="nothing noisier"):
        next(generate(model, [0], (8, 8), steps=10, seed=0))


@pytest.mark.parametrize("steps", [1, 0, -3])
def test_too_few_steps_are_refused(steps):
    with pytest.raises(UserError, match=f"steps = {steps} is not possible: it must be 2 or above"):
        noise_levels(silent(), steps)


@pytest.mark.parametrize(("grid", "told"), [((1, 8), "height = 1 .*two dimensions"), ((8, 1), "width = 1 .*above 1$")])
def test_a_grid_that_the_network_cannot_take_is_refused(grid, told):
    with pytest.raises(UserError, match=told):
        check(randomised(), grid, 10)
    with pytest.raises(UserError, match=told):
        next(generate(randomised(), [0], grid, steps=10, seed=0))
    assert check(randomised(), (10, 7), 10) == noise_levels(randomised(), 10)  # of any size otherwise


@pytest.mark.parametrize(
    "grid",
    [
        Grid((1, 16)),
        Grid((9, 10), edges=("mirror", "open")),
        Grid((8, 8), edges=("open", "open"), mask=Mask.of(np.hypot(*(np.mgrid[:8, :8] - 3.5)) < 3.6)),
    ],
    ids=["one dimension", "edges", "mask"],
)
@torch.no_grad()
def test_any_field_is_sampled_with_the_variance_of_its_spectrum(grid):
    std = float64([0.5, 0.2, 1.0])
    model = ScoreModel(
        (4,), (0.5, 0.999), Spectrum.white(float64([0.3, -0.7, 2.0]), std, grid.edges), True, grid
    ).double()
    states = torch.cat(list(generate(model, list(range(100)), grid.shape, 24, seed=0, churn=0.3)))
    assert states.shape == (100, 3, *grid.shape)
    inside = torch.from_numpy(grid.inside(0))
    known = states[..., inside].movedim(1, 0).flatten(1)
    # at least 1,600 cells: the mean is within 4 sd, the variance within 4 of sqrt(2 / 1600) and Heun's error
    assert ((known.mean(dim=1) - model.spectrum.mean).abs() < 4 * std / known.shape[1] ** 0.5).all()
    assert_close(known.var(dim=1), std**2, rtol=0.16, atol=0)
    outside = states[..., ~inside]
    assert_close(outside, model.spectrum.mean.view(1, 3, 1).expand_as(outside), rtol=0, atol=0)
