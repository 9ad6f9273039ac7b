"""Pictures of a score model: what it makes of noise, what it makes up, and how its training goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from p2d.fields import Scaling
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.score.sample import generate
from p2d.show import curves, figures
from p2d.show.view import View
from p2d.training.history import History

PICTURED_ALPHAS = (0.5, 0.8, 0.95)
GENERATED, STEPS = 4, 12  # samples of a picture, and steps of the solver for them


@torch.no_grad()
def denoised_states(
    model: ScoreModel, state: np.ndarray, scaling: Scaling
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """At a few trained levels alpha, a snapshot [C, H, W] noised, over sqrt(alpha), and denoised, as values."""
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
    return panels


def draw_progress(
    folder: Path, model: ScoreModel, state: np.ndarray, scaling: Scaling, history: History, view: View, name: str
) -> list[Path]:
    """Draw what a training has come to into `folder`, each picture named by its epoch; their paths.

    Args:
        state: a snapshot, [C, H, W], that is noised and denoised.
    """
    epoch = history.last.number
    title = f"{name}, epoch {epoch}"
    files = {key: folder / f"{key}-{epoch:04d}.png" for key in ("denoised", "generated")}
    figures.draw_denoised(files["denoised"], state, denoised_states(model, state, scaling), view, title)
    if model.sampled:
        states = torch.cat(list(generate(model, list(range(GENERATED)), view.grid.shape, STEPS, seed=0)))
        shown = scaling.to_values(states).numpy()
        figures.draw_states(files["generated"], shown, view, f"{title}, generated patterns")
    files["training"] = folder / "training.png"
    curves.draw_training(files["training"], history, name)
    return [file for file in files.values() if file.exists()]
