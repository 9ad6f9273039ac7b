"""Each fault of an ensemble is put in words, and a clean one is left alone."""

from dataclasses import asdict

import numpy as np

from p2d.fields import Grid, Mask
from p2d.snapshots.doubts import Doubt, examine
from tests.snapshots.helpers import patterns

SIZE = 32
GRID = Grid((SIZE, SIZE))
NAMES = ("u", "v")


def kinds(states: np.ndarray, grid: Grid = GRID, runs: np.ndarray | None = None) -> list[str]:
    return [doubt.kind for doubt in examine(states, NAMES, grid, runs).doubts]


def test_clean_ensembles_raise_no_doubt():
    cells = np.hypot(*(np.indices((SIZE, SIZE)) - SIZE / 2)) < 14
    for seed in range(4):
        states = patterns(40, SIZE, seed).astype(np.float32)
        assert kinds(states) == []
        assert kinds(states, Grid((SIZE, SIZE), edges=("open", "open"))) == []
        assert kinds(np.where(cells, states, np.nan), Grid((SIZE, SIZE), mask=Mask.of(cells))) == []
    assert examine(patterns(40, SIZE), NAMES, GRID).steps == (0.0, 0.0)
    assert kinds(patterns(3, SIZE)) == []


def test_rounding_is_told_with_its_steps():
    result = examine(np.round(patterns(24, SIZE) * 100) / 100, NAMES, GRID)
    np.testing.assert_allclose(result.steps, 0.01, rtol=2e-3)
    (doubt,) = result.doubts
    assert doubt.kind == "rounded"
    assert "0.01 apart" in doubt.text
    assert Doubt(**asdict(doubt)) == doubt


def test_of_a_shuffled_film_no_more_is_told_than_that():
    few, time = patterns(5, 40, seed=1), np.linspace(0, 5, 96, endpoint=False)
    weights = np.maximum(0, 1 - np.abs((time[:, None] - np.arange(5) + 2.5) % 5 - 2.5))
    frames = np.tensordot(weights, few, 1)[np.random.default_rng(0).permutation(96)]
    assert kinds(frames, Grid((40, 40))) == ["dependent"]


def test_frames_given_as_independent_are_told_with_their_runs():
    states = patterns(10, each=6, memory=0.95)
    result = examine(states, NAMES, GRID)
    (doubt,) = result.doubts
    assert doubt.kind == "dependent"
    assert "10 runs (0 to 5; 6 to 11; " in doubt.text
    np.testing.assert_array_equal(result.runs, np.repeat(range(10), 6))
    assert kinds(states, runs=np.repeat(range(10), 6)) == []


def test_copies_and_kinds_and_change_are_told():
    states = patterns(48, SIZE)
    assert kinds(np.concatenate([states, patterns(48, SIZE, 9, wave=0.15)])) == ["mixture"]
    states[5] = np.roll(states[9], 3, axis=1)
    (doubt,) = examine(states, NAMES, GRID, None).doubts
    assert doubt.text.startswith("snapshots 5 and 9 are the same")
    growth = 1 + 0.05 * np.tile(range(4), 24)[:, None, None, None]
    grown = 0.5 + (patterns(24, each=4, memory=0.9) - 0.5) * growth
    assert kinds(grown, runs=np.repeat(range(24), 4)) == ["changing"]


def test_of_what_is_not_finite_nothing_is_said():
    states = np.round(patterns(24, SIZE) * 100) / 100
    states[3, 0, 4, 4] = np.nan
    assert kinds(states) == []
