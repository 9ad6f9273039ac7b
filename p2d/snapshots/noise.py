"""Noise of snapshots, told from the snapshots alone: white noise, and rounding to the grey levels of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2d.errors import UserError
from p2d.fields import Species

LEAST = 5e-4  # share of a range; sharp patterns themselves look like as much noise, and an 8-bit image's is twice that
# Cycles a cell, from the corner of the spectrum inwards: patterns have next to no power of their own beyond, and the
# more of the spectrum is free of them, the better is the noise known.
CUTOFFS = (0.65, 0.6, 0.55, 0.5)
CONSISTENT = 3.0  # standard errors by which the power within a wider cut-off may differ from that within a narrower one
LOOKED_AT = 64  # snapshots, at least, of a large dataset that noise is told from
LEVELS = 255  # of an 8-bit image
ROUNDED = 1.5 / LEVELS / 12**0.5  # noise of an 8-bit image that its rounding, of 1 / (255 12^(1/2)), does not explain


def white_noise(states: np.ndarray) -> tuple[float, ...]:
    """Standard deviation of white noise in each species of snapshots [N, C, H, W].

    The mean power beyond the widest cut-off at which it is still that of narrower ones (the rule of Lepski 1991).

    Raises:
        UserError: grids too small to have such modes.
    """
    down, right = np.fft.fftfreq(states.shape[-2])[:, None], np.fft.fftfreq(states.shape[-1])
    wavenumber = np.hypot(down, right)
    beyond = [mode for mode in (wavenumber >= cutoff for cutoff in CUTOFFS) if mode.sum() > 2]
    if not beyond:
        raise UserError("the grid is too small to estimate noise from; give --noise")
    centred = states - states.mean(axis=(-2, -1), keepdims=True)
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(axis=0) / wavenumber.size
    return tuple(_level(each, beyond, len(states)) for each in power)


def _level(power: np.ndarray, beyond: list[np.ndarray], count: int) -> float:
    level = power[beyond[0]].mean()
    error = level * np.sqrt(2 / (count * beyond[0].sum()))
    for modes in beyond[1:]:
        wider = power[modes].mean()
        if abs(wider - level) > CONSISTENT * error:
            break
        level, error = wider, wider * np.sqrt(2 / (count * modes.sum()))
    return float(np.sqrt(level))


def seen(states: np.ndarray, species: Sequence[Species] | None = None) -> tuple[float, ...]:
    """White noise of each species that is worth correcting for; 0 below what patterns themselves may look like.

    What rounding to 8 bits leaves is none: it is white only where patterns are steep.

    Args:
        states: [N, C, H, W].
        species: with their ranges; 0 to 1 where none are given.
    """
    least = ROUNDED if is_rounded(states, species) else LEAST
    spans = [s.span for s in species] if species else [1.0] * states.shape[1]
    return tuple(
        level if level >= least * span else 0.0 for level, span in zip(white_noise(states), spans, strict=True)
    )


def is_rounded(states: np.ndarray, species: Sequence[Species] | None = None) -> bool:
    """Whether values [N, C, H, W] are those of 8-bit images: multiples of 1/255 of each species' range, see `seen`."""
    ranges = np.array([(s.low, s.span) for s in species] if species else [(0.0, 1.0)])[:, :, None, None]
    levels = (np.asarray(states, np.float64) - ranges[:, 0]) / ranges[:, 1] * LEVELS
    return bool(np.abs(levels - np.round(levels)).max() < 1e-3)
