"""The direction and the unit of time: what damps, what is known, and frames at known times."""

from dataclasses import replace

import numpy as np
import pytest

from p2d.config import DiscoverConfig
from p2d.discovery.clock import damping, measure_clock
from p2d.discovery.library import free_library, tied_library
from p2d.discovery.measuring import choose_measure
from p2d.discovery.moments import Measure
from p2d.discovery.observables import Products, products
from p2d.fields import Grid, Mask, Scaling
from p2d.snapshots.passes import InMemory
from p2d.systems import expressions, stepping
from p2d.systems.initial import initial_states
from p2d.systems.reading import load_system
from p2d.systems.stepping import Scheme
from p2d.systems.system import System

SPECIES, SCALING = ("u", "v"), Scaling((0.0, 0.0), (2.0, 1.0))
TERMS = "1, u, u**2*v, lap(u), lap(v), lap(lap(u)), grad(u, v), d(u, x), lap(u**3), (1 + u)*lap(u)"
TIED = tied_library(load_system("gray_scott"))
FREE = free_library(("1", "u", "v", "u*v**2", "lap(u)", "lap(v)"), SPECIES)
WAVES = load_system("gray_scott").at("waves")
HOLE = np.arange(120).reshape(10, 12) % 50 > 3


def states(count: int = 4, shape: tuple[int, int] = (10, 12)) -> np.ndarray:
    return np.random.default_rng(0).random((count, 2, *shape))


@pytest.mark.parametrize("grid", [Grid((10, 12), 0.5), Grid((10, 12), 0.5, ("open", "mirror")), Grid((1, 12), 0.5)])
def test_the_shortest_waves_grow_by_what_each_term_does_to_them(grid):
    library = free_library(expressions.split(TERMS, SPECIES), SPECIES)
    found = damping(library, states(shape=grid.shape), SCALING, grid, "5-point")
    growth = {
        s: dict(zip(library.terms, row, strict=True)) for s, row in zip(SPECIES, found.reshape(2, -1), strict=True)
    }
    for s, other in (("u", "v"), ("v", "u")):
        assert growth[s]["1"] == growth[s]["u"] == growth[s]["u**2*v"] == 0, "what has no neighbours damps nothing"
        assert growth[s][f"lap({other})"] == 0, "nor does what spreads another species"
    shortest = -4 * (1 + (grid.shape[0] > 1)) / 0.5**2  # of a checkered field
    if grid.is_closed:
        assert growth["u"]["lap(u)"] == pytest.approx(shortest, rel=1e-6)
        assert growth["u"]["lap(lap(u))"] == pytest.approx(shortest**2, rel=1e-6)
        u = states(shape=grid.shape)[:, 0]
        assert growth["u"]["lap(u**3)"] == pytest.approx(3 * shortest * (u**2).mean(), rel=1e-5)
    assert growth["u"]["lap(u)"] < 0 < growth["u"]["lap(lap(u))"] and growth["u"]["(1+u)*lap(u)"] < 0
    assert growth["v"]["lap(v)"] < 0


@pytest.mark.parametrize("operator", ["9-point", "8th-order", "spectral"])
def test_any_operator_s_laplacian_damps(operator):
    found = damping(FREE, states(shape=(10, 12)), SCALING, Grid((10, 12)), operator).reshape(2, -1)
    assert found[0, 4] < 0 and found[1, 5] < 0 and not found[:, :4].any() and found[0, 5] == found[1, 4] == 0


def film(runs: int, frames: int, tau: float, grid: Grid) -> InMemory:
    """Frames of runs of waves, integrated by steps a tenth of tau, shuffled."""
    rng = np.random.default_rng(1)
    rows, columns = (2 * np.pi * np.arange(n) / n for n in grid.shape)
    phases = 2 * np.pi * rng.random((runs, 2, 2, 1, 1))
    now = 0.4 + 0.2 * np.cos(rows[:, None] + phases[:, :, 0]) * np.cos(columns + phases[:, :, 1])
    made = []
    for _ in range(frames):
        made.append(now.copy())
        for _ in range(10):
            now = now + tau / 10 * WAVES.rate(now, grid)
    order = rng.permutation(runs * frames)
    every = np.stack(made, axis=1).reshape(-1, 2, *grid.shape)[order]
    run, time = np.divmod(np.arange(runs * frames), frames)
    ids = np.arange(len(every))
    return InMemory(every, ids, run[order], 5.0 + tau * time[order], SPECIES, grid)


def seen_by(snapshots):
    """A measure of these snapshots that does nothing but scale them."""
    observed = Products(tuple(products(2, False, ())))
    return Measure(("1",), ("5-point",), SPECIES, snapshots.grid, SCALING, observed, (1.0,) * 4)


@pytest.mark.parametrize("by", [1.0, 0.2, -4.0])
@pytest.mark.parametrize("grid", [Grid((12, 14)), Grid((16, 14), edges=("open", "open"))])
def test_frames_at_known_times_tell_how_fast_an_equation_is_and_which_way(grid, by):
    own = System.of_terms("own", {s: {t: by * c for t, c in terms.items()} for s, terms in WAVES.terms.items()})
    closed = Grid(grid.shape)
    snapshots = replace(film(4, 4, 0.2, closed), grid=grid)
    clock = measure_clock(snapshots, own, seen_by(snapshots), "5-point")
    assert clock.tells and clock.pairs == 12
    assert 0 < clock.error < 0.01 * abs(clock.factor)
    # what the steps between frames leave, of first order in a fiftieth of a unit of time
    assert clock.factor * by == pytest.approx(1.0, abs=4 * clock.error * abs(by) + 0.003)
    assert np.sign(clock.cosine) == np.sign(by)


def test_a_noisy_film_tells_time_within_its_error():
    films = film(6, 4, 0.5, Grid((12, 14)))
    noisy = replace(films, states=films.states + 0.01 * np.random.default_rng(2).normal(size=films.states.shape))
    clean, found = (measure_clock(each, WAVES, seen_by(each), "5-point") for each in (films, noisy))
    assert 2 * clean.error < found.error and abs(found.factor - clean.factor) < 4 * found.error


def test_frames_that_have_nothing_to_do_with_each_other_tell_no_time():
    grid = Grid((10, 12))
    alone = InMemory.of_states(states(12))
    assert measure_clock(alone, WAVES, seen_by(alone), "5-point") is None
    times = np.arange(12.0)
    assert measure_clock(replace(alone, times=times), WAVES, seen_by(alone), "5-point") is None, "of runs of their own"
    assert measure_clock(replace(alone, runs=np.zeros(12, int)), WAVES, seen_by(alone), "5-point") is None, (
        "at no known times"
    )
    far = replace(alone, runs=np.zeros(12, int), times=1e4 * times, grid=replace(grid, mask=Mask.of(HOLE)))
    assert not measure_clock(replace(far, grid=grid), WAVES, seen_by(alone), "5-point").tells


@pytest.mark.parametrize(("noise", "bits"), [(0.01, 0), (0.0, 8)])
def test_speed_is_told_without_bias_where_snapshots_are_seen_through_a_kernel(noise, bits):
    # waves have fronts of a few cells, where the rate of what is smoothed is not the smoothed rate
    runs, frames, grid = 12, 3, Grid((48, 48))
    now = initial_states(WAVES, 0, np.arange(runs), grid.shape, "")
    film = [now := stepping.run(now, WAVES, Scheme(grid), steps, "cpu") for steps in (1500, 10, 10)]
    states = np.stack(film, axis=1).reshape(-1, 2, *grid.shape)
    states = states + noise * np.random.default_rng(0).normal(size=states.shape)
    states = (np.round(states * 255) / 255 if bits else states).astype(np.float32)
    every, times = np.arange(runs * frames), np.tile(10.0 * np.arange(frames), runs)
    snapshots = InMemory(states, every, every // frames, times, SPECIES, grid)
    measure = choose_measure(snapshots.some(8), SPECIES, grid, DiscoverConfig())
    assert measure.smoothing > 0
    clock = measure_clock(snapshots, WAVES, measure, "5-point")
    assert clock.tells and clock.error < 0.01
    assert abs(clock.factor - 1) < 4 * clock.error
