"""The benchmark of the score network: a fair yardstick, and losses that are read when they are said to be."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.bench.reference_unet import NoisePrediction, ReferenceUNet
from p2d.bench.score import READINGS, _rate, contender, train
from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.config.bench import BenchScoreConfig
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.score import noise
from p2d.score.loss import DenoisingScoreMatching
from p2d.score.model import ScoreModel
from p2d.snapshots.simulated import simulate_here
from p2d.training.states import MemoryData

CPU = torch.device("cpu")
GRID = Grid((16, 16))


@pytest.fixture
def data() -> MemoryData:
    """Twelve states of independent cells that are -1 or 1."""
    states = torch.from_numpy(np.random.default_rng(0).choice(np.float32([-1, 1]), (12, 2, 16, 16)))
    ids = torch.arange(12)
    return MemoryData(states[:8], ids[:8], states[8:], ids[8:])


def test_the_reference_is_of_the_size_it_is_said_to_be():
    assert 0.85e6 < sum(p.numel() for p in ReferenceUNet(2, GRID).parameters()) < 0.95e6


def test_the_reference_is_periodic():
    torch.manual_seed(0)
    model = ReferenceUNet(2, GRID)
    x, alpha = torch.randn(2, 2, 16, 24), torch.tensor([0.8, 0.5])
    with torch.no_grad():
        shifted = model(x.roll((4, -8), (-2, -1)), alpha)
        # the same sums in another order
        assert_close(shifted, model(x, alpha).roll((4, -8), (-2, -1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12)])
def test_both_networks_are_shown_the_same_noised_states(height, width):
    x, ids, alpha = torch.randn(3, 2, height, width), [5, 9, 2], 0.8
    shown = []
    model = ScoreModel((4,), (alpha,))
    inside = model.raw
    model.raw = lambda y, sigma, *options: shown.append((y, sigma)) or inside(y, sigma, *options)
    DenoisingScoreMatching(model, seed=3, augment=True)(x, ids, step=7)
    reference = ReferenceUNet(2, GRID)
    reference.forward = lambda x_a, level: shown.append((x_a, level)) or torch.zeros_like(x_a)
    sums = NoisePrediction(reference, alpha, seed=3)(x, ids, step=7)
    (y, sigma), (x_a, level) = shown
    # x_a = sqrt(alpha) y, in float32
    assert_close(x_a, alpha**0.5 * y, rtol=1e-6, atol=1e-6)
    assert_close(noise.alpha_of(sigma), level, rtol=1e-6, atol=0)
    assert sums[1] == x.numel()
    # a network that says nothing has the noise's own power as its error: the mean of some 400 squared normals
    assert_close((sums[0] / sums[1]).item(), 1.0, rtol=0, atol=4 * (2 / x.numel()) ** 0.5)


@pytest.mark.parametrize("std", [0.3, 2.0])
@torch.no_grad()
def test_the_expected_noise_of_gaussian_data_is_their_posterior_mean(std):
    reference = ReferenceUNet(2, GRID)

    def expected_noise(x_a, alpha):
        a = alpha.view(-1, 1, 1, 1)
        return (1 - a).sqrt() * x_a / (a * std**2 + 1 - a)

    reference.forward = expected_noise
    task = NoisePrediction(reference, 0.8, seed=0)
    y, sigma = torch.randn(3, 2, 8, 8), torch.tensor([0.1, 0.5, 3.0])
    s = sigma.view(-1, 1, 1, 1)
    # float32 rounding of numbers up to 5
    assert_close(task.posterior_mean(y, sigma), std**2 / (std**2 + s**2) * y, rtol=0, atol=3e-6)


def test_the_learning_rate_rises_and_falls_to_nothing():
    assert (_rate(0.0), _rate(0.01), _rate(0.02)) == (0.0, 0.5, 1.0)
    assert_close(_rate(0.51), 0.5)
    assert_close(_rate(1.0), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p2d", "reference"])
def test_readings_are_taken_at_even_shares_of_the_time(data, name):
    config = BenchScoreConfig(seconds=1.2, threads=1)
    made = contender(name, config, data, GRID, CPU)
    run = train(made, data, config.seconds, config, CPU)
    times, losses = zip(*run["readings"], strict=True)
    assert len(times) == READINGS
    for n, seconds in enumerate(times):
        assert 0.2 * (n + 1) - 0.06 <= seconds  # the time is told to a tenth of a second
    if name == "p2d":
        # From the first on what a linear estimate leaves of cells of variance 1 at sigma^2 = 1 / 4: 1 / (1 + 1 / 4);
        # a linear gain measured on 8 states, and a network that has hardly begun, change a tenth of it.
        assert_close(losses[0], 0.8, rtol=0.1, atol=0)
        assert len(set(losses)) > 1
    else:
        assert losses[-1] < losses[0]
    # what is spent on making the network counts, a step may end late, and the rate is of steps alone
    steps = run["steps"] * made.batch_size / run["samples_per_second"]
    assert steps + made.seconds == pytest.approx(1.2, abs=0.3)


@pytest.mark.parametrize("name", ["p2d", "reference"])
def test_both_networks_start_from_the_seed_alone(data, name):
    first = contender(name, BenchScoreConfig(seed=4), data, GRID, CPU)
    torch.rand(3)
    second, other = (contender(name, BenchScoreConfig(seed=seed), data, GRID, CPU) for seed in (4, 5))
    assert_close(first.task.state_dict(), second.task.state_dict(), rtol=0, atol=0)
    pairs = zip(first.task.parameters(), other.task.parameters(), strict=True)
    assert any((one != two).any() for one, two in pairs)


@pytest.mark.slow
def test_the_command_compares_at_equal_time_and_at_a_share_of_it(tmp_path, capsys):
    config = SimulateConfig(preset=("maze",), num_samples=8, height=16, width=16, steps=30, device="cpu")
    simulate_here(config, tmp_path / "data" / "maze_16x16")
    arguments = ["bench", "score", "-m", "maze", "-o", str(tmp_path), "--seconds", "0.6", "--threads", "1"]
    main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    short, full, reference = (run["readings"][-1][1] for run in found["runs"].values())
    assert (found["ratio"], found["share"]) == (full / reference, short / reference)
    main(arguments)
    assert "at equal time" in capsys.readouterr().out


@pytest.mark.parametrize(("key", "value"), [("seconds", 0.0), ("threads", -1)])
def test_settings_that_are_not_possible_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} = {value}"):
        BenchScoreConfig(**{key: value})
