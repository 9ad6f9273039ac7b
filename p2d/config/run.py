"""Settings of the whole way from simulation to report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from p2d.config.base import Show, option
from p2d.config.learn import DiscoverConfig, FlowConfig, ScoreConfig, TrainSource
from p2d.config.simulate import SimulateConfig
from p2d.errors import UserError
from p2d.fields import Edge


@dataclass(frozen=True)
class RunConfig:
    """Everything, sized for a laptop: simulate, train-score, train-flow, discover, evaluate."""

    simulate: Annotated[SimulateConfig, tyro.conf.arg(name="")] = field(default_factory=SimulateConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    discover: DiscoverConfig = field(default_factory=DiscoverConfig)
    holdout: Annotated[float, option(help="share of the snapshots held out for validation")] = 0.1
    workers: Annotated[
        int, option(help="processes of each later stage; 0: as many as the machine is best used with")
    ] = 0
    show: Show = ""

    def __post_init__(self) -> None:
        for name, edge in zip(("height", "width"), self.simulate.both_edges, strict=True):
            fits_unet(name, getattr(self.simulate, name), self.score.downsampling, edge)
        self.source()

    def source(self) -> TrainSource:
        """What the later stages work on: the dataset that the first one makes."""
        return TrainSource(dataset=self.simulate.dataset_name, holdout=self.holdout, workers=self.workers)


def fits_unet(name: str, size: int, multiple: int, edge: Edge = "periodic") -> None:
    """Refuse a height or width that the U-Net cannot halve often enough, with the nearest sizes that work.

    One dimension (1) is not halved, and edges that are not periodic are carried on to a size that can be.
    """
    if size > 1 and edge == "periodic" and size % multiple:
        below = size // multiple * multiple
        near = f"{below} or {below + multiple}" if below else str(multiple)
        raise UserError(f"{name} = {size} does not fit the U-Net: it must be a multiple of {multiple}, such as {near}")
