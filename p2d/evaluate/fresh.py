"""The ensemble that a discovered equation makes from fresh initial states, held against the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.evaluate import preservation
from p2d.snapshots.simulated import alive
from p2d.snapshots.store import Dataset, evenly
from p2d.systems import initial, stepping
from p2d.systems.system import System

RUNS = 32  # fresh runs of the equation
REFERENCE = 512  # snapshots of the data, at most, that they are held against
SEED = 1_000_000  # of the initial states, which no dataset begins from by default


@dataclass(frozen=True)
class FreshEnsemble:
    """How the equation's own ensemble compares with the data.

    Attributes:
        distance: energy distance of its averages to the data's, over the floor, that of as many of the data's own
            snapshots; None where nothing lives, or a run blew up.
        runs, alive: how many were simulated, and of how many the pattern lives.
        steps: of each run.
        broken: what went wrong, '' where nothing did.
    """

    distance: float | None
    runs: int
    alive: int
    steps: int
    broken: str = ""

    def __str__(self) -> str:
        if self.distance is None:
            return f"from fresh initial states the equation makes no ensemble: {self.broken or 'no pattern lives'}"
        return (
            f"from {self.runs} fresh initial states, {self.steps:,} steps on: {self.distance:.2f} floors away; "
            f"{self.alive} live"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def simulable(equation: System, truth: System) -> System:
    """A discovered equation with the start, limits, step and burn-in of the system that its data are of."""
    return replace(equation, start=truth.start, limits=truth.limits, run=truth.run)


def fresh_ensemble(equation: System, dataset: Dataset, runs: int = RUNS) -> FreshEnsemble | None:
    """Simulate the equation as the data were, and hold what comes out against the living snapshots.

    Returns:
        None where the data are of no one known system, so that their initial states are not known.
    """
    if len(dataset.card.systems) != 1 or dataset.card.origin:
        return None
    (truth,) = dataset.card.systems.values()
    system = simulable(equation, truth)
    kind = dataset.card.settings.get("initial", "")
    steps, grid = truth.run.steps, dataset.card.grid
    start = initial.initial_states(
        system, SEED, np.arange(runs), grid.shape, kind if kind in initial.KINDS else initial.usual_kind(system)
    )
    try:
        scheme = stepping.Scheme(
            grid, truth.run.dt, dataset.card.settings["operator"], dataset.card.settings["integrator"]
        )
        states = stepping.run(start, system, scheme, steps)
    except UserError as error:
        return FreshEnsemble(None, runs, 0, steps, str(error))
    finite = np.isfinite(states).all(axis=(1, 2, 3))
    if not finite.all():
        return FreshEnsemble(None, runs, 0, steps, f"{int((~finite).sum())} of {runs} runs are no longer finite")
    living = states[alive(states, dataset.card.species)]
    if not len(living):
        return FreshEnsemble(None, runs, 0, steps)
    ensemble = preservation.Ensemble(dataset.states(evenly(dataset.living, REFERENCE)))
    tiles = preservation.observed(living)
    floor = ensemble.floor(tiles.shape[0] * tiles.shape[1])
    return FreshEnsemble(ensemble.distance(tiles) / floor, runs, len(living), steps)
