"""Averages of an ensemble against closed forms; whether they change, against what is known of Student's t."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from torch.testing import assert_close

from p2d import observables as ensemble
from p2d.observables import FEWEST, OBSERVED, change, largest_z, moments, observe, say_change

MODES = [(16, 24, 1, 0), (16, 24, 0, 5), (15, 9, 3, 2), (1, 12, 0, 1), (64, 64, 7, 30)]
UNKNOWN = {"z": None, "average": None, "relative": None, "stationary": None}


def by_name(observed: np.ndarray) -> dict[str, float]:
    return dict(zip(OBSERVED, observed.tolist(), strict=True))


# Averages


@pytest.mark.parametrize(("height", "width", "rows", "columns"), MODES)
def test_averages_of_a_fourier_mode_are_exact(height, width, rows, columns):
    i, j = np.mgrid[:height, :width]
    wave = np.cos(2 * np.pi * (rows * i / height + columns * j / width) + 0.7)
    u0, u1, v0, v1 = 0.6, 0.2, 0.3, -0.1
    # <wave> = <wave^3> = 0 and <wave^2> = 1/2, as neither once nor twice nor three times the mode is constant; forward
    # differences of a wave of amplitude 1 have the mean square 2 sin^2(pi k / n)
    slope = 2 * np.sin(np.pi * rows / height) ** 2 + 2 * np.sin(np.pi * columns / width) ** 2
    expected = {
        "u": u0,
        "v": v0,
        "u^2": u0**2 + u1**2 / 2,
        "v^2": v0**2 + v1**2 / 2,
        "u v^2": u0 * (v0**2 + v1**2 / 2) + u1 * v0 * v1,
        "|grad v|^2": v1**2 * slope,
    }
    state = np.stack([u0 + u1 * wave, v0 + v1 * wave])
    found = by_name(observe(state[None])[0])
    assert found.keys() == expected.keys()
    # float64: sums of some thousand numbers below 1
    assert_close(list(found.values()), list(expected.values()), rtol=1e-13, atol=1e-15)


def test_each_state_has_its_own_averages_in_float64():
    states = np.random.default_rng(0).random((5, 2, 11, 6), dtype=np.float32)
    found = observe(states)
    assert found.shape == (5, len(OBSERVED))
    assert found.dtype == np.float64
    for state, averages in zip(states.astype(np.float64), found, strict=True):
        assert_allclose(averages, observe(state[None])[0], rtol=0, atol=0)
        assert_allclose(averages[4], (state[0] * state[1] ** 2).mean(), rtol=1e-14)


def test_averages_do_not_change_with_shifts_and_quarter_turns():
    state = np.random.default_rng(1).random((1, 2, 8, 13))
    for other in (np.roll(state, (3, 5), (-2, -1)), np.rot90(state, axes=(-2, -1)), state[..., ::-1]):
        assert_allclose(observe(other), observe(state), rtol=1e-13)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 7), (12, 5)])
def test_moments_are_those_over_all_cells(height, width):
    states = np.random.default_rng(2).random((9, 2, height, width)) * [[[0.3]], [[0.02]]] + [[[0.5]], [[0.1]]]
    found = moments(observe(states))
    u, v = states[:, 0], states[:, 1]
    # E x^2 - (E x)^2 loses about (mean / spread)^2 = 400 units in the last place
    expected = {"mean_u": u.mean(), "mean_v": v.mean(), "std_u": u.std(), "std_v": v.std()}
    assert found.keys() == expected.keys()
    assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1.0])
def test_moments_of_a_uniform_state_have_no_spread_and_are_no_nan(value):
    found = moments(observe(np.full((3, 2, 7, 7), value)))
    # the root of what rounding leaves of v^2 - v^2, 1e-16
    assert_allclose(list(found.values()), [value, value, 0, 0], rtol=1e-14, atol=3e-8)


def test_moments_of_no_states_are_zero():
    assert moments(np.empty((0, len(OBSERVED)))) == {"mean_u": 0, "mean_v": 0, "std_u": 0, "std_v": 0}


# Change


def alternating(runs: int, spread: float, shift: float) -> np.ndarray:
    """Differences whose mean is `shift` and whose standard deviation is spread * sqrt(runs / (runs - 1))."""
    return shift + spread * np.resize([1.0, -1.0], runs)


@pytest.mark.parametrize("runs", [8, 16, 100])
@pytest.mark.parametrize("average", range(len(OBSERVED)))
@pytest.mark.parametrize("shift", [0.02, -0.003, 0.0005])
def test_the_z_score_of_a_known_shift_is_exact(runs, average, shift):
    rng = np.random.default_rng(3)
    before = rng.random((runs, len(OBSERVED)))  # runs that are far apart do not blur the change of each
    after = before.copy()
    after[:, average] += alternating(runs, 0.01, shift)
    found = change(before, after)
    z = shift / (0.01 / np.sqrt(runs - 1))
    assert found["average"] == OBSERVED[average]
    assert found["z"] == round(z, 2)
    assert found["stationary"] == (abs(z) < largest_z(runs))
    assert_allclose(found["relative"], shift / after[:, average].mean(), rtol=1e-9)  # differences of numbers about 1


def test_the_largest_score_by_size_is_told():
    before = np.full((10, len(OBSERVED)), 0.5)
    after = before.copy()
    for average, shift in ((0, 0.02), (2, -0.05), (5, 0.04)):
        after[:, average] += alternating(10, 0.01, shift)
    found = change(before, after)
    assert (found["average"], found["z"]) == ("u^2", -15.0)  # 0.05 / (0.01 / 3)


@pytest.mark.parametrize("runs", [0, 1, FEWEST - 1])
def test_few_runs_leave_it_open(runs):
    averages = np.random.default_rng(4).random((2, runs, len(OBSERVED)))
    assert change(*averages) == UNKNOWN
    assert change(*np.random.default_rng(4).random((2, FEWEST, len(OBSERVED)))).keys() == UNKNOWN.keys()


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_averages_that_are_the_same_in_all_runs_are_stationary(level):
    averages = np.full((9, len(OBSERVED)), level)
    with np.errstate(all="raise"):
        found = change(averages, averages)
    assert (found["z"], found["relative"], found["stationary"]) == (0, 0, True)


def test_a_change_that_is_the_same_in_all_runs_is_no_division_by_zero():
    before = np.full((9, len(OBSERVED)), 0.25)
    after = before.copy()
    after[:, 3] = 0.5
    with np.errstate(all="raise"):
        found = change(before, after)
    assert np.isfinite(found["z"])
    assert (found["average"], found["relative"], found["stationary"]) == ("v^2", 0.5, False)


def test_what_rounding_does_to_constant_averages_is_no_change():
    before = np.full((20, len(OBSERVED)), 0.9)
    after = before * (1 + 1e-15)
    assert change(before, after)["stationary"]


@pytest.mark.parametrize("runs", [8, 16, 100])
def test_false_alarms_are_as_many_as_they_should_be(monkeypatch, runs):
    rng = np.random.default_rng(5)
    draws = 20_000
    before, noise = 0.5, 0.01 * rng.standard_normal((draws, runs, len(OBSERVED)))
    monkeypatch.setattr(ensemble, "FALSE_ALARMS", 0.01)  # 200 of the draws: enough to count
    limit = largest_z(runs)
    alarms = sum(not change(np.full_like(one, before), before + one)["stationary"] for one in noise)
    # six independent averages, each Student's t of runs - 1 degrees of freedom: just under 0.01
    rate = 1 - (1 - 2 * stats.t.sf(limit, runs - 1)) ** len(OBSERVED)
    low, high = stats.binom.interval(1 - 1e-6, draws, rate)
    assert low <= alarms <= high


# Words


@pytest.mark.parametrize(
    ("found", "steps", "told"),
    [
        (UNKNOWN, 30, "30 steps: too few steps or living runs to tell whether it is stationary"),
        (
            {"z": 1.84, "average": "v", "relative": 0.01, "stationary": True},
            10_000,
            "10,000 steps: stationary (largest |z| 1.8)",
        ),
        (
            {"z": -3.1, "average": "u", "relative": -0.01, "stationary": True},
            0,
            "0 steps: stationary (largest |z| 3.1)",
        ),
        (
            {"z": 9.2, "average": "v", "relative": 0.1234, "stationary": False},
            2000,
            "2,000 steps: still changing, z = 9 (mean of v +12 % over their second half)",
        ),
        (
            {"z": -41.0, "average": "|grad v|^2", "relative": -0.00321, "stationary": False},
            1_000_000,
            "1,000,000 steps: still changing, z = -41 (mean of |grad v|^2 -0.32 % over their second half)",
        ),
    ],
)
def test_a_change_is_told_in_words(found, steps, told):
    assert say_change(found, steps) == told
