"""States to learn from, kept in memory; those that do not fit are streamed in the same batches, see cluster/stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from p2d.snapshots.store import Dataset
from p2d.training.randomness import batches
from p2d.training.workers import Workers


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


def load_data(dataset: Dataset, holdout: float, snapshots: int = 0) -> MemoryData:
    """All living states in training coordinates, split as every stage splits them.

    Raises:
        UserError: a value that is not finite (names shard and row), or too few living samples.
    """
    train, held = dataset.split(holdout, snapshots)
    kept, left = (training_states(dataset, ids) for ids in (train, held))
    return MemoryData(kept, torch.from_numpy(train), left, torch.from_numpy(held))


def training_states(dataset: Dataset, ids: np.ndarray) -> Tensor:
    """The states of these samples in training coordinates, float32 [N, C, H, W]."""
    return torch.from_numpy(dataset.scaling.to_training(dataset.states(ids)))
