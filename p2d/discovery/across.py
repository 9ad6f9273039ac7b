"""One equation across known conditions, c = a + b p: at each condition its rates vanish, and all share a and b.

Rows of the conditions stand below each other, each an observable of its own: what is measured at p tells of the free
number a as it does of one condition alone, and p times as much of b. Terms that stand in for others at one condition
fail at the next.

At each condition by itself the velocity is told up to a factor, so that s(p) (a + b p) would do as well as a + b p
where every term turns. What fixes the factors is that most terms do not: the unit of time is taken to be the same
everywhere, and sparse equations are looked for. While every term may still turn, nothing ties the conditions; weights
that followed the velocity then would give one condition all of the velocity and leave the others out, as a condition
without velocity fits. So each is weighed as if its velocity had size 1 until terms tie them. And the size of an
equation is that of the middle condition: with c' B c = 1 over all of them the best fit is again the one that leaves
conditions out, while with this one conditions share as their misfits tell, which costs chi-squared about 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg

from p2d.discovery import fit
from p2d.discovery.fit import RIDGE, Rates
from p2d.discovery.library import Library
from p2d.discovery.moments import Measure
from p2d.discovery.rates import root_of
from p2d.fields import Operator
from p2d.flow.solve import Solution, solve, weighted_mean
from p2d.snapshots.conditions import Conditions
from p2d.snapshots.passes import Means, Snapshots

ASIDE = 0.3  # of the size of what changes with the conditions, beside that of the middle; 0 would leave it without any
ITERATIONS = 3  # of weights


@dataclass(frozen=True, eq=False)
class Across:
    """Groups of runs under Q known conditions, in K parts.

    Attributes:
        conditions: of the snapshots.
        base: the library of one condition, P free numbers.
        values: of each group of runs and tile, [N, Q].
        parts: which part it is in, [N].
    """

    conditions: Conditions
    base: Library
    values: np.ndarray
    parts: np.ndarray

    @classmethod
    def of(cls, snapshots: Snapshots, base: Library, tiles: int) -> Across:
        """Those of snapshots with conditions, whose groups are taken apart into so many tiles each."""
        assert snapshots.conditions is not None
        _, first = np.unique(snapshots.groups.place, return_index=True)
        ids = snapshots.sample_ids
        values, parts = snapshots.conditions.of(ids[first]), snapshots.conditions.parts(ids)[first]
        return cls(snapshots.conditions, base, values.repeat(tiles, axis=0), parts.repeat(tiles))

    @property
    def count(self) -> int:
        """Of the parts."""
        return int(self.parts.max()) + 1

    @cached_property
    def library(self) -> Library:
        """The base's terms, and these times each condition: 'F', 'F*u', ..."""
        base, names = self.base, self.conditions.names
        terms = (*base.terms, *(turned_name(t, name) for name in names for t in base.terms))
        return Library(base.species, terms, np.eye(len(base.species) * len(terms)), base.sparse, conditions=names)

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Which number of the base each of the library's is, and which condition it is multiplied by, 0 for none."""
        species, powers, terms = len(self.base.species), 1 + len(self.conditions.names), len(self.base.terms)
        s, q, k = np.unravel_index(np.arange(species * powers * terms), (species, powers, terms))
        return s * terms + k, q

    def by_power(self, values: np.ndarray) -> np.ndarray:
        """What each of the library's numbers [P'] is multiplied by at conditions [..., Q]: 1 or one of these."""
        with_one = np.concatenate([np.ones((*values.shape[:-1], 1)), values], axis=-1)
        return with_one[..., self._columns[1]]

    def rates(self, rows: np.ndarray) -> np.ndarray:
        """Rates [N, K J, P'] of these [N, J, P] of the base, those of other parts than its own being 0."""
        own = rows[:, :, self._columns[0]] * self.by_power(self.values)[:, None]
        return self.stacked(own.swapaxes(1, 2)).swapaxes(1, 2)

    def stacked(self, values: np.ndarray) -> np.ndarray:
        """Values [N, ..., K J] of these [N, ..., J] of observables."""
        made = np.zeros((*values.shape[:-1], self.count, values.shape[-1]), values.dtype)
        for part in range(self.count):
            made[self.parts == part, ..., part, :] = values[self.parts == part]
        return made.reshape(*values.shape[:-1], -1)

    def at_centre(self, coefficients: np.ndarray) -> np.ndarray:
        """Of each of the library's coefficients, what one of the base's [C K] is with the conditions of the middle."""
        return coefficients[self._columns[0]] * self.by_power(self.conditions.centre)

    def roots(self, first: Means, measure: Measure, operator: Operator) -> list[np.ndarray]:
        """Of each part, [R, P] whose |A c|^2 is the mean square velocity there, of what a pass has found."""
        grams = (
            weighted_mean(first.of["gram"][own], first.runs[own])
            for own in (self.parts == n for n in range(self.count))
        )
        return [root_of(gram, measure, self.base, operator) for gram in grams]

    def together(self, rates: Rates, roots: list[np.ndarray]) -> Together:
        """Rates of the library of these of the base, and of a root of the mean square velocity of each part."""
        held = np.ones(len(self.parts)) if rates.runs is None else rates.runs
        spread, (number, power) = self.conditions.distinct.std(axis=0), self._columns
        velocities, middles, turned = [], [], []
        for part, root in enumerate(roots):
            own = self.parts == part
            bare = np.sqrt(held[own].sum() / held.sum()) * root[:, number]
            bare = bare.reshape(len(self.base.species), -1, len(number))
            velocities.append(bare * self.by_power(weighted_mean(self.values[own], held[own])))
            middles.append(bare * self.by_power(self.conditions.centre))
            turned += [ASIDE * by * bare * (power == 1 + q) for q, by in enumerate(spread)]

        def flat(each: list[np.ndarray]) -> np.ndarray:
            return np.concatenate(each, axis=1).reshape(-1, len(number))

        of_root = np.repeat(np.arange(len(roots)), [v.shape[1] for v in velocities])
        return Together(
            rows=self.rates(rates.rows),
            root=flat(velocities),
            degrees=self.library.degrees,
            runs=rates.runs,
            tiles=rates.tiles,
            middle=np.concatenate([flat(middles), flat(turned)]),
            parts=self.parts,
            of_root=np.tile(of_root, len(self.base.species)),
            number=number,
            power=power,
        )


@dataclass(frozen=True)
class Together(Rates):
    """Rates of several parts of the conditions: each has its observables, and rows of the others are 0 there.

    Attributes:
        middle: what the size of an equation is told by, [R', P]; see above.
        parts: of the groups, [N].
        of_root: which part each of the root's rows is of, [R].
        number: which of the base's free numbers each one is of, [P].
        power: which condition it is multiplied by, [P]; 0 for none.
    """

    middle: np.ndarray = None  # type: ignore[assignment]
    parts: np.ndarray = None  # type: ignore[assignment]
    of_root: np.ndarray = None  # type: ignore[assignment]
    number: np.ndarray = None  # type: ignore[assignment]
    power: np.ndarray = None  # type: ignore[assignment]

    @property
    def size(self) -> np.ndarray:
        """Root of the quadratic form that is 1 of a solution."""
        return self.middle

    def over(self, kept: np.ndarray) -> Together:
        """The same for some of the free numbers, the others being zero."""
        own: Any = super().over(kept)
        return replace(own, middle=self.middle[:, kept], number=self.number[kept], power=self.power[kept])

    def alike(self, one: np.ndarray, other: np.ndarray) -> float:
        """Cosine of the velocities of two equations [P], on average over the parts, in each of either sign and size."""
        both = np.stack([self.root @ one, self.root @ other])
        parts = (both[:, self.of_root == part] for part in range(self.parts.max() + 1))
        return float(np.mean([abs(fit.cosine(*own)) for own in parts]))

    def beside(self, free: np.ndarray) -> Together:
        """The same where a velocity has no size."""
        own: Any = super().beside(free)
        return replace(own, middle=fit.without(self.middle, free))

    @property
    def tied(self) -> bool:
        """Whether some term does not turn with a condition, or from 0 on: its values then share their unit of time."""
        for condition in range(1, self.power.max(initial=0) + 1):
            often = np.bincount(self.number[(self.power == 0) | (self.power == condition)])
            if not (often == 1).any():
                return False
        return True

    def solution(self) -> Solution:
        """The stationary combination, with weights of each part by itself."""
        mean, basis = self.mean, fit.whitened(self.size)
        each = [self._alone(part) for part in range(self.parts.max() + 1)]
        deviation, factor, values, vectors = self._solved(each, None, mean, basis)
        for iteration in range(ITERATIONS):
            c = basis @ vectors[-1]
            actual = self.tied and iteration == ITERATIONS - 1
            each = [
                c if actual else c / speed if (speed := self._speed(c, part)) > fit.NULL else before
                for part, before in enumerate(each)
            ]
            deviation, factor, values, vectors = self._solved(each, c, mean, basis)
        spread = basis @ (vectors[:-1].T / np.maximum(values[:-1], np.finfo(float).tiny))
        return Solution(basis @ vectors[-1], values[::-1] ** 2, deviation, factor, spread)

    def _solved(
        self, each: list[np.ndarray], c: np.ndarray | None, mean: np.ndarray, basis: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Weights at coefficients of each part, and singular values and vectors of the mean rates with them."""
        covariance = self._covariance(each)
        if self.systematic and c is not None:
            shared = self.systematic(c)
            covariance = covariance + np.outer(shared, shared)
        deviation = np.sqrt(np.diag(covariance)) + np.finfo(float).tiny
        factor = np.linalg.cholesky(covariance / np.outer(deviation, deviation) + RIDGE * np.eye(len(deviation)))
        weighted = scipy.linalg.solve_triangular(factor, mean / deviation[:, None], lower=True)
        _, values, vectors = np.linalg.svd(weighted @ basis, full_matrices=False)
        return deviation, factor, values, vectors

    def _covariance(self, each: list[np.ndarray]) -> np.ndarray:
        """Sampling covariance [K J, K J] of mean rates, those of each part at coefficients of its own."""
        held = np.ones(len(self.rows)) if self.runs is None else self.runs
        count = self.rows.shape[1] // len(each)
        made = np.zeros((len(each) * count,) * 2)
        for part, c in enumerate(each):
            own, block = self.parts == part, slice(part * count, (part + 1) * count)
            rates = self.rows[own][:, block] @ c
            centred = rates - weighted_mean(rates, held[own])
            square = centred.T @ (held[own][:, None] * centred) / max(own.sum() - 1, 1) * held[own].sum()
            made[block, block] = square / held.sum() ** 2
        return made

    def _speed(self, c: np.ndarray, part: int) -> float:
        """Root of the mean square velocity in a part, over its share of the runs."""
        held = np.ones(len(self.rows)) if self.runs is None else self.runs
        share = held[self.parts == part].sum() / held.sum()
        return float(np.linalg.norm(self.root[self.of_root == part] @ c) / np.sqrt(share))

    def _alone(self, part: int) -> np.ndarray:
        """Coefficients of a part by itself, whose velocity has size 1."""
        own, count = self.parts == part, self.rows.shape[1] // (self.parts.max() + 1)
        rows = self.rows[own][:, part * count : (part + 1) * count]
        basis = fit.whitened(self.root[self.of_root == part])
        c = solve(rows, basis, RIDGE, runs=None if self.runs is None else self.runs[own]).coefficients
        return c / self._speed(c, part)


def turned_name(term: str, condition: str) -> str:
    """A term times a condition: 'F', 'F*u'."""
    if term == "1":
        return condition
    return f"{condition}*{term}" if term[0].isalpha() or term[0] == "(" else f"{condition}*({term})"
