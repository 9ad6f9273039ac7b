"""What a training is told to train: a model with a loss made of sums, so that ratios are taken over all workers."""

from __future__ import annotations

from torch import Tensor, nn

from p2d.workers import Workers


class Task(nn.Module):
    """A model with its loss. `forward(x, ids, step)` turns a local batch into sums.

    States x are [B, 2, H, W] in training coordinates, ids their sample ids; whatever is random follows from these and
    the step alone, never from the worker.
    """

    model: nn.Module

    def loss(self, sums: Tensor) -> Tensor:
        """The loss of the sums [K] over all workers: ratios are taken here, after the sum."""
        raise NotImplementedError

    def validate(self, x: Tensor, ids: list[int], last: bool) -> dict[str, Tensor]:
        """Named sums over this worker's held-out states (which may be none); `last`: after the last epoch."""
        raise NotImplementedError

    def metrics(self, totals: dict[str, Tensor]) -> dict[str, float]:
        """Validation metrics of the sums over all workers; `validation_loss` is the one number to judge by."""
        raise NotImplementedError

    def after_epoch(self, x: Tensor, ids: Tensor, workers: Workers) -> None:
        """What is not a gradient step, over all training states; nothing unless a task says otherwise."""
