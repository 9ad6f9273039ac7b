"""What a training is given: the states to learn from, and what to train, a model with a loss made of sums."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from p2d.training.workers import Workers


class Data(Protocol):
    """Training and held-out states in training coordinates, float32 [N, C, H, W], with their sample ids."""

    @property
    def count(self) -> int:
        """Training states."""
        ...

    def batches(
        self, seed: int, epoch: int, batch_size: int, workers: Workers, first: int = 0
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """This worker's share of every global batch of an epoch from the first on, in order: states, and their ids."""
        ...

    def held_out(self, workers: Workers) -> Iterator[tuple[Tensor, list[int]]]:
        """This worker's share of the held-out states in parts, one at least, which may be empty."""
        ...

    def states(self, positions: Tensor) -> Tensor:
        """The training states at these positions, int64 [M], in the order of ids."""
        ...


def spread(count: int, most: int) -> Tensor:
    """Positions of at most so many of `count` states, evenly spread, int64."""
    return torch.arange(count)[:: -(-count // most)]


class Task(nn.Module):
    """A model with its loss. `forward(x, ids, step)` turns a local batch into sums.

    States x are [B, C, H, W] in training coordinates, ids their sample ids; whatever is random follows from these and
    the step alone, never from the worker.
    """

    model: nn.Module

    def loss(self, sums: Tensor) -> Tensor:
        """The loss of the sums [K] over all workers: ratios are taken here, after the sum."""
        raise NotImplementedError

    def training_metrics(self, sums: Tensor) -> dict[str, float]:
        """Metrics beside the loss, of the sums [K] over an epoch's batches; nothing unless a task says otherwise."""
        return {}

    def validate(self, x: Tensor, ids: list[int], last: bool) -> dict[str, Tensor]:
        """Named sums over this worker's held-out states (which may be none); `last`: after the last epoch."""
        raise NotImplementedError

    def metrics(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """Validation metrics of the sums over all workers; `validation_loss` is the one number to judge by."""
        raise NotImplementedError

    def after_epoch(self, data: Data, workers: Workers) -> None:
        """What is not a gradient step, over training states; nothing unless a task says otherwise."""
