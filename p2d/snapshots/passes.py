"""Passes over an ensemble of snapshots: a task finds small arrays in each, which are added up in groups of runs.

Runs are independent, frames of one run are not. Each frame counts one over the frames of its run, so that each run
counts once, and what a pass leaves is one mean for each group of runs. Up to GROUPS runs each is a group of its own; of
more, groups hold several, and what a pass leaves grows no further: a covariance of means over groups tells what one of
means over runs does, and so do bootstrap resamples of groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.snapshots.conditions import Conditions
from p2d.snapshots.store import Dataset, evenly

Findings = dict[str, np.ndarray]
Task = Callable[[int, np.ndarray], Findings]  # of a sample's id and its state [C, H, W]
SPECIES = ("u", "v")  # of arrays that say nothing
GROUPS = 1024  # of runs, at most
# Stretches of successive runs in a group: their samples lie in few shards, and all together all over the ensemble.
STRETCHES = 4
KEPT = 64  # samples that are not finite, of which it is kept what was found in them


@dataclass(frozen=True, eq=False)
class Means:
    """What a task finds: means over the runs of each of G groups.

    Attributes:
        of: arrays [G, ...].
        runs: how many runs each group holds, [G].
        broken: what was found in samples where not all of it is finite, by their ids, of the first ones; they count
            in no group.
        broken_count: how many there are of these.
    """

    of: Findings
    runs: np.ndarray
    broken: dict[int, Findings] = field(default_factory=dict)
    broken_count: int = 0


@runtime_checkable
class Snapshots(Protocol):
    """An ensemble of N snapshots of C species that tasks can be carried out on."""

    @property
    def sample_ids(self) -> np.ndarray:
        """Their ids [N], rising."""

    @property
    def run_count(self) -> int:
        """How many independent runs they are of."""

    @property
    def species(self) -> tuple[str, ...]:
        """Their names, in the order of the states."""

    @property
    def grid(self) -> Grid:
        """Where their cells are."""

    @property
    def groups(self) -> Groups:
        """The groups that they count in."""

    @property
    def conditions(self) -> Conditions | None:
        """What is known of how they were made, where an equation is to hold across that."""

    def some(self, most: int) -> np.ndarray:
        """States [M, C, H, W] of at most so many, evenly spread."""

    def states_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """States [M, C, H, W] of these samples, in their order."""

    def runs_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """The runs [M] that these samples are of."""

    def in_runs(self, runs: np.ndarray) -> Snapshots:
        """The same snapshots, of these runs [N]."""

    def pairs(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """At most so many pairs of successive frames of a run: ids [P, 2], and the times between them [P]."""

    def means(self, task: Task) -> Means:
        """What a task finds, on average over the runs of each group."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The group that each of N samples counts in.

    Attributes:
        place: of its group, [N].
        share: how much it counts, one over the samples of its run, [N].
        runs: how many runs each group holds, [G].
    """

    place: np.ndarray
    share: np.ndarray
    runs: np.ndarray

    @classmethod
    def of(cls, runs: np.ndarray, most: int = 0, strata: np.ndarray | None = None) -> Groups:
        """At most so many groups (0: GROUPS) of the samples of these runs [N].

        Args:
            strata: numbers [N], of which a group holds one alone.

        Raises:
            UserError: a run of several strata.
        """
        most = most or GROUPS
        if strata is not None:
            return cls._within(runs, most, strata)
        names, run, size = np.unique(runs, return_inverse=True, return_counts=True)
        stretch = -(-len(names) // (most * STRETCHES)) if len(names) > most else 1
        group = (np.arange(len(names)) // stretch % most).astype(np.int32)
        return cls(group[run], (1 / size)[run], np.bincount(group))

    @classmethod
    def _within(cls, runs: np.ndarray, most: int, strata: np.ndarray) -> Groups:
        place, share, held = np.zeros(len(runs), np.int32), np.zeros(len(runs)), [np.zeros(0, np.int64)]
        numbers = np.unique(strata)
        if len(np.unique(np.stack([runs, strata]), axis=1).T) > len(np.unique(runs)):
            names, count = np.unique(np.unique(np.stack([runs, strata]), axis=1)[0], return_counts=True)
            raise UserError(f"run {names[count > 1][0]} has frames of several conditions; a run must have one alone")
        for number in numbers:
            own = strata == number
            groups = cls.of(runs[own], max(most // len(numbers), 1))
            place[own], share[own] = groups.place + sum(map(len, held)), groups.share
            held.append(groups.runs)
        return cls(place, share, np.concatenate(held))


@dataclass(eq=False)
class Sums:
    """What a task finds in some samples, added up in the groups they count in.

    Attributes:
        of: by group, arrays [...].
        broken, broken_count: see `Means`.
    """

    of: dict[int, Findings] = field(default_factory=dict)
    broken: dict[int, Findings] = field(default_factory=dict)
    broken_count: int = 0

    @classmethod
    def over(
        cls, task: Task, sample_ids: np.ndarray, states: Iterable[np.ndarray], places: np.ndarray, shares: np.ndarray
    ) -> Sums:
        """Of these samples and their states [C, H, W], one after the other, each in its group by its share."""
        sums = cls()
        with np.errstate(all="ignore"):  # whoever asks refuses what is not finite, and can name the sample
            for i, state, place, share in zip(sample_ids, states, places, shares, strict=True):
                findings = task(int(i), state)
                if all(np.isfinite(values).all() for values in findings.values()):
                    sums._count(int(place), {key: share * values for key, values in findings.items()})
                else:
                    sums._break({int(i): findings}, 1)
        return sums

    def add(self, others: Sums) -> None:
        """Those of other samples; to the last bit the same in the same order alone."""
        for place, findings in others.of.items():
            self._count(place, findings)
        self._break(others.broken, others.broken_count)

    def means(self, groups: Groups) -> Means:
        """Means over the runs of each group; the sums are used up."""
        shapes = {key: values.shape for one in self.of.values() for key, values in one.items()}
        made = {key: np.zeros((len(groups.runs), *shape)) for key, shape in shapes.items()}
        while self.of:  # none is kept twice
            place, findings = self.of.popitem()
            for key, values in findings.items():
                made[key][place] = values / groups.runs[place]
        return Means(made, groups.runs, self.broken, self.broken_count)

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        every = (*self.of.values(), *self.broken.values())
        return sum(values.nbytes for findings in every for values in findings.values())

    def _count(self, place: int, findings: Findings) -> None:
        own = self.of.get(place)
        # A copy: what came from elsewhere is a view of all that came with it.
        self.of[place] = {key: own[key] + v if own else v.copy() for key, v in findings.items()}

    def _break(self, broken: dict[int, Findings], count: int) -> None:
        self.broken_count += count
        self.broken |= dict(list(broken.items())[: KEPT - len(self.broken)])


def successive(sample_ids: np.ndarray, runs: np.ndarray, times: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many pairs of successive frames of a run at known times, evenly spread.

    Args:
        sample_ids, runs, times: [N].

    Returns:
        Ids [P, 2], and the times between them [P].
    """
    order = np.lexsort((times, runs))
    runs, times = runs[order], times[order]
    between = np.diff(times)
    first = np.flatnonzero((runs[1:] == runs[:-1]) & np.isfinite(between) & (between > 0))
    first = evenly(first, most) if len(first) else first
    return sample_ids[order[first[:, None] + (0, 1)]], between[first]


@dataclass(frozen=True, eq=False)
class InMemory:
    """Snapshots in this process.

    Attributes:
        states: [N, C, H, W].
        sample_ids, runs, times: [N].
        species: C names.
        grid: where their cells are.
        conditions: known ones, which an equation is to hold across.
    """

    states: np.ndarray
    sample_ids: np.ndarray
    runs: np.ndarray
    times: np.ndarray
    species: tuple[str, ...]
    grid: Grid
    conditions: Conditions | None = None

    @classmethod
    def of_states(cls, states: np.ndarray, species: tuple[str, ...] = SPECIES, grid: Grid | None = None) -> InMemory:
        """An array of snapshots [N, C, H, W], each of a run of its own; periodic of spacing 1 unless told."""
        ids = np.arange(len(states))
        return cls(states, ids, ids, np.full(len(ids), np.nan), species, grid or Grid(states.shape[-2:]))

    @classmethod
    def of_dataset(
        cls, dataset: Dataset, sample_ids: np.ndarray | None = None, across: tuple[str, ...] = ()
    ) -> InMemory:
        """These samples of a dataset, all living ones when None; with conditions of these names."""
        ids = dataset.living if sample_ids is None else np.sort(sample_ids)
        card, known = dataset.card, Conditions.of_dataset(dataset, across, ids) if across else None
        return cls(dataset.states(ids), ids, dataset.runs(ids), dataset.times(ids), card.names, card.grid, known)

    @cached_property
    def groups(self) -> Groups:
        """The groups that they count in."""
        return Groups.of(self.runs, strata=self.conditions.strata(self.sample_ids) if self.conditions else None)

    @property
    def run_count(self) -> int:
        """How many independent runs they are of."""
        return int(self.groups.runs.sum())

    def some(self, most: int) -> np.ndarray:
        """States [M, C, H, W] of at most so many, evenly spread."""
        return evenly(self.states, most)

    def states_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """States [M, C, H, W] of these samples, in their order."""
        return self.states[np.searchsorted(self.sample_ids, sample_ids)]

    def runs_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """The runs [M] that these samples are of."""
        return self.runs[np.searchsorted(self.sample_ids, sample_ids)]

    def in_runs(self, runs: np.ndarray) -> InMemory:
        """The same snapshots, of these runs [N]."""
        return replace(self, runs=runs)

    def pairs(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """At most so many pairs of successive frames of a run: ids [P, 2], and the times between them [P]."""
        return successive(self.sample_ids, self.runs, self.times, most)

    def means(self, task: Task) -> Means:
        """What a task finds, on average over the runs of each group, one snapshot after the other."""
        groups = self.groups
        return Sums.over(task, self.sample_ids, self.states, groups.place, groups.share).means(groups)
