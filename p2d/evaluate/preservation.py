"""Does an ensemble stay what it is? The energy distance of its averages to the data's, beside its floor."""

from __future__ import annotations

import itertools
import math

import numpy as np

from p2d.evaluate import quality
from p2d.fields import Grid
from p2d.observables import averages

TILE = 64  # cells a side; averages over tiles, so that grids of all sizes compare
REFERENCE = 1024  # tiles of the data, at most
UNIFORM = 1e-9  # spread of a species that is the same everywhere, which correlates with nothing
DRAWS = 32  # of snapshots, whose mean distance is the floor


class Ensemble:
    """The ensemble of some snapshots, values [M, C, H, W], which others are held against.

    Args:
        seed: of what is drawn from it.
        grid: see `observed`.
    """

    def __init__(self, states: np.ndarray, seed: int = 0, grid: Grid | None = None) -> None:
        tiles = observed(states, grid)
        self.spread = tiles.reshape(-1, tiles.shape[-1]).std(axis=0) + 1e-12
        self.random = np.random.default_rng(seed)
        self.tiles = tiles / self.spread
        self.reference = self._some(self.tiles.reshape(-1, tiles.shape[-1]), REFERENCE)
        self.within = quality.mean_distance(self.reference, self.reference)

    def distance(self, tiles: np.ndarray) -> float:
        """Energy distance of tiles [N, T, K], see `observed`, to the ensemble; inf where they are not finite."""
        sample = tiles.reshape(-1, tiles.shape[-1]) / self.spread
        if not np.isfinite(sample).all():
            return math.inf
        return 2 * quality.mean_distance(sample, self.reference) - quality.mean_distance(sample, sample) - self.within

    def floor(self, tiles: int) -> float:
        """What so many tiles of the ensemble itself are away from its other snapshots: mean over random draws.

        Of a small ensemble half is drawn at most. Energy distances of n snapshots to m others are as 1 / n + 1 / m.
        """
        snapshots = len(self.tiles)
        count = max(1, round(tiles / self.tiles.shape[1]))
        drawn = min(count, max(1, snapshots // 2))
        distances = []
        for _ in range(DRAWS):
            order = self.random.permutation(snapshots)
            some, others = (
                self.tiles[part].reshape(-1, self.tiles.shape[-1]) for part in (order[:drawn], order[drawn:])
            )
            distances.append(quality.energy_distance(some, others[:REFERENCE] if len(others) else self.reference))
        return float(np.mean(distances)) * (1 / count + 1 / snapshots) / (1 / drawn + 1 / max(snapshots - drawn, 1))

    def _some(self, items: np.ndarray, count: int) -> np.ndarray:
        return items[np.sort(self.random.permutation(len(items))[:count])]


def observed(states: np.ndarray, grid: Grid | None = None) -> np.ndarray:
    """Averages over tiles of states [N, C, H, W], float64 [N, T, K], see observables.averages.

    Args:
        grid: whose spacing and edges they have, of any shape; periodic of spacing 1 when None.
    """
    shape = (states.shape[-2], states.shape[-1])
    grid = grid.sized(shape) if grid else Grid(shape)
    # A tile of a masked grid may have no cells.
    rows, columns = (TILE if size % TILE == 0 and not grid.mask else size for size in shape)
    tiles = averages(states, grid, (rows, columns))
    return tiles.reshape(len(states), -1, tiles.shape[-1])


def correlation(states: np.ndarray, starts: np.ndarray) -> float:
    """Correlation of states with starts, [N, C, ...] each, species standardised, all entries pooled."""
    return correlation_of(memory(states, starts, starts.mean(axis=(0, *range(2, starts.ndim)))))


def memory(states: np.ndarray, starts: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """What their correlation is told from: of each species number of entries and sums, float64 [C, 6]; they add up.

    Args:
        states, starts: [N, C, ...].
        middle: of each species, [C], near its mean, so that little is lost to rounding.
    """
    a, b = (np.moveaxis(s, 1, 0).reshape(len(middle), -1) - middle[:, None].astype(float) for s in (states, starts))
    sums = [np.full(len(a), a.shape[1]), a.sum(axis=1), b.sum(axis=1)]
    return np.stack([*sums, (a * a).sum(axis=1), (b * b).sum(axis=1), (a * b).sum(axis=1)], axis=1)


def correlation_of(sums: np.ndarray) -> float:
    """The correlation of states and starts with these sums [C, 6], see `memory`."""
    a, b, aa, bb, ab = (sums[:, 1:] / sums[:, :1]).T
    spread_a, spread_b = (np.sqrt(np.maximum(square - mean**2, 0)) + UNIFORM for square, mean in ((aa, a), (bb, b)))
    return float(((ab - a * b) / (spread_a * spread_b)).mean())


def decorrelation_time(times: list[float], correlations: list[float]) -> float | None:
    """When the correlation with the start first falls to 1/e, between known times; None: it does not."""
    level = math.exp(-1)
    for (t0, c0), (t1, c1) in itertools.pairwise(zip(times, correlations, strict=True)):
        if c0 > level >= c1:
            return t0 + (t1 - t0) * (c0 - level) / (c0 - c1)
    return None


def displacement_cosine(states: np.ndarray, truth: np.ndarray, starts: np.ndarray) -> float:
    """Cosine of two displacements from the same starts, [N, C, ...] each, all entries pooled."""
    return cosine_of(displacements(states, truth, starts))


def displacements(states: np.ndarray, truth: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums of a b, a^2 and b^2 over the entries of two displacements a, b, float64 [3]; they add up."""
    a, b = ((s - starts).ravel().astype(float) for s in (states, truth))
    return np.array([a @ b, a @ a, b @ b])


def cosine_of(sums: np.ndarray) -> float:
    """The cosine of displacements with these sums [3]."""
    return float(sums[0] / max(math.sqrt(sums[1] * sums[2]), 1e-30))
