"""How fast the score network learns, beside a U-Net at full resolution that predicts the noise without preconditioning.

Both are trained on the same snapshots in the same order, with the same noise, for the same wall time. The learning rate
of each follows one cosine over its own time, so that a short run ends as well as it can.

Notes of what it measured (`p2d bench score`, 512 snapshots of waves, validation loss at alpha = 0.8, two cores of an
AMD EPYC (Zen 4), torch 2.13, 2026-11-24):

- 0.0072 after 70 s and 0.0066 after 420 s, the reference 0.0081 after 420 s: 0.89 times its loss in a sixth of the
  time, 0.82 times at equal time. 50 against 9.4 samples/s. In bfloat16 the reference makes 13.6 samples/s.
- What each step gave after 70 s: cells that do not know each other (EDM as it is) 0.0090, the linear denoiser of the
  spectrum 0.0080, bfloat16 0.0077, Muon 0.0074, its small products in batches 0.0072.
- Without gain after 70 s, against 0.0077 (bfloat16, AdamW): 32/64/96 channels 0.0080, 24/48/64 0.0079, a fourth level
  0.0080, a stem of 4 x 4 cells 0.0086, blocks of a 3x3 and a 1x1 convolution 0.0082, ConvNeXt blocks 0.0104, no block
  on the finest level on the way down 0.0079, averaged weights with decay 0.995 0.0077, channels_last 0.0079 (fewer
  samples/s). Shown the linear denoiser's residual alone, the network learns nothing (0.026). AdamW at 6e-3 breaks
  down (0.026). Compiled: 0.0073 (79 instead of 63 samples/s), but for 48 s that compiling takes.
- 2026-11-26, one NVIDIA H100 80GB HBM3, torch 2.11, 512 snapshots of waves, images/s in bfloat16 and float32 (which is
  TF32 there): 135 and 153 in batches of 4, 451 and 383 of 16, 1,427 and 1,463 of 64, 3,257 and 2,745 of 256, the last
  in 1.8 and 3.5 GiB. A step launches 2,000 kernels, which take 10 ms of its 45 (64 snapshots): it waits for the host,
  and takes 30 ms with 4 snapshots. Of 64 the network forward is 7 ms, Muon 7, noise and images 7, the average 1.
  Since then edges take two launches instead of some twenty, and the average one: not timed on a GPU; on a CPU core a
  step of 4 snapshots takes 0.87 times as long.
- There, loss after 7 s: 0.0108 in batches of 4, 0.0094 of 16, 0.0090 of 64 and 0.0082 at twice the learning rate, the
  reference 0.0440 in batches of 64 (711 images/s). So on a GPU give --batch-size 64 --learning-rate 0.004.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from p2d.bench.reference_unet import NoisePrediction, ReferenceUNet
from p2d.config import ScoreConfig
from p2d.config.bench import BenchScoreConfig
from p2d.fields import Grid, Scaling
from p2d.progress import say
from p2d.recipes import build
from p2d.score import noise
from p2d.score.loss import DenoisingScoreMatching, squared_error
from p2d.snapshots.store import Dataset, find_dataset
from p2d.training.loop import CLIP, average_weights, copy_weights, ema_decay
from p2d.training.optimizers import optimizers, set_rate
from p2d.training.states import MemoryData, load_data
from p2d.training.workers import Workers

ALPHA = 0.8  # the signal level
SHARE = 6  # this network is also trained for this part of the time
HOLDOUT = 0.1
LEARNING_RATE = 2e-3  # of AdamW, at the peak of the schedule; Muon's is ten times that
WARMUP = 0.02  # of the time
EMA = 0.999
WEIGHT_DECAY = 1e-2
READINGS = 6  # of the validation loss, evenly over the time
BATCH_SIZES = {"cpu": 4, "cuda": 64}
Trained = DenoisingScoreMatching | NoisePrediction


@dataclass(frozen=True)
class Contender:
    """A network to train, with the batch size that suits it, and the seconds it took to make."""

    task: Trained
    batch_size: int
    optimizer: str
    seconds: float


def contender(name: str, config: BenchScoreConfig, data: MemoryData, grid: Grid, device: torch.device) -> Contender:
    """A network, fresh, from the seed: 'p2d' or 'reference'."""
    start = time.monotonic()
    species = data.train.shape[1]
    if name == "p2d":
        unscaled = Scaling((0.0,) * species, (1.0,) * species)
        settings = ScoreConfig(alpha=(ALPHA,), seed=config.seed)
        task = cast(Trained, build(settings, data, grid, unscaled, device, None))
        stepper = settings.optimizer
    else:
        torch.manual_seed(config.seed)
        task = NoisePrediction(ReferenceUNet(species, grid), ALPHA, config.seed).to(device)
        if device.type == "cuda":
            task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        stepper = "adamw"
    return Contender(task, min(BATCH_SIZES[device.type], data.count), stepper, time.monotonic() - start)


def measure(config: BenchScoreConfig, out: Path) -> dict[str, Any]:
    """What `p2d bench score` tells of its dataset."""
    return bench(config, find_dataset(config.dataset, out))


def bench(config: BenchScoreConfig, dataset: Dataset) -> dict[str, Any]:
    """Validation loss over wall time of both networks, and of this one in a share of the time.

    Returns:
        device: where; runs: by name the weights, steps, samples/s and readings [seconds, validation loss at alpha];
        ratio: of the final losses at equal time; share: loss in the shorter time over the reference's in full.
    """
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = load_data(dataset, HOLDOUT)
    plans = (("p2d", config.seconds / SHARE), ("p2d", config.seconds), ("reference", config.seconds))
    runs = {}
    for name, seconds in plans:
        label = f"{name}, {seconds:.0f} s"
        say(f"training {label}")
        own = contender(name, config, data, dataset.card.grid, device)
        runs[label] = train(own, data, seconds, config, device)
    short, full, reference = (run["readings"][-1][1] for run in runs.values())
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return {"device": where, "runs": runs, "ratio": full / reference, "share": short / reference}


def train(
    contender: Contender, data: MemoryData, seconds: float, config: BenchScoreConfig, device: torch.device
) -> dict[str, Any]:
    """Train for a wall time, its making counted and validations not."""
    task = contender.task
    steppers = optimizers(task, contender.optimizer, LEARNING_RATE, WEIGHT_DECAY)
    average = copy_weights(task.model)
    spent, step, epoch, readings = contender.seconds, 0, 0, list[tuple[float, float]]()
    while spent < seconds:
        epoch += 1
        for x, ids in data.batches(config.seed, epoch, contender.batch_size, Workers()):
            start = time.monotonic()
            set_rate(steppers, _rate(spent / seconds))
            sums = task(x.to(device), ids, step)
            task.zero_grad()
            (sums[0] / sums[1]).backward()
            nn.utils.clip_grad_norm_(task.parameters(), CLIP)
            for stepper in steppers:
                stepper.step()
            step += 1
            average_weights(average, task.model, ema_decay(EMA, step))
            if device.type == "cuda":
                torch.cuda.synchronize()
            spent += time.monotonic() - start
            due = min(READINGS, int(READINGS * spent / seconds))
            if due > len(readings):  # more than one, where a step takes longer than a share of the time
                reading = (round(spent, 1), _validation(task, average, data, config))
                readings += [reading] * (due - len(readings))
            if spent >= seconds:
                break
    weights = sum(p.numel() for p in task.parameters())
    rate = step * contender.batch_size / (spent - contender.seconds)
    return {"weights": weights, "steps": step, "samples_per_second": rate, "readings": readings}


def _rate(done: float) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine."""
    return done / WARMUP if done < WARMUP else 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))


def _validation(task: Trained, average: dict[str, Tensor], data: MemoryData, config: BenchScoreConfig) -> float:
    """Mean squared error of the averaged weights' expected noise, with noise fixed by the samples' ids."""
    raw = copy_weights(task.model)
    task.model.load_state_dict(average)
    predict = task.posterior_mean if isinstance(task, NoisePrediction) else task.model.posterior_mean
    held = data.held.to(next(task.parameters()).device)
    sigma = noise.sigma_of(torch.tensor(ALPHA)).item()
    mask = torch.from_numpy(task.model.grid.inside(0)).to(held.device)
    parts = squared_error(predict, held, data.held_ids.tolist(), sigma, config.seed, inside=lambda e: e[..., mask])
    total, entries = parts.tolist()
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
    console.print(f"{found['device']}; validation loss at alpha {ALPHA:g}, of the averaged weights", table)
    console.print(f"at equal time: {found['ratio']:.3f} times the reference's loss")
    console.print(f"in 1/{SHARE} of the time: {found['share']:.3f} times the reference's loss in all of it")
