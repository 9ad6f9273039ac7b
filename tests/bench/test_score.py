"""The benchmark of the score network: a fair yardstick, and losses that are read when they are said to be."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.bench.reference_unet import NoisePrediction, ReferenceUNet
from p2d.bench.score import READINGS, _rate, contenders, train
from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.config.bench import BenchScoreConfig
from p2d.errors import UserError
from p2d.score import noise
from p2d.simulation import simulate_here
from p2d.streams import augmentation, augmented, sample_generator
from p2d.training.loop import Data


@pytest.fixture
def data() -> Data:
    states = torch.from_numpy(np.random.default_rng(0).random((12, 2, 16, 16), dtype=np.float32))
    ids = torch.arange(12)
    return Data(states[:8], ids[:8], states[8:], ids[8:])


def test_the_reference_is_of_the_size_it_is_said_to_be():
    assert 0.85e6 < sum(p.numel() for p in ReferenceUNet().parameters()) < 0.95e6


def test_the_reference_is_periodic():
    torch.manual_seed(0)
    model = ReferenceUNet()
    x, alpha = torch.randn(2, 2, 16, 24), torch.tensor([0.8, 0.5])
    with torch.no_grad():
        shifted = model(x.roll((4, -8), (-2, -1)), alpha)
        # the same sums in another order
        assert_close(shifted, model(x, alpha).roll((4, -8), (-2, -1)), rtol=0, atol=1e-5)


def test_the_reference_is_shown_the_draws_of_the_score_task():
    x = torch.randn(2, 2, 8, 8)
    seen = []
    task = NoisePrediction(ReferenceUNet(), 0.8, seed=3)
    task.eps = lambda x_a, alpha: seen.append(x_a) or torch.zeros_like(x_a)
    sums = task(x, [5, 9], step=7)
    for n, i in enumerate((5, 9)):
        # in the order of score/loss.py: augmentation, level, noise
        g = sample_generator(3, 7, i)
        clean = augmented(x[n], augmentation(g, x[n]))
        torch.rand((), generator=g)
        eps = torch.randn(clean.shape, generator=g)
        assert_close(seen[0][n], noise.add_noise(clean[None], eps[None], torch.tensor([0.8]))[0])
    assert sums[1] == x.numel()


def test_the_learning_rate_rises_and_falls_to_nothing():
    assert (_rate(0.0), _rate(0.01), _rate(0.02)) == (0.0, 0.5, 1.0)
    assert_close(_rate(0.51), 0.5)
    assert_close(_rate(1.0), 0.0)


def test_readings_are_taken_at_even_shares_of_the_time(data):
    config = BenchScoreConfig(seconds=1.2, threads=1)
    run = train(contenders(config, data)["p2d"], data, config.seconds, config)
    times, losses = zip(*run["readings"], strict=True)
    assert len(times) == READINGS
    for n, seconds in enumerate(times):
        assert 0.2 * (n + 1) - 0.06 <= seconds  # the time is told to a tenth of a second
    assert losses[-1] < losses[0]
    assert run["steps"] * config.batch_size / run["samples_per_second"] == pytest.approx(1.2, abs=0.3)


def test_both_networks_start_from_the_seed_alone(data):
    config = BenchScoreConfig(seed=4)
    first, second = contenders(config, data), contenders(config, data)
    for name in first:
        assert_close(first[name].task.state_dict(), second[name].task.state_dict(), rtol=0, atol=0)


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


@pytest.mark.parametrize(("key", "value"), [("seconds", 0.0), ("share", 0.5), ("alpha", 1.0), ("batch_size", 0)])
def test_settings_that_are_not_possible_are_refused(key, value):
    with pytest.raises(UserError, match=f"{key} = {value}"):
        BenchScoreConfig(**{key: value})
