"""Clean snapshots from noisy ones, by a score model that was trained on the noisy ones alone (score/loss.py)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from p2d.config import DenoiseConfig, ScoreConfig
from p2d.score import noise
from p2d.score.model import ScoreModel

TOGETHER = 8  # states that are denoised together
LEVELS = (1.05, 1.5)  # noise of the trained levels over that of the snapshots


def training_settings(config: DenoiseConfig, sigma: float, scale: float) -> ScoreConfig:
    """How to train the score model that denoises snapshots of noise sigma, in concentration, by themselves."""
    low, high = (noise.alpha_of(torch.tensor(level * sigma * scale)).item() for level in reversed(LEVELS))
    own = {name: getattr(config, name) for name in ("epochs", "batch_size", "learning_rate", "channels", "seed")}
    return ScoreConfig(**own, alpha=(low, high), data_noise=sigma, sampling=0.0)


@torch.no_grad()
def denoised(model: ScoreModel, x: Tensor, sigma: float) -> Iterator[Tensor]:
    """E[clean | x] of snapshots x = clean + sigma n, a few at a time, averaged over the symmetries of the physics.

    Turned and mirrored snapshots have turned and mirrored posterior means; the network only knows so approximately,
    and what it errs by differs from one to the next.

    Args:
        model: trained at levels near sigma.
        x: [N, 2, H, W] in training coordinates.
        sigma: of the snapshots' noise, in training coordinates.
    """
    turns = range(4) if x.shape[-2] == x.shape[-1] else (0, 2)
    for part in x.split(TOGETHER):
        total = torch.zeros_like(part)
        level = part.new_full((len(part),), sigma)
        for n in turns:
            turned = torch.rot90(part, n, (-2, -1))
            mirrored = model.posterior_mean(turned.flip(-1), level).flip(-1)
            for mean in (model.posterior_mean(turned, level), mirrored):
                total += torch.rot90(mean, -n, (-2, -1))
        yield total / (2 * len(turns))
