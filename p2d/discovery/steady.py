"""Where nothing moves: no velocity can be told, but the parameters of the steady state of a system can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from p2d.config import DiscoverConfig
from p2d.discovery import fit
from p2d.discovery.coordinates import expanded
from p2d.discovery.known import Known, known_systems
from p2d.discovery.library import FREE, Library, free_library
from p2d.discovery.moments import Grams, Measure
from p2d.discovery.rates import measure_runs, root_of
from p2d.discovery.result import Discovery
from p2d.discovery.verdict import Claims, static_text, unsettled_text
from p2d.fields import Operator
from p2d.flow.solve import weighted_mean
from p2d.snapshots.passes import Snapshots
from p2d.systems.reading import load_system
from p2d.systems.system import System

# What a named system's terms may leave of the Laplacians' power, of few snapshots: of 18 fields that others made 12
# that stood still left 6e-4 to 2e-2, and 6 that did not 4 and more.
SETTLED = 0.1
MANY, TILES = 16, 4  # runs from which errors are over runs; below, over so many tiles along each axis of each
AS_BALANCED = 3.0  # times as far from balance as any function of the values, that a recognised system may be


@dataclass(frozen=True, eq=False)
class _Balanced:
    """A system whose terms nearly add up to zero: what they leave, with which operator, and its free numbers."""

    left: float
    known: Known
    operator: Operator
    free: np.ndarray


@dataclass(frozen=True, eq=False)
class SteadyState:
    """A system that nearly stands still on some snapshots.

    Attributes:
        known: the system.
        left: what its terms add up to beside its Laplacians, in mean square; the largest of all species.
        operator: of the Laplacians, with which it is least.
        measure: how the terms were measured.
        free: the free numbers [P] of its library.
        draws: those of resamples.
    """

    known: Known
    left: float
    operator: Operator
    measure: Measure
    free: np.ndarray
    draws: list[np.ndarray]

    @property
    def is_settled(self) -> bool:
        """Whether its terms balance."""
        return self.left <= SETTLED

    @property
    def parameters(self) -> dict[str, tuple[float, float]]:
        """The system's parameters, each with its standard deviation over the resamples."""
        every = self.known.parameters_of(np.stack([self.free, *self.draws]))
        return {name: (float(own[0]), float(own[1:].std())) for name, own in every.items()}


@dataclass(frozen=True, eq=False)
class Steady:
    """Where nothing moves: the parameters of the steady state of a system, named or recognised."""

    snapshots: Snapshots
    measure: Measure
    config: DiscoverConfig
    imbalance: float
    system: System | None

    def discovery(self, library: Library) -> Discovery:
        """The result; of no system nothing but that nothing moves."""
        state = self.state(library)
        if state is None:
            nothing, measure = free_library(("1",), self.snapshots.species), self.measure
            still = np.zeros(len(self.snapshots.species))
            return Discovery.of(nothing, measure, measure.operators[0], still, [still], **self._others(None))
        named = self.system is not None or self.config.library != FREE
        others = self._others(state.known, state.left, named=named)
        tied = state.known.library
        return Discovery.of(tied, state.measure, state.operator, state.free, state.draws, **others)

    def state(self, library: Library) -> SteadyState | None:
        """The system with its parameters; None where none is named, and none of the catalogue balances."""
        own = Known.of(self.system) if self.system else None
        if self.config.library != FREE:
            own = Known(load_system(self.config.library), library)
        tried = [own] if own else list(known_systems(self.snapshots.species))
        measure, grams, weights = self._products(tried)
        whole = weighted_mean(grams, weights)
        fits = [self._fit(known, measure, whole) for known in tried]
        if own is None:  # recognised are those that are as balanced as anything can be
            fits = [one for one in fits if one.left <= AS_BALANCED * self.imbalance]
        if not fits:
            return None
        best = min(fits, key=lambda one: one.left)
        tied = best.known.library
        resampled = fit.resamples(len(grams), self.config.bootstrap, self.config.seed, weights)
        draws = [_balanced(weighted_mean(grams, often), measure, tied, best.operator) for often in resampled]
        unknown = _unknown(root_of(whole, measure, tied, best.operator), best.free, len(tied.species))
        rng = np.random.Generator(np.random.Philox(key=[self.config.seed, 1]))
        draws = [draw + unknown * rng.standard_normal(len(unknown)) for draw in draws]
        return SteadyState(best.known, best.left, best.operator, measure, best.free, draws)

    def _products(self, tried: list[Known]) -> tuple[Measure, np.ndarray, np.ndarray]:
        """How the terms of these systems are measured, and their mean products by groups, which weigh so much."""
        species = self.snapshots.species
        terms = tuple(dict.fromkeys(term for known in tried for term in known.library.terms))
        measured, _ = expanded(("1", *species, *terms), species, self.measure.scaling)
        measure = replace(self.measure, terms=measured)
        if not tried:
            return measure, np.zeros((1, 0, 0)), np.ones(1)
        task = Grams(measure, 1 if self.snapshots.run_count >= MANY else TILES)
        means = measure_runs(self.snapshots, task, free_library(terms, species))
        tiles = means.of["tiles"]
        return measure, tiles.reshape(-1, *tiles.shape[2:]), np.outer(means.runs, task.weights).ravel()

    @staticmethod
    def _fit(known: Known, measure: Measure, gram: np.ndarray) -> _Balanced:
        """The parameters of a system, with the operator that leaves least."""
        tied, fits = known.library, []
        for operator in measure.operators:
            free = _balanced(gram, measure, tied, operator)
            left = _unbalanced(gram, measure, tied, operator, free)
            fits.append(_Balanced(left, known, operator, free))
        return min(fits, key=lambda one: one.left)

    def _others(self, known: Known | None, left: float = 0.0, named: bool = False) -> dict[str, Any]:
        unit = known.unit_of_steady_time if known else "none, as nothing moves"
        return {
            "frequency": None,
            "gap": 0.0,
            "spectrum": (),
            "misfit": 0.0,
            "z_max": None,
            "unbalanced": self.imbalance,
            "step": None,
            "snapshots": len(self.snapshots.sample_ids),
            "claims": Claims(),
            "statement": unsettled_text(known.title, left, self.snapshots.run_count)
            if known and left > SETTLED
            else static_text(left if named else self.imbalance, known.title if known else "", named=named),
            "unit_of_time": unit,
            "directed": True,
        }


def _balanced(gram: np.ndarray, measure: Measure, tied: Library, operator: Operator) -> np.ndarray:
    """The free numbers for which a system's terms add up to least in every cell, of products [M, M]."""
    root = root_of(gram, measure, tied, operator)
    if tied.names[-1]:
        free = fit.smallest(root, np.diag(np.sqrt((root**2).sum(axis=0))))[1]
        return free / (free[0] or 1.0)
    return np.array([*np.linalg.lstsq(root[:, :-1], -root[:, -1])[0], 1.0])


def _unknown(root: np.ndarray, free: np.ndarray, species: int) -> np.ndarray:
    """Standard deviations of the free numbers from what no term explains, [P].

    What is left in an equation, such as slow change or another stencil, is no noise: it is alike in all cells, and does
    not average out. It is taken to be as large along the terms that are fitted as along the other functions of a cell
    that are measured: the errors of least squares, with these functions for observations.
    """
    varied = np.arange(len(free)) != (len(free) - 1 if free[-1] == 1 else 0)
    fitted = root[:, varied].reshape(species, -1, int(varied.sum()))
    count = (fitted != 0).any(axis=1).sum(axis=1)
    left = np.linalg.norm((root @ free).reshape(species, -1), axis=1) / np.sqrt(np.maximum(fitted.shape[1] - count, 1))
    inverse = np.linalg.pinv(root[:, varied]).reshape(-1, *fitted.shape[:2])
    made = np.zeros(len(free))
    made[varied] = np.linalg.norm(np.linalg.norm(inverse, axis=2) * left, axis=1)
    return made


def _unbalanced(gram: np.ndarray, measure: Measure, tied: Library, operator: Operator, free: np.ndarray) -> float:
    """What a system's terms add up to beside its Laplacians, in mean square, the largest of all species."""
    untied = replace(tied, ties=np.eye(len(tied.ties)))
    parts = root_of(gram, measure, untied, operator) * (tied.ties @ free)
    rows, columns = len(parts) // len(tied.species), len(tied.terms)
    curved = np.array(tied.differential)
    left = []
    for s in range(len(tied.species)):
        own = parts[s * rows : (s + 1) * rows, s * columns : (s + 1) * columns]
        scale = own[:, curved] if (own[:, curved] != 0).any() else own
        left.append(np.sum(own.sum(axis=1) ** 2) / np.sum(scale**2))
    return float(max(left))
