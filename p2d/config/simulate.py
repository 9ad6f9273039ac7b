"""Settings of a simulated dataset."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from p2d.config.base import HOW, Config, at_least, one_of, option
from p2d.errors import UserError
from p2d.systems import gray_scott
from p2d.systems.gray_scott import GrayScott

Device = Literal["auto", "cpu", "cuda"]
Initial = Literal["discs", "centre", "noise"]
LARGEST_SEED = 2**63 - 1  # as the shards' column holds it
LABELS_IN_A_NAME = 3


@dataclass(frozen=True)
class SimulateConfig(Config):
    """Settings of a simulated dataset."""

    preset: Annotated[tuple[str, ...], option("-p", help="presets to simulate, one or several")] = ("waves",)
    feed: Annotated[
        tuple[float, ...], option(help="feed rates F in place of the preset's; with --kill, each pair of a grid")
    ] = ()
    kill: Annotated[tuple[float, ...], option(help="kill rates k in place of the preset's; likewise")] = ()
    diffusion_u: Annotated[float | None, option(help="diffusion of u in place of the preset's, cells^2 / time")] = None
    diffusion_v: Annotated[float | None, option(help="diffusion of v in place of the preset's, cells^2 / time")] = None
    dt: Annotated[float | None, option(help="Euler step in place of the preset's 1, time")] = None
    num_samples: Annotated[int, option(help="samples (snapshots) of each system")] = 512
    height: Annotated[int, option(help="grid rows")] = 128
    width: Annotated[int, option(help="grid columns")] = 128
    initial: Annotated[Initial, option(help="initial states: random discs, one blot in the centre, or noise")] = "discs"
    steps: Annotated[int, option(help="Euler steps before a snapshot; presets are stationary by about 10,000")] = 10_000
    snapshots_per_run: Annotated[int, option(help="snapshots taken of each run, from --steps on")] = 1
    interval: Annotated[int, option(help="Euler steps from one snapshot of a run to the next")] = 0
    noise: Annotated[
        float, option(help="standard deviation of measurement noise on the snapshots, in concentration")
    ] = 0.0
    seed: Annotated[int, option(help="dataset seed; a sample depends on (seed, sample id) alone")] = 0
    normalize: Annotated[bool, option(help="train on 2 c - 1 rather than on concentrations c")] = True
    name: Annotated[str, option(help="name under OUT/data; the systems and the size when empty")] = field(
        default="", metadata=HOW
    )
    chunk: Annotated[int, option(help="samples simulated at a time, and rows of a shard")] = field(
        default=64, metadata=HOW
    )
    actors: Annotated[int, option(help="simulating processes; 0: one a GPU, or one a core")] = field(
        default=0, metadata=HOW
    )
    threads: Annotated[int, option(help="CPU threads of each actor; 0: the cores shared out")] = field(
        default=0, metadata=HOW
    )
    gpus_per_actor: Annotated[float, option(help="GPUs of each actor; 0.5: two actors share one")] = field(
        default=1.0, metadata=HOW
    )
    device: Annotated[Device, option(help="where to simulate")] = field(default="auto", metadata=HOW)
    cuda: Annotated[bool, option(help="the same as --device cuda")] = field(default=False, metadata=HOW)

    def __post_init__(self) -> None:
        if not self.preset:
            raise UserError("no preset was given; known: " + ", ".join(gray_scott.PRESETS))
        for key in ("num_samples", "height", "width", "chunk", "snapshots_per_run"):
            at_least(key, getattr(self, key), 1)
        for key in ("steps", "interval", "seed", "actors", "threads"):
            at_least(key, getattr(self, key), 0)
        if self.seed > LARGEST_SEED:
            raise UserError(f"seed = {self.seed} is not possible: it must be {LARGEST_SEED} or below")
        if not 0 <= self.noise < 1:
            raise UserError(f"noise = {self.noise} is not possible: a concentration of 0 or above, and below 1")
        one_of("device", self.device, get_args(Device))
        one_of("initial", self.initial, get_args(Initial))
        self._check_snapshots()
        self._check_devices()
        self.systems()

    def identity(self) -> dict[str, Any]:
        """The fields that decide what comes out; of noise only where there is some, as cards say nothing of none."""
        return {key: value for key, value in super().identity().items() if value or key != "noise"}

    def _check_snapshots(self) -> None:
        if self.snapshots_per_run > 1 and not self.interval:
            raise UserError("several snapshots a run need --interval, the Euler steps from one to the next (say 1000)")
        if self.interval and self.snapshots_per_run == 1:
            raise UserError(f"interval = {self.interval} needs --snapshots-per-run above 1")

    def _check_devices(self) -> None:
        if self.cuda and self.device == "cpu":
            raise UserError("--cuda and --device cpu exclude each other; give one of them")
        share = self.gpus_per_actor
        if not (0 < share < 1 or (share >= 1 and float(share).is_integer())):
            raise UserError(f"gpus_per_actor = {share} is not possible: a share between 0 and 1, or a whole number")

    def systems(self) -> dict[str, GrayScott]:
        """The systems to simulate, by label: every preset, with every pair of the given feed and kill rates.

        Raises:
            UserError: an unknown preset, parameters that are not possible, or a system that is named twice.
        """
        given = {"D_u": self.diffusion_u, "D_v": self.diffusion_v, "dt": self.dt}
        replaced = {key: value for key, value in given.items() if value is not None}
        found: dict[str, GrayScott] = {}
        for name in self.preset:
            own = gray_scott.preset(name)
            for feed, kill in itertools.product(self.feed or (own.F,), self.kill or (own.k,)):
                params = dataclasses.replace(own, F=feed, k=kill, **replaced)
                label = gray_scott.label(params)
                if label in found:
                    raise UserError(f"the system {label} is named twice; each may be given once")
                found[label] = params
        return found

    @property
    def runs(self) -> int:
        """Simulated runs of each system."""
        return -(-self.num_samples // self.snapshots_per_run)

    @property
    def dataset_name(self) -> str:
        """The folder's name under OUT/data."""
        return self.name or f"{self._name_of_systems()}_{self.height}x{self.width}"

    def _name_of_systems(self) -> str:
        systems = self.systems()
        if len(systems) <= max(LABELS_IN_A_NAME, len(self.preset)):
            return "+".join(systems)
        rates = {"F": [p.F for p in systems.values()], "k": [p.k for p in systems.values()]}
        ranges = (f"{key}{min(values):g}-{max(values):g}" for key, values in rates.items())
        return f"{'_'.join(ranges)}_{len(systems)}systems"

    @property
    def wished_device(self) -> str:
        """--device, or 'cuda' by its original option --cuda."""
        return "cuda" if self.cuda else self.device
