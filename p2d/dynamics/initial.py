"""Initial states. A state is a function of (seed, sample id) alone, whatever else is simulated beside it."""

from __future__ import annotations

import numpy as np

DISCS = 5
RADIUS = (3, 7)  # cells, both ends included


def generator(seed: int, sample_id: int) -> np.random.Generator:
    """The random stream of one sample: Philox, a counter-based generator, keyed by (seed, sample id)."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, sample_id], dtype=np.uint64)))


def discs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """u = 1, v = 0 everywhere but in five discs, where u = 0.5 and v = 0.25.

    Radii are drawn from 3 to 7 cells (less on grids too small for them), centres at least a radius from the edge.

    Returns:
        float32 [2, height, width], concentrations.
    """
    state = np.zeros((2, height, width), np.float32)
    state[0] = 1.0
    rows, columns = np.ogrid[:height, :width]
    largest = max(1, (min(height, width) - 1) // 2)
    for _ in range(DISCS):
        radius = min(int(rng.integers(RADIUS[0], RADIUS[1] + 1)), largest)
        row = rng.integers(radius, max(radius + 1, height - radius))
        column = rng.integers(radius, max(radius + 1, width - radius))
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        state[0][inside] = 0.5
        state[1][inside] = 0.25
    return state


def initial_states(seed: int, sample_ids: np.ndarray, height: int, width: int) -> np.ndarray:
    """Initial states of the given samples: float32 [N, 2, height, width], concentrations in [0, 1]."""
    return np.stack([discs(generator(seed, int(i)), height, width) for i in sample_ids])
