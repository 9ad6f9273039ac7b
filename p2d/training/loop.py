"""The one training loop, for score and flow. No Ray in it: workers are a rank, a number, and sums over them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from p2d.config import ModelConfig
from p2d.errors import UserError
from p2d.training.history import Epoch, History
from p2d.training.optimizers import optimizers, set_rate
from p2d.training.task import Data, Task
from p2d.training.workers import Workers

Report = Callable[[Epoch, dict[str, Any]], None]
CLIP = 1.0  # largest norm of the gradient


def rate_share(config: ModelConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then half a cosine down to 0, or constant."""
    warmup = min(config.warmup, steps // 5)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def is_reached(config: ModelConfig, loss: float) -> bool:
    """Whether a validation loss is low enough to end the training early."""
    return config.target_loss != 0 and loss <= config.target_loss


def fit(
    task: Task,
    data: Data,
    config: ModelConfig,
    workers: Workers,
    report: Report,
    start: dict[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    at_a_time: int = 0,
) -> None:
    """Train, and report after every epoch its metrics and the state from which an equal run goes on bit for bit.

    Epoch 0 takes no gradient step: it reports what the fresh (or solved) model does. Sums over a batch are added over
    workers before the loss is taken of them, so that any number of workers has the same loss and gradient:
    d loss / d weights = sum over workers of (d loss / d sums) (d sums / d weights).

    Args:
        config: its passes, rates and seed; a flow's and a score model's have these alike.
        report: called with the epoch, and a state whose `average` holds the weights to use.
        start: a state that was reported, to go on from.
        stop: asked after every step; once it holds on any worker, all of them report a state in the middle of the
            epoch, with the epoch before it, and return.
        at_a_time: states whose gradient is taken together, 0 for all of a worker's share of a batch: the same loss in
            less memory, for another pass of the network forward.

    Raises:
        UserError: a loss that is not finite; names the step, or the epoch after which it shows.
    """
    device = next(task.parameters()).device
    # Buffers are constants of the data, the same on every worker: nothing to broadcast.
    wrapped = DistributedDataParallel(task, broadcast_buffers=False) if workers.size > 1 else task
    steppers = optimizers(task, config.optimizer, config.learning_rate, config.weight_decay)
    average = copy_weights(task.model)
    first, step, history = 0, 0, History()
    if start is not None:
        task.model.load_state_dict(start["raw"])
        for stepper, state in zip(steppers, start["optimizers"], strict=True):
            stepper.load_state_dict(state)
        average = {k: v.to(device, copy=True) for k, v in start["average"].items()}
        first, step, history = start["epoch"] + 1, start["step"], History.from_dicts(start["history"])
    part = (start or {}).get("part")
    batch = min(config.batch_size, data.count)
    steps = config.passes * (data.count // batch)
    in_parts = 0 < at_a_time < -(-batch // workers.size)  # alike on all workers, as is what they exchange
    for epoch in range(first, config.passes + 1):
        if history.epochs and is_reached(config, history.last.validation_loss):
            return
        clock, losses, norms, total = time.monotonic(), list[float](), list[float](), torch.zeros(())
        if part:
            clock, losses, norms, total = clock - part["seconds"], part["losses"], part["norms"], part["total"]
        part = None
        for x, ids in data.batches(config.seed, epoch, config.batch_size, workers, len(losses)) if epoch else ():
            set_rate(steppers, rate_share(config, step, steps))
            x = x.to(device, non_blocking=True)
            if in_parts:
                with torch.no_grad():
                    sums = torch.stack([task(*part, step) for part in _parts(x, ids, at_a_time)]).sum(0)
            else:
                sums = wrapped(x, ids, step)
            of_all, stops = workers.total(torch.cat([sums, sums.new_tensor([stop()])])).split([len(sums), 1])
            of_all = of_all.clone().requires_grad_()
            loss = task.loss(of_all)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise UserError(f"the loss is {losses[-1]} at step {step}; try a smaller --learning-rate")
            (slope,) = torch.autograd.grad(loss, of_all)
            task.zero_grad()
            # DDP averages the gradient over workers: make that a sum
            if in_parts:
                _backward(wrapped, _parts(x, ids, at_a_time), slope * workers.size, step)
            else:
                sums.backward(slope * workers.size)
            norms.append(torch.nn.utils.clip_grad_norm_(task.parameters(), CLIP).item())
            for stepper in steppers:
                stepper.step()
            step += 1
            average_weights(average, task.model, ema_decay(config.ema, step))
            total = total + of_all.detach().double().cpu()
            if stops:
                part = {"seconds": time.monotonic() - clock, "losses": losses, "norms": norms, "total": total}
                report(history.last, {**state_of(task.model, average, steppers, step, history), "part": part})
                return
        task.after_epoch(data, workers)
        if not config.ema:
            average_weights(average, task.model, 0.0)
        metrics: dict[str, float] = {}
        if losses:
            metrics["training_loss"] = sum(losses) / len(losses)
            metrics |= task.training_metrics(total)
            metrics["gradient_norm"] = sum(norms) / len(norms)
            metrics["learning_rate"] = config.learning_rate * rate_share(config, step - 1, steps)
            metrics["samples_per_second"] = len(losses) * batch / (time.monotonic() - clock)
        state = state_of(task.model, average, steppers, step, history)
        task.model.load_state_dict(average)
        metrics |= _validated(task, data, workers, last=epoch == config.passes)
        if is_reached(config, metrics["validation_loss"]):
            metrics |= _validated(task, data, workers, last=True)
        task.model.load_state_dict(state["raw"])
        if losses:
            _refuse_broken(metrics["validation_loss"], history, epoch)
        metrics["seconds"] = time.monotonic() - clock
        history = history.followed_by(Epoch(epoch, metrics))
        report(history.last, {**state, "epoch": epoch, "history": history.to_dicts()})


Parts = list[tuple[Tensor, list[int]]]


def _parts(x: Tensor, ids: list[int], size: int) -> Parts:
    """States, and their ids, in parts of at most so many."""
    return [(x[start : start + size], ids[start : start + size]) for start in range(0, len(ids), size)]


def _backward(wrapped: nn.Module, parts: Parts, slope: Tensor, step: int) -> None:
    """Add slope * d sums / d weights to the gradient, part by part; workers exchange it with the last part."""
    for number, (x, ids) in enumerate(parts, 1):
        waits = isinstance(wrapped, DistributedDataParallel) and number < len(parts)
        with wrapped.no_sync() if waits else nullcontext():  # type: ignore[operator]
            wrapped(x, ids, step).backward(slope)


def state_of(
    model: nn.Module, average: dict[str, Tensor], steppers: list[Optimizer], step: int, history: History
) -> dict[str, Any]:
    """What training goes on from, after the last epoch of the history."""
    return {
        "raw": copy_weights(model),
        "average": average,
        "optimizers": [stepper.state_dict() for stepper in steppers],
        "step": step,
        "epoch": history.last.number if history.epochs else -1,
        "history": history.to_dicts(),
    }


def _refuse_broken(loss: float, history: History, epoch: int) -> None:
    """Raise if an epoch's last steps have broken the model, which no later loss would show.

    A validation loss that was never finite (one held-out state has no z-score) says nothing.
    """
    if not math.isfinite(loss) and all(math.isfinite(past.validation_loss) for past in history.epochs):
        raise UserError(f"the validation loss is {loss} after epoch {epoch}; try a smaller --learning-rate")


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights and buffers, by name."""
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def ema_decay(ema: float, step: int) -> float:
    """Decay of the averaged weights, smaller at first so that short runs forget their beginnings."""
    return min(ema, (1 + step) / (10 + step)) if ema else 0.0


@torch.no_grad()
def average_weights(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """Move the average, in place, a share of 1 - decay towards the model's weights."""
    weights = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    torch._foreach_lerp_([average[key] for key in weights], list(weights.values()), 1 - decay)  # few launches on a GPU


def _validated(task: Task, data: Data, workers: Workers, last: bool) -> dict[str, float]:
    """Validation metrics, from sums over the workers' shares of the held-out states."""
    device = next(task.model.parameters()).device
    sums: dict[str, Tensor] = {}
    for x, ids in data.held_out(workers):
        for name, part in task.validate(x.to(device), ids, last).items():
            sums[name] = sums[name] + part if name in sums else part
    return task.metrics({name: workers.total(part.to(device)).cpu() for name, part in sums.items()})
