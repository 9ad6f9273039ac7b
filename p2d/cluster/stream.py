"""States that do not fit a worker's memory, read by Ray Data as training goes, in the very batches of those that do."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from p2d.memory import memory_limit
from p2d.snapshots.store import Dataset
from p2d.training.job import TrainJob
from p2d.training.randomness import BLOCK, WINDOW, batches
from p2d.training.states import MemoryData, load_data, training_states
from p2d.training.workers import Workers

MEMORY_SHARE = 0.25  # of the machine's memory, for the states that its workers keep
PIECE = 32  # states that pass through Ray's object store at a time
READER_CPUS = 0.25


class Reader:
    """Reads the states of one stretch of an epoch's order after the other, for one worker.

    Args:
        dataset: to read.
        ids: sample ids of all training states.
        seed, batch_size, rank, size: of the training, and the worker's place in it.
    """

    def __init__(self, dataset: Dataset, ids: np.ndarray, seed: int, batch_size: int, rank: int, size: int) -> None:
        self.dataset = dataset
        self.ids = ids
        self.seed = seed
        self.batch_size = batch_size
        self.workers = Workers(rank, size)

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Ids and states of the worker's shares of the batches of one stretch, PIECE at a time."""
        (epoch,), (stretch,) = batch["epoch"], batch["stretch"]
        first = int(stretch) * batches_a_stretch(self.batch_size)
        order = batches(self.seed, int(epoch), len(self.ids), self.batch_size)
        shares = itertools.islice(map(self.workers.share, order), first, first + batches_a_stretch(self.batch_size))
        ids = self.ids[torch.cat(list(shares)).numpy()]
        states = training_states(self.dataset, ids).numpy()
        for start in range(0, len(ids), PIECE):
            piece = slice(start, start + PIECE)
            yield {"id": ids[piece], "state": states[piece]}


def batches_a_stretch(batch_size: int) -> int:
    """How many global batches are read together: about a window of the order, so that a shard is read about once."""
    return max(1, WINDOW // batch_size)


class StreamedData:
    """Training states of a dataset as Ray Data reads them, epoch after epoch in one stream; see task.Data.

    Args:
        dataset: to read.
        holdout: share held out.
        epochs: the last epoch that may be asked for.
        snapshots: to train on; 0 for all.
    """

    def __init__(self, dataset: Dataset, holdout: float, epochs: int, snapshots: int = 0) -> None:
        self.dataset = dataset
        self.epochs = epochs
        self.train_ids, self.held_ids = dataset.split(holdout, snapshots)
        self.count = len(self.train_ids)
        self._stream: Iterator[tuple[int, np.ndarray]] | None = None
        self._next_epoch = -1

    def check(self, workers: Workers) -> None:
        """Read this worker's share of all states once.

        Raises:
            UserError: a value that is not finite (names shard and row).
        """
        ids = np.sort(np.concatenate([self.train_ids, self.held_ids]))
        for part in np.array_split(ids, -(-len(ids) // BLOCK))[workers.rank :: workers.size]:
            self.dataset.states(part)

    def batches(
        self, seed: int, epoch: int, batch_size: int, workers: Workers, first: int = 0
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """This worker's share of every global batch of an epoch from the first on, in order: states, and their ids."""
        order = batches(seed, epoch, self.count, batch_size)
        if self._stream is None or epoch != self._next_epoch or first:
            together = batches_a_stretch(min(batch_size, self.count))
            order = itertools.islice(order, first - first % together, None)
            self._stream = self._read(epoch, first // together, seed, batch_size, workers)
            first %= together
        self._next_epoch = epoch + 1
        for number, batch in enumerate(order):
            rows = list(itertools.islice(self._stream, len(workers.share(batch))))
            if number >= first:
                yield torch.from_numpy(np.stack([state for _, state in rows])), [i for i, _ in rows]

    def _read(
        self, epoch: int, first: int, seed: int, batch_size: int, workers: Workers
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Ids and states of this worker in the order of its batches, from a stretch of an epoch to the last epoch."""
        size = min(batch_size, self.count)
        stretches = -(-(self.count // size) // batches_a_stretch(size))
        plan = [{"epoch": e, "stretch": s} for e in range(epoch, self.epochs + 1) for s in range(stretches)]
        plan = plan[first:]
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        settings: dict[str, Any] = {"seed": seed, "batch_size": size, "rank": workers.rank, "size": workers.size}
        pieces = ray.data.from_items(plan, override_num_blocks=len(plan)).map_batches(
            Reader,
            fn_constructor_kwargs={"dataset": dataclasses.replace(self.dataset), "ids": self.train_ids, **settings},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=READER_CPUS,
        )
        for piece in pieces.iter_batches(batch_size=None, prefetch_batches=2):
            yield from zip(piece["id"].tolist(), piece["state"], strict=True)

    def held_out(self, workers: Workers) -> Iterator[tuple[Tensor, list[int]]]:
        """This worker's share of the held-out states in parts, one at least, which may be empty."""
        mine = self.held_ids[workers.rank :: workers.size]
        for part in np.array_split(mine, max(1, -(-len(mine) // BLOCK))):
            yield training_states(self.dataset, part), part.tolist()

    def states(self, positions: Tensor) -> Tensor:
        """The training states at these positions."""
        return training_states(self.dataset, self.train_ids[positions.numpy()])


def open_data(job: TrainJob, workers: Workers, beside: int) -> MemoryData | StreamedData:
    """The states in memory where they fit, streamed where they do not: the same batches either way.

    Args:
        job: whose `source.memory` is the GiB that a worker may fill with states, 0 for a share of the machine's.
        workers: this one, and how many there are.
        beside: workers on this machine.

    Raises:
        UserError: a value that is not finite (names shard and row), or too few living samples.
    """
    dataset, source = job.dataset, job.source
    limit = source.memory * 2**30 or MEMORY_SHARE * memory_limit() / beside
    fits = dataset.card.alive * 4 * math.prod(dataset.shape) <= limit * workers.local_size
    if all(workers.gathered(fits)):  # machines may differ
        return load_data(dataset, source.holdout, source.snapshots, workers)
    streamed = StreamedData(dataset, source.holdout, job.config.passes, source.snapshots)
    streamed.check(workers)
    return streamed
