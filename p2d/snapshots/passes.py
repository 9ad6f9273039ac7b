"""Passes over an ensemble of snapshots: a task finds small arrays in each, wherever the snapshots are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from p2d.fields import Grid
from p2d.snapshots.store import Dataset, evenly

Findings = dict[str, np.ndarray]
Task = Callable[[int, np.ndarray], Findings]  # of a sample's id and its state [C, H, W]
SPECIES = ("u", "v")  # of arrays that say nothing


@runtime_checkable
class Snapshots(Protocol):
    """An ensemble of N snapshots of C species that tasks can be carried out on."""

    @property
    def sample_ids(self) -> np.ndarray:
        """Their ids [N], rising."""

    @property
    def runs(self) -> np.ndarray:
        """The run that each is of, [N]; runs are independent of each other."""

    @property
    def times(self) -> np.ndarray:
        """When each was taken, [N] in one unit for all; nan where it is not known."""

    @property
    def species(self) -> tuple[str, ...]:
        """Their names, in the order of the states."""

    @property
    def grid(self) -> Grid:
        """Where their cells are."""

    def some(self, most: int) -> np.ndarray:
        """States [M, C, H, W] of at most so many, evenly spread."""

    def states_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """States [M, C, H, W] of these samples, in their order."""

    def each(self, task: Task) -> Findings:
        """What a task finds in every snapshot, arrays [N, ...] in the order of ids."""


def carry_out(task: Task, sample_ids: np.ndarray, states: np.ndarray) -> Findings:
    """What a task finds in each of these states [N, C, H, W], arrays [N, ...]; nan where it finds nothing."""
    with np.errstate(all="ignore"):  # whoever asks refuses what is not finite, and can name the sample
        findings = [task(int(i), state) for i, state in zip(sample_ids, states, strict=True)]
    return {key: np.stack([of_one[key] for of_one in findings]) for key in findings[0]}


@dataclass(frozen=True, eq=False)
class InMemory:
    """Snapshots in this process.

    Attributes:
        states: [N, C, H, W].
        sample_ids, runs, times: [N].
        species: C names.
        grid: where their cells are.
    """

    states: np.ndarray
    sample_ids: np.ndarray
    runs: np.ndarray
    times: np.ndarray
    species: tuple[str, ...]
    grid: Grid

    @classmethod
    def of_states(cls, states: np.ndarray, species: tuple[str, ...] = SPECIES, grid: Grid | None = None) -> InMemory:
        """An array of snapshots [N, C, H, W], each of a run of its own; periodic of spacing 1 unless told."""
        ids = np.arange(len(states))
        return cls(states, ids, ids, np.full(len(ids), np.nan), species, grid or Grid(states.shape[-2:]))

    @classmethod
    def of_dataset(cls, dataset: Dataset, sample_ids: np.ndarray | None = None) -> InMemory:
        """These samples of a dataset, all living ones when None."""
        ids = dataset.living if sample_ids is None else np.sort(sample_ids)
        card = dataset.card
        return cls(dataset.states(ids), ids, dataset.runs(ids), dataset.times(ids), card.names, card.grid)

    def some(self, most: int) -> np.ndarray:
        """States [M, C, H, W] of at most so many, evenly spread."""
        return evenly(self.states, most)

    def states_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """States [M, C, H, W] of these samples, in their order."""
        return self.states[np.searchsorted(self.sample_ids, sample_ids)]

    def each(self, task: Task) -> Findings:
        """What a task finds in every snapshot, one after the other."""
        return carry_out(task, self.sample_ids, self.states)
