"""The benchmark of the simulation: its yardstick computes the same fields, and its figures are what was measured."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.bench import simulate as bench_module
from p2d.bench.simulate import Stepper, _rates, jax_text, measure, torch_text
from p2d.cli import main
from p2d.config.bench import BenchSimulateConfig
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import initial
from p2d.systems.reading import load_system
from p2d.systems.stepping import Scheme

SMALL = {"samples": 2, "height": 24, "width": 32, "steps": 100, "repeats": 1, "threads": 1}


OWN = """
name = "flow"
[rates]
t = "D*lap(t) - c*d(t, x) + 0.1*d(t, y) + exp(-t) - 0.1*grad(t, t)"
[parameters]
D = 0.2
c = 0.3
[start]
rest = { t = 0.5 }
noise = { t = 0.3 }
[presets.slow]
c = 0.1
[presets.fast]
c = 0.5
[run]
dt = 0.2
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "flow.toml"
    file.write_text(OWN)
    return str(file)


def after_plain_steps(system, scheme, state, steps=100):
    expected = state.astype(np.float64)
    low, high = (
        (np.reshape(ends, (-1, 1, 1)) for ends in zip(*system.limits.values(), strict=True))
        if system.limits
        else (-np.inf, np.inf)
    )
    for _ in range(steps):
        expected = np.clip(expected + scheme.dt * system.rate(expected, scheme.grid), low, high)
    return expected.astype(np.float32)


@pytest.mark.parametrize("name", ["waves", "chaos"])
def test_the_text_in_pytorch_takes_the_steps_of_the_plain_rate(name):
    system, scheme = load_system("gray_scott").at(name), Scheme(Grid((20, 28)))
    state = initial.initial_states(system, 0, np.arange(2), (20, 28))
    after = torch_text(system, scheme, state)(100)
    # float32 against float64, rounding by 6e-8 a step
    assert_close(after, after_plain_steps(system, scheme, state), rtol=0, atol=2e-6)


def test_the_text_of_a_system_of_ones_own_does_as_well(own):
    system, scheme = load_system(own), Scheme(Grid((12, 15), 0.8), dt=0.2)
    state = initial.initial_states(system, 0, np.arange(2), (12, 15))
    expected = after_plain_steps(system, scheme, state)
    # float32 against float64, rounding by 1e-7 a step
    assert_close(torch_text(system, scheme, state)(100), expected, rtol=0, atol=1e-5)
    if find_spec("jax"):
        assert_close(jax_text(system, scheme, state)(100), expected, rtol=0, atol=1e-5)


def test_a_rate_is_cells_times_steps_over_the_time_taken(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr("p2d.bench.simulate.time.perf_counter", lambda: next(clock))
    taken = []
    rate = _rates({"one": Stepper(taken.append, steps=50, samples=3)}, cells=8, repeats=3)["one"]
    assert taken == [2, 50, 50, 50]  # the first compiles
    assert rate == {"samples": 3, "median": 600.0, "lowest": 300.0, "highest": 1200.0}


@pytest.mark.slow  # torch.compile
def test_the_bench_measures_every_stepper_and_preset():
    found = measure(BenchSimulateConfig(**SMALL))
    assert found["presets"].keys() == load_system("gray_scott").presets.keys()
    assert {"cpu", "torch", "torch.compile"} <= found["steppers"].keys()
    rates = {name: each["median"] for name, each in found["steppers"].items()}
    assert found["ratios"]["cpu / torch"] == rates["cpu"] / rates["torch"]
    assert found["ratios"].keys() == {f"cpu / {name}" for name in rates if name != "cpu"}
    assert 0 < found["difference"]["cpu"] < 1e-5  # two float32 orders of the same sums
    assert "against" not in found


def test_another_system_is_held_against_gray_scott_by_operation(own, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda step: step)  # takes a minute
    found = measure(BenchSimulateConfig(**SMALL, system=own, preset="fast"))
    assert found["presets"].keys() == {"slow", "fast"}
    assert found["steppers"].keys() >= {"cpu", "torch"} and "gray_scott" not in found["steppers"]
    assert found["difference"]["cpu"] < 1e-5
    assert found["noisy"]["ratio"] == found["noisy"]["median"] / found["steppers"]["cpu"]["median"]
    operations = bench_module._operations(bench_module._usual(BenchSimulateConfig(**SMALL)))
    own_rate = found["steppers"]["cpu"]["median"] * found["operations"]
    assert_close(found["against"]["per_operation"], own_rate / (found["against"]["median"] * operations))


def test_the_command_prints_one_json_object(capsys, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda step: step)  # takes a minute
    arguments = [f"--{key}={value}" for key, value in SMALL.items()]
    main(["bench", "simulate", "--json", *arguments])
    assert json.loads(capsys.readouterr().out)["threads"] == 1
    main(["bench", "simulate", *arguments])
    out = capsys.readouterr().out
    assert "cpu / torch" in out and "with noise in the dynamics" in out and "slowest" in out


@pytest.mark.parametrize("key", ["samples", "height", "width", "repeats"])
def test_settings_that_are_not_possible_are_refused(key):
    with pytest.raises(UserError, match=f"{key} = 0"):
        BenchSimulateConfig(**{key: 0})
