"""Moments for discovery, accumulated shard by shard by Ray Data actors: a map, and a concatenation of small arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ray

from p2d.cluster import runtime
from p2d.flow import discover
from p2d.snapshots.store import Dataset, open_dataset


class Accumulator:
    """An actor: the moments of the wanted samples of each shard it is given."""

    def __init__(self, folder: str, sample_ids: np.ndarray) -> None:
        self.dataset = open_dataset(folder)
        self.sample_ids = sample_ids

    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """Sample ids, rows and products of terms (see discover.Moments) of the shards named in the batch."""
        parts = [self.dataset.read_shard(str(name), self.sample_ids) for name in batch["shard"]]
        ids, states = (np.concatenate(column) for column in zip(*parts, strict=True))
        found = discover.moments(ids, states)
        return {"sample_id": found.sample_id, "rows": found.rows, "gram": found.gram}


def accumulate(
    dataset: Dataset, sample_ids: np.ndarray, workers: int = 0, advance: Callable[..., None] | None = None
) -> discover.Moments:
    """Moments of these samples of a dataset, in the order of their ids, whatever the number of workers.

    Args:
        workers: actors; 0 for as many as the machine holds.
        advance: told the samples of each shard as it is finished.

    Raises:
        UserError: more workers than the machine can hold.
    """
    runtime.start()
    shards = [{"shard": e["name"]} for e in dataset.card.shards if len(dataset.read_ids(e["name"], sample_ids))]
    actors = runtime.worker_count(workers, len(shards), "workers")
    results = ray.data.from_items(shards, override_num_blocks=len(shards)).map_batches(
        Accumulator,
        fn_constructor_kwargs={
            "folder": str(runtime.shared_folder(dataset.folder)),
            "sample_ids": np.asarray(sample_ids),
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=runtime.cpu_share(actors),
    )
    parts = []
    for batch in results.iter_batches(batch_size=None):
        parts.append(discover.Moments(batch["sample_id"], batch["rows"], batch["gram"]))
        if advance:
            advance(len(batch["sample_id"]))
    return discover.joined(parts).of(sample_ids)
