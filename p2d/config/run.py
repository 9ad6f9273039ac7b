"""Settings of the whole way from simulation, or a dataset that is there, to report."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Annotated

import tyro

from p2d.config.base import MACHINE, Show, option
from p2d.config.learn import DiscoverConfig, FlowConfig, ScoreConfig, TrainSource
from p2d.config.simulate import SimulateConfig
from p2d.errors import UserError

QUICK_SNAPSHOTS = 24  # which make an equation known, and are so few that no worker has to start


@dataclass(frozen=True)
class RunConfig:
    """The whole way: simulate (or --dataset), discover, train-flow, train-score, evaluate, sample, report."""

    simulate: Annotated[SimulateConfig, tyro.conf.arg(name="")] = field(default_factory=SimulateConfig)
    dataset: Annotated[
        str,
        option(
            help="a dataset that is there, by its name under OUT/data or its path, such as an imported one: nothing is "
            "simulated [-m]"
        ),
    ] = ""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    discover: DiscoverConfig = field(default_factory=DiscoverConfig)
    holdout: Annotated[float, option(help="share of the snapshots held out for validation")] = 0.1
    workers: Annotated[
        int, MACHINE, option(help="processes of each later stage; 0: as many as the machine is best used with")
    ] = 0
    show: Show = ""

    def __post_init__(self) -> None:
        usual = SimulateConfig()
        of_simulation = [f.name for f in fields(usual) if getattr(self.simulate, f.name) != getattr(usual, f.name)]
        if self.dataset and of_simulation:
            option_name = of_simulation[0].replace("_", "-")
            raise UserError(
                f"--{option_name} is a setting of a simulation, and the dataset {self.dataset} is there; leave one out"
            )
        self.source()

    def source(self) -> TrainSource:
        """What the later stages work on: the dataset that is there, or that the first one makes."""
        name = self.dataset or self.simulate.dataset_name
        return TrainSource(dataset=name, holdout=self.holdout, workers=self.workers)

    def quickened(self) -> RunConfig:
        """The same of few snapshots, where none are there and no number is asked for.

        They have a name of their own, so that the whole run, which comes later, finds nothing of other settings there.
        """
        simulate = self.simulate
        if self.dataset:
            return self
        if simulate.num_samples == SimulateConfig.num_samples:
            simulate = replace(simulate, num_samples=QUICK_SNAPSHOTS)
        if not simulate.name:
            name, _, size = simulate.dataset_name.rpartition("_")
            simulate = replace(simulate, name=f"{name}_quick_{size}")
        return replace(self, simulate=simulate)
