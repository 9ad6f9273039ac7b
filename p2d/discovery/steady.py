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
from p2d.discovery.moments import Measure, Rows
from p2d.discovery.rates import measure_runs, root_of
from p2d.discovery.result import Discovery
from p2d.discovery.verdict import Claims, static_text
from p2d.fields import Operator
from p2d.flow.solve import weighted_mean
from p2d.snapshots.passes import Means, Snapshots
from p2d.systems.reading import load_system
from p2d.systems.system import System

AS_BALANCED = 3.0  # times as far from balance as any function of the values, that a recognised system may be


@dataclass(frozen=True, eq=False)
class _Balanced:
    """A system whose terms nearly add up to zero: what they leave, with which operator, and its free numbers."""

    left: float
    known: Known
    operator: Operator
    free: np.ndarray


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
        own = Known.of(self.system) if self.system else None
        if self.config.library != FREE:
            own = Known(load_system(self.config.library), library)
        tried = [own] if own else list(known_systems(self.snapshots.species))
        measure, means = self._products(tried)
        fits = [self._fit(known, measure, means) for known in tried]
        if own is None:  # recognised are those that are as balanced as anything can be
            fits = [one for one in fits if one.left <= AS_BALANCED * self.imbalance]
        if not fits:
            nothing = free_library(("1",), self.snapshots.species)
            still = np.zeros(len(self.snapshots.species))
            return Discovery.of(nothing, measure, measure.operators[0], still, [still], **self._others(None))
        best = min(fits, key=lambda one: one.left)
        tied, gram = best.known.library, means.of["gram"]
        resampled = fit.resamples(len(gram), self.config.bootstrap, self.config.seed, means.runs)
        draws = [_balanced(weighted_mean(gram, often), measure, tied, best.operator) for often in resampled]
        others = self._others(best.known, named=own is not None)
        return Discovery.of(tied, measure, best.operator, best.free, draws, **others)

    def _products(self, tried: list[Known]) -> tuple[Measure, Means]:
        """How the terms of these systems are measured, and what they and their products are; in one pass."""
        species = self.snapshots.species
        terms = tuple(dict.fromkeys(term for known in tried for term in known.library.terms))
        measured, _ = expanded(("1", *species, *terms), species, self.measure.scaling)
        measure = replace(self.measure, terms=measured)
        if not tried:
            return measure, Means({}, np.zeros(0))
        return measure, measure_runs(self.snapshots, Rows(measure), free_library(terms, species))

    @staticmethod
    def _fit(known: Known, measure: Measure, means: Means) -> _Balanced:
        """The parameters of a system, with the operator that leaves least."""
        tied, fits, gram = known.library, [], weighted_mean(means.of["gram"], means.runs)
        for operator in measure.operators:
            free = _balanced(gram, measure, tied, operator)
            left = _unbalanced(gram, measure, tied, operator, free)
            fits.append(_Balanced(left, known, operator, free))
        return min(fits, key=lambda one: one.left)

    def _others(self, known: Known | None, named: bool = False) -> dict[str, Any]:
        unit = "none, as nothing moves"
        if known:
            first = known.library.names[0]
            unit = f"{first} = 1, as steady states tell ratios" if known.library.names[-1] else known.unit_of_time
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
            "statement": static_text(self.imbalance, known.title if known else "", named=named),
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
