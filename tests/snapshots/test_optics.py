"""Edges that join are told from windows said to be periodic."""

import numpy as np
import pytest

from p2d.fields import Grid
from p2d.snapshots.optics import measure_seams

from .helpers import patterns

SIZE = 32


@pytest.mark.parametrize("count", [8, 40])
def test_periodic_patterns_join_and_windows_do_not(count):
    grid, runs = Grid((SIZE, SIZE)), np.arange(count)
    assert {measure_seams(patterns(count, SIZE, seed), grid, runs) for seed in range(15)} == {(1.0, 1.0)}
    windows = patterns(count, 2 * SIZE)[:, :, :SIZE, :SIZE]
    assert min(measure_seams(windows, grid, runs)) > 1.25
    assert measure_seams(windows, Grid((SIZE, SIZE), edges=("open", "open")), runs) == (1.0, 1.0)
    # periodic along rows' axis alone
    rows, columns = measure_seams(patterns(count, SIZE)[..., : SIZE - 7], Grid((SIZE, SIZE - 7)), runs)
    assert rows == 1.0
    assert columns > 1.25


def test_frames_of_few_runs_do_not_tell():
    states = np.repeat(patterns(4, SIZE)[..., :20], 10, axis=0)
    assert measure_seams(states, Grid((SIZE, 20)), np.repeat(range(4), 10)) == (1.0, 1.0)
