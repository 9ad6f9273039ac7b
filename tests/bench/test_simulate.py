"""The benchmark of the simulation: its yardstick computes the same fields, and its figures are what was measured."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.bench.simulate import Stepper, _rates, conv2d_stepper, measure
from p2d.cli import main
from p2d.config.bench import BenchSimulateConfig
from p2d.errors import UserError
from p2d.systems import initial
from p2d.systems.gray_scott import PRESETS

SMALL = {"samples": 2, "height": 24, "width": 32, "steps": 100, "repeats": 1, "threads": 1, "scaling": False}


@pytest.mark.parametrize("name", ["waves", "chaos"])
def test_the_convolution_takes_the_steps_of_the_plain_rate(name):
    state = initial.initial_states(0, np.arange(2), 20, 28)
    expected = state.astype(np.float64)
    for _ in range(100):
        expected = np.clip(expected + PRESETS[name].rate(expected), 0, 1)
    after = conv2d_stepper(torch.from_numpy(state), PRESETS[name], 100).numpy()
    # float32 against float64, rounding by 6e-8 a step
    assert_close(after, expected.astype(np.float32), rtol=0, atol=2e-6)


def test_a_rate_is_cells_times_steps_over_the_time_taken(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr("p2d.bench.simulate.time.perf_counter", lambda: next(clock))
    taken = []
    rate = _rates({"one": Stepper(taken.append, steps=50, samples=3)}, cells=8, repeats=3)["one"]
    assert taken == [50, 50, 50]
    assert rate == {"samples": 3, "median": 600.0, "lowest": 300.0, "highest": 1200.0}


def test_the_bench_measures_every_stepper_and_preset():
    found = measure(BenchSimulateConfig(**SMALL))
    assert found["presets"].keys() == PRESETS.keys()
    assert {"cpu", "conv2d cpu"} <= found["steppers"].keys()
    rates = {name: each["median"] for name, each in found["steppers"].items()}
    assert found["ratios"]["cpu / conv2d cpu"] == rates["cpu"] / rates["conv2d cpu"]
    assert 0 < found["difference"]["cpu"] < 1e-5  # two float32 orders of the same sums
    assert "scaling" not in found


def test_the_command_prints_one_json_object(capsys):
    arguments = [f"--{key}={value}" for key, value in SMALL.items() if key != "scaling"]
    main(["bench", "simulate", "--no-scaling", "--json", *arguments])
    assert json.loads(capsys.readouterr().out)["threads"] == 1
    main(["bench", "simulate", "--no-scaling", *arguments])
    out = capsys.readouterr().out
    assert "cpu / conv2d cpu" in out and "slowest" in out


@pytest.mark.parametrize("key", ["samples", "gpu_samples", "height", "width", "repeats"])
def test_settings_that_are_not_possible_are_refused(key):
    with pytest.raises(UserError, match=f"{key} = 0"):
        BenchSimulateConfig(**{key: 0})
