"""What is measured: cosine with the true field where it is known, and z-scores of stationarity, which need no truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from p2d.fields import REACH, Grid, Operator
from p2d.flow.model import Flow
from p2d.flow.stationarity import Observables, z_scores
from p2d.flow.velocity import PERIODIC, feature_statistics, lattice
from p2d.snapshots.store import Dataset
from p2d.systems.system import System

OBSERVABLES = 40
SEED = 20_000  # of the observables of the evaluation, which no training draws


def known_system(dataset: Dataset) -> System | None:
    """The one system that all samples of a dataset were simulated with, if there is one."""
    systems = list(dataset.card.systems.values())
    return systems[0] if len(systems) == 1 else None


def true_velocity(dataset: Dataset, sample_ids: np.ndarray, states: np.ndarray) -> np.ndarray | None:
    """The rate of the system that each sample was simulated with, [N, C, H, W]; None where it is not known."""
    systems = dataset.systems_of(sample_ids)
    if systems is None:
        return None
    rates = (
        system.rate(s.astype(np.float64), dataset.card.grid, operator_of(dataset))
        for system, s in zip(systems, states, strict=True)
    )
    return np.stack(list(rates))


def operator_of(dataset: Dataset) -> Operator:
    """The Laplacian that a dataset was simulated with."""
    return dataset.card.settings.get("operator", "5-point")


def reach_of(system: System | None, dataset: Dataset) -> int:
    """How many cells away the rates of a system see on a dataset; 0 without one."""
    return system.reach * REACH[operator_of(dataset)] if system else 0


@torch.no_grad()
def flow_velocity(flow: Flow, states: np.ndarray) -> np.ndarray:
    """The velocity of a flow at states, values [N, C, H, W]: the same shape, float64."""
    return torch.cat([flow(x) for x in torch.from_numpy(states).split(8)]).double().numpy()


def cosine(velocity: np.ndarray, truth: np.ndarray, names: tuple[str, ...] = (), cells: Any = ...) -> dict[str, float]:
    """Cosine of two fields [N, C, H, W], all entries pooled, and for each species alone, as cosine_NAME.

    Args:
        names: of the species; without any they are only pooled.
        cells: where both are known, bool [H, W]; all of them when not told.
    """

    def of(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))

    a, b = (v if cells is ... else v[..., cells] for v in (velocity, truth))
    return {"cosine": of(a, b)} | {f"cosine_{name}": of(a[:, s], b[:, s]) for s, name in enumerate(names)}


def stationarity(velocity: np.ndarray, states: np.ndarray, grid: Grid = PERIODIC, reach: int = 1) -> dict[str, float]:
    """Root mean square and largest z-score of the rates of 40 random observables.

    Near 1 and near 2.5 when the velocity keeps the ensemble stationary.

    Args:
        velocity: [N, C, H, W] at the states.
        states: values [N, C, H, W].
        reach: how many cells away the velocity sees; beyond open edges and outside a mask nothing is known.
    """
    x, v = torch.from_numpy(states), torch.from_numpy(velocity.astype(np.float32))
    mean, std = feature_statistics(x, 1.0, grid)
    observables = Observables(OBSERVABLES, SEED, mean, std, grid)
    cells = lattice(grid.sized(x.shape), 1, reach + 1)
    rates = torch.cat([observables.rates(a, b, cells) for a, b in zip(x.split(1), v.split(1), strict=True)])
    z = z_scores(rates.double())
    return {"z_rms": z.square().mean().sqrt().item(), "z_max": z.abs().max().item()}
