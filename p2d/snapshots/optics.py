"""How snapshots were seen, as far as they show it themselves: whether periodic edges join.

A blur or binned pixels do not show. Beyond its peak the spectrum of a pattern falls about exponentially, and the
curvature of its logarithm over wave numbers (radians a cell) was -1.8 to 3.5 over 23 clean ensembles of the
catalogue; a Gaussian of w cells takes about w^2 off it: 1 of w = 1, 0.1 of w = 0.3. Of means over 2 x 2 cells it is
as that of clean ensembles, and so is the power that is left at the shortest waves. Only an equation tells.
"""

from __future__ import annotations

import numpy as np

from p2d.fields import Grid

RUNS, BY_CHANCE = 6, 1e-4  # fewest runs that it is told from; how often edges that join may seem not to
APART = 1.25  # times the differences between neighbours elsewhere


def measure_seams(states: np.ndarray, grid: Grid, runs: np.ndarray) -> tuple[float, float]:
    """How much larger differences across periodic edges are than between neighbours elsewhere.

    Args:
        states: [N, C, H, W].
        runs: which snapshots belong together, [N].

    Returns:
        Their ratio from row to row and from column to column; 1 unless it is more than chance makes of edges that join.
    """
    from scipy.stats import t as student  # on use: the command line must start without it

    _, run = np.unique(runs, return_inverse=True)
    ratios = [1.0, 1.0]
    if run.max() + 1 < RUNS or grid.mask is not None:
        return ratios[0], ratios[1]
    bound = student.isf(BY_CHANCE / 2 / states.shape[1], run.max())
    for axis in (axis for axis in (0, 1) if grid.edges[axis] == "periodic" and grid.shape[axis] > 2):
        across = np.abs(np.take(states, 0, axis - 2) - np.take(states, -1, axis - 2)).mean(axis=-1)
        within = np.abs(np.diff(states, axis=axis - 2)).mean(axis=(-2, -1))
        for each in np.log(np.maximum(across, 1e-30) / np.maximum(within, 1e-30)).T:
            means = np.bincount(run, each) / np.bincount(run)
            error = means.std(ddof=1) / np.sqrt(len(means))
            if means.mean() > max(np.log(APART), bound * error):
                ratios[axis] = max(ratios[axis], float(np.exp(means.mean())))
    return ratios[0], ratios[1]
