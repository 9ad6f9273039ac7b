"""Independent snapshots are told to be so; copies are named, and frames of runs are put together."""

import numpy as np
import pytest

from p2d.fields import Grid
from p2d.snapshots.dependence import SUMMED, find_copies, measure_dependence
from tests.snapshots.helpers import patterns

SIZE = 32
GRIDS = [Grid((SIZE, SIZE), edges=edges) for edges in (("periodic",) * 2, ("open",) * 2, ("mirror", "periodic"))]


def alone(count: int) -> np.ndarray:
    return np.arange(count)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "-".join(grid.edges))
@pytest.mark.parametrize("count", [12, 32])
def test_independent_snapshots_are_seldom_called_dependent(grid, count):
    results = [measure_dependence(patterns(count, SIZE, seed=seed), grid, alone(count)) for seed in range(12)]
    assert sum(result.is_seen for result in results) == 0
    assert all(result.copies == [] for result in results)
    assert np.mean([result.effective for result in results]) > 0.9 * count
    z = np.array([result.z for result in results])
    assert abs(z[:, 1].mean()) < 0.9  # the null is what independent snapshots do
    assert 0.4 < z[:, 1].std() < 1.8


@pytest.mark.parametrize("shuffled", [False, True])
def test_frames_of_runs_are_put_together_in_any_order(shuffled):
    run = np.repeat(range(10), 6)
    order = np.random.default_rng(0).permutation(60) if shuffled else alone(60)
    result = measure_dependence(patterns(10, each=6, memory=0.95)[order], GRIDS[0], alone(60))
    assert result.is_seen
    assert result.are_told
    same = run[order][:, None] == run[order]
    np.testing.assert_array_equal(result.runs[:, None] == result.runs, same)
    assert 8 < result.effective < 20


def test_frames_of_runs_that_are_known_are_independent_of_others():
    run = np.repeat(range(12), 5)
    result = measure_dependence(patterns(12, each=5, memory=0.95), GRIDS[0], run)
    assert not result.is_seen
    np.testing.assert_array_equal(result.runs, run)
    assert 10 < result.effective <= 12
    # the second half of the runs are frames of the first half's
    wrong = run * 2 + np.arange(60) % 5 // 3
    assert measure_dependence(patterns(12, each=5, memory=0.95), GRIDS[0], wrong).is_seen


def test_neighbours_that_remember_a_little_are_counted_in_stretches():
    states = patterns(6, each=40, memory=0.8, size=24, wave=0.15, width=0.05)
    result = measure_dependence(states, Grid((24, 24)), alone(240))
    assert result.z[0] > SUMMED
    assert result.effective < 150
    assert len(np.unique(result.runs)) < 160


def test_copies_are_named_however_they_were_moved():
    states = patterns(20, SIZE)
    states[3] = states[11]
    states[5] = np.roll(states[12], (4, 9), axis=(1, 2))
    states[7] = np.rot90(states[13], axes=(1, 2))
    states[8] = np.roll(states[14].transpose(0, 2, 1), 3, axis=1)
    pairs = [(3, 11), (5, 12), (7, 13), (8, 14)]
    assert find_copies(states.astype(np.float32), GRIDS[0]) == pairs
    result = measure_dependence(states, GRIDS[0], alone(20))
    assert result.copies == pairs
    assert not result.is_seen  # but for the copies
    assert all(result.runs[i] == result.runs[j] for i, j in pairs)
    assert len(np.unique(result.runs)) == 16


def test_copies_within_a_run_are_no_news():
    states = np.repeat(patterns(10, SIZE), 2, axis=0)
    assert measure_dependence(states, GRIDS[0], np.repeat(range(10), 2)).copies == []
    assert len(measure_dependence(states, GRIDS[0], alone(20)).copies) == 10


def test_few_snapshots_and_one_dimension_are_left_alone():
    assert not measure_dependence(patterns(5, SIZE), GRIDS[0], alone(5)).is_seen
    line = patterns(24, SIZE)[:, :, :1]
    assert not measure_dependence(line, Grid((1, SIZE)), alone(24)).is_seen
