"""What is measured: cosine with the true field where it is known, and z-scores of stationarity, which need no truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from p2d.fields import REACH, Grid, Operator
from p2d.flow.model import Flow
from p2d.flow.stationarity import Observables
from p2d.flow.velocity import PERIODIC, feature_sums, lattice, statistics_of
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
    return cosine_of(products(velocity, truth, cells), names)


def products(velocity: np.ndarray, truth: np.ndarray, cells: Any = ...) -> np.ndarray:
    """Sums of a b, a^2 and b^2 of two fields a, b [N, C, H, W] over these cells, float64 [3, C]; they add up."""
    a, b = (np.moveaxis(v if cells is ... else v[..., cells], 1, 0).reshape(v.shape[1], -1) for v in (velocity, truth))
    return np.stack([(a * b).sum(axis=1), (a * a).sum(axis=1), (b * b).sum(axis=1)])


def cosine_of(sums: np.ndarray, names: tuple[str, ...] = ()) -> dict[str, float]:
    """The cosines of fields with these products [3, C], see `cosine`."""

    def of(own: np.ndarray) -> float:
        return float(own[0] / np.sqrt(own[1] * own[2]))

    return {"cosine": of(sums.sum(axis=1))} | {f"cosine_{name}": of(sums[:, s]) for s, name in enumerate(names)}


def stationarity(velocity: np.ndarray, states: np.ndarray, grid: Grid = PERIODIC, reach: int = 1) -> dict[str, float]:
    """Root mean square and largest z-score of the rates of 40 random observables.

    Near 1 and near 2.5 when the velocity keeps the ensemble stationary.

    Args:
        velocity: [N, C, H, W] at the states.
        states: values [N, C, H, W].
        reach: how many cells away the velocity sees; beyond open edges and outside a mask nothing is known.
    """
    observables = draw_observables(feature_sums(torch.from_numpy(states), 1.0, grid), grid)
    return stationarity_of(rate_sums(observables, velocity, states, reach))


def draw_observables(sums: Tensor, grid: Grid) -> Observables:
    """The observables of the evaluation, of states whose features have these sums, see velocity.feature_sums."""
    return Observables(OBSERVABLES, SEED, *statistics_of(sums), grid)


def rate_sums(observables: Observables, velocity: np.ndarray, states: np.ndarray, reach: int) -> np.ndarray:
    """Number of states, sums and sums of squares of the observables' rates at them, float64 [3, J]; they add up."""
    x, v = torch.from_numpy(states), torch.from_numpy(velocity.astype(np.float32))
    cells = lattice(observables.grid.sized(x.shape), 1, reach + 1)
    rates = torch.cat([observables.rates(a, b, cells) for a, b in zip(x.split(1), v.split(1), strict=True)]).double()
    return torch.stack([torch.ones_like(rates).sum(dim=0), rates.sum(dim=0), rates.square().sum(dim=0)]).numpy()


def stationarity_of(sums: np.ndarray) -> dict[str, float]:
    """z_rms and z_max of rates with these sums [3, J], see `stationarity`."""
    count, mean = sums[0], sums[1] / sums[0]
    with np.errstate(invalid="ignore"):  # one snapshot has no spread
        error = np.sqrt(np.maximum(sums[2] / count - mean**2, 0) / (count - 1))
    z = mean / np.maximum(error, np.finfo(np.float64).tiny)
    return {"z_rms": float(np.sqrt((z * z).mean())), "z_max": float(np.abs(z).max())}
