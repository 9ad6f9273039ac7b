"""The one training loop, for score and flow. No Ray in it: workers are a rank, a number, and sums over them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from p2d.errors import UserError
from p2d.streams import batches
from p2d.task import Task
from p2d.workers import Workers

Report = Callable[[dict[str, float], dict[str, Any]], None]
CLIP = 1.0  # largest norm of the gradient


@dataclass(frozen=True)
class Schedule:
    """What the loop needs to know of the settings. `ema` of 0: no averaging; `decay`: 'cosine' or 'constant'."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: int
    weight_decay: float
    ema: float
    decay: str
    seed: int

    def rate(self, step: int, steps: int) -> float:
        """Share of the peak learning rate at a step: linear warm-up, then half a cosine down to 0, or constant."""
        warmup = min(self.warmup, steps // 5)
        if step < warmup:
            return (step + 1) / warmup
        if self.decay == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@dataclass(frozen=True)
class Data:
    """Training and held-out states in training coordinates, float32 [N, 2, H, W], with their sample ids [N]."""

    train: Tensor
    train_ids: Tensor
    held: Tensor
    held_ids: Tensor


def fit(
    task: Task, data: Data, schedule: Schedule, workers: Workers, report: Report, start: dict[str, Any] | None = None
) -> None:
    """Train, and report after every epoch the metrics and the state from which an equal run goes on bit for bit.

    Epoch 0 takes no gradient step: it reports what the fresh (or solved) model does. Sums over a batch are added over
    workers before the loss is taken of them, so that any number of workers has the same loss and gradient:
    d loss / d weights = sum over workers of (d loss / d sums) (d sums / d weights).

    Args:
        report: called with metrics, and a state whose `average` holds the weights to use.
        start: a state that was reported, to go on from.

    Raises:
        UserError: a loss that is not finite; names the step.
    """
    device = next(task.parameters()).device
    # Buffers are constants of the data, the same on every worker: nothing to broadcast.
    wrapped = DistributedDataParallel(task, broadcast_buffers=False) if workers.size > 1 else task
    optimizer = torch.optim.AdamW(
        task.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, betas=(0.9, 0.99)
    )
    average = copy_weights(task.model)
    first, step, history = 0, 0, list[dict[str, float]]()
    if start is not None:
        task.model.load_state_dict(start["raw"])
        optimizer.load_state_dict(start["optimizer"])
        average = {k: v.clone() for k, v in start["average"].items()}
        first, step, history = start["epoch"] + 1, start["step"], start["history"]
    count = len(data.train)
    steps = schedule.epochs * (count // min(schedule.batch_size, count))
    for epoch in range(first, schedule.epochs + 1):
        clock, losses, norms = time.monotonic(), list[float](), list[float]()
        for batch in batches(schedule.seed, epoch, count, schedule.batch_size) if epoch else ():
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * schedule.rate(step, steps)
            mine = workers.share(batch)
            sums = wrapped(data.train[mine].to(device), data.train_ids[mine].tolist(), step)
            total = workers.total(sums).requires_grad_()
            loss = task.loss(total)
            if not torch.isfinite(loss):
                raise UserError(f"the loss is {loss.item()} at step {step}; try a smaller --learning-rate")
            (slope,) = torch.autograd.grad(loss, total)
            optimizer.zero_grad()
            sums.backward(slope * workers.size)  # DDP averages the gradient over workers: make that a sum
            norms.append(torch.nn.utils.clip_grad_norm_(task.parameters(), CLIP).item())
            optimizer.step()
            step += 1
            average_weights(average, task.model, ema_decay(schedule.ema, step))
            losses.append(loss.item())
        task.after_epoch(data.train, data.train_ids, workers)
        if not schedule.ema:
            average_weights(average, task.model, 0.0)
        metrics: dict[str, float] = {"epoch": epoch}
        if losses:
            metrics["training_loss"] = sum(losses) / len(losses)
            metrics["gradient_norm"] = sum(norms) / len(norms)
            metrics["learning_rate"] = schedule.learning_rate * schedule.rate(step - 1, steps)
            metrics["samples_per_second"] = len(losses) * min(schedule.batch_size, count) / (time.monotonic() - clock)
        raw = copy_weights(task.model)
        task.model.load_state_dict(average)
        metrics |= _validated(task, data, workers, last=epoch == schedule.epochs)
        task.model.load_state_dict(raw)
        metrics["seconds"] = time.monotonic() - clock
        history = [*history, metrics]
        state = {"raw": raw, "average": average, "optimizer": optimizer.state_dict()}
        report(metrics, {**state, "epoch": epoch, "step": step, "history": history})


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights and buffers, by name."""
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def ema_decay(ema: float, step: int) -> float:
    """Decay of the averaged weights, smaller at first so that short runs forget their beginnings."""
    return min(ema, (1 + step) / (10 + step)) if ema else 0.0


@torch.no_grad()
def average_weights(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """Move the average, in place, a share of 1 - decay towards the model's weights."""
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)


def _validated(task: Task, data: Data, workers: Workers, last: bool) -> dict[str, float]:
    """Validation metrics, from sums over the workers' shares of the held-out states."""
    mine = workers.share(torch.arange(len(data.held)))
    device = next(task.model.parameters()).device
    sums = task.validate(data.held[mine].to(device), data.held_ids[mine].tolist(), last)
    return task.metrics({name: workers.total(part.to(device)).cpu() for name, part in sums.items()})
