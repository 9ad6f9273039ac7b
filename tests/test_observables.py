"""Averages of an ensemble against closed forms; whether they change, against what is known of Student's t."""

import dataclasses
import functools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from torch.testing import assert_close

from p2d import observables
from p2d.fields import Grid, Mask
from p2d.observables import FEWEST, Change, Ensemble, Sums, averages, largest_z, names

MODES = [(16, 24, 1, 0), (16, 24, 0, 5), (15, 9, 3, 2), (1, 12, 0, 1), (64, 64, 7, 30)]
SPECIES = ("u", "v")
NAMES = ("u", "v", "u^2", "v^2", "|grad u|^2", "|grad v|^2", "u v")


def observe(states: np.ndarray, **grid) -> np.ndarray:
    return averages(states, Grid(states.shape[-2:], **grid))


def sums(before: np.ndarray, after: np.ndarray, species: tuple[str, ...] = SPECIES) -> Sums:
    every = np.ones(len(after), bool)
    return Sums.over(before, after, every, every, len(species))


def change(before: np.ndarray, after: np.ndarray, species: tuple[str, ...] = SPECIES) -> Change:
    return Change.between(sums(before, after, species), species)


def moments(living: np.ndarray, species: tuple[str, ...] = SPECIES) -> Ensemble:
    return Ensemble.of(dataclasses.replace(sums(living, living, species), samples=99), species, Change())


def by_name(observed: np.ndarray, species: tuple[str, ...] = SPECIES) -> dict[str, float]:
    return dict(zip(names(species), observed.tolist(), strict=True))


# Averages


@pytest.mark.parametrize("edges", [("periodic", "periodic"), ("mirror", "periodic"), ("open", "mirror")])
@pytest.mark.parametrize("shape", [(1, 16, 24), (3, 40, 25), (2, 1, 300), (1, 2, 1)])
def test_averages_in_one_pass_are_to_the_last_bit_those_of_tiles(shape, edges):
    states = np.random.default_rng(0).normal(3, 1, (4, *shape)).astype(np.float32)
    cells = np.random.default_rng(1).random(shape[1:]) < 0.9
    for mask in (None, Mask.of(cells)):
        for dtype, spacing in ((np.float32, 1.0), (np.float64, 0.3)):
            grid = Grid(shape[1:], spacing, edges, mask=mask)
            once, tiles = averages(states.astype(dtype), grid), averages(states.astype(dtype), grid, shape[1:])
            np.testing.assert_array_equal(once, tiles)


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
        "|grad u|^2": u1**2 * slope,
        "|grad v|^2": v1**2 * slope,
        "u v": u0 * v0 + u1 * v1 / 2,
    }
    state = np.stack([u0 + u1 * wave, v0 + v1 * wave])
    found = by_name(observe(state[None])[0])
    assert found.keys() == expected.keys()
    # float64: sums of some thousand numbers below 1
    assert_close(list(found.values()), list(expected.values()), rtol=1e-13, atol=1e-15)


def test_each_state_has_its_own_averages_in_float64():
    states = np.random.default_rng(0).random((5, 2, 11, 6), dtype=np.float32)
    found = observe(states)
    assert found.shape == (5, len(NAMES))
    assert found.dtype == np.float64
    for state, own in zip(states.astype(np.float64), found, strict=True):
        assert_allclose(own, observe(state[None])[0], rtol=0, atol=0)
        assert_allclose(own[6], (state[0] * state[1]).mean(), rtol=1e-14)


def test_averages_do_not_change_with_shifts_and_quarter_turns():
    state = np.random.default_rng(1).random((1, 2, 8, 13))
    for other in (np.roll(state, (3, 5), (-2, -1)), np.rot90(state, axes=(-2, -1)), state[..., ::-1]):
        assert_allclose(observe(other), observe(state), rtol=1e-13)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 7), (12, 5)])
def test_moments_are_those_over_all_cells(height, width):
    states = np.random.default_rng(2).random((9, 2, height, width)) * [[[0.3]], [[0.02]]] + [[[0.5]], [[0.1]]]
    ensemble = moments(observe(states))
    u, v = states[:, 0], states[:, 1]
    assert list(ensemble.mean) == list(ensemble.std) == ["u", "v"]
    assert (ensemble.samples, ensemble.alive) == (99, 9)
    # rounded to nine digits
    assert_allclose([*ensemble.mean.values()], [u.mean(), v.mean()], rtol=6e-9)
    assert_allclose([*ensemble.std.values()], [u.std(), v.std()], rtol=6e-9)
    told = {"mean_u", "mean_v", "std_u", "std_v", "samples", "alive", "change"}
    assert ensemble.to_dict().keys() == told
    assert Ensemble.from_dict(ensemble.to_dict()) == ensemble


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-9), (0.0, 1e9), (40.0, 80.0), (-300.0, 0.01)])
def test_moments_and_changes_do_not_depend_on_the_unit(offset, scale):
    rng = np.random.default_rng(7)
    before, after = rng.random((2, 20, 1, 6, 5))
    after += 0.2
    in_unit = [observe(offset + scale * states) for states in (before, after)]
    ensemble = moments(in_unit[1], ("x",))
    # E x^2 - (E x)^2 loses (mean / spread)^2 < 10^10 units in the last place, 1e-16
    assert_allclose(ensemble.mean["x"], offset + scale * after.mean(), rtol=6e-9)
    assert_allclose(ensemble.std["x"], scale * after.std(), rtol=1e-6)
    plain = change(observe(before), observe(after), ("x",))
    assert (plain.average, plain.stationary) == ("x^2", False)
    if not offset:
        assert change(*in_unit, ("x",)) == Change(plain.z, "x^2", pytest.approx(plain.relative), False)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1.0])
def test_moments_of_a_uniform_state_have_no_spread_and_are_no_nan(value):
    ensemble = moments(observe(np.full((3, 2, 7, 7), value)))
    assert_allclose([*ensemble.mean.values()], [value, value], rtol=6e-9)
    # the root of what rounding leaves of v^2 - v^2, 1e-16
    assert_allclose([*ensemble.std.values()], [0, 0], atol=3e-8)


def test_moments_of_no_states_are_zero():
    zeros = {"u": 0, "v": 0}
    assert moments(np.empty((0, len(NAMES)))) == Ensemble(99, 0, zeros, zeros, Change())


@pytest.mark.parametrize("species", [("x",), ("u", "v"), ("prey", "predator", "top_predator"), tuple("abcdefgh")])
def test_every_species_and_every_pair_has_its_averages(species):
    states = np.random.default_rng(8).normal(size=(2, len(species), 6, 9))
    found = by_name(observe(states)[1], species)
    fields = dict(zip(species, states[1], strict=True))
    expected = {}
    for s, c in fields.items():
        expected[s], expected[f"{s}^2"] = c.mean(), (c * c).mean()
        steps = [np.roll(c, -1, axis) - c for axis in (0, 1)]
        expected[f"|grad {s}|^2"] = (steps[0] ** 2 + steps[1] ** 2).mean()
    for n, a in enumerate(species):
        for b in species[n + 1 :]:
            expected[f"{a} {b}"] = (fields[a] * fields[b]).mean()
    assert found.keys() == expected.keys()
    assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
def test_gradients_are_by_unit_of_length(spacing):
    states = np.random.default_rng(9).random((2, 2, 6, 9))
    factors = [1, 1, 1, 1, spacing**-2, spacing**-2, 1]
    assert_allclose(observe(states, spacing=spacing), observe(states) * factors, rtol=1e-14)


@pytest.mark.parametrize(
    ("edges", "across"), [(("mirror", "periodic"), False), (("periodic", "mirror"), True), (("mirror", "mirror"), None)]
)
def test_no_gradient_leads_over_a_mirror_edge(edges, across):
    rows, columns = np.mgrid[:6, :9].astype(float)
    # ramps: down by 2 and to the right by 3 a cell; a periodic edge is a cliff
    down = 4 * 5 / 6 if edges[0] == "mirror" else (4 * 5 + 10**2) / 6
    right = 9 * 8 / 9 if edges[1] == "mirror" else (9 * 8 + 24**2) / 9
    assert across is None or (right > down) == (not across)
    (found,) = observe((2 * rows + 3 * columns)[None, None], edges=edges)
    assert_allclose(by_name(found, ("x",))["|grad x|^2"], down + right, rtol=1e-14)


def test_gradients_at_open_edges_are_taken_on_the_interior():
    states = np.random.default_rng(10).random((3, 2, 6, 9))
    found = observe(states, edges=("open", "open"))
    inside = states[:, :, 1:-1, 1:-1]
    squares = (states[:, :, 2:, 1:-1] - inside) ** 2 + (states[:, :, 1:-1, 2:] - inside) ** 2
    assert_allclose(found[:, 4:6], squares.mean(axis=(2, 3)), rtol=1e-13)
    kept = [0, 1, 2, 3, 6]
    assert_allclose(found[:, kept], observe(states)[:, kept], rtol=1e-14)


def test_averages_over_tiles_are_parts_of_those_over_the_grid():
    states = np.random.default_rng(11).random((3, 2, 6, 8))
    grid = Grid((6, 8))
    tiles = averages(states, grid, (2, 4)).reshape(3, 6, len(NAMES))
    assert_allclose(tiles.mean(axis=1), averages(states, grid), rtol=1e-13)
    # the second tile of the first row: rows 0 and 1, columns 4 to 7
    assert_allclose(tiles[:, 1, 0], states[:, 0, :2, 4:].mean(axis=(1, 2)), rtol=1e-14)


@pytest.mark.parametrize(("height", "width"), [(1, 9), (9, 1)])
def test_averages_in_one_dimension_know_no_other_axis(height, width):
    states = np.random.default_rng(12).random((2, 1, height, width))
    line = states.reshape(2, 9)
    found = by_name(observe(states)[1], ("x",))
    assert_allclose(found["|grad x|^2"], ((np.roll(line, -1, 1) - line) ** 2).mean(axis=1)[1], rtol=1e-14)


# Change


def alternating(runs: int, spread: float, shift: float) -> np.ndarray:
    """Differences whose mean is `shift` and whose standard deviation is spread * sqrt(runs / (runs - 1))."""
    return shift + spread * np.resize([1.0, -1.0], runs)


@pytest.mark.parametrize("runs", [8, 16, 100])
@pytest.mark.parametrize("average", range(len(NAMES)))
@pytest.mark.parametrize("shift", [0.02, -0.003, 0.0005])
def test_the_z_score_of_a_known_shift_is_exact(runs, average, shift):
    rng = np.random.default_rng(3)
    before = rng.random((runs, len(NAMES)))  # runs that are far apart do not blur the change of each
    after = before.copy()
    after[:, average] += alternating(runs, 0.01, shift)
    found = change(before, after)
    z = shift / (0.01 / np.sqrt(runs - 1))
    assert found.average == NAMES[average]
    assert found.z == round(z, 2)
    assert found.stationary == (abs(z) < largest_z(runs, len(NAMES)))
    assert_allclose(found.relative, shift / after[:, average].mean(), rtol=1e-9)  # differences of numbers about 1


def test_the_largest_score_by_size_is_told():
    before = np.full((10, len(NAMES)), 0.5)
    after = before.copy()
    for average, shift in ((0, 0.02), (2, -0.05), (5, 0.04)):
        after[:, average] += alternating(10, 0.01, shift)
    found = change(before, after)
    assert (found.average, found.z) == ("u^2", -15.0)  # 0.05 / (0.01 / 3)


@pytest.mark.parametrize("runs", [0, 1, FEWEST - 1])
def test_few_runs_leave_it_open(runs):
    assert change(*np.random.default_rng(4).random((2, runs, len(NAMES)))) == Change(None, None, None, None)
    assert change(*np.random.default_rng(4).random((2, FEWEST, len(NAMES)))).z is not None


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_averages_that_are_the_same_in_all_runs_are_stationary(level):
    same = np.full((9, len(NAMES)), level)
    with np.errstate(all="raise", under="ignore"):
        found = change(same, same)
    assert (found.z, found.relative, found.stationary) == (0, 0, True)


def test_a_change_that_is_the_same_in_all_runs_is_no_division_by_zero():
    before = np.full((9, len(NAMES)), 0.25)
    after = before.copy()
    after[:, 3] = 0.5
    with np.errstate(all="raise"):
        found = change(before, after)
    assert np.isfinite(found.z)
    assert (found.average, found.relative, found.stationary) == ("v^2", 0.5, False)


def test_what_rounding_does_to_constant_averages_is_no_change():
    before = np.full((20, len(NAMES)), 0.9)
    after = before * (1 + 1e-15)
    assert change(before, after).stationary


def test_what_rounding_does_to_a_mean_near_zero_is_no_change():
    before = np.full((20, len(NAMES)), 0.9)
    before[:, 0] = 1e-13
    after = before.copy()
    after[:, 0] *= -1  # of a species whose values are about 1
    assert change(before, after).stationary


@pytest.mark.parametrize("runs", [8, 16, pytest.param(100, marks=pytest.mark.slow)])
def test_false_alarms_are_as_many_as_they_should_be(monkeypatch, runs):
    rng = np.random.default_rng(5)
    draws = 2_000
    before, noise = 0.5, 0.01 * rng.standard_normal((draws, runs, len(NAMES)))
    monkeypatch.setattr(observables, "FALSE_ALARMS", 0.05)  # 100 of the draws: enough to count
    monkeypatch.setattr(observables, "largest_z", functools.cache(largest_z))  # asked for in each draw
    limit = largest_z(runs, len(NAMES))
    alarms = sum(not change(np.full_like(one, before), before + one).stationary for one in noise)
    # seven independent averages, each Student's t of runs - 1 degrees of freedom: just under 0.05
    rate = 1 - (1 - 2 * stats.t.sf(limit, runs - 1)) ** len(NAMES)
    low, high = stats.binom.interval(1 - 1e-6, draws, rate)
    assert low <= alarms <= high


# Words


@pytest.mark.parametrize(
    ("found", "steps", "told"),
    [
        (Change(), 30, "too few steps (30) or living runs to tell whether averages still change"),
        (
            Change(1.84, "v", 0.01, True),
            10_000,
            "after 10,000 steps averages stay as they are (largest change 1.8 standard errors)",
        ),
        (
            Change(-3.1, "u", -0.01, True),
            0,
            "after 0 steps averages stay as they are (largest change 3.1 standard errors)",
        ),
        (
            Change(9.2, "v", 0.1234, False),
            2000,
            "after 2,000 steps averages still change (mean of v +12 % over their second half, 9 standard errors); "
            "take --steps 4000",
        ),
        (
            Change(-41.0, "|grad v|^2", -0.00321, False),
            1_000_000,
            "after 1,000,000 steps averages still change (mean of |grad v|^2 -0.32 % over their second half, "
            "41 standard errors); "
            "take --steps 2000000",
        ),
    ],
)
def test_a_change_is_told_in_words(found, steps, told):
    assert found.text(steps) == told


@pytest.mark.parametrize(
    ("runs", "count", "expected"), [(8, 7, 8.8), (10_000, 7, 4.1), (10_000, 3, 3.9), (10_000, 52, 4.5)]
)
def test_the_largest_z_is_students_over_all_averages(runs, count, expected):
    assert_allclose(largest_z(runs, count), expected, atol=0.1)
    assert_allclose(count * 2 * stats.t.sf(largest_z(runs, count), runs - 1), 1 / 3000, rtol=1e-9)
