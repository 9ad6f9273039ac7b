"""Whether a pattern moves: still and moving presets of several systems, whatever their units, edges and contrast."""

import functools
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest

from p2d.config import SimulateConfig
from p2d.fields import Grid, Mask
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.static import STATIC, Balance, measure_imbalance, polynomials

STILL = ["gray_scott.maze", "schnakenberg.spots", "swift_hohenberg.stripes", "brusselator.spots"]
STILL += ["fitzhugh_nagumo.labyrinth", "klausmeier.labyrinth", "kuramoto_sivashinsky.spots", "cahn_hilliard.drops"]
MOVING = ["gray_scott.waves", "cyclic_competition.spirals", "lambda_omega.turbulence", "barkley.turbulence"]
MOVING += ["kuramoto_sivashinsky.turbulence", "gierer_meinhardt.spirals", "schnakenberg.spirals"]
MAZE, WAVES = STILL[0], MOVING[0]
EVERY_DAY = ("gray_scott", "cahn_hilliard", "cyclic_competition")  # each of the others takes 2 s to be compiled


def every_day_or_slow(names: list[str]) -> list:
    """Of some systems every day; the others marked slow."""
    return [n if n.startswith(EVERY_DAY) else pytest.param(n, marks=pytest.mark.slow) for n in names]


@functools.cache
def simulated(name: str) -> np.ndarray:
    """Four runs, the living of them."""
    system, preset = name.split(".")
    size = 48 if name in STILL else 64
    config = SimulateConfig(system=system, preset=(preset,), num_samples=4, height=size, width=size, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        dataset = simulate_here(config, Path(folder) / "d")
        return dataset.states(dataset.living).astype(np.float64)


def imbalance(states: np.ndarray, **grid) -> float:
    return measure_imbalance(states, Grid(states.shape[-2:], **grid))


@pytest.mark.parametrize("name", every_day_or_slow(STILL))
def test_what_stands_still_is_told(name):
    assert imbalance(simulated(name)) < STATIC


@pytest.mark.parametrize("name", every_day_or_slow(MOVING))
def test_what_moves_is_told(name):
    assert imbalance(simulated(name)) > 3 * STATIC


@pytest.mark.parametrize("name", [MAZE, WAVES, "cyclic_competition.spirals"])
def test_the_order_of_species_and_the_units_of_values_and_lengths_do_not_matter(name):
    states = simulated(name)
    whole = imbalance(states)
    assert imbalance(states[:, ::-1]) == pytest.approx(whole, rel=1e-3)
    scale = np.array([160.0, 0.01, 2.0])[: states.shape[1], None, None]
    assert imbalance(scale * states - 40) == pytest.approx(whole, rel=1e-3)
    assert imbalance(states, spacing=0.1) == whole
    faint = 0.5 + 0.03 * (states - states.mean(axis=(0, 2, 3), keepdims=True)) / states.std()
    assert imbalance(faint) == pytest.approx(whole, rel=1e-3)
    assert imbalance(faint.astype(np.float32)) == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize(("name", "still"), [(MAZE, True), (WAVES, False)])
def test_a_window_and_a_masked_field_are_told_as_the_whole_is(name, still):
    states = simulated(name)
    height, width = states.shape[-2:]
    cut = states[..., 3:-7, 5:-2]
    assert (measure_imbalance(cut, Grid(cut.shape[-2:], edges=("open", "open"))) < STATIC) == still
    rows, columns = np.indices((height, width))
    dish = np.hypot(rows - height / 2, columns - width / 2) < 0.48 * width
    outside = np.where(dish, states, np.nan)
    assert (measure_imbalance(outside, Grid((height, width), mask=Mask.of(dish))) < STATIC) == still


def test_a_laplacian_that_is_a_function_of_values_is_balanced_and_one_that_is_none_is_not():
    grid = Grid((16, 24))
    rows, columns = (2 * np.pi * np.arange(n) / n for n in grid.shape)
    waves = np.stack([np.cos(rows[:, None] + a) * np.cos(2 * columns + b) for a, b in ((0, 1), (2, 3), (4, 5))])
    assert measure_imbalance(waves[:, None], grid) < 1e-10
    assert measure_imbalance(np.random.default_rng(0).normal(size=(4, 2, 16, 24)), grid) > 10 * STATIC


def test_what_a_polynomial_explains_is_that_and_the_rest_is_left():
    """Of lap(c) = f(c) + error, the share of the error's power."""
    balance, rng = Balance(Grid((8, 8)), 1, degree=2), np.random.default_rng(0)
    c = rng.normal(size=4000)
    for share in (0.0, 1e-3, 0.1):
        curved = c**2 - 0.5 * c
        curved = np.sqrt(1 - share) * curved / curved.std() + np.sqrt(share) * rng.normal(size=4000)
        others = rng.normal(size=(3, 4000))
        cells = np.stack([np.ones(4000), c, c**2, *others, curved, rng.normal(size=4000)])
        # of 4000 cells, to 3 %; the mean of the polynomial counts as power
        mean = curved.mean() ** 2
        assert balance.imbalance(cells @ cells.T) == pytest.approx(share / (1 + mean), rel=0.1, abs=1e-12)


@pytest.mark.parametrize(("count", "degree"), [(1, 5), (2, 5), (3, 3), (4, 3)])
def test_polynomials_are_all_monomials(count, degree):
    z = np.random.default_rng(0).normal(size=(count, 400))
    made = np.stack(polynomials(z, degree))
    assert len(made) == math.comb(count + degree, degree) == np.linalg.matrix_rank(made)
    assert (made[0] == 1).all()
