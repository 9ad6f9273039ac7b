"""How fast the score network learns, beside a U-Net at full resolution that predicts the noise without preconditioning.

Both are trained on the same snapshots in the same order, with the same noise, for the same wall time. The learning rate
of each follows one cosine over its own time, so that a short run ends as well as it can.

Notes of what it measured (`p2d bench score`, 512 snapshots of waves, validation loss at alpha = 0.8):

- 2026-11-23, two cores of an AMD EPYC (Zen 4), torch 2.13: 0.0088 after 70 s and 0.0071 after 420 s, the reference
  0.0083 after 420 s: 0.856 times its loss at equal time, 1.06 times in a sixth of the time. 40 against 8.9 samples/s.
- The same day, 70 s each: no weight decay 0.0088, decay of the averaged weights 0.995 rather than 0.999 0.0088,
  bfloat16 0.0086 (1.2 times the steps), learning rate 5e-3 0.0090, channels 48/64/96 0.0097, all against 0.0090.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from p2d.bench.reference_unet import NoisePrediction, ReferenceUNet
from p2d.config import ScoreConfig
from p2d.config.bench import BenchScoreConfig
from p2d.progress import say
from p2d.score.loss import DenoisingScoreMatching, squared_error
from p2d.score.unet import ScoreModel
from p2d.snapshots.store import Dataset
from p2d.streams import batches
from p2d.training.loop import CLIP, Data, average_weights, copy_weights, ema_decay
from p2d.training.tasks import load_data

WARMUP = 0.02  # of the time
EMA = 0.999
READINGS = 6  # of the validation loss, evenly over the time
Trained = DenoisingScoreMatching | NoisePrediction


@dataclass(frozen=True)
class Contender:
    """A network to train, with the batch size and learning rate that suit it."""

    task: Trained
    batch_size: int
    learning_rate: float


def contenders(config: BenchScoreConfig, data: Data) -> dict[str, Contender]:
    """The networks, fresh, from the same seed."""
    torch.manual_seed(config.seed)
    mean, std = data.train.mean(dim=(0, 2, 3)), data.train.std(dim=(0, 2, 3))
    own = ScoreModel(ScoreConfig().channels, (config.alpha,), mean, std)
    torch.manual_seed(config.seed)
    reference = NoisePrediction(ReferenceUNet(), config.alpha, config.seed)
    return {
        "p2d": Contender(DenoisingScoreMatching(own, config.seed, True), config.batch_size, config.learning_rate),
        "reference": Contender(reference, config.reference_batch_size, config.reference_learning_rate),
    }


def bench(config: BenchScoreConfig, dataset: Dataset) -> dict[str, Any]:
    """Validation loss over wall time of both networks, and of this one in a share of the time.

    Returns:
        runs: by name the weights, steps, samples/s and readings [seconds, validation loss at alpha];
        ratio: of the final losses at equal time; share: loss in the shorter time over the reference's in full.
    """
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    data = load_data(dataset, config.holdout)
    plans = (("p2d", config.seconds / config.share), ("p2d", config.seconds), ("reference", config.seconds))
    runs = {}
    for name, seconds in plans:
        label = f"{name}, {seconds:.0f} s"
        say(f"training {label}")
        runs[label] = train(contenders(config, data)[name], data, seconds, config)
    short, full, reference = (run["readings"][-1][1] for run in runs.values())
    return {"runs": runs, "ratio": full / reference, "share": short / reference}


def train(contender: Contender, data: Data, seconds: float, config: BenchScoreConfig) -> dict[str, Any]:
    """Train for a wall time, validations not counted."""
    task = contender.task
    optimizer = torch.optim.AdamW(task.parameters(), lr=contender.learning_rate, weight_decay=1e-2, betas=(0.9, 0.99))
    average = copy_weights(task.model)
    spent, step, epoch, readings = 0.0, 0, 0, list[tuple[float, float]]()
    batch_size = min(contender.batch_size, len(data.train))
    while spent < seconds:
        epoch += 1
        for batch in batches(config.seed, epoch, len(data.train), batch_size):
            start = time.monotonic()
            for group in optimizer.param_groups:
                group["lr"] = contender.learning_rate * _rate(spent / seconds)
            sums = task(data.train[batch], data.train_ids[batch].tolist(), step)
            optimizer.zero_grad()
            (sums[0] / sums[1]).backward()
            nn.utils.clip_grad_norm_(task.parameters(), CLIP)
            optimizer.step()
            step += 1
            average_weights(average, task.model, ema_decay(EMA, step))
            spent += time.monotonic() - start
            due = min(READINGS, int(READINGS * spent / seconds))
            if due > len(readings):  # more than one, where a step takes longer than a share of the time
                reading = (round(spent, 1), _validation(task, average, data, config))
                readings += [reading] * (due - len(readings))
            if spent >= seconds:
                break
    weights = sum(p.numel() for p in task.parameters())
    return {"weights": weights, "steps": step, "samples_per_second": step * batch_size / spent, "readings": readings}


def _rate(done: float) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine."""
    return done / WARMUP if done < WARMUP else 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))


def _validation(task: Trained, average: dict[str, Tensor], data: Data, config: BenchScoreConfig) -> float:
    """Mean squared error of the averaged weights' expected noise, with noise fixed by the samples' ids."""
    raw = copy_weights(task.model)
    task.model.load_state_dict(average)
    predict = task.eps if isinstance(task, NoisePrediction) else task.model.eps
    total, entries = squared_error(predict, data.held, data.held_ids.tolist(), config.alpha, config.seed).tolist()
    task.model.load_state_dict(raw)
    return total / entries


def print_table(found: dict[str, Any], config: BenchScoreConfig) -> None:
    """The measurements as a table on standard output."""
    runs = found["runs"]
    table = Table("", *runs)
    table.add_row("weights", *(f"{run['weights']:,}" for run in runs.values()))
    table.add_row("samples/s", *(f"{run['samples_per_second']:.1f}" for run in runs.values()))
    for n in range(READINGS):
        losses = (f"{run['readings'][n][1]:.4f}" for run in runs.values())
        table.add_row(f"loss after {n + 1}/{READINGS} of the time", *losses)
    console = Console(highlight=False)
    console.print(f"validation loss at alpha {config.alpha:g}, of the averaged weights", table)
    console.print(f"at equal time: {found['ratio']:.3f} times the reference's loss")
    console.print(f"in 1/{config.share:g} of the time: {found['share']:.3f} times the reference's loss in all of it")
