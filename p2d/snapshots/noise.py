"""White noise of snapshots, told from the snapshots alone.

A pattern has short waves of its own, where its fronts are steep; noise is alike everywhere. So the noise is what is
left in the quietest cells of high differences, and at most what the shortest waves of the spectrum hold.
"""

from __future__ import annotations

import math

import numpy as np

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.snapshots.rounding import measure_rounding

LEAST = 5e-3  # share of a species' spread; the steepest patterns look like as much, and an 8-bit image's is near
# Cycles a cell, from the corner of the spectrum inwards: patterns have next to no power of their own beyond, and the
# more of the spectrum is free of them, the better is the noise known.
CUTOFFS = (0.65, 0.6, 0.55, 0.5)
CONSISTENT = 3.0  # standard errors by which the power within a wider cut-off may differ from that within a narrower one
FLAT = 1.15  # times the power of the shortest waves, up to which that of near ones is alike; with diffusion it is 1.3
FEWEST_CELLS = 24  # along each axis, for enough waves of either kind
LOOKED_AT = 64  # snapshots, at least, of a large dataset that noise is told from
ROUNDED = 1.5 / 12**0.5  # times the step between levels: noise that rounding, of 12^(-1/2), does not explain
# Over the root of the number of cells: half a standard error of the quantiles' ratio, in favour of more quiet cells;
# without, 6 snapshots of 64 x 64 gave down to 0.63 times the noise.
UNSURE = 3.4
AGREEING = 1.25  # times as much as in quiet cells, that short waves may hold and be noise
DIFFERENCES = 8  # of the differences that leave noise alone, over all axes
QUIET, LESS_QUIET = 0.1, 0.4  # shares of the cells by which the clean part of a mixture is told
WIDER, AS_QUIET = (0.9, 0.8, 0.6, 0.4), 1.05  # shares that all cells count by, where they are as quiet to within this


def white_noise(states: np.ndarray, grid: Grid | None = None) -> tuple[float, ...]:
    """Standard deviation of white noise in each species of snapshots [N, C, H, W].

    Args:
        grid: periodic of spacing 1 when None.

    Raises:
        UserError: grids too small to tell it from.
    """
    grid = grid or Grid(states.shape[-2:])
    quiet = [_of_quiet_cells(states[:, s].astype(np.float64), grid) for s in range(states.shape[1])]
    if set(grid.edges) != {"periodic"} or grid.mask:
        return tuple(quiet)
    # The quiet cells say whether short waves are noise alone; where they are, all cells together know it better.
    return tuple(
        waves if waves < AGREEING * cells else cells
        for cells, waves in zip(quiet, _of_short_waves(states), strict=True)
    )


def _of_quiet_cells(field: np.ndarray, grid: Grid) -> float:
    """From differences of high order, which smooth patterns hardly have, in the cells where they are least.

    A share p of the cells is quiet, with normal differences of deviation sigma; two quantiles tell both.
    """
    from scipy.special import ndtri  # on use: the command line must start without it

    axes = [axis for axis, length in zip((-2, -1), grid.shape, strict=True) if length > 1]
    order = DIFFERENCES // max(len(axes), 1)
    if min((grid.shape[axis] for axis in axes), default=0) <= 2 * order:
        raise UserError("the grid is too small to estimate noise from; give --noise")
    known = grid.inside(0)
    reaching = np.ones(grid.shape, bool) if grid.mask is None else known
    weight = 1.0
    for axis in axes:
        periodic = grid.edges[axis] == "periodic"
        for _ in range(order):
            if periodic:
                field, reaching = np.roll(field, -1, axis) - field, reaching & np.roll(reaching, -1, axis)
            else:
                field = np.diff(field, axis=axis)
                reaching = np.take(reaching, range(1, reaching.shape[axis]), axis) & np.take(
                    reaching, range(reaching.shape[axis] - 1), axis
                )
        weight *= math.comb(2 * order, order)
    sizes = np.abs(field[..., reaching]) / math.sqrt(weight)
    if not sizes.size:
        raise UserError("the mask leaves too few cells beside each other to estimate noise from; give --noise")
    low, high = np.quantile(sizes, (QUIET, LESS_QUIET))
    sure = low * (1 + UNSURE / math.sqrt(sizes.size))
    ends = [LESS_QUIET + 0.02, 1.0]  # of the share that is quiet

    def ratio(share: float) -> float:
        return float(ndtri((1 + LESS_QUIET / share) / 2) / ndtri((1 + QUIET / share) / 2))

    for _ in range(40):
        middle = sum(ends) / 2
        ends[int(ratio(middle) * sure < high)] = middle  # the fewer are quiet, the further is the higher quantile out
    quiet = float(low / ndtri((1 + QUIET / ends[1]) / 2))
    # The more cells are as quiet as these, the better is the noise known.
    wider = [np.sqrt((sizes**2).mean()), *(np.quantile(sizes, q) / ndtri((1 + q) / 2) for q in WIDER)]
    return float(next((level for level in wider if level <= AS_QUIET * quiet), quiet))


def _of_short_waves(states: np.ndarray) -> tuple[float, ...]:
    """The mean power beyond the widest cut-off at which it is still that of narrower ones (the rule of Lepski 1991)."""
    height, width = states.shape[-2:]
    flat = min(height, width) == 1  # the corner of the spectrum is an end then
    wavenumber = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * (2**0.5 if flat else 1.0)
    beyond = [mode for mode in (wavenumber >= cutoff for cutoff in CUTOFFS) if mode.sum() > 2]
    if not beyond:
        return (math.inf,) * states.shape[1]
    centred = states - states.mean(axis=(-2, -1), keepdims=True)
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(axis=0) / wavenumber.size
    return tuple(_level(each, beyond, len(states)) for each in power)


def is_flat(states: np.ndarray, grid: Grid, noise: tuple[float, ...]) -> bool:
    """Whether the short waves of species that show noise are as strong as the shortest, as those of a camera are.

    Noise in the dynamics is damped by diffusion, the more the shorter a wave is: by a third more at the corner of the
    spectrum. False where it cannot be told: other grids than periodic ones, or few waves.
    """
    if set(grid.edges) != {"periodic"} or grid.mask or min(grid.shape) < FEWEST_CELLS:
        return False
    wavenumber = np.hypot(np.fft.fftfreq(grid.shape[0])[:, None], np.fft.fftfreq(grid.shape[1]))
    shortest, near = wavenumber >= CUTOFFS[0], (wavenumber >= CUTOFFS[-1]) & (wavenumber < CUTOFFS[-2])
    power = (np.abs(np.fft.fft2(states - states.mean(axis=(-2, -1), keepdims=True))) ** 2).mean(axis=0)
    seen = [own for own, level in zip(power, noise, strict=True) if level]
    return all(own[near].mean() < FLAT * own[shortest].mean() for own in seen)


def _level(power: np.ndarray, beyond: list[np.ndarray], count: int) -> float:
    level = power[beyond[0]].mean()
    error = level * np.sqrt(2 / (count * beyond[0].sum()))
    for modes in beyond[1:]:
        wider = power[modes].mean()
        if abs(wider - level) > CONSISTENT * error:
            break
        level, error = wider, wider * np.sqrt(2 / (count * modes.sum()))
    return float(np.sqrt(level))


def seen(states: np.ndarray, grid: Grid | None = None) -> tuple[float, ...]:
    """White noise of each species that is worth correcting for; 0 below what patterns themselves may look like.

    What rounding leaves is none: it is white only where patterns are steep.

    Args:
        states: [N, C, H, W].
    """
    grid = grid or Grid(states.shape[-2:])
    least = LEAST * states[..., grid.inside(0)].std(axis=(0, 2), dtype=np.float64)
    least = np.maximum(least, ROUNDED * np.array(measure_rounding(states, grid).steps))
    return tuple(
        level if level >= bound else 0.0 for level, bound in zip(white_noise(states, grid), least, strict=True)
    )
