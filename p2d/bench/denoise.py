"""How well noisy snapshots are denoised with no clean data, beside a bound, a linear filter and a Gaussian one.

For each noise: the score model trained on the noisy snapshots alone (what `p2d denoise` does); the same network trained
for as many steps with clean targets, as a bound; the best linear filter for the data's spectrum, and a Gaussian filter
at the width that is best by the truth. The error is the root mean square over held-out snapshots.

Notes of what it measured (`p2d bench denoise -n 8`, 512 snapshots of waves, about a minute of training each on two
cores of an AMD EPYC (Zen 4), torch 2.13, 2026-11-24): for noise 0.01, 0.02 and 0.05 errors of 0.0017, 0.0030 and
0.0064; bound 0.0015, 0.0026, 0.0056 (1.14, 1.14, 1.14 times that); Gaussian filter 0.0070, 0.0108, 0.0191 (0.24,
0.28, 0.33 times); linear filter 0.0039, 0.0067, 0.0132. Which levels are trained matters: at noise 0.02, 900 steps at
1.05 to 1.5 times the noise 0.00301, at 1.1 to 2 times 0.00310, at 1.2 to 1.6 times 0.00317. Averages over fresh noise
of half the snapshots' in the place of symmetries: 0.00305 to 0.00308. The symmetries take off 3 %.
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from torch import Tensor

from p2d.config import DenoiseConfig, ScoreConfig
from p2d.config.bench import BenchDenoiseConfig
from p2d.fields import Grid, Scaling
from p2d.progress import say
from p2d.recipes import build
from p2d.score import denoise, noise
from p2d.score.model import ScoreModel
from p2d.snapshots.noise import white_noise
from p2d.snapshots.simulated import measured
from p2d.snapshots.store import Dataset, find_dataset
from p2d.training.loop import fit
from p2d.training.states import MemoryData, load_data
from p2d.training.workers import Workers

WIDTHS = np.geomspace(0.3, 4.0, 24)  # of the Gaussian filter, cells


def measure(config: BenchDenoiseConfig, out: Path) -> dict[str, Any]:
    """What `p2d bench denoise` tells of its dataset."""
    return bench(config, find_dataset(config.dataset, out))


def bench(config: BenchDenoiseConfig, dataset: Dataset) -> dict[str, Any]:
    """Root mean square errors, as a share of the species' ranges, by noise.

    Returns:
        For each noise: before; gaussian (at its best width); linear; denoised; bound; and the ratios of denoised to
        bound and to gaussian, and the noise that is estimated from the snapshots.
    """
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    found = {}
    for share in config.noise:
        say(f"noise {share:g}")
        found[f"{share:g}"] = _measured(share, config, dataset)
    return found


def _measured(share: float, config: BenchDenoiseConfig, dataset: Dataset) -> dict[str, float]:
    """The errors for a noise, a share of the species' ranges."""
    grid = dataset.card.grid
    sigma = tuple(share * species.span for species in dataset.card.species)
    scaling, level = denoise.of_equal_noise(dataset.scaling, sigma)
    clean = load_data(dataset.scaled(scaling), config.holdout)
    noisy = _noisy(clean, level, config.seed)
    settings = denoise.training_settings(DenoiseConfig(epochs=config.epochs, seed=config.seed), sigma, level)
    own = _trained(settings, noisy, grid, scaling)
    at_level = (noise.alpha_of(torch.tensor(level)).item(),)
    bound = _trained(dataclasses.replace(settings, alpha=at_level, data_noise=(0.0,)), clean, grid, scaling)
    linear, _ = own.spectrum.estimate(own.filled(noisy.held), torch.tensor([level]))

    def error(estimate: Tensor) -> float:
        return own.inside(estimate - clean.held).square().mean().sqrt().item() * share / level

    widths = {width: error(_filtered(noisy.held, width, grid)) for width in WIDTHS}
    row = {
        "before": error(noisy.held),
        "gaussian": min(widths.values()),
        "gaussian_width": min(widths, key=widths.__getitem__),
        "linear": error(own.spectrum.mean.view(1, -1, 1, 1) + linear),
        "denoised": error(torch.cat(list(denoise.denoised(own, noisy.held, level)))),
        "bound": error(torch.cat(list(denoise.denoised(bound, noisy.held, level)))),
        "estimated_noise": math.hypot(*white_noise(noisy.train.numpy())) / len(sigma) ** 0.5 * share / level,
    }
    return row | {"to_bound": row["denoised"] / row["bound"], "to_gaussian": row["denoised"] / row["gaussian"]}


def _noisy(clean: MemoryData, sigma: float, seed: int) -> MemoryData:
    """The same states, each with white noise of its own."""
    parts = [
        torch.from_numpy(measured(states.numpy(), np.full(states.shape[1], sigma), seed, ids.numpy()))
        for states, ids in ((clean.train, clean.train_ids), (clean.held, clean.held_ids))
    ]
    return MemoryData(parts[0], clean.train_ids, parts[1], clean.held_ids)


def _trained(settings: ScoreConfig, data: MemoryData, grid: Grid, scaling: Scaling) -> ScoreModel:
    task = build(settings, data, grid, scaling, torch.device("cpu"), None)
    states: list[dict[str, Any]] = []
    fit(task, data, settings, Workers(), lambda _, state: states.append(state))
    model = cast(ScoreModel, task.model)
    model.load_state_dict(states[-1]["average"])
    return model


def _filtered(states: Tensor, width: float, grid: Grid) -> Tensor:
    """States smoothed by a Gaussian of this standard deviation in cells; beyond edges they go on backwards."""
    modes = ["wrap", "wrap", *("wrap" if edge == "periodic" else "reflect" for edge in grid.edges)]
    return torch.from_numpy(ndimage.gaussian_filter(states.numpy(), (0, 0, width, width), mode=modes))


def print_table(found: dict[str, Any], config: BenchDenoiseConfig) -> None:
    """The measurements as a table on standard output."""
    rows = {
        "before": "before",
        "Gaussian filter at its best width": "gaussian",
        "linear filter of the spectrum": "linear",
        "denoised": "denoised",
        "bound: clean targets": "bound",
        "denoised / bound": "to_bound",
        "denoised / Gaussian filter": "to_gaussian",
        "noise, estimated": "estimated_noise",
    }
    table = Table("noise", *found)
    for label, key in rows.items():
        digits = 3 if key.startswith("to_") else 5
        table.add_row(label, *(f"{row[key]:.{digits}f}" for row in found.values()))
    console = Console(highlight=False)
    console.print("root mean square error over held-out snapshots, as a share of the species' ranges", table)
