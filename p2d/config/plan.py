"""Settings of a plan: what is to be run, on what machines, and at what rates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from p2d.config.base import DATA, MACHINE, Config, least, option
from p2d.config.run import RunConfig


@dataclass(frozen=True)
class PlanConfig(Config):
    """Plan a run: shards, bytes, time and memory of every stage on so many machines, and what holds it up.

    It takes the options of p2d run. Rates that are not given are measured on this machine within a minute.
    """

    group = MACHINE

    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)
    grid: Annotated[int, DATA, option(help="rows and columns; 0: --height and --width"), least(0)] = 0
    nodes: Annotated[int, option(help="machines"), least(1)] = 1
    cpus: Annotated[int, option(help="cores of each; 0: those of this machine"), least(0)] = 0
    gpus: Annotated[int, option(help="GPUs of each"), least(0)] = 0
    memory: Annotated[float, option(help="GiB of each; 0: those of this machine"), least(0)] = 0.0
    bandwidth: Annotated[
        float, option(help="GB/s of the storage that all machines share; 0: it holds nobody up"), least(0)
    ] = 0.0
    updates_per_second: Annotated[
        float, option(help="cell updates of a GPU, or of a core without GPUs; 0: measured here"), least(0)
    ] = 0.0
    cells_per_second: Annotated[
        float, option(help="cells that a GPU, or a core, trains the score model on; 0: measured here"), least(0)
    ] = 0.0

    @property
    def planned(self) -> RunConfig:
        """The run on the grid that is asked for."""
        simulate = self.run.simulate
        sized = replace(simulate, height=self.grid, width=self.grid) if self.grid else simulate
        return replace(self.run, simulate=sized)
