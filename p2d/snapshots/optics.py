"""How snapshots were seen, as far as they show it themselves: whether edges join, or repeat the first row at the end.

A blur or binned pixels do not show. Beyond its peak the spectrum of a pattern falls about exponentially, and the
curvature of its logarithm over wave numbers (radians a cell) was -1.8 to 3.5 over 23 clean ensembles of the
catalogue; a Gaussian of w cells takes about w^2 off it: 1 of w = 1, 0.1 of w = 0.3. Of means over 2 x 2 cells it is
as that of clean ensembles, and so is the power that is left at the shortest waves. Only an equation tells.
"""

from __future__ import annotations

import numpy as np

from p2d.fields import Edge, Grid

RUNS, BY_CHANCE = 6, 1e-4  # fewest runs that it is told from; how often edges that join may seem not to
APART = 1.25  # times the differences between neighbours elsewhere
# Third differences across edges over the largest elsewhere. Of 1 to 32 snapshots of seven Gray-Scott patterns those
# that join had at most 1.5; windows cut from larger fields had 2.2 and more but where nothing was at the edge of the
# only one. So there must be as much near edges as this share of what there is elsewhere, and no background.
JOINED, QUIET = 1.8, 0.25
ALIKE, MOSTLY, ELSEWHERE = 0.01, 0.5, 0.8  # share of the range, of an edge's cells, and of that share in all cells
# Beside differences of neighbours (root mean square), those of a last row from the first that it repeats, where edges
# that join have 1; and how much a row varies, at least, that is not held at a value.
REPEATED, VARIES = 1e-3, 0.1
SHORTEST = 16  # rows or columns that can be seen to join


def measure_seams(states: np.ndarray, grid: Grid, runs: np.ndarray) -> tuple[float, float]:
    """How much larger differences across periodic edges are than between neighbours elsewhere.

    Args:
        states: [N, C, H, W].
        runs: which snapshots belong together, [N].

    Returns:
        Their ratio from row to row and from column to column; 1 unless it is more than chance makes of edges that join.
    """
    from scipy.special import stdtrit  # on use: the command line must start without it

    _, run = np.unique(runs, return_inverse=True)
    ratios = [1.0, 1.0]
    if run.max() + 1 < RUNS or grid.mask is not None:
        return ratios[0], ratios[1]
    bound = -stdtrit(run.max(), BY_CHANCE / 2 / states.shape[1])
    for axis in (axis for axis in (0, 1) if grid.edges[axis] == "periodic" and grid.shape[axis] > 2):
        across = np.abs(np.take(states, 0, axis - 2) - np.take(states, -1, axis - 2)).mean(axis=-1)
        within = np.abs(np.diff(states, axis=axis - 2)).mean(axis=(-2, -1))
        for each in np.log(np.maximum(across, 1e-30) / np.maximum(within, 1e-30)).T:
            means = np.bincount(run, each) / np.bincount(run)
            error = means.std(ddof=1) / np.sqrt(len(means))
            if means.mean() > max(np.log(APART), bound * error):
                ratios[axis] = max(ratios[axis], float(np.exp(means.mean())))
    return ratios[0], ratios[1]


def find_repeats(states: np.ndarray, grid: Grid) -> tuple[bool, bool]:
    """Whether the last row, and the last column, repeat the first in all snapshots [N, C, H, W], as some solvers store.

    A row without variation repeats nothing: it is held at a value.
    """
    repeats = [False, False]
    for axis in (axis for axis in (0, 1) if grid.shape[axis] > 3 and grid.mask is None):
        x = np.moveaxis(states, axis - 2, -1)
        near, across = (_size(difference) for difference in (np.diff(x, axis=-1), x[..., -1] - x[..., 0]))
        varies = _size(x[..., 0] - x[..., 0].mean(axis=(0, 2), keepdims=True)) > VARIES * near
        repeats[axis] = bool((varies & (across <= REPEATED * near))[near > 0].all() and (near > 0).any())
    return repeats[0], repeats[1]


def choose_edges(states: np.ndarray, grid: Grid) -> tuple[Edge, Edge]:
    """The edges of rows and columns of snapshots [N, C, H, W]: periodic where they join, open where that is not sure.

    They join where third differences across them are as those between other rows; and that must mean something: across
    the edges of windows cut out of the snapshots they must not be, and something must be at the edges.
    """
    edges: list[Edge] = ["open", "open"]
    for axis in (axis for axis in (0, 1) if grid.shape[axis] >= SHORTEST and grid.mask is None):
        x = np.moveaxis(states, axis - 2, -1)
        length = x.shape[-1]
        windows = [_seam(x[..., start : start + length // 2])[0] for start in (0, length // 4, length // 2)]
        seam, beside = _seam(x)
        if seam < JOINED < np.median(windows) and beside > QUIET and not any(map(_has_frame, np.moveaxis(x, 1, 0))):
            edges[axis] = "periodic"
    rows, columns = (edges[1 - axis] if grid.shape[axis] == 1 else edges[axis] for axis in (0, 1))
    return rows, columns


def _has_frame(x: np.ndarray) -> bool:
    """Whether an end of the last axis of values [N, ..., L] is mostly of one value that is rarer elsewhere."""
    width = ALIKE * (x.max() - x.min())
    for end in (x[..., 0], x[..., -1]):
        value = np.median(end)
        share = (np.abs(end - value) <= width).mean()
        if share > MOSTLY and (np.abs(x - value) <= width).mean() < ELSEWHERE * share:
            return True
    return False


def _seam(x: np.ndarray) -> tuple[float, float]:
    """Third differences along the last axis of [N, C, ..., L], means over all species in units of their spread.

    Returns:
        The largest across the ends over the largest elsewhere, and those beside the ends over the usual ones.
    """
    joined = np.concatenate([x, x[..., :3]], axis=-1)
    sizes = np.abs(joined[..., 3:] - joined[..., :-3] - 3 * (joined[..., 2:-1] - joined[..., 1:-2]))
    spread = np.maximum(x.std(axis=(0, *range(2, x.ndim)), dtype=np.float64), 1e-300)
    place = (sizes.mean(axis=(0, *range(2, x.ndim - 1)), dtype=np.float64) / spread[:, None]).mean(axis=0)
    inner, beside = place[:-3], np.append(place[:3], place[-6:-3])
    return float(place[-3:].max() / max(inner.max(), 1e-300)), float(beside.mean() / max(np.median(inner), 1e-300))


def _size(x: np.ndarray) -> np.ndarray:
    """Root mean square of each species of differences [N, C, ...]."""
    return np.sqrt((x.astype(np.float64) ** 2).mean(axis=(0, *range(2, x.ndim))))
