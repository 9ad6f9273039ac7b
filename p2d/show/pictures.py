"""Pictures of a score model: what it makes of noise, what it makes up, and how its training goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from p2d.fields import Scaling
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.score.sample import generate
from p2d.show import figures
from p2d.training.history import History

PICTURED_ALPHAS = (0.5, 0.8, 0.95)
GENERATED, STEPS = 4, 12  # samples of a picture, and steps of the solver for them


@torch.no_grad()
def denoised(
    path: Path,
    model: ScoreModel,
    state: np.ndarray,
    scaling: Scaling,
    channel: int,
    name: str,
    species: tuple[str, ...] = figures.SPECIES,
) -> None:
    """One snapshot, concentrations [2, H, W], beside its noised and denoised states at a few trained levels."""
    x = scaling.to_training(torch.from_numpy(state)[None])
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    low, high = min(model.alpha), max(model.alpha)
    panels = []
    for alpha in [a for a in PICTURED_ALPHAS if low <= a <= high] or model.alpha:
        level = torch.tensor([alpha])
        x_a = noise.add_noise(x, eps, level)
        pair = (x_a / level.sqrt(), model.denoise(x_a, level))
        noisy, mean = (scaling.to_values(y)[0].numpy() for y in pair)
        panels.append((alpha, noisy, mean))
    figures.denoised(path, state, panels, channel, name, species)


def generated(
    path: Path,
    model: ScoreModel,
    grid: tuple[int, int],
    scaling: Scaling,
    channel: int,
    name: str,
    species: tuple[str, ...] = figures.SPECIES,
) -> None:
    """A few new patterns on one colour scale."""
    states = torch.cat(list(generate(model, list(range(GENERATED)), grid, STEPS, seed=0)))
    shown = scaling.to_values(states).numpy()
    figures.contact_sheet(path, shown, channel, f"{name}: {species[channel]} in {GENERATED} generated patterns")


def of_training(
    folder: Path,
    model: ScoreModel,
    state: np.ndarray,
    scaling: Scaling,
    history: History,
    channel: int,
    name: str,
    species: tuple[str, ...] = figures.SPECIES,
) -> list[Path]:
    """Draw what a training has come to into `folder`, each picture named by its epoch; their paths."""
    epoch = history.last.number
    title = f"{name}, epoch {epoch}"
    files = {key: folder / f"{key}-{epoch:04d}.png" for key in ("denoised", "generated")}
    denoised(files["denoised"], model, state, scaling, channel, title, species)
    if model.sampled:
        height, width = state.shape[-2:]
        generated(files["generated"], model, (height, width), scaling, channel, title, species)
    files["training"] = folder / "training.png"
    figures.training(files["training"], history, name)
    return [file for file in files.values() if file.exists()]
