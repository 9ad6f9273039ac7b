"""Uneven light, told from snapshots alone: a smooth surface that every one of them was multiplied with.

Where a pattern stands is chance, so that all cells see the same values on average over runs; in uneven light they see
larger ones where there is more. Functions of the values tell the light better than their mean does: those that change
much where the values do, as at the height that all peaks have, and little with the place of the pattern. Of functions
linear between quantiles of the values, the sum is taken whose scatter over runs is least (generalised least squares).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2d.errors import UserError
from p2d.fields import Grid, Mask

FEWEST, BY_CHANCE = 8, 1e-3  # runs that it is told from; how often even light may seem uneven
NOT_LIGHT = 1e-4  # how often light may seem to be something else
FUNCTIONS, RUNS_EACH = (4, 16), 4  # fewest and most functions of the values, and runs for each
RIDGE = 1e-3  # of their covariance, in its mean variance
CELLS = 4096  # of a snapshot that are looked at
COUNTS = 2.0  # standard errors, from which on a coefficient of a surface is taken for more than scatter
ROUNDS = 3  # of Newton's, for a surface that is far from 1


@dataclass(frozen=True)
class Illumination:
    """How uneven the light is.

    Attributes:
        ranges: from the lowest to the highest of each species' surface of mean 1; 0 where none is seen.
        p: how often even light looks as uneven.
    """

    ranges: tuple[float, ...]
    p: float

    @property
    def is_uneven(self) -> bool:
        """Whether it is by more than chance."""
        return any(self.ranges)


def fit_surface(states: np.ndarray, mask: Mask | None = None, runs: np.ndarray | None = None) -> np.ndarray:
    """The surfaces that snapshots [N, C, H, W] were multiplied with, of mean 1: [C, H, W].

    Their logarithms are quadratic in x and y; 1 where the snapshots show none.

    Args:
        runs: which snapshots belong together, [N]; None: each is of its own.

    Raises:
        UserError: a species of values below 0, which are not those of light, or fewer than 8 runs.
    """
    grid = Grid(states.shape[-2:], mask=mask)
    inside = _thinned(grid)
    shape = _polynomials(inside)
    run = np.arange(len(states)) if runs is None else np.unique(runs, return_inverse=True)[1]
    if len(run) and run.max() + 1 < FEWEST:
        raise UserError(f"flatten: uneven light cannot be told from {run.max() + 1} runs; it needs at least {FEWEST}")
    surfaces = np.ones(states.shape[1:])
    for s, surface in enumerate(surfaces):
        x = states[:, s][:, inside].astype(np.float64)
        if x.min() < 0:
            raise UserError(
                f"flatten: species {s} has values below 0, as no light has; give an --offset, or no --flatten"
            )
        logarithm, _ = _newton(x, shape[:, inside], run)
        surface[:] = np.exp(logarithm @ shape[1:].reshape(len(logarithm), -1)).reshape(grid.shape)
        surface /= surface[grid.inside(0)].mean()
    return surfaces


def measure_illumination(states: np.ndarray, grid: Grid, runs: np.ndarray) -> Illumination:
    """Whether snapshots [N, C, H, W] show uneven light.

    Args:
        runs: which snapshots belong together, [N].
    """
    from scipy.special import stdtr  # on use: the command line must start without it

    run = np.unique(runs, return_inverse=True)[1]
    count, ranges, smallest = int(run.max()) + 1, [0.0] * states.shape[1], 1.0
    if count < FEWEST:
        return Illumination(tuple(ranges), smallest)
    inside = _thinned(grid)
    shape = _polynomials(inside)
    for s in range(states.shape[1]):
        x = states[:, s][:, inside].astype(np.float64)
        if x.min() < 0:
            continue
        slopes, errors, _ = _slopes(x, shape[:, inside], run)
        t = np.abs(slopes) / np.maximum(errors, 1e-300)
        p = min(1.0, 2 * float(stdtr(count - 1, -t.max())) * t.size * states.shape[1])
        smallest = min(smallest, p)
        if p <= BY_CHANCE:
            logarithm, fit = _newton(x, shape[:, inside], run)
            surface = np.exp(logarithm @ shape[1:, inside])
            ranges[s] = float(np.ptp(surface) / surface.mean()) if fit > NOT_LIGHT else 0.0
    return Illumination(tuple(ranges), smallest)


def _polynomials(inside: np.ndarray) -> np.ndarray:
    """1, x, y, x^2, x y, y^2 made orthogonal over the cells inside, [H, W], of mean square 1 there: [F, H, W]."""
    rows, columns = (np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in inside.shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    linear = [axis for axis in (x, y) if axis.any()]
    squares = [a * b for n, a in enumerate(linear) for b in linear[n:]]
    made = np.stack([np.ones_like(x), *linear, *squares])
    triangle = np.linalg.qr(made[:, inside].T)[1]
    triangle *= np.sign(np.diag(triangle))[:, None]
    return np.linalg.solve(triangle.T, made.reshape(len(made), -1)).reshape(made.shape) * np.sqrt(inside.sum())


def _thinned(grid: Grid) -> np.ndarray:
    """Cells inside that are looked at, bool [H, W]: neighbours say nearly the same."""
    inside = grid.inside(0)
    stride = max(1, round((inside.sum() / CELLS) ** (1 / sum(size > 1 for size in grid.shape))))
    rows, columns = ((np.arange(size) - size // 2) % min(stride, size) == 0 for size in grid.shape)
    thin = inside & rows[:, None] & columns
    return thin if thin.any() else inside


def _newton(x: np.ndarray, shape: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients of the logarithm of a surface, [F - 1], and how often light leaves as much, see `_slopes`."""
    logarithm = np.zeros(len(shape) - 1)
    for _ in range(ROUNDS):
        slopes, errors, fit = _slopes(x / np.exp(logarithm @ shape[1:]), shape, run)
        logarithm += slopes
    return np.where(np.abs(logarithm) < COUNTS * errors, 0, logarithm), fit


def _slopes(x: np.ndarray, shape: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients of the logarithm of a surface that values were multiplied with, and standard errors: [F - 1] each.

    Where c = e^a c', a small, the mean of T(c) over runs is a E[c T'(c)] above that of T(c').

    Args:
        x: values [N, cells].
        shape: polynomials [F, cells], the first of which is constant.
        run: of the snapshots, [N], numbered from 0.

    Returns:
        Both, and how often light of these coefficients leaves as much of the functions' means over runs (Hotelling's
        T^2, or Hansen's J): next to never where something else than light makes cells differ.
    """
    from scipy.special import fdtrc  # on use: the command line must start without it

    size = np.bincount(run)
    most = int(np.clip(len(size) // RUNS_EACH, *FUNCTIONS))
    knots = np.unique(np.quantile(x[:, :: max(1, x.shape[1] // 512)], np.linspace(0, 1, most)))
    if len(knots) < 2:
        return np.zeros(len(shape) - 1), np.ones(len(shape) - 1), 1.0
    segment = np.clip(np.searchsorted(knots, x) - 1, 0, len(knots) - 2)
    width = np.diff(knots)[segment]
    along = (x - knots[segment]) / width
    changes = _summed(segment, -x / width, x / width, len(knots))[0] / x.size
    row = segment + len(knots) * np.arange(len(x))[:, None]
    parts = [_summed(row, (1 - along) * factor, along * factor, len(x) * len(knots)) for factor in shape[1:]]
    each = np.concatenate(parts).reshape(len(parts), len(x), -1).swapaxes(0, 1) / x.shape[1]  # [N, F - 1, functions]
    means = np.zeros((len(size), *each.shape[1:]))
    np.add.at(means, run, each / size[run][:, None, None])
    mean, apart = means.mean(axis=0), (means - means.mean(axis=0)).reshape(-1, len(knots))
    freedom = len(apart) * (1 - 1 / len(size))
    covariance = apart.T @ apart / freedom
    covariance += RIDGE * np.trace(covariance) / len(knots) * np.eye(len(knots))
    weight = np.linalg.solve(covariance, changes)
    weight /= weight @ changes
    # The weights were chosen for the least scatter of these very runs, which makes it look smaller than it is.
    scatter = (means @ weight).std(axis=0, ddof=1) / np.sqrt(len(size)) / np.sqrt(1 - len(knots) / freedom)
    slopes = mean @ weight
    left = mean - slopes[:, None] * changes
    total = len(size) * float((left * np.linalg.solve(covariance, left.T).T).sum())
    wide = len(slopes) * (len(knots) - 2)  # one function follows from the others, as they add up to 1
    return slopes, scatter, float(fdtrc(wide, freedom - len(knots), total / wide)) if wide else 1.0


def _summed(place: np.ndarray, falling: np.ndarray, rising: np.ndarray, count: int) -> np.ndarray:
    """Sums over all values of what they add to the function that falls at their place and to the next, [1, count]."""
    total = np.bincount(place.ravel(), falling.ravel(), count)
    total[1:] += np.bincount(place.ravel(), rising.ravel(), count)[:-1]
    return total[None]
