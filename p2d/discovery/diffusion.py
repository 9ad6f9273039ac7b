"""Noise in the dynamics, dc_s = v_s dt + sigma_s dW: one more column a species, and no size of its own.

Mean rates are M c + N q, with the free numbers c, the variances q = sigma^2 and Ito's terms N (observables.py). For
every c the best q is that of generalised least squares, q = T c, which leaves what is orthogonal to N: combinations A
of the observables with A N = 0. So an equation with noise is one without, of fewer observables, A (M + N T): its rates
vary as those of c and q together do, and their means do not depend on T.

Where q > 0 the direction of time is known: backwards it would have to be below 0.

Where values are held within walls, as concentrations of 0 and above are, these push back what noise carries beyond.
What they push is a column more for each, of whatever size (moments.py): along the cells that are just at the wall.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from p2d.discovery.fit import RIDGE, Rates, resamples
from p2d.discovery.moments import Measure
from p2d.flow.solve import Solution, solve, weighted_mean
from p2d.snapshots.passes import Means

ROUNDS = 3  # of the weights, each at the equation of the one before


@dataclass(frozen=True, eq=False)
class Stirred:
    """What noise in the dynamics of some species adds to rates, for each unit of its variance.

    Attributes:
        rows, held_out: of the observables of the fit and of those held out, [N, J, S + W] and [N, 40, S + W]; the
            last ones are what each of W walls pushes, of whatever size.
        species: their places, S of them.
    """

    rows: np.ndarray
    held_out: np.ndarray
    species: tuple[int, ...]

    @classmethod
    def of_pass(cls, first: Means, measure: Measure) -> Stirred:
        """What a pass has found, of all species, for variances in the square of their units."""
        units = np.array([*np.array(measure.scaling.scale) ** 2, *(1.0 for _ in measure.walls)])
        rows, held_out = (first.of[key] / units for key in ("stirred", "stirred_held_out"))
        return cls(rows, held_out, tuple(range(len(measure.species))))

    def of(self, species: tuple[int, ...]) -> Stirred:
        """That of these species alone."""
        walls = range(len(self.species), self.rows.shape[2])
        places = [*(self.species.index(s) for s in species), *walls]
        return Stirred(self.rows[:, :, places], self.held_out[:, :, places], species)


@dataclass(frozen=True, eq=False)
class Diffusion:
    """The variances that go with every equation.

    Attributes:
        stirred: what noise adds.
        share: T [S + W, P], what times free numbers gives the variances, and what walls push.
        across: A [J - S - W, J], combinations of observables that noise leaves alone.
        weights: of the observables, at the best equation.
    """

    stirred: Stirred
    share: np.ndarray
    across: np.ndarray
    weights: Solution

    def rates(self, rates: Rates) -> Rates:
        """Rates of what noise leaves alone."""
        return _across(rates, self.stirred, self.share, self.across)

    def held_out(self, rows: np.ndarray, rates: Rates) -> np.ndarray:
        """Rates [N, 40, P] of the observables that judge, with noise.

        They vary as the variances do, too, which follow the rates [N, J, P] of the fit; on average this is 0.
        """
        noise = weighted_mean(self.stirred.held_out, rates.runs)
        identity = np.eye(len(self.weights.deviation))
        follow = noise @ _least_squares(self._whitened_noise(rates.runs), self.weights.whiten(identity))
        varying = np.einsum("kj,njp->nkp", follow, rates.rows + self.stirred.rows @ self.share, optimize=True)
        return rows + self.stirred.held_out @ self.share - varying

    def _whitened_noise(self, runs: np.ndarray | None) -> np.ndarray:
        return self.weights.whiten(weighted_mean(self.stirred.rows, runs))

    def across_steps(self, rows: np.ndarray) -> np.ndarray:
        """What steps add [N, ORDERS, J] to what noise leaves alone."""
        return rows @ self.across.T

    def variances(self, free: np.ndarray) -> np.ndarray:
        """Sigma^2 [S] of an equation."""
        return (self.share @ free)[: len(self.stirred.species)]

    def resampled(self, rates: Rates, draws: list[np.ndarray], seed: int) -> list[np.ndarray]:
        """Sigma^2 [S] of the equations [P] of bootstrap resamples, in as many resamples of the groups."""
        made = []
        for often, free in zip(resamples(len(rates.rows), len(draws), seed, rates.runs), draws, strict=True):
            mean, noise = weighted_mean(rates.rows, often), weighted_mean(self.stirred.rows, often)
            every = -_least_squares(self.weights.whiten(noise), self.weights.whiten(mean) @ free)
            made.append(every[: len(self.stirred.species)])
        return made


def fitted(rates: Rates, stirred: Stirred) -> Diffusion:
    """The variances that go with every equation of these rates [N, J, P], by weights at the best one."""
    mean, noise = rates.mean, weighted_mean(stirred.rows, rates.runs)
    scale = np.sqrt(weighted_mean((rates.rows**2).sum(axis=2), rates.runs)) + np.finfo(float).tiny
    q = np.linalg.qr(noise / scale[:, None], mode="complete")[0]
    across = q[:, noise.shape[1] :].T / scale
    share = np.zeros((noise.shape[1], rates.rows.shape[2]))
    for _ in range(ROUNDS):
        reduced = _across(rates, stirred, share, across)
        best = reduced.solution().coefficients
        weights = _weights(rates, (rates.rows + stirred.rows @ share) @ best, best)
        share = -_least_squares(weights.whiten(noise), weights.whiten(mean))
    return Diffusion(stirred, share, across, weights)


def _weights(rates: Rates, total: np.ndarray, free: np.ndarray) -> Solution:
    """Weights of the observables [J] whose rates under an equation [P], noise and all, are these [N, J]."""
    known = rates.systematic
    systematic = (lambda c: known(free) * c[0]) if known else None
    return solve(total[:, :, None], np.ones((1, 1)), RIDGE, systematic=systematic, runs=rates.runs)


def _across(rates: Rates, stirred: Stirred, share: np.ndarray, across: np.ndarray) -> Rates:
    known = rates.systematic
    rows = np.einsum("kj,njp->nkp", across, rates.rows + stirred.rows @ share, optimize=True)
    return replace(rates, rows=rows, systematic=(lambda c: across @ known(c)) if known else None)


def _least_squares(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(columns, values)[0]
