"""Settings of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from p2d.config.base import Config, at_least, option
from p2d.dynamics import gray_scott


@dataclass(frozen=True)
class BenchSimulateConfig(Config):
    """Settings of `p2d bench simulate`."""

    preset: Annotated[str, option("-p", help="preset of the comparison")] = "waves"
    samples: Annotated[int, option(help="samples advanced together")] = 8
    gpu_samples: Annotated[int, option(help="samples advanced together on a GPU, if there is one")] = 1024
    height: Annotated[int, option(help="grid rows")] = 128
    width: Annotated[int, option(help="grid columns")] = 128
    steps: Annotated[int, option(help="Euler steps of a timing of the kernels; the convolution takes a hundredth")] = (
        10_000
    )
    repeats: Annotated[int, option(help="timings of each stepper, taken in turn; the median counts")] = 5
    threads: Annotated[int, option(help="CPU threads; 0: all cores")] = 0
    scaling: Annotated[bool, option(help="also time one simulating actor of one thread against two")] = True

    def __post_init__(self) -> None:
        gray_scott.preset(self.preset)
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
