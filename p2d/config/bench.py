"""Settings of the benchmarks; what each says is the help of its command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from p2d.config.base import MACHINE, TRAINING, Config, DatasetName, between, least, option
from p2d.systems.reading import load_system


@dataclass(frozen=True)
class BenchSimulateConfig(Config):
    """Time a system's kernels beside the same text in PyTorch and JAX, preset by preset."""

    system: Annotated[str, option(help="system: its name, or a TOML file")] = "gray_scott"
    preset: Annotated[str, option("-p", help="preset of the comparison; the system's first when empty")] = ""
    samples: Annotated[int, option(help="samples advanced together"), least(1)] = 8
    height: Annotated[int, option(help="grid rows"), least(1)] = 128
    width: Annotated[int, option(help="grid columns"), least(1)] = 128
    steps: Annotated[
        int, option(help="Euler steps of a timing of the kernels; PyTorch takes a hundredth"), least(100)
    ] = 10_000
    repeats: Annotated[
        int, MACHINE, option(help="timings of each stepper, taken in turn; the median counts"), least(1)
    ] = 5
    threads: Annotated[int, MACHINE, option(help="CPU threads; 0: all cores"), least(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        load_system(self.system).at(self.preset)


@dataclass(frozen=True)
class BenchScoreConfig(Config):
    """Train the score network beside a U-Net at full resolution, for the same wall time."""

    dataset: DatasetName = "waves"
    seconds: Annotated[float, TRAINING, option(help="training time of each network"), between(0.0, 1e6)] = 420.0
    threads: Annotated[int, MACHINE, option(help="CPU threads; 0: all cores"), least(0)] = 0
    seed: Annotated[int, TRAINING, option(help="seed of weights, order and noise"), least(0)] = 0


@dataclass(frozen=True)
class BenchDenoiseConfig(Config):
    """Denoise snapshots with no clean data, beside a network with clean targets and a Gaussian filter."""

    dataset: DatasetName = "waves"
    noise: Annotated[
        tuple[float, ...],
        option(help="standard deviations of the noise, as shares of the species' ranges"),
        between(0.0, 1.0, each=True),
    ] = (0.01, 0.02, 0.05)
    epochs: Annotated[int, TRAINING, option("-n", help="passes over the snapshots of each training"), least(1)] = 16
    holdout: Annotated[
        float, option(help="share of the snapshots held out, on which the error is taken"), between(0.0, 1.0)
    ] = 0.1
    threads: Annotated[int, MACHINE, option(help="CPU threads; 0: all cores"), least(0)] = 0
    seed: Annotated[int, TRAINING, option(help="seed of weights, order and noise"), least(0)] = 0


@dataclass(frozen=True)
class BenchFlowConfig(Config):
    """Train flows of several seeds and numbers of snapshots, and measure how well they recover the true velocity."""

    dataset: DatasetName = "waves"
    snapshots: Annotated[
        tuple[int, ...], option(help="numbers of training snapshots; 0: all of them"), least(0, each=True)
    ] = (0, 128)
    seeds: Annotated[int, TRAINING, option(help="trainings of each kind"), least(1)] = 3
    holdout: Annotated[
        float, option(help="share of the snapshots held out, on which all is measured"), between(0.0, 1.0)
    ] = 0.1
    threads: Annotated[int, MACHINE, option(help="CPU threads; 0: all cores"), least(0)] = 0


@dataclass(frozen=True)
class BenchDiscoverConfig(Config):
    """Time the discovery of an equation; or --study: how well it does, by system, snapshots and noise."""

    dataset: DatasetName = "waves"
    study: Annotated[bool, option(help="the study instead: eight systems, clean, rounded and noisy")] = False
    snapshots: Annotated[tuple[int, ...], option(help="numbers of snapshots of the study"), least(8, each=True)] = (
        32,
        128,
        512,
    )
    size: Annotated[int, option(help="rows and columns of the study's snapshots"), least(16)] = 128


@dataclass(frozen=True)
class BenchGrowthConfig(Config):
    """Time and weigh all that is done with a dataset as a whole, at ten times as many shards each time."""

    most: Annotated[
        int, option(help="shards of the largest dataset; 100,000 take 0.9 GB of disk and some minutes"), least(100)
    ] = 10_000


@dataclass(frozen=True)
class BenchVerdictsConfig(Config):
    """Count right and wrong claims over seeded cases: systems, parameters, sizes, numbers of snapshots, and faults."""

    cases: Annotated[int, option(help="how many; a few seconds each"), least(1)] = 100
    seed: Annotated[int, option(help="of the cases"), least(0)] = 0
    beside: Annotated[bool, option(help="also pysindy with the order of time, and least squares on one snapshot")] = (
        False
    )
    workers: Annotated[int, MACHINE, option(help="processes of one thread each; 0: one a core"), least(0)] = 0
