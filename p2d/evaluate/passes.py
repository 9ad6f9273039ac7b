"""Velocity fields measured on held-out snapshots: two passes of sums over parts of these, wherever that is done.

The parts and the order of their sums are the dataset's own, so the measures are the same for any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from p2d.evaluate import metrics
from p2d.fields import Operator
from p2d.flow.model import Flow
from p2d.flow.stationarity import Observables
from p2d.flow.velocity import feature_sums
from p2d.snapshots.conditions import Conditions
from p2d.snapshots.static import Balance
from p2d.snapshots.store import Dataset
from p2d.systems.system import System
from p2d.threads import Mapper

PART = 32  # snapshots at least
Sums = dict[str, np.ndarray]


@dataclass(frozen=True)
class Fields:
    """The velocity fields that are held against each other on a dataset: the true one, a flow's, an equation's.

    Attributes:
        equation: and the Laplacian that it was discovered with.
        conditions: of the samples, where the equation holds across them.
    """

    dataset: Dataset
    flow: Flow | None = None
    equation: tuple[System, Operator] | None = None
    conditions: Conditions | None = None

    @property
    def reach(self) -> int:
        """How many cells away they see: all are held against each other where each of them is known."""
        systems = (*self.dataset.card.systems.values(), self.equation[0] if self.equation else None)
        return max(self.flow.reach if self.flow else 0, *(metrics.reach_of(s, self.dataset) for s in systems))

    def velocities(self, sample_ids: np.ndarray, states: np.ndarray) -> dict[str, np.ndarray]:
        """At states [N, C, H, W] of these samples, by 'true', 'flow' and 'equation', as far as there are any."""
        truth = metrics.true_velocity(self.dataset, sample_ids, states)
        made = {} if truth is None else {"true": truth}
        if self.flow is not None:
            made["flow"] = metrics.flow_velocity(self.flow, states)
        if self.equation is not None:
            system, operator = self.equation
            grid, known = self.dataset.card.grid, self.conditions
            own = [known.at(system, int(i)) if known else system for i in sample_ids]
            each = (s.rate(state.astype(np.float64), grid, operator) for s, state in zip(own, states, strict=True))
            made["equation"] = np.stack(list(each))
        return made


@dataclass(frozen=True)
class Measured:
    """What the passes come to.

    Attributes:
        imbalance: of the snapshots, see snapshots/static.py.
        z: z_rms and z_max of each field.
        cosines: of each field with the true one, where that is known.
    """

    imbalance: float
    z: dict[str, dict[str, float]]
    cosines: dict[str, dict[str, float]]


def measure(fields: Fields, sample_ids: np.ndarray, each: Mapper = map) -> Measured:
    """The measures of fields on these samples, whose ids rise.

    Args:
        each: a map over parts of them, whose function is pickled where it is over processes.
    """
    fields = replace(fields, dataset=replace(fields.dataset))  # without what it has read so far, which grows
    card, parts = fields.dataset.card, parts_of(fields.dataset, sample_ids)
    known = _added(each(_Moments(fields.dataset), parts))
    count, total, squares = known["values"]
    mean, std = total / count, np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0))
    balance = Balance(card.grid, len(card.species))
    observables = metrics.draw_observables(torch.from_numpy(known["features"]), card.grid)
    sums = _added(each(_Measures(fields, balance, mean, std, observables), parts))
    names = [key.removeprefix("rates ") for key in sums if key.startswith("rates ")]
    return Measured(
        imbalance=balance.imbalance(sums["balance"]),
        z={name: metrics.stationarity_of(sums[f"rates {name}"]) for name in names},
        cosines={name: metrics.cosine_of(sums[f"products {name}"], card.names) for name in names if "true" in names},
    )


def parts_of(dataset: Dataset, sample_ids: np.ndarray) -> list[np.ndarray]:
    """These ids, which rise, in parts: those of as many whole shards each as hold PART of them."""
    ends = np.searchsorted(sample_ids, dataset.card.shards.starts[1:])
    parts, first = [], 0
    for end in ends:
        if end - first >= PART or (end == len(sample_ids) and end > first):
            parts.append(sample_ids[first:end])
            first = end
    return parts


def _added(parts: Iterator[Sums]) -> Sums:
    total = dict(next(parts))
    for part in parts:
        for key, value in part.items():
            total[key] = total[key] + value
    return total


@dataclass(frozen=True)
class _Moments:
    """First pass: number, sum and sum of squares of each species' values and of the features of their stencils."""

    dataset: Dataset

    @torch.no_grad()
    def __call__(self, sample_ids: np.ndarray) -> Sums:
        states, grid = self.dataset.states(sample_ids), self.dataset.card.grid
        values = states[..., grid.inside(0)].astype(np.float64)
        count = np.full(values.shape[1], values.shape[0] * values.shape[2], np.float64)
        sums = [count, values.sum(axis=(0, 2)), (values**2).sum(axis=(0, 2))]
        return {"values": np.stack(sums), "features": feature_sums(torch.from_numpy(states), 1.0, grid).numpy()}


@dataclass(frozen=True)
class _Measures:
    """Second pass: what tells whether snapshots move, and of each field its observables' rates and cosines."""

    fields: Fields
    balance: Balance
    mean: np.ndarray
    std: np.ndarray
    observables: Observables

    @torch.no_grad()
    def __call__(self, sample_ids: np.ndarray) -> Sums:
        states, reach = self.fields.dataset.states(sample_ids), self.fields.reach
        mean, std = self.mean[:, None, None], np.maximum(self.std, np.finfo(float).tiny)[:, None, None]
        sums = {"balance": self.balance.sums((state - mean) / std for state in states)}
        velocities = self.fields.velocities(sample_ids, states)
        cells = self.balance.grid.inside(reach)
        for name, velocity in velocities.items():
            sums[f"rates {name}"] = metrics.rate_sums(self.observables, velocity, states, reach)
            if "true" in velocities:
                sums[f"products {name}"] = metrics.products(velocity, velocities["true"], cells)
        return sums
