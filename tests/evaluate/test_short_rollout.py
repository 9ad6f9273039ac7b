"""One snapshot carried on: beside the true system, alone, and beside the frames of a film."""

from dataclasses import replace

import numpy as np
import pytest

from p2d.evaluate.short_rollout import FRAMES, roll_out_shortly
from p2d.fields import Grid, Scaling
from p2d.flow.model import Flow
from p2d.snapshots import made as derived
from p2d.snapshots.schema import Labels
from p2d.systems.reading import load_system
from p2d.systems.system import System

from ..discovery.test_result import discovery
from .helpers import CONCENTRATIONS, SCALING, dataset_of, linear_field, patterns

CHAOS = load_system("gray_scott").at("chaos")
HEAT = System("heat", {"u": "0.2*lap(u) - 0.1*u", "v": "0.1*lap(v) + 0.05*u"})


def equation_of(system: System, **others):
    """A system as if it had been discovered, without errors."""
    errors = {s: dict.fromkeys(terms, 0.0) for s, terms in system.terms.items()}
    intervals = {s: {t: (c, c) for t, c in terms.items()} for s, terms in system.terms.items()}
    return discovery(terms=system.terms, errors=errors, intervals=intervals, noise=(0.0, 0.0), **others)


@pytest.fixture(scope="module")
def states():
    return patterns(12, 16, 16) * np.float32([[[[1.0]], [[0.4]]]])


def test_the_true_equation_goes_where_the_true_system_goes(states, tmp_path):
    dataset = dataset_of(states, tmp_path, CHAOS)
    short = roll_out_shortly(dataset, np.array([3, 7]), equation_of(CHAOS), None)
    assert list(short.frames) == ["true system", "equation"] and short.sample == 3
    assert short.times[0] == 0 and len(short.times) == FRAMES + 1 and short.clock.step == CHAOS.run.dt
    true, own = short.frames.values()
    assert true.shape == (FRAMES + 1, 2, 16, 16)
    np.testing.assert_array_equal(true[0], states[3])
    assert np.abs(true[-1] - true[0]).max() > 0.1  # it has moved on
    np.testing.assert_allclose(own, true, atol=0.02)  # explicit steps beside Heun's
    assert min(short.cosine) > 0.99


def test_of_an_unknown_system_the_equation_alone_is_shown_in_its_own_time(states, tmp_path):
    dataset = dataset_of(states, tmp_path)
    short = roll_out_shortly(dataset, np.array([3]), equation_of(HEAT), None)
    assert list(short.frames) == ["equation"] and short.cosine == ()
    # The mean of u decays at rate 0.1 whatever its pattern does.
    means = short.frames["equation"][:, 0].mean(axis=(1, 2), dtype=float)
    np.testing.assert_allclose(means, means[0] * np.exp(-0.1 * np.array(short.clock.of(short.times))), rtol=3e-3)


def test_a_flow_alone_is_carried_on_and_one_of_noised_states_is_not(states, tmp_path):
    dataset = dataset_of(states, tmp_path)
    flow = Flow(linear_field([0, 0], [[0, 0, 0.5, 0], [0, 0, 0, 0.25]]), SCALING).eval()
    short = roll_out_shortly(dataset, np.array([0]), None, flow)
    assert list(short.frames) == ["flow"] and short.clock.step == 0
    spread = short.frames["flow"].std(axis=(2, 3))
    assert (np.diff(spread, axis=0) < 0).all()  # diffusion damps
    flow.alpha = 0.9
    assert roll_out_shortly(dataset, np.array([0]), None, flow) is None


def test_nothing_that_moves_is_not_carried_on(states, tmp_path):
    still = System("still", {"u": "0*u", "v": "0*v"})
    assert roll_out_shortly(dataset_of(states, tmp_path), np.array([0]), equation_of(still), None) is None
    assert roll_out_shortly(dataset_of(states, tmp_path), np.array([0]), None, None) is None


def film_of(states: np.ndarray, times: list[float], folder, grid: Grid):
    """A dataset of one run with times, of no known system."""
    card = derived.first_card(
        {}, {"kind": "imported"}, CONCENTRATIONS, grid, Scaling((0.5,) * 2, (0.5,) * 2), len(states)
    )
    ids = np.arange(len(states))
    labels = {0: Labels(ids, np.zeros_like(ids), np.zeros_like(ids), np.array(times), 0, "film")}
    return derived.make(
        folder, card, labels, lambda n: derived.samples_of(states, labels[n], card), "cpu", lambda *_: None
    )


@pytest.mark.parametrize("edge", ["periodic", pytest.param("open", marks=pytest.mark.slow)])
def test_an_equation_in_the_time_of_a_film_lies_beside_its_frames(states, edge, tmp_path):
    grid, times = Grid((16, 16), edges=(edge, edge)), [0.0, 1.0, 2.5, 3.0, 4.0, 6.0]
    walls = replace(grid, edges=("periodic", "periodic") if edge == "periodic" else ("mirror", "mirror"))
    fine = [states[:1]]  # explicit steps of 0.05
    while len(fine) <= 120:
        fine.append(HEAT.advance(fine[-1], 0.05, walls))
    film = np.concatenate([fine[round(time / 0.05)] for time in times])
    dataset = film_of(film, times, tmp_path, grid)
    found = equation_of(HEAT, timed=True, time_unit="min", grid=grid)
    short = roll_out_shortly(dataset, dataset.sample_ids, found, None)
    assert list(short.frames) == ["data", "equation"] and short.clock.unit == "min"
    np.testing.assert_allclose(short.clock.of(short.times), times, atol=0.05)
    np.testing.assert_array_equal(short.frames["data"], film)
    np.testing.assert_allclose(short.frames["equation"], film, atol=2e-3)
    assert len(short.times) == len(times)
