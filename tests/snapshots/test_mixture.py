"""Two kinds of snapshots are told in the order of files, and where they fall apart in any; one kind is not."""

import numpy as np
import pytest

from p2d.fields import Grid
from p2d.snapshots.mixture import measure_mixture
from tests.snapshots.helpers import patterns

SIZE = 32
GRID = Grid((SIZE, SIZE))


def mixed(first: int, second: int, wave: float, seed: int = 0) -> np.ndarray:
    return np.concatenate([patterns(first, SIZE, seed), patterns(second, SIZE, seed + 1000, wave=wave)])


def kinds(states: np.ndarray) -> str:
    return measure_mixture(states, GRID, np.arange(len(states))).how


@pytest.mark.parametrize("count", [24, 64])
def test_one_kind_is_one_kind(count):
    assert [kinds(patterns(count, SIZE, seed)) for seed in range(15)] == [""] * 15


@pytest.mark.parametrize("first, second", [(32, 32), (50, 14)])
def test_a_small_change_along_the_order_is_told_and_placed(first, second):
    result = measure_mixture(mixed(first, second, wave=0.125), GRID, np.arange(64))
    assert result.how == "order"
    assert result.p <= 1e-3
    assert abs(int(np.argmax(result.second)) - first) <= 2
    assert kinds(mixed(first, second, wave=0.125)[np.random.default_rng(0).permutation(64)]) == ""


@pytest.mark.parametrize("first, second", [(48, 48), (76, 20)])
def test_a_large_difference_is_told_in_any_order(first, second):
    order = np.random.default_rng(1).permutation(96)
    result = measure_mixture(mixed(first, second, wave=0.16)[order], GRID, np.arange(96))
    assert result.how == "gap"
    parts = order >= first
    assert min((result.second != parts).sum(), (result.second == parts).sum()) <= 1


def test_heavy_tails_are_one_kind():
    scale = np.random.default_rng(0).standard_t(2, size=(64, 1, 1, 1))
    assert kinds(patterns(64, SIZE) * np.exp(0.2 * scale)) == ""


def test_frames_of_a_run_count_once():
    states = patterns(20, each=8, memory=0.97)
    assert measure_mixture(states, GRID, np.repeat(range(20), 8)).how == ""
    assert measure_mixture(states, GRID, np.repeat(range(10), 16)).how == ""  # too few


def test_one_species_on_a_line_may_be_of_two_kinds():
    states = mixed(40, 40, wave=0.2)[:, :1, :1]
    assert measure_mixture(states, Grid((1, SIZE), edges=("open", "open")), np.arange(80)).how == "order"
