"""Initial states. A state is a function of (seed, run id) alone, whatever else is simulated beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

DISCS = 5
RADIUS = (3, 7)  # cells, both ends included
BLOT = (0.5, 0.25)  # (u, v) inside a disc, and inside the central square
CORRELATION = 6.0  # cells: standard deviation of the Gaussian that smooths noise
PATCHES = 0.16  # share of the grid that noise seeds: where a Gaussian exceeds its standard deviation
JITTER = 0.01  # of the central square's cells, so that no two samples are the same


def generator(seed: int, run_id: int) -> np.random.Generator:
    """The random stream of one run: Philox, a counter-based generator, keyed by (seed, run id)."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, run_id], dtype=np.uint64)))


def discs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """u = 1, v = 0 everywhere but in five discs, where u = 0.5 and v = 0.25.

    Radii are drawn from 3 to 7 cells (less on grids too small for them), centres at least a radius from the edge.

    Returns:
        float32 [2, height, width], concentrations.
    """
    state = _without_v(height, width)
    rows, columns = np.ogrid[:height, :width]
    largest = max(1, (min(height, width) - 1) // 2)
    for _ in range(DISCS):
        radius = min(int(rng.integers(RADIUS[0], RADIUS[1] + 1)), largest)
        row = rng.integers(radius, max(radius + 1, height - radius))
        column = rng.integers(radius, max(radius + 1, width - radius))
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        state[:, inside] = np.array(BLOT, np.float32)[:, None]
    return state


def centre(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """u = 1, v = 0 but in a central square of a fifth of the shorter side, u = 0.5 and v = 0.25 with 1 % of noise.

    Pearson 1993, with the square in proportion to the grid. Patterns that settle remember it: at 10,000 steps the runs
    of holes, stripes or worms are still much alike, and no independent samples; those of waves have forgotten.

    Returns:
        float32 [2, height, width], concentrations.
    """
    state = _without_v(height, width)
    side = max(1, min(height, width) // 5)
    top, left = (height - side) // 2, (width - side) // 2
    noise = 1 + JITTER * rng.uniform(-1, 1, (2, side, side))
    state[:, top : top + side, left : left + side] = np.array(BLOT)[:, None, None] * noise
    return state


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Patches where a Gaussian random field is at its highest, from (1, 0) at their edges to (0.5, 0.25).

    White noise would be no seed: diffusion levels it within a few steps, and the uniform mean dies.

    Returns:
        float32 [2, height, width], concentrations.
    """
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    smoothing = np.exp(-2 * (np.pi * CORRELATION) ** 2 * (rows**2 + columns**2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * smoothing, s=(height, width))
    threshold = np.quantile(field, 1 - PATCHES)
    share = np.clip((field - threshold) / max(min(field.std(), field.max() - threshold), 1e-12), 0, 1)
    state = np.stack([1 - (1 - BLOT[0]) * share, BLOT[1] * share])
    return state.astype(np.float32)


def _without_v(height: int, width: int) -> np.ndarray:
    state = np.zeros((2, height, width), np.float32)
    state[0] = 1.0
    return state


KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "discs": discs,
    "centre": centre,
    "noise": noise,
}


def initial_states(seed: int, run_ids: np.ndarray, height: int, width: int, kind: str = "discs") -> np.ndarray:
    """Initial states of the given runs: float32 [N, 2, height, width], concentrations in [0, 1]."""
    return np.stack([KINDS[kind](generator(seed, int(i)), height, width) for i in run_ids])
