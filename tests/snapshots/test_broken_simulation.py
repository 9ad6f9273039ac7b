"""A simulation that breaks down is stopped, with the sample and what to do; what was whole before is kept."""

import re

import numpy as np
import pytest

from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.snapshots import simulated
from p2d.snapshots.simulated import plan, simulate_here, simulate_samples
from p2d.systems.reading import load_system

from .helpers import begun, contents, gray_scott, simulation_of, small

SEVERAL = {"snapshots_per_run": 3, "interval": 11}
BISTABLE = """
name = "bistable"
[rates]
x = "D*lap(x) + x - x**3"
[parameters]
D = 0.02
[start]
rest = { x = 0 }
noise = { x = 0.3 }
"""


# What is not finite


def breaks_down(monkeypatch, run: int, at: int, config: SimulateConfig) -> None:
    """Let a cell of this run be no number after `at` steps. A cell of u counts the steps; v stays, to know the run."""
    known = begun(gray_scott(), config.seed, np.array([run]), config.height, config.width)[0, 1]

    def advance(state, system, scheme, steps, *_):
        after = state.copy()
        after[:, 0, 0, 0] += steps
        this = (after[:, 1] == known).all(axis=(1, 2)) & (after[:, 0, 0, 0] >= 1 + at)
        after[this, 0, 3, 4] = np.nan
        return after

    start = begun(gray_scott(), config.seed, np.arange(config.simulation().runs), config.height, config.width)
    assert (start[:, 0, 0, 0] == 1).all()  # no disc there: the count starts at 1
    monkeypatch.setattr(simulated.stepping, "run", advance)


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
    (label,) = config.simulation().systems
    told = (
        f"sample 0 of {label} has become a checkerboard by step {{}}: the scheme is unstable with dt = 1.5; "
        "give a smaller --dt"
    )
    with pytest.raises(UserError, match=f"^{re.escape(told).replace(re.escape('{}'), '(500|1000)')}$"):
        simulate_here(config, tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("initial", ["discs", "centre", "noise"])
def test_no_preset_is_taken_for_a_checkerboard(initial):
    presets = tuple(load_system("gray_scott").presets)
    simulation = simulation_of(preset=presets, initial=initial, height=32, width=40, num_samples=4, steps=1000)
    assert [shard.system for shard in plan(simulation)] == list(presets)
    for shard in plan(simulation):
        assert np.isfinite(simulate_samples(simulation, shard).state).all()


@pytest.mark.parametrize("initial", ["discs", "centre", "noise"])
@pytest.mark.parametrize("size", [8, 12, 32])
def test_no_initial_state_is_taken_for_a_checkerboard(size, initial):
    for steps in (0, 1, 2, 6):
        simulation = simulation_of(initial=initial, height=size, width=size, steps=steps, chunk=10)
        assert len(simulate_samples(simulation, plan(simulation)[0]).state) == 10


def test_a_pattern_as_fine_as_its_grid_is_none(tmp_path):
    (tmp_path / "bistable.toml").write_text(BISTABLE)
    simulation = simulation_of(
        system=str(tmp_path / "bistable.toml"), num_samples=4, height=16, width=24, steps=400, dt=0.1
    )
    (shard,) = plan(simulation)
    states = simulate_samples(simulation, shard).state
    # each cell has settled near 1 or -1 by itself, and the mean square of the Laplacian is that of white noise, 20
    assert np.abs(states).min() > 0.8
    assert (simulation.grid.laplacian(states) ** 2).mean() > 15 * states.var()


@pytest.mark.parametrize("sigma", [0.003, 0.03])
def test_what_noise_roughens_is_no_checkerboard(sigma):
    # The patterns of life have died: what is left of u is what noise makes, whose short waves alternate and decay.
    simulation = simulation_of(preset=("life",), num_samples=4, height=24, width=32, steps=600, dynamics_noise=(sigma,))
    states = simulate_samples(simulation, plan(simulation)[0]).state
    assert all(simulated._is_rough(u, simulation.grid) for u in states[:, 0])


@pytest.mark.parametrize("sigma", [0.001, 0.03])
@pytest.mark.parametrize("preset", ["waves", "maze"])
def test_a_checkerboard_is_told_in_spite_of_noise(preset, sigma):
    settings = {"dt": 1.5, "height": 32, "width": 32, "steps": 1000, "dynamics_noise": (sigma,)}
    simulation = simulation_of(preset=(preset,), **settings)
    with pytest.raises(UserError, match=r"sample 0 .* has become a checkerboard by step 500: .* dt = 1\.5"):
        simulate_samples(simulation, plan(simulation)[0])


def test_a_checkerboard_in_one_dimension_and_at_mirror_edges_is_told(tmp_path):
    (tmp_path / "bistable.toml").write_text(BISTABLE)
    settings = {"system": str(tmp_path / "bistable.toml"), "num_samples": 2, "steps": 400}
    # around 1 and -1, which are not the rest state, small waves follow d/dt = -(2 + 4 D) x or more: stable below 0.93
    for grid in ({"height": 1, "width": 64}, {"height": 16, "width": 24, "edges": ("mirror",)}):
        simulate_here(small(**settings, **grid, dt=0.5), tmp_path / f"short{grid['height']}")
        with pytest.raises(UserError, match=r"has become a checkerboard by step 200: .* dt = 1\.5; give a smaller"):
            simulate_here(small(**settings, **grid, dt=1.5), tmp_path / f"long{grid['height']}")
