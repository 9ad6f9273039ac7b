"""One pass over a dataset for discovery, shard by shard, by Ray Data actors: a map, and small arrays back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray

from p2d.cluster import runtime
from p2d.discovery import discover as closed_form
from p2d.discovery import moments
from p2d.discovery.moments import Fields
from p2d.snapshots.noise import LOOKED_AT
from p2d.snapshots.store import Dataset, evenly, open_dataset


class Measurer:
    """An actor: carries out a task on the wanted samples of each shard it is given."""

    def __init__(self, folder: str, sample_ids: np.ndarray, task: closed_form.Task) -> None:
        self.dataset = open_dataset(folder)
        self.sample_ids = sample_ids
        self.task = task

    def __call__(self, batch: dict[str, Any]) -> Fields:
        """Sample ids, and what the task finds in each, of the shards named in the batch."""
        parts = [self.dataset.read_shard(str(name), self.sample_ids) for name in batch["shard"]]
        ids, states = (np.concatenate(column) for column in zip(*parts, strict=True))
        return {"sample_id": ids, **moments.collect(self.task, ids, states)}


def collect(
    dataset: Dataset,
    sample_ids: np.ndarray,
    task: closed_form.Task,
    workers: int = 0,
    advance: Callable[..., None] | None = None,
) -> Fields:
    """What a task finds in these samples of a dataset, in the order of their ids, whatever the number of workers.

    Args:
        workers: actors; 0 for as many as the machine holds.
        advance: told the samples of each shard as it is finished.

    Raises:
        UserError: more workers than the machine can hold, or what is not finite, see moments.sound.
    """
    runtime.start()
    shards = [{"shard": e["name"]} for e in dataset.card.shards if len(dataset.read_ids(e["name"], sample_ids))]
    actors = runtime.worker_count(workers, len(shards), "workers")
    results = ray.data.from_items(shards, override_num_blocks=len(shards)).map_batches(
        Measurer,
        fn_constructor_kwargs={
            "folder": str(runtime.shared_folder(dataset.folder)),
            "sample_ids": np.asarray(sample_ids),
            "task": task,
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=runtime.cpu_share(actors),
    )
    parts = []
    for batch in results.iter_batches(batch_size=None):
        parts.append(batch)
        if advance:
            advance(len(batch["sample_id"]))
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.argsort(whole.pop("sample_id"))
    return moments.sound({key: values[order] for key, values in whole.items()}, np.sort(sample_ids), task.measure.terms)


def ask(
    dataset: Dataset,
    ids: np.ndarray,
    question: closed_form.Question,
    workers: int = 0,
    advance: Callable[..., None] | None = None,
) -> tuple[closed_form.Discovery, dict[str, float]]:
    """The answer of these samples of a dataset to a question, and the seconds that the passes and that the fit took.

    Raises:
        UserError: see `collect`, and discover.discover.
    """
    spent = 0.0

    def passing(task: closed_form.Task) -> Fields:
        nonlocal spent
        start = time.monotonic()
        found = collect(dataset, ids, task, workers, advance)
        spent += time.monotonic() - start
        return found

    start = time.monotonic()
    measure = closed_form.look(dataset.states(evenly(ids, LOOKED_AT)), question)
    found = closed_form.discover(passing, dataset.runs(np.sort(ids)), measure, question)
    return found, {"passes": round(spent, 3), "fit": round(time.monotonic() - start - spent, 3)}
