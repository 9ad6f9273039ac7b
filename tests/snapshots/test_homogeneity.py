"""Cells alike over an ensemble are told to be so, a seed in the middle is not; runs that change are told."""

import numpy as np
import pytest

from p2d.fields import Grid
from p2d.snapshots.homogeneity import BY_CHANCE, SEEN, measure_drift, measure_inhomogeneity
from tests.snapshots.helpers import patterns

SIZE = 32
GRID = Grid((SIZE, SIZE))
DISTANCE = np.hypot(*(np.indices((SIZE, SIZE)) - SIZE // 2))


@pytest.mark.parametrize("count", [12, 40])
def test_patterns_anywhere_are_homogeneous(count):
    z = [measure_inhomogeneity(patterns(count, SIZE, seed, wave=0.08), GRID, np.arange(count)) for seed in range(20)]
    assert max(z) < SEEN
    assert abs(np.mean(z)) < 0.6
    assert 0.6 < np.std(z) < 1.4


def test_a_middle_that_differs_is_told_by_its_mean_or_by_its_contrast():
    states = patterns(32, SIZE, wave=0.08)
    middle = np.exp(-((DISTANCE / 8) ** 2))
    runs = np.arange(32)
    assert measure_inhomogeneity(states + 0.1 * middle, GRID, runs) > SEEN
    assert measure_inhomogeneity(0.5 + (states - 0.5) * (1 + 0.6 * middle), GRID, runs) > SEEN
    assert measure_inhomogeneity(states + 0.1 * middle, Grid((SIZE, SIZE), edges=("open", "open")), runs) == 0.0


def test_frames_of_one_run_are_counted_once():
    states, runs = np.repeat(patterns(12, SIZE, wave=0.08), 16, axis=0), np.repeat(range(12), 16)
    assert measure_inhomogeneity(states, GRID, runs) < SEEN
    assert measure_inhomogeneity(states, GRID, np.arange(len(runs))) > SEEN


def test_runs_that_grow_are_told_and_runs_that_wander_are_not():
    runs = np.repeat(range(24), 4)
    p = [measure_drift(patterns(24, each=4, memory=0.9, seed=seed), GRID, runs) for seed in range(12)]
    assert min(p) > BY_CHANCE
    assert 0.25 < np.mean(p) < 0.75
    growth = 1 + 0.02 * np.tile(range(4), 24)[:, None, None, None]
    assert measure_drift(0.5 + (patterns(24, each=4, memory=0.9) - 0.5) * growth, GRID, runs) <= BY_CHANCE
    assert measure_drift(patterns(24, SIZE), GRID, np.arange(24)) == 1.0
