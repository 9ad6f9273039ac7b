"""What is measured: cosine with the true field where it is known, and z-scores of stationarity, which need no truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from p2d.flow.model import Flow
from p2d.flow.stationarity import Observables, z_scores
from p2d.flow.velocity import feature_statistics
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
    operator = dataset.card.settings.get("operator", "5-point")
    rates = (
        system.rate(s.astype(np.float64), dataset.card.grid, operator)
        for system, s in zip(systems, states, strict=True)
    )
    return np.stack(list(rates))


@torch.no_grad()
def flow_velocity(folder: Path, states: np.ndarray) -> np.ndarray:
    """The velocity of a flow, by its folder, at states, concentrations [N, 2, H, W]: the same shape, float64."""
    flow = Flow.load(folder)
    return torch.cat([flow(x) for x in torch.from_numpy(states).split(8)]).double().numpy()


def cosine(velocity: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Cosine of two fields [N, 2, H, W], all entries pooled, and for each species alone."""

    def of(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))

    return {
        "cosine": of(velocity, truth),
        "cosine_u": of(velocity[:, 0], truth[:, 0]),
        "cosine_v": of(velocity[:, 1], truth[:, 1]),
    }


def stationarity(velocity: np.ndarray, states: np.ndarray) -> dict[str, float]:
    """Root mean square and largest z-score of the rates of 40 random observables.

    Near 1 and near 2.5 when the velocity keeps the ensemble stationary.

    Args:
        velocity: [N, 2, H, W] at the states.
        states: concentrations [N, 2, H, W].
    """
    x, v = torch.from_numpy(states), torch.from_numpy(velocity.astype(np.float32))
    mean, std = feature_statistics(x)
    observables = Observables(OBSERVABLES, SEED, mean, std)
    rates = torch.cat([observables.rates(a, b) for a, b in zip(x.split(1), v.split(1), strict=True)])
    z = z_scores(rates.double())
    return {"z_rms": z.square().mean().sqrt().item(), "z_max": z.abs().max().item()}
