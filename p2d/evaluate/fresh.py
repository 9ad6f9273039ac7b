"""The ensemble that a discovered equation makes from fresh initial states, held against the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.evaluate import preservation
from p2d.evaluate.evaluation import Fresh
from p2d.evaluate.metrics import known_system, operator_of
from p2d.snapshots.simulated import alive, measured
from p2d.snapshots.store import Dataset, evenly
from p2d.systems import initial, stepping
from p2d.systems.stepping import Scheme
from p2d.systems.system import System
from p2d.systems.wiener import Wiener
from p2d.threads import Mapper

RUNS, FEWEST = 32, 8
UPDATES = 6e9  # of cells, at which the number of runs is cut down: a few seconds
REFERENCE = 512  # snapshots of the data, at most, that they are held against
SEED = 1_000_000  # of the initial states, which no dataset begins from by default


@dataclass(frozen=True)
class _Run:
    """Simulates runs of a system from fresh initial states."""

    system: System
    scheme: Scheme
    kind: str
    device: str
    noise: tuple[float, ...]  # in the dynamics, of each species

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Their last states, [N, C, H, W]."""
        states = initial.initial_states(self.system, SEED, numbers, self.scheme.grid.shape, self.kind)
        noise = Wiener(self.noise, SEED, numbers) if self.noise else None
        return stepping.run(states, self.system, self.scheme, self.system.run.steps, self.device, noise=noise)


def measure_fresh(discovery: Discovery, dataset: Dataset, runs: int = 0, each: Mapper = map) -> Fresh | None:
    """Simulate the equation as the data were, and hold what comes out against the living snapshots.

    Args:
        runs: 0 for 32, fewer where these would take more than seconds.
        each: a map over them, whose function is pickled where it is over processes.

    Returns:
        None where the data are of no one known system, or their initial states or edges are not known.
    """
    truth, settings, grid = known_system(dataset), dataset.card.settings, dataset.card.grid
    kind = settings.get("initial", "")
    if truth is None or dataset.card.origin or not grid.is_closed or kind not in ("", *initial.KINDS):
        return None
    reference = dataset.states(evenly(dataset.living, REFERENCE))
    equation = discovery.simulated_as(truth, reference[:FEWEST], grid)
    steps = equation.run.steps
    runs = runs or int(np.clip(UPDATES / (steps * grid.shape[0] * grid.shape[1]), FEWEST, RUNS))
    scheme = Scheme(grid, equation.run.dt, operator_of(dataset), settings.get("integrator", "euler"))
    ids = np.arange(runs)
    device = stepping.choose_device("auto")
    simulate = _Run(equation, scheme, kind, device, tuple(settings.get("dynamics_noise", ())))
    try:
        parts = each(simulate, np.array_split(ids, 1 if device == "cuda" else runs))
        states = np.concatenate(list(parts))
    except UserError as error:
        return Fresh(None, runs, 0, steps, str(error))
    lost = int((~np.isfinite(states).all(axis=(1, 2, 3))).sum())
    if lost:
        return Fresh(None, runs, 0, steps, f"blown up in {lost} of {runs} runs")
    living = states[alive(states, dataset.card.species)]
    if not len(living):
        return Fresh(None, runs, 0, steps)
    noise = settings.get("noise", 0.0) * np.array([s.span for s in dataset.card.species])
    ensemble = preservation.Ensemble(reference, grid=grid)
    tiles = preservation.observed(measured(living, noise, SEED, ids[: len(living)]), grid)
    return Fresh(ensemble.distance(tiles) / ensemble.floor(tiles.shape[0] * tiles.shape[1]), runs, len(living), steps)
