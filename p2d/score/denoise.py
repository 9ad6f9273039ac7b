"""Clean snapshots from noisy ones, by a score model that was trained on the noisy ones alone (score/loss.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from p2d.config import DenoiseConfig, ScoreConfig
from p2d.fields import Scaling
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.training.randomness import imaged, images, restored

TOGETHER = 8  # states that are denoised together
LEVELS = (1.05, 1.5)  # noise of the trained levels over that of the snapshots
LEAST = 1e-3  # of the largest noise: a species of less counts as having so much


def of_equal_noise(scaling: Scaling, sigma: Sequence[float]) -> tuple[Scaling, float]:
    """Training coordinates in which all species have the same noise, and that noise.

    The network is told one noise level. That of the species with the most noise stays; the others are scaled up.

    Args:
        sigma: of each species, in its unit.
    """
    own = [noise / scale for noise, scale in zip(sigma, scaling.scale, strict=True)]
    shares = [max(each / max(own), LEAST) for each in own]
    scale = tuple(scale * share for scale, share in zip(scaling.scale, shares, strict=True))
    return Scaling(scaling.shift, scale), max(own)


def training_settings(config: DenoiseConfig, sigma: tuple[float, ...], level: float) -> ScoreConfig:
    """How to train the score model that denoises snapshots by themselves.

    Args:
        sigma: their noise, in units of the species.
        level: the same in training coordinates.
    """
    low, high = (noise.alpha_of(torch.tensor(factor * level)).item() for factor in reversed(LEVELS))
    own = {name: getattr(config, name) for name in ("epochs", "batch_size", "learning_rate", "channels", "seed")}
    return ScoreConfig(**own, alpha=(low, high), data_noise=sigma, sampling=0.0)


@torch.no_grad()
def denoised(model: ScoreModel, x: Tensor, sigma: float) -> Iterator[Tensor]:
    """E[clean | x] of snapshots x = clean + sigma n, a few at a time, averaged over the images it has learnt from.

    Turned and mirrored snapshots have turned and mirrored posterior means; the network only knows so approximately,
    and what it errs by differs from one to the next.

    Args:
        model: trained at levels near sigma.
        x: [N, C, H, W] in training coordinates.
        sigma: of the snapshots' noise, in training coordinates.
    """
    each = sorted(images(model.grid.sized(x.shape))) if model.augment else [(0, False)]
    for part in x.split(TOGETHER):
        total = torch.zeros_like(part)
        level = part.new_full((len(part),), sigma)
        for image in each:
            total += restored(model.posterior_mean(imaged(part, image), level), image)
        yield total / len(each)
