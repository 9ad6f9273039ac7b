"""Settings of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, get_args

from p2d.config.base import Config, DatasetName, at_least, one_of, option, within
from p2d.config.learn import Library, Precision, check_alpha
from p2d.systems.reading import load_system


@dataclass(frozen=True)
class BenchSimulateConfig(Config):
    """Settings of `p2d bench simulate`."""

    system: Annotated[str, option(help="system: its name, or a TOML file")] = "gray_scott"
    preset: Annotated[str, option("-p", help="preset of the comparison; the system's first when empty")] = ""
    samples: Annotated[int, option(help="samples advanced together")] = 8
    gpu_samples: Annotated[int, option(help="samples advanced together on a GPU, if there is one")] = 1024
    height: Annotated[int, option(help="grid rows")] = 128
    width: Annotated[int, option(help="grid columns")] = 128
    steps: Annotated[int, option(help="Euler steps of a timing of the kernels; PyTorch takes a hundredth")] = 10_000
    repeats: Annotated[int, option(help="timings of each stepper, taken in turn; the median counts")] = 5
    threads: Annotated[int, option(help="CPU threads; 0: all cores")] = 0
    scaling: Annotated[bool, option(help="also time one simulating actor of one thread against two")] = True

    def __post_init__(self) -> None:
        load_system(self.system).at(self.preset)
        for key, least in (
            ("samples", 1),
            ("gpu_samples", 1),
            ("height", 1),
            ("width", 1),
            ("steps", 100),
            ("repeats", 1),
            ("threads", 0),
        ):
            at_least(key, getattr(self, key), least)


@dataclass(frozen=True)
class BenchScoreConfig(Config):
    """Settings of `p2d bench score`."""

    dataset: DatasetName = "waves"
    seconds: Annotated[float, option(help="training time of each network")] = 420.0
    share: Annotated[float, option(help="this network is also trained for this share (1 / SHARE) of the time")] = 6.0
    alpha: Annotated[float, option("-a", help="signal level")] = 0.8
    batch_size: Annotated[int, option("-b", help="snapshots a step; 0: 4 on CPUs, 64 on a GPU")] = 0
    learning_rate: Annotated[float, option("-l", help="peak of the schedule; Muon's is ten times that")] = 2e-3
    reference_batch_size: Annotated[int, option(help="of the reference network; 0: 4 on CPUs, 64 on a GPU")] = 0
    reference_learning_rate: Annotated[float, option(help="the same of the reference network")] = 2e-3
    precision: Annotated[Precision, option(help="of convolutions; auto: bfloat16 where the hardware has it")] = "auto"
    reference_precision: Annotated[Precision, option(help="the same of the reference network; the original's")] = (
        "float32"
    )
    holdout: Annotated[float, option(help="share of the snapshots held out for validation")] = 0.1
    threads: Annotated[int, option(help="CPU threads; 0: all cores")] = 0
    seed: Annotated[int, option(help="seed of weights, order and noise")] = 0

    def __post_init__(self) -> None:
        check_alpha((self.alpha,))
        for key, least in (("batch_size", 0), ("reference_batch_size", 0), ("threads", 0), ("seed", 0), ("share", 1)):
            at_least(key, getattr(self, key), least)
        for key in ("learning_rate", "reference_learning_rate", "holdout"):
            within(key, getattr(self, key), 0.0, 1.0)
        for key in ("precision", "reference_precision"):
            one_of(key, getattr(self, key), get_args(Precision))
        within("seconds", self.seconds, 0.0, 1e6)


@dataclass(frozen=True)
class BenchDenoiseConfig(Config):
    """Settings of `p2d bench denoise`."""

    dataset: DatasetName = "waves"
    noise: Annotated[tuple[float, ...], option(help="standard deviations of the noise, in concentration")] = (
        0.01,
        0.02,
        0.05,
    )
    epochs: Annotated[int, option("-n", help="passes over the snapshots of each training")] = 16
    holdout: Annotated[float, option(help="share of the snapshots held out, on which the error is taken")] = 0.1
    threads: Annotated[int, option(help="CPU threads; 0: all cores")] = 0
    seed: Annotated[int, option(help="seed of weights, order and noise")] = 0

    def __post_init__(self) -> None:
        for key, least in (("epochs", 1), ("threads", 0), ("seed", 0)):
            at_least(key, getattr(self, key), least)
        within("holdout", self.holdout, 0.0, 1.0)
        for value in self.noise:
            within("noise", value, 0.0, 1.0)


@dataclass(frozen=True)
class BenchFlowConfig(Config):
    """Settings of `p2d bench flow`."""

    dataset: DatasetName = "waves"
    snapshots: Annotated[tuple[int, ...], option(help="numbers of training snapshots; 0: all of them")] = (0, 128)
    seeds: Annotated[int, option(help="trainings of each kind")] = 3
    variants: Annotated[bool, option(help="also variants of the training, one change at a time")] = False
    holdout: Annotated[float, option(help="share of the snapshots held out, on which all is measured")] = 0.1
    threads: Annotated[int, option(help="CPU threads; 0: all cores")] = 0

    def __post_init__(self) -> None:
        for key, least in (("seeds", 1), ("threads", 0)):
            at_least(key, getattr(self, key), least)
        for count in self.snapshots:
            at_least("snapshots", count, 0)
        within("holdout", self.holdout, 0.0, 1.0)


@dataclass(frozen=True)
class BenchDiscoverConfig(Config):
    """Settings of `p2d bench discover`."""

    dataset: DatasetName = "waves"
    library: Annotated[Library, option(help="of the timings")] = "cubic"
    samples: Annotated[int, option(help="snapshots that are timed; 0: all that live")] = 0
    study: Annotated[bool, option(help="the study instead: eight systems, clean, rounded and noisy")] = False
    snapshots: Annotated[tuple[int, ...], option(help="numbers of snapshots of the study")] = (32, 128, 512)
    size: Annotated[int, option(help="rows and columns of the study's snapshots")] = 128

    def __post_init__(self) -> None:
        one_of("library", self.library, get_args(Library))
        at_least("samples", self.samples, 0)
        at_least("size", self.size, 16)
        for count in self.snapshots:
            at_least("snapshots", count, 8)
