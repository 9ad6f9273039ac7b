"""Pixels that do not say what was there are told from states at rest."""

import numpy as np

from p2d.fields import Grid
from p2d.snapshots.pixels import find_constant, find_hot, measure_ends
from p2d.snapshots.rounding import measure_rounding
from tests.snapshots.helpers import patterns

SIZE = 32
GRID = Grid((SIZE, SIZE))
STATES = patterns(24, SIZE)


def resting(steepness: float) -> np.ndarray:
    """Two states, 0 and 1, that are come to exponentially."""
    return 1 / (1 + np.exp(steepness * (patterns(24, SIZE, wave=0.05, width=0.015) - 0.5)))


def rounded(states: np.ndarray) -> np.ndarray:
    return np.round(255 * (states - states.min()) / np.ptp(states))


def test_what_is_cut_off_is_found_at_either_end():
    for level in (0.99, 0.9):
        cut = np.minimum(STATES, np.quantile(STATES[:, 0], level))
        own, other = measure_ends(cut, GRID, (0.0, 0.0))
        np.testing.assert_allclose(own.high, 1 - level, rtol=0.1)
        assert own.low == other.low == own.background == 0
    cut = rounded(np.maximum(STATES[:, :1], np.quantile(STATES[:, 0], 0.1)))
    (ends,) = measure_ends(cut, GRID, measure_rounding(cut, GRID).steps)
    np.testing.assert_allclose(ends.low, 0.1, rtol=0.1)


def test_patterns_and_states_at_rest_are_not_cut_off():
    for states in (STATES, resting(60).astype(np.float32), rounded(STATES), rounded(resting(16))):
        for ends in measure_ends(states, GRID, measure_rounding(states, GRID).steps):
            assert (ends.low, ends.high, ends.background) == (0, 0, 0)


def test_a_background_between_the_ends_is_found():
    states = STATES.copy()
    states[..., :10, :] = 0.42
    for states_of in (states, rounded(states)):
        ends = measure_ends(states_of, GRID, measure_rounding(states_of, GRID).steps)
        for own in ends:
            np.testing.assert_allclose(own.background, 10 / SIZE, rtol=0.1)


def test_cells_left_out_are_not_looked_at():
    states = np.minimum(STATES, np.quantile(STATES, 0.9))
    without = np.ones((SIZE, SIZE), bool)
    without[:2, :2] = False
    untouched = STATES.copy()
    untouched[..., 2:, :] = states[..., 2:, :]
    untouched[..., :, 2:] = states[..., :, 2:]
    assert all(ends.high == 0 for ends in measure_ends(untouched, GRID, (0.0, 0.0), without))


def test_constant_cells_are_those_beside_cells_that_vary():
    states = STATES.copy()
    states[:, :, 3:6, 4:9] = 0.3
    expected = np.zeros((SIZE, SIZE), bool)
    expected[3:6, 4:9] = True
    np.testing.assert_array_equal(find_constant(states, GRID), expected)
    fading = 0.5 + (STATES - 0.5) * np.exp(-np.arange(SIZE))[:, None]  # comes to rest little by little
    assert not find_constant(fading, GRID).any()
    assert not find_constant(np.repeat(STATES[:1], 8, axis=0), GRID).any()
    assert not find_constant(states[:3], GRID).any()


def test_hot_cells_are_found_by_their_place():
    states = STATES.copy()
    states[:, 1, 10, 20] += states[:, 1].std()
    assert np.argwhere(find_hot(states, GRID)).tolist() == [[10, 20]]
    for seed in range(1, 9):
        assert not find_hot(patterns(12, SIZE, seed), GRID).any()
