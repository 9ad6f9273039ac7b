"""Whether an ensemble is of two kinds, told from its snapshots alone: in the order of files, or in any.

Means of products and of gradients over a snapshot say what kind it is, whatever the place of its pattern. Along the
order, a change shows beside all other orders of the same snapshots. Without one, the two kinds must fall apart: the
direction that parts one half of the snapshots must part the other half, with a gap that no single hump has.
Kinds as close as parameters 3 % apart overlap, and only an equation tells them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement as combinations

import numpy as np

from p2d.fields import Grid

FEWEST = 16  # runs that kinds can be told among
ORDERS = 4999  # of the runs, none of which may change as much: chance does in 1 of 5,000
# How often one flat hump has as empty a middle. Humps are fuller there: of 217 clean ensembles of seven Gray-Scott
# patterns (32 to 256 snapshots) none reached it, and spirals, which do live in two kinds of states, came nearest.
EMPTY = 0.01
ENDS = 0.1  # share of the runs, at least, on either side of a change
EACH = 0.1  # share of the snapshots, at least, of either kind
PER_FEATURE = 6  # runs, at least, for each feature that parts them
STARTS, ITERATIONS = (0.2, 0.5, 0.8), 30  # quantiles that kinds are first parted at, along each feature
SPLITS, FOLDS = 2, 4  # ways to part the runs, and in how many; each of these is parted as the others tell


@dataclass(frozen=True, eq=False)
class Mixture:
    """Two kinds of snapshots.

    Attributes:
        how: 'order' where one kind follows the other, 'gap' where both fall apart in any order; '' where none is seen.
        p: how often a clean ensemble looks as much so.
        second: which snapshots are of the second kind, bool [N].
    """

    how: str
    p: float
    second: np.ndarray


def measure_mixture(states: np.ndarray, grid: Grid, runs: np.ndarray) -> Mixture:
    """Kinds among snapshots [N, C, H, W] in the order of files.

    Args:
        runs: which snapshots belong together, [N]; each run counts once.
    """
    _, first, run, size = np.unique(runs, return_index=True, return_inverse=True, return_counts=True)
    none = Mixture("", 1.0, np.zeros(len(states), bool))
    if len(first) < FEWEST:
        return none
    features = features_of(states, grid)
    features = np.stack([np.bincount(run, each) for each in features.T], axis=1) / size[:, None]
    order = np.argsort(first)
    change, p = _change(features[order])
    if p <= 1 / ORDERS:
        second = np.zeros(len(first), bool)
        second[order[change:]] = True
        return Mixture("order", p, second[run])
    p = _gap(features)
    if p > EMPTY:
        return none
    second = _parted(whitened(features, len(features) // PER_FEATURE))[0] > 0
    return Mixture("gap", p, (second if second.mean() <= 0.5 else ~second)[run])


def features_of(states: np.ndarray, grid: Grid) -> np.ndarray:
    """Means over each snapshot of values, products, and products of gradients, [N, F]."""
    inside = grid.inside(1)
    known = states[..., grid.inside(0)]
    mean = known.mean(axis=(0, 2), dtype=np.float64)[:, None, None].astype(np.float32)
    std = known.std(axis=(0, 2), dtype=np.float64)[:, None, None].astype(np.float32)
    count = states.shape[1]
    pairs = list(combinations(range(count), 2)) if count <= 4 else [(s, s) for s in range(count)]
    first, second = np.array(pairs).T
    rows = []
    for state in states:  # one by one, as they fit the cache
        z = (state.astype(np.float32) - mean) / np.maximum(std, np.finfo(np.float32).tiny)
        curved = grid.in_cells.laplacian(z)[:, inside].astype(np.float64)
        z = z[:, inside].astype(np.float64)
        products, gradients = (z @ other.T / z.shape[1] for other in (z, curved))
        rows.append([*z.mean(axis=1), *products[first, second], *gradients[first, second]])
    return np.array(rows)


def whitened(features: np.ndarray, most: int, *, centred: bool = True) -> np.ndarray:
    """Uncorrelated features of mean square 1, around their mean or around 0, the strongest of them: [N, F]."""
    features = features - features.mean(axis=0) * centred
    features = features / np.maximum(np.sqrt((features**2).mean(axis=0)), 1e-300)
    left, sizes, _ = np.linalg.svd(features, full_matrices=False)
    return left[:, : min(most, int((sizes > 1e-4 * sizes[0]).sum()))] * np.sqrt(len(features))


def _change(features: np.ndarray) -> tuple[int, float]:
    """Where features [N, F] change the most along the order, and how many orders of theirs change as much."""
    from scipy.special import ndtri  # on use: the command line must start without it

    count = len(features)
    white = whitened(features, count // PER_FEATURE)
    scores = ndtri((np.argsort(np.argsort(white, axis=0), axis=0) + 0.5) / count)  # heavy tails count like others
    before = np.arange(max(2, round(ENDS * count)), count - max(2, round(ENDS * count)) + 1)
    weight = count / (before * (count - before))

    def changes(order: np.ndarray) -> np.ndarray:
        return (np.cumsum(scores[order], axis=0)[before - 1] ** 2).sum(axis=1) * weight

    own = changes(np.arange(count))
    rng, done, as_much = np.random.default_rng(0), 0, 0
    while done < ORDERS and not as_much:
        done, as_much = done + 1, int(changes(rng.permutation(count)).max() >= own.max())
    return int(before[own.argmax()]), (1 + as_much) / (1 + done)


def _gap(features: np.ndarray) -> float:
    """How often features [N, F] of one kind have as empty a gap between two halves, along a direction of others."""
    from scipy.special import bdtr  # on use: the command line must start without it

    count, worst = len(features), 0.0
    white = whitened(features, count // PER_FEATURE)
    rng = np.random.default_rng(0)
    for _ in range(SPLITS):
        fold = rng.permutation(np.arange(count) % FOLDS)
        windows = np.zeros(3, int)
        for own, other in ((fold != n, fold == n) for n in range(FOLDS)):
            score, (low, high) = _parted(white[own], white[other])
            third, middle = (high - low) / 6, (low + high) / 2
            windows += [(np.abs(score - middle - by * third * 2) <= third).sum() for by in (-1, 0, 1)]
        # One hump has at least as many in the middle as on the emptier side.
        beside = min(windows[0], windows[2])
        worst = max(worst, float(bdtr(windows[1], windows[1] + beside, 0.5)))
    return worst


def _parted(x: np.ndarray, others: np.ndarray | None = None) -> tuple[np.ndarray, tuple[float, float]]:
    """The two normal kinds of one covariance that fit whitened features [N, F] best, by expectation-maximisation.

    Returns:
        The logarithm of the odds of the second kind, of these or of other features, and its means of both kinds.
    """
    total = np.linalg.pinv(np.cov(x.T, bias=True).reshape(x.shape[1], -1))
    cuts = np.quantile(x, STARTS, axis=0).reshape(-1, 1)
    second = np.where(np.tile(x.T, (len(STARTS), 1)) > cuts, 0.95, 0.05)  # one start a row, [K, N]
    for _ in range(ITERATIONS):
        share = np.clip(second.mean(axis=1, keepdims=True), EACH, 1 - EACH)
        high = second @ x / second.sum(axis=1, keepdims=True)
        low = (1 - second) @ x / (1 - second).sum(axis=1, keepdims=True)
        towards = (high - low) @ total
        apart = np.minimum(share * (1 - share) * ((high - low) * towards).sum(axis=1, keepdims=True), 1 - 1e-6)
        normal = towards / (1 - apart)  # of the covariance within kinds, by Sherman and Morrison
        offset = -((low + high) / 2 * normal).sum(axis=1, keepdims=True)
        second = 1 / (1 + np.exp(-np.clip(normal @ x.T + offset + np.log(share / (1 - share)), -500, 500)))
    best = int(np.argmax(_gain(normal @ x.T + offset, share, apart / (share * (1 - share) * (1 - apart)))))
    at = x if others is None else others
    ends = [float(mean[best] @ normal[best] + offset[best, 0]) for mean in (low, high)]
    return at @ normal[best] + offset[best, 0], (ends[0], ends[1])


def _gain(y: np.ndarray, share: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Log-likelihood of two normal kinds over that of one, [K], of projections y [K, N].

    Args:
        share: of the second kind, [K, 1].
        distance: d^2 of Mahalanobis between them, [K, 1]: their means are at -d^2 / 2 and d^2 / 2, of variance d^2.
    """
    kinds = [np.log(p) - (y - by * distance / 2) ** 2 / (2 * distance) for p, by in ((1 - share, -1), (share, 1))]
    variance = distance * (1 + share * (1 - share) * distance)
    one = -((y - (share - 0.5) * distance) ** 2) / (2 * variance) - np.log(variance / distance) / 2
    return (np.logaddexp(*kinds) - one).sum(axis=1)
