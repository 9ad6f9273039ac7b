"""Clean snapshots from noisy ones, by a score model that was trained on the noisy ones alone (score/loss.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from p2d.config import DenoiseConfig, ScoreConfig
from p2d.fields import Scaling
from p2d.score import noise
from p2d.score.model import ScoreModel
from p2d.score.sample import choose_together, threads_on, values_of
from p2d.snapshots import made as derived
from p2d.snapshots.card import Card
from p2d.snapshots.schema import Samples
from p2d.snapshots.shards import shard_name
from p2d.snapshots.store import Dataset
from p2d.threads import each_on_one_thread
from p2d.training.randomness import imaged, images, restored

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


def denoised(model: ScoreModel, x: Tensor, sigma: float, threads: int | None = None) -> Iterator[Tensor]:
    """E[clean | x] of snapshots x = clean + sigma n, a few at a time, averaged over the images it has learnt from.

    Turned and mirrored snapshots have turned and mirrored posterior means; the network only knows so approximately,
    and what it errs by differs from one to the next.

    Args:
        model: trained at levels near sigma.
        x: [N, C, H, W] in training coordinates.
        sigma: of the snapshots' noise, in training coordinates.
        threads: of the CPU, which change nothing; as many as torch has when None.
    """
    each = sorted(images(model.grid.sized(x.shape))) if model.augment else [(0, False)]

    @torch.no_grad()
    def clean(part: Tensor) -> Tensor:
        total = torch.zeros_like(part)
        level = part.new_full((len(part),), sigma)
        for image in each:
            total += restored(model.posterior_mean(imaged(part, image), level), image)
        return total / len(each)

    parts = x.split(choose_together(x.device, x.shape[-2:]))
    return each_on_one_thread(clean, parts, threads_on(x.device, threads))


@dataclass(frozen=True)
class Denoised:
    """Makes the shards of a denoised dataset, see snapshots/writing.py.

    Attributes:
        model: checkpoint folder of the score model.
        source: the dataset of the noisy snapshots, whose rows keep their labels.
        scaling: the model's training coordinates.
        level: of the noise there.
        card: of the dataset that is made.
    """

    model: Path
    source: Dataset
    scaling: Scaling
    level: float
    card: Card

    def on(self, device: str, threads: int, tell: Callable[[int], None]) -> Callable[[int], Samples]:
        """Denoises the shard of a number."""
        model = ScoreModel.load(self.model).to(device)
        to_values = values_of(self.card.species, self.scaling, tell)

        def samples(number: int) -> Samples:
            _, states = self.source.read_shard(shard_name(number))
            shards = self.source.shards
            x = self.scaling.to_training(torch.tensor(states, device=device))
            values = to_values(denoised(model, x, self.level, threads))
            return derived.samples_of(values, shards.labels(number), self.card, shards.living(number))

        return samples
