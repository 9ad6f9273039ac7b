"""Pixels that do not say what was there: saturated ones, those that are the same in all snapshots, hot ones.

A state at rest lies at an end of the range as well, but is reached little by little; a value that was cut off is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2d.fields import Grid
from p2d.snapshots.store import evenly

LOOKED_AT = 64  # snapshots
# Shares of the pixels at an end of the range (and of the range's levels), and of a background, that are worth a word.
LEAST, LEAST_OF_LEVELS, MUCH = 2e-3, 8e-3, 0.1
BINS = 256  # of a histogram
SAME, STEP = 1e-6, 1e-4  # of the range: of one value; to the next pixel of what was cut off, where rest has 1e-5
# Of values on levels (of 8 bits), steps tell less. What was cut off goes on outwards in steps that are twice the first
# as a mean, states at rest are reached in ever smaller ones: the first over the next is 0.26 to 0.50 of seven patterns
# that were cut off, 0.57 of a film, and 0.67 and more of rest. And it leaves more at the last level than at the next.
FIRST_STEP, MORE = 0.6, 2.5
SHARP = 5  # levels to the next pixel, that rest never has
CONSTANT, VARYING = 1e-3, 0.3  # beside the usual standard deviation of a cell: the same in all snapshots; a neighbour's
HOT, SHARE, BY_CHANCE = 0.1, 0.02, 1e-3  # of the spread, beside neighbours; of cells, at most; and how often by chance
FEWEST = 6  # snapshots that constant and hot pixels are told from


@dataclass(frozen=True)
class Ends:
    """Pixels of one value that they have not come to little by little.

    Attributes:
        low, high: shares of those that are cut off at the lowest and at the highest value of a species.
        background: share of those of one value in between, with sharp borders.
        value: that one.
    """

    low: float
    high: float
    background: float = 0.0
    value: float = 0.0


def measure_ends(
    states: np.ndarray, grid: Grid, steps: tuple[float, ...], without: np.ndarray | None = None
) -> tuple[Ends, ...]:
    """What is saturated of each species of snapshots [N, C, H, W], and what is background.

    Args:
        steps: between the levels of each species; 0: not rounded, see rounding.py.
        without: cells that are not looked at, bool [H, W].
    """
    some = evenly(states, LOOKED_AT)
    known = grid.inside(0) & (True if without is None else ~without)
    made = []
    for s, step in enumerate(steps):
        x = np.where(known, some[:, s], np.nan).astype(np.float64)
        values = x[:, known]
        low, high = values.min(), values.max()
        span = high - low
        at_low, at_high = (
            _share_at(apart, step, span, LEAST_OF_LEVELS if step else LEAST) for apart in (x - low, high - x)
        )
        most = _most_frequent(values, low, span)
        background = 0.0
        if low + span / BINS < most < high - span / BINS:
            background = _share_at(np.abs(x - most), 3 * step, span, MUCH)  # films keep a value to one level
        made.append(Ends(at_low, at_high, background, most if background else 0.0))
    return tuple(made)


def _most_frequent(values: np.ndarray, low: float, span: float) -> float:
    """A value in the middle of the fullest bin."""
    place = np.minimum((values - low) * (BINS / max(span, 1e-300)), BINS - 1).astype(int)
    fullest = np.bincount(place.ravel()).argmax()
    return float(np.median(values[place == fullest]))


def _share_at(apart: np.ndarray, step: float, span: float, least: float) -> float:
    """Share of the pixels at a value that they were cut off at, or given; 0 of one that is reached little by little.

    Args:
        apart: distances of the pixels from it, [N, H, W]; nan of those that do not count.
        step: between levels; 0: not rounded.
        least: share that is worth a word.
    """
    near = apart <= max(SAME * span, step / 2)
    share = near.sum() / np.isfinite(apart).sum()
    if share < least or share == 1:
        return 0.0
    first, second = [], []
    for axis in (axis for axis in (-2, -1) if apart.shape[axis] > 3):
        for flip in (1, -1):
            y, at = (np.moveaxis(z, axis, -1)[..., ::flip] for z in (apart, near))
            edge = at[..., :-2] & ~at[..., 1:-1] & ~at[..., 2:] & np.isfinite(y[..., 1:-1] + y[..., 2:])
            first.append(y[..., 1:-1][edge])
            second.append(y[..., 2:][edge])
    one, two = np.concatenate(first), np.concatenate(second)
    if not len(one):
        return 0.0
    if step:
        beside = ((apart > step / 2) & (apart <= 3.5 * step)).sum() / 3
        is_sharp = one.mean() < FIRST_STEP * (two - one).mean() or np.median(one) > SHARP * step
        is_cut = is_sharp and near.sum() > MORE * beside
    else:
        is_cut = np.median(one) > STEP * span
    return float(share) if is_cut else 0.0


def find_constant(states: np.ndarray, grid: Grid) -> np.ndarray:
    """Cells with one value in all snapshots [N, C, H, W] beside cells that vary, bool [H, W], of any species.

    Where a state at rest was never left, neighbours vary next to nothing, too.
    """
    cells = np.zeros(grid.shape, bool)
    if len(states) < FEWEST:
        return cells
    known = grid.inside(0)
    for spread in states.std(axis=0, dtype=np.float64):
        usual = np.median(spread[known])
        constant = known & (spread <= CONSTANT * usual)
        if usual > 0 and (constant & _beside(known & (spread > VARYING * usual))).any():
            cells |= constant
    return cells


def find_hot(states: np.ndarray, grid: Grid) -> np.ndarray:
    """Cells whose values differ from those of their neighbours alike in all snapshots [N, C, H, W], bool [H, W]."""
    from scipy.special import stdtrit  # on use: the command line must start without it

    cells = np.zeros(grid.shape, bool)
    if len(states) < FEWEST:
        return cells
    inside = grid.inside(1)
    bound = -stdtrit(len(states) - 1, BY_CHANCE / 2 / max(1, inside.sum()) / states.shape[1])
    for s in range(states.shape[1]):
        apart = grid.in_cells.laplacian(states[:, s]) / (2 * sum(size > 1 for size in grid.shape))
        mean, spread = apart.mean(axis=0, dtype=np.float64), apart.std(axis=0, ddof=1, dtype=np.float64)
        most = np.max([np.roll(np.abs(mean), by, axis) for axis in (0, 1) for by in (1, -1)], axis=0)
        size = HOT * states[:, s][:, grid.inside(0)].std()
        hot = inside & (np.abs(mean) > size) & (np.abs(mean) > 2 * most)
        cells |= hot & (np.abs(mean) * np.sqrt(len(states)) > bound * spread)
    return cells if cells.sum() <= SHARE * inside.sum() else np.zeros_like(cells)


def _beside(cells: np.ndarray) -> np.ndarray:
    """The neighbours of cells [H, W]."""
    padded = np.pad(cells, 1)
    return padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]
