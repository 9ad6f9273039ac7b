"""States to learn from, kept in memory; those that do not fit are streamed in the same batches, see cluster/stream."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from p2d.snapshots.store import Dataset
from p2d.training.randomness import WINDOW, batches
from p2d.training.workers import Workers

ALONE = Workers()


@dataclass(frozen=True)
class MemoryData:
    """Training and held-out states in training coordinates, float32 [N, C, H, W], with their sample ids [N]."""

    train: Tensor
    train_ids: Tensor
    held: Tensor
    held_ids: Tensor

    @property
    def count(self) -> int:
        """Training states."""
        return len(self.train)

    def batches(
        self, seed: int, epoch: int, batch_size: int, workers: Workers, first: int = 0
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """This worker's share of every global batch of an epoch from the first on, in order: states, and their ids."""
        for batch in itertools.islice(batches(seed, epoch, self.count, batch_size), first, None):
            mine = workers.share(batch)
            yield self.train[mine], self.train_ids[mine].tolist()

    def held_out(self, workers: Workers) -> Iterator[tuple[Tensor, list[int]]]:
        """This worker's share of the held-out states, in one part."""
        mine = workers.share(torch.arange(len(self.held)))
        yield self.held[mine], self.held_ids[mine].tolist()

    def states(self, positions: Tensor) -> Tensor:
        """The training states at these positions."""
        return self.train[positions]


def load_data(dataset: Dataset, holdout: float, snapshots: int = 0, workers: Workers = ALONE) -> MemoryData:
    """All living states in training coordinates, split as every stage splits them; workers of a machine keep them once.

    Raises:
        UserError: a value that is not finite (names shard and row), or too few living samples.
    """
    train, held = dataset.split(holdout, snapshots)
    kept, left = (_states_of_node(dataset, ids, workers) for ids in (train, held))
    return MemoryData(kept, torch.from_numpy(train), left, torch.from_numpy(held))


def _states_of_node(dataset: Dataset, ids: np.ndarray, workers: Workers) -> Tensor:
    """The states of these samples; the workers of a machine read a part each, into a file that all of them map."""
    if workers.local_size == 1 and workers.size == 1:
        return training_states(dataset, ids)
    shape = (len(ids), *dataset.shape)
    file = workers.file_of_node(max(4, 4 * math.prod(shape)))
    states = torch.from_file(str(file), shared=True, size=max(1, math.prod(shape)))[: math.prod(shape)].view(shape)
    mine = np.array_split(np.arange(len(ids)), workers.local_size)[workers.local_rank]
    for rows in np.array_split(mine, max(1, len(mine) // WINDOW)):
        states[torch.from_numpy(rows)] = training_states(dataset, ids[rows])
    workers.gathered(None)  # all parts are there, and all have mapped it: its name is not needed any more
    if workers.local_rank == 0:
        file.unlink()
    return states


def training_states(dataset: Dataset, ids: np.ndarray) -> Tensor:
    """The states of these samples in training coordinates, float32 [N, C, H, W]."""
    return torch.from_numpy(dataset.scaling.to_training(dataset.states(ids)))
