"""Settings of what a score model makes: new patterns, and clean ones from noisy snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from p2d.config.base import (
    DATA,
    HOW,
    MACHINE,
    MODEL,
    SIGMAS,
    TRAINING,
    WIDTHS,
    Check,
    Config,
    Show,
    between,
    least,
    option,
)

LARGEST_CHURN = 0.41  # a little below 2^(1/2) - 1 (Karras et al. 2022): no more new noise than there is
CHURN = Check(lambda share: 0 <= share <= LARGEST_CHURN, f"a share between 0 and {LARGEST_CHURN}")


@dataclass(frozen=True)
class SampleConfig(Config):
    """Generate new patterns by the reverse process, into a dataset, and hold them against held-out snapshots."""

    num_samples: Annotated[int, option("-n", help="patterns to generate"), least(1)] = 64
    height: Annotated[int, option(help="grid rows, 0: as of the score model's snapshots"), least(0)] = 0
    width: Annotated[int, option(help="grid columns, 0: as of the score model's snapshots"), least(0)] = 0
    steps: Annotated[
        int, MODEL, option(help="noise levels of the reverse process, each of two evaluations"), least(2)
    ] = 40
    churn: Annotated[
        float,
        MODEL,
        option(help="share by which noise is raised anew before each step; 0: the deterministic solver"),
        CHURN,
    ] = 0.4
    seed: Annotated[int, option(help="seed of all noise"), least(0)] = 0
    name: Annotated[str, option(help="name under OUT/data; the score model's, 'generated' and the size when empty")] = (
        field(default="", metadata=HOW)
    )
    workers: Annotated[
        int, MACHINE, option(help="processes; 0: as many as the machine is best used with"), least(0)
    ] = field(default=0, metadata=HOW)
    dataset: Annotated[str, option("-m", help="dataset to compare with; the score model's own when empty")] = field(
        default="", metadata=HOW
    )
    show: Show = field(default="", metadata=HOW)


@dataclass(frozen=True)
class DenoiseConfig(Config):
    """Denoise a dataset, with a score model that is trained on its noisy snapshots alone."""

    group = TRAINING

    noise: Annotated[
        tuple[float, ...],
        DATA,
        option(help="standard deviation of the snapshots' noise, one or one a species; 0: estimated from them"),
        SIGMAS,
    ] = (0.0,)
    epochs: Annotated[int, option("-n", help="passes over the noisy snapshots"), least(1)] = 16
    batch_size: Annotated[int, option("-b", help="snapshots a step, over all workers"), least(1)] = 4
    learning_rate: Annotated[float, option("-l", help="peak of the schedule"), between(0.0, 1.0)] = 2e-3
    channels: Annotated[
        tuple[int, ...], MODEL, option(help="U-Net channels, from its finest level to its coarsest"), WIDTHS
    ] = (32, 48, 64)
    seed: Annotated[int, option(help="seed of weights, order and noise"), least(0)] = 0
