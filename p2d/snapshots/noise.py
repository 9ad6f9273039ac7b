"""Noise of snapshots, told from the snapshots alone: white noise, and rounding to the grey levels of an image."""

from __future__ import annotations

import numpy as np

from p2d.errors import UserError

LEAST = 5e-4  # of concentration; sharp patterns themselves look like as much noise, and an 8-bit image's is twice that
# Cycles a cell, from the corner of the spectrum inwards: patterns have next to no power of their own beyond, and the
# more of the spectrum is free of them, the better is the noise known.
CUTOFFS = (0.65, 0.6, 0.55, 0.5)
CONSISTENT = 3.0  # standard errors by which the power within a wider cut-off may differ from that within a narrower one
LOOKED_AT = 64  # snapshots, at least, of a large dataset that noise is told from
LEVELS = 255  # of an 8-bit image
ROUNDED = 1.5 / LEVELS / 12**0.5  # noise of an 8-bit image that its rounding, of 1 / (255 12^(1/2)), does not explain


def white_noise(states: np.ndarray) -> tuple[float, float]:
    """Standard deviation of white noise in each species of snapshots [N, 2, H, W].

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
    return _level(power[0], beyond, len(states)), _level(power[1], beyond, len(states))


def _level(power: np.ndarray, beyond: list[np.ndarray], count: int) -> float:
    level = power[beyond[0]].mean()
    error = level * np.sqrt(2 / (count * beyond[0].sum()))
    for modes in beyond[1:]:
        wider = power[modes].mean()
        if abs(wider - level) > CONSISTENT * error:
            break
        level, error = wider, wider * np.sqrt(2 / (count * modes.sum()))
    return float(np.sqrt(level))


def seen(states: np.ndarray) -> tuple[float, float]:
    """White noise of each species that is worth correcting for; 0 below what patterns themselves may look like.

    What rounding to 8 bits leaves is none: it is white only where patterns are steep.
    """
    u, v = white_noise(states)
    least = ROUNDED if is_rounded(states) else LEAST
    return (u if u >= least else 0.0), (v if v >= least else 0.0)


def is_rounded(states: np.ndarray) -> bool:
    """Whether concentrations [N, 2, H, W] are those of 8-bit images, multiples of 1/255."""
    levels = np.asarray(states, np.float64) * LEVELS
    return bool(np.abs(levels - np.round(levels)).max() < 1e-3)
