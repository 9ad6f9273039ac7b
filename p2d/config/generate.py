"""Settings of what a score model makes: new patterns, and clean ones from noisy snapshots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from p2d.config.base import HOW, Config, at_least, option, widths, within
from p2d.errors import UserError

LARGEST_CHURN = 0.41  # a little below 2^(1/2) - 1 (Karras et al. 2022): no more new noise than there is


@dataclass(frozen=True)
class SampleConfig(Config):
    """Settings of generated patterns."""

    num_samples: Annotated[int, option("-n", help="patterns to generate")] = 64
    height: Annotated[int, option(help="grid rows, 0: as the score model was trained")] = 0
    width: Annotated[int, option(help="grid columns, 0: as the score model was trained")] = 0
    steps: Annotated[int, option(help="noise levels of the reverse process, each of two evaluations")] = 40
    churn: Annotated[
        float, option(help="share by which noise is raised anew before each step; 0: the deterministic solver")
    ] = 0.4
    seed: Annotated[int, option(help="seed of all noise")] = 0
    name: Annotated[str, option(help="name under OUT/data; the score model's, 'generated' and the size when empty")] = (
        field(default="", metadata=HOW)
    )
    dataset: Annotated[str, option("-m", help="dataset to compare with; the score model's own when empty")] = field(
        default="", metadata=HOW
    )
    plot_channel: Annotated[int, option(help="species shown in pictures: 0 is u, 1 is v")] = field(
        default=1, metadata=HOW
    )

    def __post_init__(self) -> None:
        for key, least in (("num_samples", 1), ("height", 0), ("width", 0), ("steps", 2), ("seed", 0)):
            at_least(key, getattr(self, key), least)
        if not 0 <= self.churn <= LARGEST_CHURN:
            raise UserError(f"churn = {self.churn} is not possible: a share between 0 and {LARGEST_CHURN}")
        if self.plot_channel not in (0, 1):
            raise UserError(f"plot_channel = {self.plot_channel} is not possible: 0 is u, 1 is v")


@dataclass(frozen=True)
class DenoiseConfig(Config):
    """Settings of a denoised dataset, and of the score model that is trained on the noisy one for it."""

    noise: Annotated[
        float, option(help="standard deviation of the snapshots' noise, in concentration; 0: estimated from them")
    ] = 0.0
    epochs: Annotated[int, option("-n", help="passes over the noisy snapshots")] = 16
    batch_size: Annotated[int, option("-b", help="snapshots a step, over all workers")] = 4
    learning_rate: Annotated[float, option("-l", help="peak of the schedule")] = 2e-3
    channels: Annotated[tuple[int, ...], option(help="U-Net channels, from its finest level to its coarsest")] = (
        32,
        48,
        64,
    )
    seed: Annotated[int, option(help="seed of weights, order and noise")] = 0

    def __post_init__(self) -> None:
        for key, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            at_least(key, getattr(self, key), least)
        if not (math.isfinite(self.noise) and 0 <= self.noise < 1):
            raise UserError(f"noise = {self.noise} is not possible: a concentration between 0 (estimate it) and 1")
        within("learning_rate", self.learning_rate, 0.0, 1.0)
        widths("channels", self.channels)
