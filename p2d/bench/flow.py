"""How well a flow recovers the true velocity, over seeds and numbers of snapshots.

Notes of what it measured (two cores of an AMD EPYC (Zen 4), torch 2.13, 2026-11-24), cosines on held-out snapshots:

- waves, three seeds: 0.99976 to 0.99984 of 461 snapshots, 0.99943 to 0.99972 of 128; life 0.99961 to 0.99977 and
  0.99914 to 0.99947. About 55 s and 20 s a training.
- Variants of the training, one change at a time (life, 128 snapshots, mean of two seeds): as it is 0.99921; no gradient
  steps 0.99918 in half the time; four times the gradient steps 0.99918; 16 hidden units 0.932, 128 units 0.99875; 128
  observables 0.986; corners in the stencil 0.99747; ReLU -0.01. Over these and numbers of snapshots from 8 to 461, 14
  trainings, the z-scores rank flows as the cosine does with a rank correlation of -0.78: below an rms of about 1 they
  tell no difference.
- since then all cells, rows over tiles and a prior are in the solve. Systems of the catalogue, some 112 snapshots of
  64 x 64, before and after: Barkley's waves 0.73 (reversed) and 0.9990, turbulent Brusselator 0.63 and 0.985, spiral
  Brusselator 0.982 and 0.992, Gierer-Meinhardt 0.991 and 0.995, Schnakenberg 0.995 and 0.9990, FitzHugh-Nagumo 0.9998
  and 0.9999, three competing species 0.9991 and 0.9992, Klausmeier 0.984 and 0.988; Gray-Scott's chaos 0.967 and 0.995,
  solitons 0.998 and 0.999, waves 0.9991 and 0.9995. 48 windows of 40 x 40 cut from waves 0.998. Not held by the field:
  Kuramoto-Sivashinsky (0.1), whose rate has products of gradients.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats

from p2d.config import FlowConfig
from p2d.config.bench import BenchFlowConfig
from p2d.errors import UserError
from p2d.evaluate import metrics
from p2d.progress import say
from p2d.recipes import build
from p2d.snapshots.store import Dataset, find_dataset
from p2d.training.history import Epoch
from p2d.training.loop import fit
from p2d.training.states import MemoryData, load_data
from p2d.training.workers import Workers


def measure(config: BenchFlowConfig, out: Path) -> dict[str, Any]:
    """What `p2d bench flow` tells of its dataset: rows, and how well z-scores rank flows as the cosine does."""
    rows = bench(config, find_dataset(config.dataset, out))
    return {"runs": rows, "rank_correlation": rank_correlation(rows)}


def bench(config: BenchFlowConfig, dataset: Dataset) -> list[dict[str, Any]]:
    """Train in this process and measure on held-out snapshots.

    Returns:
        A row for each number of snapshots: cosine with the true velocity (of each seed), stationarity
        z-scores (rms, of each seed), imbalance of the data, seconds of training (median over seeds).
    """
    if not dataset.card.systems:
        raise UserError(f"{dataset.folder} is of no known system, which flows are held against here; simulate one")
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    whole = load_data(dataset, config.holdout)
    rows = []
    for count in config.snapshots:
        data = whole if not count else dataclasses.replace(whole, train=whole.train[:count])
        runs = []
        for seed in range(config.seeds):
            say(f"{data.count} snapshots, seed {seed}")
            runs.append(_run(FlowConfig(seed=seed), data, dataset))
        rows.append({"snapshots": data.count, **{key: [run[key] for run in runs] for key in runs[0]}})
    return rows


def _run(settings: FlowConfig, data: MemoryData, dataset: Dataset) -> dict[str, float]:
    scaling = dataset.scaling
    start = time.monotonic()
    task = build(settings, data, dataset.card.grid, scaling, torch.device("cpu"), None)
    kept: list[tuple[Epoch, dict[str, Any]]] = []
    fit(task, data, settings, Workers(), lambda epoch, state: kept.append((epoch, state)))
    seconds = time.monotonic() - start
    epoch, state = kept[-1]
    task.model.load_state_dict(state["average"])
    with torch.no_grad():
        v = scaling.velocity_to_values(torch.cat([task.model(x) for x in data.held.double().split(1)]).numpy())
    states = scaling.to_values(data.held).numpy()
    truth = metrics.true_velocity(dataset, data.held_ids.numpy(), states)
    assert truth is not None
    grid, reach = dataset.card.grid, math.floor(settings.radius)
    found = metrics.cosine(v, truth, dataset.card.names, grid.inside(reach))["cosine"]
    z = metrics.stationarity(v, states, grid, reach)["z_rms"]
    return {"cosine": found, "z_rms": z, "imbalance": epoch.metrics["imbalance"], "seconds": seconds}


def rank_correlation(rows: list[dict[str, Any]]) -> float | None:
    """Of cosine and stationarity over all trainings (Spearman): -1 where the z-scores rank flows as the truth does.

    None of fewer than three.
    """
    cosine, z = (np.concatenate([row[key] for row in rows]) for key in ("cosine", "z_rms"))
    return float(stats.spearmanr(np.abs(cosine), z).statistic) if len(cosine) > 2 else None


def print_table(found: dict[str, Any], config: BenchFlowConfig) -> None:
    """The measurements as a table on standard output."""
    table = Table("of", "cosine", "lowest", "highest", "z rms", "imbalance", "time")
    for row in found["runs"]:
        cosine = row["cosine"]
        table.add_row(
            str(row["snapshots"]),
            *(f"{f(cosine):.5f}" for f in (np.mean, np.min, np.max)),
            f"{np.mean(row['z_rms']):.2f}",
            f"{np.mean(row['imbalance']):.1e}",
            f"{np.median(row['seconds']):.0f} s",
        )
    console = Console(highlight=False)
    console.print(table)
    if found["rank_correlation"] is not None:
        console.print(f"rank correlation of cosine and z rms: {found['rank_correlation']:.2f}")
