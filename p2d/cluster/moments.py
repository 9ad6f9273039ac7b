"""Passes over a dataset's snapshots by Ray Data actors, shard by shard: a map, and small arrays back."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

import numpy as np
import ray

from p2d.cluster import placement, runtime
from p2d.progress import Advance
from p2d.snapshots.passes import Findings, Task, carry_out
from p2d.snapshots.store import Dataset, evenly, open_dataset


class OverRay:
    """Some samples of a dataset as snapshots (snapshots/passes.py) whose tasks are carried out by actors.

    Args:
        workers: actors; 0 for as many as the machine holds.
        advance: told the samples of each shard as it is finished.

    Attributes:
        seconds: wall time that the passes have taken so far.
    """

    def __init__(
        self, dataset: Dataset, sample_ids: np.ndarray, workers: int = 0, advance: Advance | None = None
    ) -> None:
        self.dataset, self.sample_ids = dataset, np.sort(sample_ids)
        self.workers, self.advance = workers, advance
        self.species, self.grid = dataset.card.names, dataset.card.grid
        self.seconds = 0.0

    @cached_property
    def runs(self) -> np.ndarray:
        """The run that each sample is of, [N]."""
        return self.dataset.runs(self.sample_ids)

    @cached_property
    def times(self) -> np.ndarray:
        """When each sample was taken, [N]; nan where it is not known."""
        return self.dataset.times(self.sample_ids)

    def some(self, most: int) -> np.ndarray:
        """States [M, C, H, W] of at most so many, evenly spread."""
        return self.states_of(evenly(self.sample_ids, most))

    def states_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """States [M, C, H, W] of these samples, in their order."""
        return self.dataset.states(sample_ids)

    def each(self, task: Task) -> Findings:
        """What a task finds in every sample, in the order of their ids, whatever the number of workers.

        Raises:
            UserError: more workers than the machine can hold.
        """
        start = time.monotonic()
        runtime.start()
        runtime.refuse_unshared(self.dataset.folder)
        names = [entry["name"] for entry in self.dataset.card.shards]
        shards = [{"shard": name} for name in names if len(self.dataset.read_ids(name, self.sample_ids))]
        actors = placement.worker_count(self.workers, len(shards), "workers")
        results = ray.data.from_items(shards, override_num_blocks=len(shards)).map_batches(
            _Actor,
            fn_constructor_kwargs={
                "folder": str(runtime.shared_folder(self.dataset.folder)),
                "sample_ids": self.sample_ids,
                "task": task,
            },
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=placement.cpu_share(actors),
        )
        parts = []
        for batch in results.iter_batches(batch_size=None):
            parts.append(batch)
            if self.advance:
                self.advance(len(batch["sample_id"]))
        whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        order = np.argsort(whole.pop("sample_id"))
        self.seconds += time.monotonic() - start
        return {key: values[order] for key, values in whole.items()}


class _Actor:
    """Carries out a task on the wanted samples of each shard it is given."""

    def __init__(self, folder: str, sample_ids: np.ndarray, task: Task) -> None:
        self.dataset = open_dataset(folder)
        self.sample_ids = sample_ids
        self.task = task

    def __call__(self, batch: dict[str, Any]) -> Findings:
        """Sample ids, and what the task finds in each, of the shards named in the batch."""
        parts = [self.dataset.read_shard(str(name), self.sample_ids) for name in batch["shard"]]
        ids, states = (np.concatenate(column) for column in zip(*parts, strict=True))
        return {"sample_id": ids, **carry_out(self.task, ids, states)}
