"""Passes over a dataset's snapshots by actors, which stay for all passes and keep what they have read.

Samples are dealt out in parts that do not depend on the number of actors, each part is added up by one actor, and parts
are added up in their order, so that results are the same to the last bit for any number of actors, in whatever order
they are done, and where one of them dies.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import ray

from p2d.cluster import placement, runtime
from p2d.errors import UserError
from p2d.memory import memory_limit
from p2d.progress import Advance
from p2d.snapshots.conditions import Conditions
from p2d.snapshots.passes import Groups, Means, Sums, Task, successive
from p2d.snapshots.shards import shard_name
from p2d.snapshots.store import Dataset, evenly, open_dataset

LEAST, PARTS = 8, 4096  # samples of a part, and parts, of which there are no more however many samples there are
IN_FLIGHT = 2  # parts of an actor: one is measured while the result of the other travels
RESTARTS = 3  # of an actor that dies, and of a part that it was at
REMEMBERED = 0.25  # share of a node's memory in which its actors together keep states


class OverRay:
    """Some samples of a dataset as snapshots (snapshots/passes.py) whose tasks are carried out by actors.

    A context: at its end the actors are let go.

    Args:
        workers: actors; 0 for as many as the machine holds.
        advance: told the samples of each part as it is finished.
        across: names of the conditions that an equation is to hold across.

    Attributes:
        seconds: wall time that the passes have taken so far.
        received: bytes of findings that have come back from actors so far.
    """

    def __init__(
        self,
        dataset: Dataset,
        sample_ids: np.ndarray,
        workers: int = 0,
        advance: Advance | None = None,
        across: tuple[str, ...] = (),
    ) -> None:
        self.dataset, self.sample_ids = dataset, np.sort(sample_ids)
        self.runs = dataset.runs(self.sample_ids)
        self.workers, self.advance = workers, advance
        self.species, self.grid = dataset.card.names, dataset.card.grid
        self.conditions = Conditions.of_dataset(dataset, across, self.sample_ids) if across else None
        self.seconds, self.received = 0.0, 0

    def __enter__(self) -> OverRay:
        return self

    def __exit__(self, *_: Any) -> None:
        if "_actors" in vars(self):
            for actor in vars(self).pop("_actors"):
                ray.kill(actor)

    @cached_property
    def groups(self) -> Groups:
        """The groups that the samples count in."""
        return Groups.of(self.runs, strata=self.conditions.strata(self.sample_ids) if self.conditions else None)

    @property
    def run_count(self) -> int:
        """How many independent runs they are of."""
        return int(self.groups.runs.sum())

    def some(self, most: int) -> np.ndarray:
        """States [M, C, H, W] of at most so many, evenly spread."""
        return self.states_of(evenly(self.sample_ids, most))

    def states_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """States [M, C, H, W] of these samples, in their order."""
        return self.dataset.states(sample_ids)

    def runs_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """The runs [M] that these samples are of."""
        return self.runs[np.searchsorted(self.sample_ids, sample_ids)]

    def in_runs(self, runs: np.ndarray) -> OverRay:
        """The same snapshots, of these runs [N], with the same actors; whoever opened these lets them go."""
        self._actors  # noqa: B018 - made now, so that they are shared
        made = copy.copy(self)
        vars(made).pop("groups", None)
        made.runs = runs
        return made

    def pairs(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """At most so many pairs of successive frames of a run: ids [P, 2], and the times between them [P]."""
        if self.run_count == len(self.sample_ids):
            return np.zeros((0, 2), np.int64), np.zeros(0)
        return successive(self.sample_ids, self.runs, self.dataset.times(self.sample_ids), most)

    def means(self, task: Task) -> Means:
        """What a task finds, on average over the runs of each group.

        Raises:
            UserError: more workers than the machine can hold, a shard that cannot be read, or actors that keep dying.
        """
        start = time.monotonic()
        sums = Sums()
        for part in _Pass(self._actors, self._parts, self._owners, task, self.groups, self.advance):
            self.received += part.size
            sums.add(part)
        self.seconds += time.monotonic() - start
        return sums.means(self.groups)

    @cached_property
    def _parts(self) -> list[_Part]:
        size = max(LEAST, -(-len(self.sample_ids) // PARTS))
        starts = range(0, len(self.sample_ids), size)
        return [_Part(n, self.sample_ids, slice(at, at + size)) for n, at in enumerate(starts)]

    @cached_property
    def _owners(self) -> list[int]:
        """The actor that is first in line for each part: parts of one shard go to one, that reads it once."""
        first = self.sample_ids[[part.places.start for part in self._parts]]
        shards, _ = self.dataset.card.shards.places(first)
        of_shards = len(np.unique(shards)) >= 2 * len(self._actors)
        return [int(n) % len(self._actors) for n in (shards if of_shards else range(len(shards)))]

    @cached_property
    def _actors(self) -> list[Any]:
        runtime.start()
        runtime.refuse_unshared(self.dataset.folder)
        count = placement.worker_count(self.workers, len(self._parts), "workers")
        nodes = sum(node["Alive"] for node in ray.nodes())
        settings: dict[str, Any] = {
            "num_cpus": placement.cpu_share(count),
            "max_restarts": RESTARTS,
            "max_task_retries": RESTARTS,
        }
        actor = ray.remote(**settings)(_Actor)
        folder = str(runtime.shared_folder(self.dataset.folder))
        return [actor.remote(folder, REMEMBERED / -(-count // nodes)) for _ in range(count)]


@dataclass(frozen=True)
class _Part:
    """Some successive samples, by their places among all."""

    number: int
    sample_ids: np.ndarray
    places: slice


class _Pass:
    """One task over all parts: yields their sums in the order of the parts."""

    def __init__(
        self,
        actors: list[Any],
        parts: list[_Part],
        owners: list[int],
        task: Task,
        groups: Groups,
        advance: Advance | None,
    ) -> None:
        self.parts, self.groups, self.advance = parts, groups, advance
        self.task = ray.put(task)
        self.queues: dict[Any, deque[_Part]] = {actor: deque() for actor in actors}
        for part, owner in zip(parts, owners, strict=True):
            self.queues[actors[owner]].append(part)
        self.orphans: deque[_Part] = deque()  # of actors that died for good
        # An actor is given work when it is there: one that the cluster has no place for yet must not hold any.
        self.flying: dict[Any, tuple[Any, _Part | None]] = {actor.ready.remote(): (actor, None) for actor in actors}

    def __iter__(self) -> Iterator[Sums]:
        done: dict[int, Sums] = {}
        wanted = itertools.count()
        following = next(wanted)
        while following < len(self.parts):
            for ref in ray.wait(list(self.flying), num_returns=1)[0]:
                actor, part = self.flying.pop(ref)
                try:
                    sums = ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, UserError) else error from None
                except ray.exceptions.RayActorError as error:
                    self._bury(actor, part, error)
                    continue
                if part:
                    done[part.number] = sums
                    if self.advance:
                        self.advance(len(part.sample_ids[part.places]))
                self._give(actor)
            while following in done:
                yield done.pop(following)
                following = next(wanted)

    def _give(self, actor: Any) -> None:
        """Parts for an actor: its own, those that nobody has, or the last one of whoever has the most."""
        if actor not in self.queues:
            return
        while sum(owner is actor for owner, _ in self.flying.values()) < IN_FLIGHT:
            own, longest = self.queues[actor], max(self.queues.values(), key=len)
            if own or self.orphans:
                part = (own or self.orphans).popleft()
            elif longest:
                part = longest.pop()
            else:
                return
            where = part.places
            of_groups = self.groups.place[where], self.groups.share[where]
            ref = actor.sums.remote(self.task, part.sample_ids[where], *of_groups)
            self.flying[ref] = (actor, part)

    def _bury(self, actor: Any, part: _Part | None, error: Exception) -> None:
        """What an actor that died more often than it is restarted had to do is done by others."""
        self.orphans.extend(self.queues.pop(actor, ()))
        if part:
            self.orphans.append(part)
        if not self.queues:
            raise UserError(
                f"every actor died {RESTARTS + 1} times, which mostly is for lack of memory; give fewer --workers"
            ) from error
        for other in self.queues:
            self._give(other)


class _Actor:
    """Carries out tasks on samples of a dataset, and keeps the states of as many shards as there is room for.

    Args:
        share: of its node's memory, for the states.
    """

    def __init__(self, folder: str, share: float) -> None:
        self.dataset = open_dataset(folder)
        self.room = share * memory_limit()
        self.kept: dict[int, np.ndarray] = {}
        self.last: tuple[int, np.ndarray] = (-1, np.zeros(0))

    def ready(self) -> None:
        """Nothing, once the actor is there."""

    def sums(self, task: Task, sample_ids: np.ndarray, places: np.ndarray, shares: np.ndarray) -> Sums:
        """What the task finds in these samples, see passes.Sums."""
        return Sums.over(task, sample_ids, map(self._state, sample_ids), places, shares)

    def _state(self, sample_id: int) -> np.ndarray:
        number, row = self.dataset.card.shards.places(np.array([sample_id]))
        return self._shard(int(number[0]))[row[0]]

    def _shard(self, number: int) -> np.ndarray:
        """States of a shard."""
        if number in self.kept:
            return self.kept[number]
        if self.last[0] != number:
            _, states = self.dataset.read_shard(shard_name(number))
            self.last = (number, states)
            if states.nbytes <= self.room:
                self.room -= states.nbytes
                self.kept[number] = states
        return self.last[1]
