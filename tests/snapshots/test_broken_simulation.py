"""A simulation that breaks down is stopped, with the sample and what to do; what was whole before is kept."""

import re

import numpy as np
import pytest

from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.snapshots import simulated as simulation
from p2d.snapshots.simulated import plan, simulate_here, simulate_samples
from p2d.systems.gray_scott import PRESETS
from p2d.systems.initial import initial_states

from .helpers import contents, small

SEVERAL = {"snapshots_per_run": 3, "interval": 11}


# What is not finite


def breaks_down(monkeypatch, run: int, at: int, config: SimulateConfig) -> None:
    """Let a cell of this run be no number after `at` steps. A cell of u counts the steps; v stays, to know the run."""
    known = initial_states(config.seed, np.array([run]), config.height, config.width)[0, 1]

    def advance(state, params, steps, *_):
        after = state.copy()
        after[:, 0, 0, 0] += steps
        this = (after[:, 1] == known).all(axis=(1, 2)) & (after[:, 0, 0, 0] >= 1 + at)
        after[this, 0, 3, 4] = np.nan
        return after

    start = initial_states(config.seed, np.arange(config.runs), config.height, config.width)
    assert (start[:, 0, 0, 0] == 1).all()  # no disc there: the count starts at 1
    monkeypatch.setattr(simulation.stepper, "run", advance)


@pytest.mark.parametrize("at", [1, 14, 15, 16, 29, 30])
@pytest.mark.parametrize("sample", [0, 6, 9])
def test_a_value_that_is_not_finite_names_the_sample_and_the_step(tmp_path, monkeypatch, sample, at):
    config = small(height=30, width=30, seed=4)
    breaks_down(monkeypatch, sample, at, config)
    told = f"sample {sample} of waves is not finite from step {at} on; a smaller --dt may help"
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        simulate_here(config, tmp_path)
    # what came before is kept: shards of 4
    assert list(contents(tmp_path)) == [f"shard-0000{i}.parquet" for i in range(sample // 4)]


@pytest.mark.parametrize("run", [0, 2])
@pytest.mark.parametrize("at", [15, 30])
def test_a_run_of_several_snapshots_that_breaks_down_before_the_first_names_that(tmp_path, monkeypatch, run, at):
    config = small(height=30, width=30, seed=4, **SEVERAL)
    breaks_down(monkeypatch, run, at, config)
    with pytest.raises(UserError, match=f"sample {3 * run} of waves is not finite from step {at} on"):
        simulate_here(config, tmp_path)


@pytest.mark.parametrize(("at", "snapshot"), [(31, 1), (41, 1), (42, 2), (52, 2)])
def test_a_run_that_breaks_down_between_snapshots_names_the_one_that_is_not_finite(tmp_path, monkeypatch, at, snapshot):
    config = small(height=30, width=30, seed=4, **SEVERAL)
    breaks_down(monkeypatch, 1, at, config)
    with pytest.raises(UserError, match=f"sample {3 + snapshot} of waves is not finite from step {at} on"):
        simulate_here(config, tmp_path)


# Checkerboards


@pytest.mark.parametrize("preset", ["waves", "maze", "holes"])
def test_a_checkerboard_names_the_sample_and_dt(tmp_path, preset):
    # below the limit of diffusion alone, 1 / (4 * 0.16) = 1.5625, but not below that with the reaction
    config = small(preset=(preset,), dt=1.5, height=32, width=32, steps=1000)
    (label,) = config.systems()
    told = f"sample 0 of {label} has become a checkerboard: the Euler scheme is unstable with dt = 1.5"
    with pytest.raises(UserError, match=f"^{re.escape(told)}; give a smaller --dt$"):
        simulate_here(config, tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("initial", ["discs", "centre", "noise"])
def test_no_preset_is_taken_for_a_checkerboard(preset, initial):
    config = small(preset=(preset,), initial=initial, height=32, width=40, num_samples=4, steps=1000)
    simulate_samples(config, plan(config)[0])


@pytest.mark.parametrize("initial", ["discs", "centre", "noise"])
@pytest.mark.parametrize("steps", [0, 1, 2, 6])
@pytest.mark.parametrize("size", [8, 12, 16, 32])
def test_no_initial_state_is_taken_for_a_checkerboard(size, steps, initial):
    config = small(initial=initial, height=size, width=size, steps=steps, chunk=10)
    simulate_samples(config, plan(config)[0])
