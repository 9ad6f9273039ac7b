"""Whether an ensemble still changes, as far as snapshots show it: cells that differ, and runs that change.

Snapshots of one age may be as homogeneous as settled ones are; then only an equation tells that they change.
All cells of a periodic grid are alike over an ensemble once the initial states are forgotten.
Where a pattern stands is chance then: each snapshot could as well be shifted. So the mean over runs of each field, and
of its square, differs between cells by no more than those of shifted snapshots do. Where runs began from places that
chance did not choose (a seed in the middle) it shows as long as they remember.
"""

from __future__ import annotations

import numpy as np

from p2d.fields import Grid
from p2d.snapshots.mixture import PER_FEATURE, features_of, whitened

LONGEST = 4  # cycles over the grid, at most: what is left of initial states is coarse
DRAWS = 200
# Standard deviations of the draws, above their mean; as good as normal, as many waves add up.
SEEN = 5.0
FEWEST = 8  # runs
FLIPS, BY_CHANCE = 1999, 1e-3  # of the signs of changes; how often what has settled may seem to change


def measure_inhomogeneity(states: np.ndarray, grid: Grid, runs: np.ndarray) -> float:
    """Standard deviations by which the mean of cells [N, C, H, W] over runs varies more than chance lets it.

    Args:
        runs: which snapshots belong together, [N].

    Returns:
        0 where it cannot be told: with edges that are not periodic, a mask, or few runs.
    """
    _, run = np.unique(runs, return_inverse=True)
    if grid.mask is not None or set(grid.edges) != {"periodic"} or run.max() + 1 < FEWEST:
        return 0.0
    x = states.astype(np.float32)
    x = x - x.mean(axis=(0, 2, 3), keepdims=True)  # waves alone are looked at; numbers stay small
    rows, columns = np.meshgrid(np.arange(-LONGEST, LONGEST + 1), np.arange(LONGEST + 1), indexing="ij")
    low = (np.hypot(rows, columns) <= LONGEST) & ((columns > 0) | (rows > 0))
    across, along = (_waves(each, size) for each, size in zip((rows[:, 0], columns[0]), grid.shape, strict=True))
    spectrum = np.concatenate([across @ (each @ along.T) for each in (x, x**2)], axis=1)
    sums = np.zeros((run.max() + 1, spectrum.shape[1], int(low.sum())), np.complex64)
    np.add.at(sums, run, spectrum[:, :, low] / np.bincount(run)[run][:, None, None])
    power = np.maximum((np.abs(sums) ** 2).sum(axis=0), 1e-30)
    waves = np.stack([rows[low] / grid.shape[0], columns[low] / grid.shape[1]])
    rng = np.random.default_rng(0)

    def vary(phases: np.ndarray | float) -> float:
        return float((np.abs((sums * phases).sum(axis=0)) ** 2 / power).sum())

    draws = [np.exp(2j * np.pi * (rng.integers(0, grid.shape, (len(sums), 2)) @ waves)) for _ in range(DRAWS)]
    null = [vary(phases[:, None].astype(np.complex64)) for phases in draws]
    return float((vary(1.0) - np.mean(null)) / np.std(null))


def _waves(cycles: np.ndarray, size: int) -> np.ndarray:
    return np.exp(-2j * np.pi * np.outer(cycles, np.arange(size)) / size).astype(np.complex64)


def measure_drift(states: np.ndarray, grid: Grid, runs: np.ndarray) -> float:
    """How often runs that change no more look as if they changed from their first to their last snapshot.

    Args:
        states: [N, C, H, W], each run's in the order of time.
        runs: that snapshots are of, [N].

    Returns:
        1 where it cannot be told, of few runs with several snapshots.
    """
    order = np.argsort(runs, kind="stable")
    starts = np.flatnonzero(np.diff(runs[order], prepend=np.nan) != 0)
    ends = np.append(starts[1:], len(order)) - 1
    several = ends > starts
    if several.sum() < FEWEST:
        return 1.0
    features = features_of(states, grid)
    changes = features[order[ends[several]]] - features[order[starts[several]]]
    scores = whitened(changes, int(several.sum()) // PER_FEATURE, centred=False)
    rng = np.random.default_rng(0)
    signs = np.vstack([np.ones(len(scores)), rng.choice([-1.0, 1.0], (FLIPS, len(scores)))])
    sizes = ((signs @ scores) ** 2).sum(axis=1)
    return float((sizes >= sizes[0] * (1 - 1e-9)).mean())
