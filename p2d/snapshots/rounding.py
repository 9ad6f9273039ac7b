"""Rounding of snapshots, told from the snapshots alone: values on an equally spaced lattice, and the blocks of JPEG.

A camera or a file keeps so many levels, and what is done to images afterwards (a contrast stretched, a range made 0 to
1) moves and scales them but leaves a lattice. float32 is none: what counts is coarse beside the Laplacian, of which the
equation is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2d.fields import Grid

# Noise of the Laplacian that rounding leaves, beside the Laplacian, from which on it is worth a word: least squares
# shrinks by its square, 1e-4, about what hundreds of snapshots tell an equation to.
MATTERS = 0.015
FLOAT = 2.0**-21  # beside the largest value: closer than this, float32 values are one level
COARSE = 16  # times closer that levels must not be, to be told from float32's own
FITS = 0.1  # root mean square distance of levels from the lattice, in steps; of no lattice 12^(-1/2) = 0.29
VALUES = 200_000  # of each species that are looked at
LOOKED_AT = 16  # snapshots that are looked at one by one, where all together are on no lattice
FINER = 5  # steps, at most, between the closest levels
FEW = 3  # levels, that values must have
DENSE, WIDE = 10, 4.0  # values a level, where a gap is one of levels; widest gap beside the usual one, if not the ends'
BLOCK = 8  # cells of a JPEG block; those of halved colours and of mosaics are in phase with it
RUNS, BY_CHANCE = 6, 1e-4  # fewest runs that blocks are told from, and how often a clean ensemble may seem to have any
NEAR = BLOCK // 2  # cells away, that a place is held against


@dataclass(frozen=True)
class Rounding:
    """How coarse the values of each species are.

    Attributes:
        steps: between levels, in units of the values; 0: none. Where levels are missing, the root mean square over
            cells of the gaps, so that the rounding's standard deviation is step / sqrt(12).
        levels: in use; of one snapshot where each has its own.
        shares: standard deviation that rounding gives the 5-point Laplacian, over the Laplacian's.
        own: whether each snapshot has its own lattice, for each species.
    """

    steps: tuple[float, ...]
    levels: tuple[int, ...]
    shares: tuple[float, ...]
    own: tuple[bool, ...]

    @property
    def matters(self) -> bool:
        """Whether an equation fitted to these would be off by more than chance."""
        return any(share > MATTERS for share in self.shares)


def measure_rounding(states: np.ndarray, grid: Grid) -> Rounding:
    """The lattices of the species of snapshots [N, C, H, W]."""
    known = grid.inside(0)
    curved = grid.in_cells.laplacian(states[:LOOKED_AT].astype(np.float64))[..., grid.inside(1)]
    spread = curved.std(axis=(0, 2))
    axes = sum(length > 1 for length in grid.shape)
    neighbours = np.sqrt(4.0 * axes**2 + 2 * axes)
    found = [_of_species(states[:, s][..., known]) for s in range(states.shape[1])]
    steps, levels, own = zip(*found, strict=True)
    noise = neighbours * np.array(steps) / 12**0.5
    shares = np.minimum(noise / np.maximum(spread, 1e-300), 1).tolist()
    return Rounding(steps, levels, tuple(shares), own)


def is_rounded(states: np.ndarray, grid: Grid | None = None) -> bool:
    """Whether values [N, C, H, W] are rounded, coarsely enough to matter."""
    return measure_rounding(states, grid or Grid(states.shape[-2:])).matters


def _of_species(values: np.ndarray) -> tuple[float, int, bool]:
    """Step, levels and whether each snapshot has its own, of values [N, cells]."""
    stride = max(1, values.size // VALUES)
    step, levels = lattice(values.ravel()[::stride])
    if step:
        return step, levels, False
    each = [lattice(one) for one in values[:: max(1, len(values) // LOOKED_AT)]]
    coarse = [(step, levels) for step, levels in each if step]
    if len(coarse) >= 0.75 * len(each):
        return float(np.median([step for step, _ in coarse])), int(np.median([levels for _, levels in coarse])), True
    return *lattice(values.ravel()[::stride], any_spacing=True), False


def lattice(values: np.ndarray, *, any_spacing: bool = False) -> tuple[float, int]:
    """Step and number of the levels that values are on; 0, 0 where they are on none.

    Args:
        any_spacing: whether levels may be at distances of their own, as those of half precision or of so many
            decimal digits are.
    """
    values = np.sort(values.astype(np.float64))
    tiny = FLOAT * np.abs(values[[0, -1]]).max()
    starts = np.flatnonzero(np.diff(values, prepend=-np.inf) > tiny)
    counts = np.diff(starts, append=len(values))
    often = counts > 2
    shared = counts[often].sum() > 0.95 * len(values)
    if shared:  # a few cells may be off: filled, or cut at the ends
        starts, counts = starts[often], counts[often]
    levels = values[starts]
    if len(levels) < FEW:
        return 0.0, 0
    for finer in range(1, FINER + 1):  # a contrast stretched and rounded again may leave no two levels a step apart
        if np.diff(levels).min() < finer * COARSE * tiny:
            break
        step, misfit = _spacing(levels, finer)
        if misfit < FITS:
            return _effective(levels, counts, step), len(levels)
    return (_effective(levels, counts, 0.0), len(levels)) if shared and any_spacing else (0.0, 0)


def _spacing(levels: np.ndarray, finer: int) -> tuple[float, float]:
    """The step of a lattice that rising levels are on, and their distance from it, root mean square in steps.

    Args:
        finer: steps in the least gap.
    """
    gaps = np.diff(levels)
    step = gaps.min() / finer
    for reach in finer * 2.0 ** np.arange(1, 20):  # the longer the gap, the better must the step be known already
        near = gaps < reach * step
        step = gaps[near].sum() / np.round(gaps[near] / step).sum()
        if near.all():
            break
    places = np.cumsum(np.round(np.diff(levels, prepend=levels[0]) / step))
    slope, start = np.polyfit(places, levels, 1)
    return float(slope), float(np.std(levels - start - slope * places) / slope)


def _effective(levels: np.ndarray, counts: np.ndarray, step: float) -> float:
    """Root mean square over cells of the width that a level stands for; the step itself where few levels are seen."""
    if counts.sum() < DENSE * len(levels):
        return step
    gaps = np.diff(levels)
    widths = (np.append(gaps, gaps[-1]) + np.insert(gaps, 0, gaps[0])) / 2
    usual = np.median(np.repeat(widths, counts))
    return float(np.sqrt(np.average(np.where(widths > WIDE * usual, usual, widths) ** 2, weights=counts)))


def block_edges(states: np.ndarray, grid: Grid, runs: np.ndarray | None = None) -> tuple[float, int, int]:
    """Whether third differences across rows and columns depend on the place modulo 8, as those of JPEG images do.

    Where a pattern stands is chance, so that all 8 places are alike on average over runs.

    Args:
        runs: of the snapshots, [N].

    Returns:
        The largest deviation beside its error over what chance leaves in 1 of 10,000 ensembles (above 1: blocks), the
        axis (0: rows) and the place modulo 8 after which a block begins.
    """
    from scipy.special import stdtrit  # on use: the command line must start without it

    runs = np.arange(len(states)) if runs is None else runs
    _, run = np.unique(runs, return_inverse=True)
    largest = (0.0, 0, 0)
    axes = [axis for axis in (0, 1) if grid.shape[axis] >= 3 * BLOCK]
    if run.max() + 1 < RUNS:
        return largest
    for axis in axes:
        excess = np.stack([_excess(states[:, s], axis - 2) for s in range(states.shape[1])], axis=1)
        size = np.bincount(run)
        means = np.stack([np.bincount(run, column) for column in excess.reshape(len(run), -1).T]) / size
        means = means.reshape(*excess.shape[1:], len(size))  # [C, blocks, 8, runs]
        z = _scores(means.mean(axis=1))
        # The edges of blocks are in all of them; what walls do to a pattern is beside the walls.
        z = np.where(np.median(means.mean(axis=3), axis=1) > means.mean(axis=(1, 3)) / 2, z, 0.0)
        bound = -stdtrit(len(size) - 1, BY_CHANCE / (z.size * len(axes)))
        best = int(np.argmax(z))
        largest = max(largest, (float(z.flat[best] / bound), axis, (best % BLOCK + NEAR + 2) % BLOCK))
    return largest


def _scores(values: np.ndarray) -> np.ndarray:
    """Means over the last axis beside their errors."""
    errors = values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])
    return values.mean(axis=-1) / np.maximum(errors, 1e-12)


def _excess(fields: np.ndarray, axis: int) -> np.ndarray:
    """Root third differences of fields [N, H, W] along an axis over those nearby, less one: means [N, blocks, 8].

    Roots, as steep fronts would drown out the quiet cells, where edges of blocks are seen best. Those nearby, as near
    walls all differ.
    """
    x = np.moveaxis(fields, axis, 1).astype(np.float32)
    jumps = x[:, 3:] - x[:, :-3] - 3 * (x[:, 2:-1] - x[:, 1:-2])
    sizes = np.sqrt(np.abs(jumps)).mean(axis=2, dtype=np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(sizes, 2 * NEAR + 1, axis=1)
    nearby = (windows.sum(axis=2) - windows[..., NEAR]) / (2 * NEAR)
    excess = windows[..., NEAR] / np.maximum(nearby, 1e-30) - 1
    blocks = excess.shape[1] // BLOCK
    return excess[:, : blocks * BLOCK].reshape(len(x), blocks, BLOCK)
