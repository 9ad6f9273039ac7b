"""The closed form over a library: which terms the data need, and with which coefficients.

Stationarity is linear in the coefficients c [P] of an equation, and their mean rates M c have a known sampling
covariance (see `solve`). Terms are eliminated backwards by what the fit loses without them. How often resampled
ensembles keep each is told beside it (as in stability selection, Meinshausen & Buehlmann 2010), and does not decide:
what stands for a term in one resample is another's equal there, and what most of them keep together is no equation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.linalg

from p2d.flow.solve import Solution, Systematic, solve, weighted_mean

# See `solve`: terms are few and exact here, so that little is null and little is smoothed. Of ridges from 1e-8 to 0.1
# 1e-6 and 1e-5 gave the smallest errors on five systems, of 32, 64 and 128 snapshots.
# The null is of the root of the terms' products: what is null on the data has been left out of it before.
NULL, RIDGE = 1e-7, 1e-5
ITERATIONS, SETTLED = 50, 1e-9  # of the search for where a term is zero
CHANCE = 10.8  # what chance lets chi-squared rise by without a term that is not there, in 99.9 % of cases
GONE = 1e-12  # share of a term's mean square below which it is a symmetry alone
ROUNDS = 3  # of elimination, each with weights at the equation of the one before
ALIKE = 0.98  # cosine of the velocities with and without the eliminated terms, at least
Allowed = Callable[[int], float]
RESAMPLED = 20  # ensembles in which the elimination is repeated, to tell how stable it is


@dataclass(frozen=True)
class Rates:
    """Rates of J observables for each of P free numbers, means over N independent groups of runs, and their weights.

    Attributes:
        rows: [N, J, P].
        root: A [R, P], whose |A c|^2 is the mean square velocity.
        degrees: of the terms that the P numbers stand for.
        systematic: see `solve`.
        runs: how many each group holds, [N]; one when None.
        tiles: that successive groups are of the same snapshots.
    """

    rows: np.ndarray
    root: np.ndarray
    degrees: list[int]
    systematic: Systematic | None = None
    runs: np.ndarray | None = None
    tiles: int = 1

    @property
    def mean(self) -> np.ndarray:
        """Over the runs, [J, P]."""
        return weighted_mean(self.rows, self.runs)

    @property
    def size(self) -> np.ndarray:
        """Root of the quadratic form that is 1 of a solution: the mean square velocity."""
        return self.root

    @property
    def freedom(self) -> int:
        """Of chi-squared at the smallest, J - P + 1."""
        return max(self.rows.shape[1] - self.rows.shape[2] + 1, 1)

    def inflation(self, weights: Solution, terms: int | None = None) -> float:
        """Standard errors of so many fitted terms, all unless told, over those that fixed weights promise.

        Weights are estimated from the same N groups of runs. Where r is by how many observables there are more than is
        fitted, and n = N - 1, that makes errors (n - 1) / (n - r - 1) times as large in the square (Rao 1967; to first
        order Dodelson & Schneider 2013), while weights make them seem (n - r) / n times (Hartlap et al. 2007; both:
        Percival et al. 2014), and bootstrap n / N times.
        """
        count, _, every = self.rows.shape
        spare = max(weighed(weights) - (terms or every) + 1, 0.0)
        of_weights = (count - 2) / max(count - 2 - spare, 1.0) * count / max(count - 1 - spare, 1.0)
        return float(np.sqrt(of_weights * self.dilution))

    @cached_property
    def dilution(self) -> float:
        """How many tiles tell what one would, were they independent, of what the best equation leaves."""
        return diluted(self.rows @ self.solution().coefficients, self.tiles) if self.tiles > 1 else 1.0

    def allowance(self, weights: Solution, terms: int) -> float:
        """What one of so many terms may cost when it is not there."""
        return CHANCE * self.inflation(weights, terms) ** 2

    def over(self, kept: np.ndarray) -> Rates:
        """The same for some of the free numbers, the others being zero."""
        spread = np.eye(self.rows.shape[2])[:, kept]
        known = self.systematic
        systematic = (lambda c: known(spread @ c)) if known else None
        return replace(
            self,
            rows=self.rows[:, :, kept],
            root=self.root[:, kept],
            degrees=[self.degrees[i] for i in kept],
            systematic=systematic,
        )

    def alike(self, one: np.ndarray, other: np.ndarray) -> float:
        """Cosine of the velocities of two equations [P], of either sign."""
        return abs(cosine(self.root @ one, self.root @ other))

    def beside(self, free: np.ndarray) -> Rates:
        """The same where a velocity has no size."""
        return replace(self, root=without(self.root, free))

    def solution(self) -> Solution:
        """The stationary combination."""
        return solve(self.rows, whitened(self.size), RIDGE, systematic=self.systematic, runs=self.runs)

    def means(self, count: int, seed: int) -> list[np.ndarray]:
        """Mean rates [J, P] of bootstrap resamples of the groups."""
        return [weighted_mean(self.rows, often) for often in resamples(len(self.rows), count, seed, self.runs)]

    def resampled(self, solution: Solution, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Mean rates of bootstrap resamples, and the combination that the solution's weights find there."""
        return [(mean, smallest(solution.whiten(mean), self.size)[1]) for mean in self.means(count, seed)]


def without(root: np.ndarray, free: np.ndarray) -> np.ndarray:
    """A root [R, P] of a quadratic form in which one combination has no size; what is that alone is 0."""
    velocity = root @ free / np.linalg.norm(root @ free)
    left = root - np.outer(velocity, velocity @ root)
    left[:, (left**2).sum(axis=0) < GONE * (root**2).sum(axis=0)] = 0.0
    return left


def diluted(rates: np.ndarray, tiles: int) -> float:
    """How many groups tell what one would, were successive tiles of a snapshot independent; at least 1.

    The variance of whole snapshots' rates, over that of as many independent tiles, on average over rates [N, J].
    """
    wholes = rates.reshape(-1, tiles, rates.shape[1]).mean(axis=1)
    if len(wholes) < 2:
        return 1.0  # one alone does not tell how its tiles depend on each other
    alone = rates.var(axis=0, ddof=1) + np.finfo(float).tiny
    return float(max(1.0, np.mean(wholes.var(axis=0, ddof=1) / alone) * tiles))


def unseen(rates: Rates) -> list[np.ndarray]:
    """Combinations [P] that change no observable in any group, such as the translation of all species together."""
    basis = whitened(rates.root)
    _, values, vectors = np.linalg.svd((rates.rows @ basis).reshape(-1, basis.shape[1]), full_matrices=False)
    return [basis @ vector for value, vector in zip(values, vectors, strict=True) if value < NULL * values[0]]


def weighed(weights: Solution) -> float:
    """How many observables have weights that come from the runs: tr R (R + ridge)^-1 of their correlation R."""
    inverse = scipy.linalg.solve_triangular(weights.factor, np.eye(len(weights.factor)), lower=True)
    return len(inverse) - RIDGE * float(np.sum(inverse**2))


def resamples(groups: int, count: int, seed: int, runs: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """So many bootstrap resamples of groups of so many runs, one each when None: what each group counts, [N]."""
    rng = np.random.Generator(np.random.Philox(seed))
    held = np.ones(groups) if runs is None else runs
    return (np.bincount(rng.integers(groups, size=groups), minlength=groups) * held for _ in range(count))


def whitened(root: np.ndarray) -> np.ndarray:
    """Q [P, q] with |root Q y| = |y|, over the directions that the root [R, P] of a Gram matrix can tell from none."""
    return _whitened(root)[0]


def _whitened(root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q, and what share [P] of each number's own direction is null."""
    scale = np.sqrt((root**2).sum(axis=0)) + np.finfo(float).tiny
    _, values, vectors = np.linalg.svd(root / scale, full_matrices=False)
    kept = values > NULL * values[0]
    return vectors[kept].T / values[kept] / scale[:, None], 1 - (vectors[kept] ** 2).sum(axis=0)


def smallest(weighted: np.ndarray, root: np.ndarray) -> tuple[float, np.ndarray]:
    """Least |weighted c|^2 over |root c| = 1, and that c, for weighted [J, P]."""
    basis = whitened(root)
    _, values, vectors = np.linalg.svd(weighted @ basis, full_matrices=False)
    return float(values[-1] ** 2), basis @ vectors[-1]


def deletions(weighted: np.ndarray, root: np.ndarray) -> tuple[float, np.ndarray]:
    """Least |weighted c|^2 over |root c| = 1, and the same where each of the P numbers is 0, [P].

    With the eigenvalues l_i and eigenvectors v_i of the form in whitened coordinates y, and a' y = 0 asked for, the
    least value is where sum_i (a' v_i)^2 / (l_i - l) = 0 between the two smallest (Golub 1973, section 1). It is found
    with the two poles as they are, and the other summands as they were (as in Li 1993, "Solving secular equations").
    """
    basis, null = _whitened(root)
    _, values, vectors = np.linalg.svd(weighted @ basis, full_matrices=False)
    levels = values[::-1] ** 2
    if len(levels) < 2:
        return float(levels[0]), np.full(root.shape[1], np.inf)
    first, second, *_ = shares = (basis @ vectors[::-1].T).T ** 2  # [q, P]
    between, above = levels[1] - levels[0], (levels[2:] - levels[0])[:, None]
    rise = np.zeros(len(first))
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(ITERATIONS):
            before = rise
            others = np.nansum(shares[2:] / (above - rise), axis=0)
            summed = first + second + others * between
            root_of = np.sqrt((first - others * between) ** 2 + second**2 + 2 * second * (first + others * between))
            rise = np.nan_to_num(2 * first * between / (summed + root_of))
            if (np.abs(rise - before) <= SETTLED * rise).all():
                break
    return float(levels[0]), np.where(null > NULL, levels[0], levels[0] + rise)  # others stand for what is null


@dataclass(frozen=True, eq=False)
class Stability:
    """What resampled ensembles make of the choice of terms.

    Attributes:
        frequency: share of them that keep each of the P free numbers.
        sets: the numbers that each keeps.
        apart: 1 - cosine of the velocity of each with that of the whole ensemble.
    """

    frequency: np.ndarray
    sets: list[tuple[int, ...]]
    apart: np.ndarray


def measure_stability(rates: Rates, kept: np.ndarray, weights: Solution, seed: int, *, sparse: bool) -> Stability:
    """How stable an equation is.

    Args:
        kept: indices of the free numbers that are its terms.
        weights: the solution over them.
        sparse: whether terms are chosen anew; else they are given.
    """
    allowed = functools.cache(functools.partial(rates.allowance, weights))
    velocity = rates.root[:, kept] @ weights.coefficients
    sets, apart = [], []
    for mean in rates.means(RESAMPLED, seed):
        weighted, again = weights.whiten(mean), kept
        if sparse:  # a resampled mean varies about the mean as that does about the truth: twice the variance
            again = eliminate(weighted, rates.size, rates.degrees, lambda terms: 2 * allowed(terms))
            if len(again) >= len(kept) and _cost(weighted, rates.size, kept) <= _cost(weighted, rates.size, again):
                again = kept  # which fits better: the elimination did not come by it
        own = rates.root[:, again] @ smallest(weighted[:, again], rates.size[:, again])[1]
        apart.append(1 - abs(cosine(own, velocity)))
        sets.append(tuple(again.tolist()))
    frequency = np.bincount(np.concatenate(sets), minlength=rates.rows.shape[2]) / RESAMPLED
    return Stability(frequency, sets, np.array(apart))


def _cost(weighted: np.ndarray, root: np.ndarray, kept: np.ndarray) -> float:
    return smallest(weighted[:, kept], root[:, kept])[0]


def choose_terms(rates: Rates) -> tuple[np.ndarray, Solution]:
    """Indices of the free numbers that the data need, and the solution over them."""
    every = np.arange(rates.rows.shape[2])
    full = weights = rates.solution()
    kept = every
    for _ in range(ROUNDS):
        allowed = functools.cache(functools.partial(rates.allowance, weights))
        fewer = eliminate(weights.whiten(rates.mean), rates.size, rates.degrees, allowed)
        again = rates.over(fewer).solution()
        # Weights at another equation may not bear out what those before promised; noisy ensembles do that.
        lost = again.statistics[0] - full.statistics[0]
        alike = rates.alike(full.coefficients, np.eye(len(every))[:, fewer] @ again.coefficients)
        if lost > rates.inflation(again, len(fewer)) ** 2 * surprising(len(every) - len(fewer)) or alike < ALIKE:
            break
        unchanged = np.array_equal(fewer, kept)
        kept, weights = fewer, again
        if unchanged:
            break
    return kept, weights


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of two vectors."""
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def surprising(freedom: int) -> float:
    """A chi-squared value five standard deviations above its mean."""
    return freedom + 5 * np.sqrt(2 * freedom)


def eliminate(weighted: np.ndarray, root: np.ndarray, degrees: list[int], allowed: Allowed) -> np.ndarray:
    """Backward elimination, each dropped term then tried once more until nothing is gained by it.

    A returned term is held: those that stood for it may then go in its place. Of as many terms those of lower misfit
    are taken, and a higher degree has to earn its place by as much as a term has.

    Args:
        weighted: mean rates of unit sampling covariance, [J, P].
        allowed: what one of so many terms may cost when it is not there.
    """

    def costs(kept: list[int]) -> tuple[float, dict[int, float]]:
        now, without = deletions(weighted[:, kept], root[:, kept])
        return now, dict(zip(kept, without.tolist(), strict=True))

    def degree(kept: list[int]) -> int:
        return sum(degrees[i] for i in kept)

    everything = list(range(weighted.shape[1]))
    kept, now = _backward(everything, costs, degrees, allowed)
    before: list[int] = []
    while kept != before:
        before = kept
        for returned in everything:
            if returned in kept:
                continue
            other, cost = _backward(sorted([*kept, returned]), costs, degrees, allowed, held=returned)
            if (len(other), cost + allowed(len(kept)) * (degree(other) > degree(kept))) < (len(kept), now):
                kept, now = other, cost
    return np.array(kept)


def _backward(
    kept: list[int],
    costs: Callable[[list[int]], tuple[float, dict[int, float]]],
    degrees: list[int],
    allowed: Allowed,
    held: int | None = None,
) -> tuple[list[int], float]:
    """Drop, of the terms that could go at no more cost than is allowed, the one of highest degree, and so on.

    Degree before cost: on data near a curve in (u, v) a true low term has stand-ins made of many high ones.
    """
    now, without = costs(kept)
    while len(kept) > 1:
        able = [j for j in kept if j != held and without[j] - now <= allowed(len(kept))]
        if not able:
            break
        drop = min(able, key=lambda j: (-degrees[j], without[j]))
        kept = [i for i in kept if i != drop]
        now, without = costs(kept)
    return kept, now
