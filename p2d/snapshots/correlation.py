"""How long the waves of a pattern are, in cells: whether the grid resolves them, and how many the window holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2d.fields import Grid
from p2d.snapshots.store import evenly

LOOKED_AT = 32  # snapshots


@dataclass(frozen=True)
class Lengths:
    """Of a species, in cells; of what varies within a snapshot, about its mean.

    Attributes:
        correlation: at which the correlation of values has fallen to 1/e.
        wave: 2 pi over the root mean square wave number, which steep fronts have the most part in.
    """

    correlation: float
    wave: float


def measure_lengths(states: np.ndarray, grid: Grid, noise: tuple[float, ...]) -> tuple[Lengths, ...]:
    """The lengths of each species of snapshots [N, C, H, W], the mean over rows and columns.

    Args:
        noise: standard deviation of white noise in each, which is taken off.
    """
    some = evenly(states, LOOKED_AT)
    known = grid.inside(0)
    made = []
    for s, sigma in enumerate(noise):
        x = some[:, s].astype(np.float64)
        x = np.where(known, x - x[:, known].mean(axis=1)[:, None, None], 0.0)
        sums = [_correlation(x, known, axis, grid.edges[axis] == "periodic") for axis in (0, 1) if grid.shape[axis] > 3]
        reach = min(map(len, sums), default=0)
        if not reach:
            made.append(Lengths(0.0, 0.0))
            continue
        alike = np.mean([each[:reach] for each in sums], axis=0)
        power = max(alike[0] - sigma**2, 1e-300)
        # <(c(x + 1) - c(x))^2> = 2 (R(0) - R(1)), along each axis.
        slopes = sum(max(2 * (each[0] - each[1]) - 2 * sigma**2, 1e-12 * power) for each in sums)
        alike = np.append(1.0, alike[1:] / power)
        made.append(Lengths(_falls_to(alike, np.exp(-1)), float(2 * np.pi * np.sqrt(power / slopes))))
    return tuple(made)


def _correlation(x: np.ndarray, known: np.ndarray, axis: int, periodic: bool) -> np.ndarray:
    """Mean products of values [N, H, W] so many cells apart along an axis, up to half of it: [L / 2]."""
    length = x.shape[axis + 1]
    size = length if periodic else 2 * length
    products, pairs = (_products(each, axis, size) for each in (x, known[None] * 1.0))
    return (products / len(x) / np.maximum(pairs, 0.5))[: length // 2]


def _products(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Sums of products of values so many cells apart, over all pairs: [size]."""
    waves = np.fft.rfft(x, size, axis=axis + 1)
    power = (waves.real**2 + waves.imag**2).sum(axis=(0, 2 - axis))
    return np.fft.irfft(power, size)


def _falls_to(curve: np.ndarray, level: float) -> float:
    """Where a curve first falls to a level, between its points; infinite where it does not."""
    below = np.flatnonzero(curve <= level)
    if not len(below):
        return float("inf")
    n = below[0]
    return float(n - 1 + (curve[n - 1] - level) / max(curve[n - 1] - curve[n], 1e-300))
