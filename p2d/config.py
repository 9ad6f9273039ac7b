"""The settings of every stage: one frozen dataclass each, checked on construction, to and from JSON.

A field marked `HOW` says how the work is done (workers, chunks, device) and not what comes out; such fields may differ
between two runs of the same name. All others are the identity of a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import tyro

from p2d.dynamics import gray_scott
from p2d.errors import UserError, nearest

HOW: dict[str, Any] = {"how": True}
Device = Literal["auto", "cpu", "cuda"]
Objective = Literal["stationarity", "continuity"]
Decay = Literal["cosine", "constant"]
Divergence = Literal["exact", "hutchinson"]
Library = Literal["cubic", "gray-scott"]
ConfigT = TypeVar("ConfigT", bound="Config")


def option(*short: str, help: str) -> Any:
    """Help text of a field; `short` names the original scripts' forms of the option, which cli.SHORT translates."""
    return tyro.conf.arg(help=f"{help} [{', '.join(short)}]" if short else help)


def at_least(name: str, value: float, least: float) -> None:
    """Refuse a setting below its smallest useful value."""
    if not value >= least:
        raise UserError(f"{name} = {value} is not possible: it must be {least} or above")


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside the open interval (low, high)."""
    if not low < value < high:
        raise UserError(f"{name} = {value} is not possible: it must lie between {low} and {high}, ends excluded")


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a name that is not known, with the nearest one."""
    if value not in known:
        raise UserError(f"unknown {name} {value!r}{nearest(value, known)}; known: {', '.join(known)}")


@dataclass(frozen=True)
class Config:
    """What all stages share: JSON, comparison, a hash of the settings that decide the result."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls: type[ConfigT], values: dict[str, Any]) -> ConfigT:
        """The config with these values.

        Raises:
            UserError: a key that is not a setting of this stage.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise UserError(f"unknown setting {key!r}{nearest(key, known)} in a {cls.__name__}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def identity(self) -> dict[str, Any]:
        """The fields that decide what comes out, as JSON types."""
        decisive = {f.name for f in dataclasses.fields(self) if not f.metadata.get("how")}
        return {k: v for k, v in self.to_dict().items() if k in decisive}


def settings_hash(identity: dict[str, Any]) -> str:
    """Ten hex digits that stand for these settings."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write a JSON file, and its folder, so that a reader sees the old one or the new one, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n")
    temporary.replace(file)


def refuse_other_settings(what: str, made_with: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise a UserError that names each setting in which `asked` differs from what is on disk."""
    keys = sorted(made_with.keys() | asked.keys())
    differing = [k for k in keys if made_with.get(k) != asked.get(k)]
    if differing:
        told = "; ".join(f"{k} is {made_with.get(k)!r} there, {asked.get(k)!r} was asked" for k in differing)
        raise UserError(f"{what} was made with other settings: {told}. Take another --name or --out, or remove it")


@dataclass(frozen=True)
class SimulateConfig(Config):
    """Settings of a simulated dataset."""

    preset: Annotated[tuple[str, ...], option("-p", help="presets to simulate, one or several")] = ("waves",)
    num_samples: Annotated[int, option(help="samples of each preset")] = 512
    height: Annotated[int, option(help="grid rows")] = 128
    width: Annotated[int, option(help="grid columns")] = 128
    steps: Annotated[int, option(help="Euler steps of a sample; presets are stationary by about 10,000")] = 10_000
    seed: Annotated[int, option(help="dataset seed; a sample depends on (seed, sample id) alone")] = 0
    normalize: Annotated[bool, option(help="train on 2 c - 1 rather than on concentrations c")] = True
    name: Annotated[str, option(help="name under OUT/data; PRESET_HEIGHTxWIDTH when empty")] = field(
        default="", metadata=HOW
    )
    chunk: Annotated[int, option(help="samples simulated at a time, and rows of a shard")] = field(
        default=64, metadata=HOW
    )
    actors: Annotated[int, option(help="simulating processes; 0: as many as the machine holds")] = field(
        default=0, metadata=HOW
    )
    device: Annotated[Device, option(help="where to simulate")] = field(default="auto", metadata=HOW)
    cuda: Annotated[bool, option(help="the same as --device cuda")] = field(default=False, metadata=HOW)

    def __post_init__(self) -> None:
        if not self.preset:
            raise UserError("no preset was given; known: " + ", ".join(gray_scott.PRESETS))
        for name in self.preset:
            gray_scott.preset(name)
        if len(set(self.preset)) < len(self.preset):
            raise UserError(f"preset = {' '.join(self.preset)} names one twice; each may be given once")
        for key in ("num_samples", "height", "width", "chunk"):
            at_least(key, getattr(self, key), 1)
        for key in ("steps", "seed", "actors"):
            at_least(key, getattr(self, key), 0)
        one_of("device", self.device, get_args(Device))
        if self.cuda and self.device == "cpu":
            raise UserError("--cuda and --device cpu exclude each other; give one of them")

    @property
    def dataset_name(self) -> str:
        """The folder's name under OUT/data."""
        return self.name or f"{'+'.join(self.preset)}_{self.height}x{self.width}"

    @property
    def wished_device(self) -> str:
        """--device, or 'cuda' by its original option --cuda."""
        return "cuda" if self.cuda else self.device


@dataclass(frozen=True)
class Source(Config):
    """Which data a stage works on, what it holds out, what the result is called, and over how many processes."""

    dataset: Annotated[str, option("-m", "--model", help="dataset: its name under OUT/data, or its path")] = "waves"
    name: Annotated[str, option(help="name of the result; the dataset's name without its size when empty")] = ""
    holdout: Annotated[float, option(help="share of the snapshots held out for validation")] = 0.1
    workers: Annotated[int, option(help="processes; 0: one a GPU, or one a core")] = 0

    def __post_init__(self) -> None:
        at_least("workers", self.workers, 0)
        within("holdout", self.holdout, 0.0, 1.0)


@dataclass(frozen=True)
class FlowSource(Source):
    """The same, with the score model that the continuity objective needs."""

    score: Annotated[str, option(help="continuity: score model, by name or path; the dataset's when empty")] = ""


@dataclass(frozen=True)
class ScoreConfig(Config):
    """Settings of a score model and its training."""

    epochs: Annotated[int, option("-n", help="passes over the training snapshots")] = 6
    batch_size: Annotated[int, option("-b", help="snapshots a step, over all workers")] = 4
    learning_rate: Annotated[float, option("-l", help="peak of the schedule")] = 4e-3
    alpha: Annotated[tuple[float, ...], option("-a", help="signal level: one value, or a range low high")] = (
        0.5,
        0.999,
    )
    warmup: Annotated[int, option(help="steps of linear warm-up; at most a fifth of the run is used")] = 500
    weight_decay: Annotated[float, option(help="AdamW's")] = 1e-2
    ema: Annotated[float, option(help="decay a step of the averaged weights")] = 0.999
    channels: Annotated[tuple[int, ...], option(help="U-Net channels, from its finest level to its coarsest")] = (
        32,
        48,
        64,
    )
    augment: Annotated[bool, option(help="random shifts, quarter turns and mirror images")] = True
    seed: Annotated[int, option(help="seed of weights, order and noise")] = 0

    def __post_init__(self) -> None:
        for key, least in (("epochs", 1), ("batch_size", 1), ("warmup", 0), ("weight_decay", 0), ("seed", 0)):
            at_least(key, getattr(self, key), least)
        within("learning_rate", self.learning_rate, 0.0, 1.0)
        within("ema", self.ema, 0.0, 1.0)
        check_alpha(self.alpha)
        if not self.channels or min(self.channels) < 1:
            raise UserError(f"channels = {self.channels} is not possible: one or more numbers of 1 or above")

    @property
    def downsampling(self) -> int:
        """Height and width must be multiples of this: 2 for the stem, 2 more for each further level."""
        return 2 ** len(self.channels)


@dataclass(frozen=True)
class FlowConfig(Config):
    """Settings of a flow model and its training."""

    objective: Annotated[
        Objective,
        option(help="stationarity of observables (recovers the dynamics), or the original's continuity residual"),
    ] = "stationarity"
    epochs: Annotated[int, option("-n", help="passes of gradient steps over the training snapshots")] = 1
    batch_size: Annotated[int, option("-b", help="snapshots a step, over all workers")] = 16
    learning_rate: Annotated[float, option("-l", help="peak of the schedule")] = 1e-3
    schedule: Annotated[Decay, option("-s", help="learning rate over the run")] = "cosine"
    hidden: Annotated[tuple[int, ...], option(help="widths of the hidden layers")] = (64,)
    corners: Annotated[bool, option(help="corners in the field's 3x3 stencil, beside centre and edges")] = False
    observables: Annotated[int, option(help="stationarity: random observables of the last layer's solve")] = 384
    alpha: Annotated[float, option("-a", help="continuity: signal level")] = 0.8
    sym: Annotated[float, option(help="continuity: weight of the penalty on v . s")] = 0.0
    gaussian_weight: Annotated[float, option("-g", help="continuity: weight of the Gaussian term in the score")] = 0.0
    divergence: Annotated[Divergence, option(help="continuity: how div v is had")] = "exact"
    probes: Annotated[int, option(help="continuity: Hutchinson probes in each of the two independent sets")] = 1
    seed: Annotated[int, option(help="seed of weights, order, noise and observables")] = 0

    def __post_init__(self) -> None:
        lowest = {
            "epochs": 0,
            "batch_size": 1,
            "observables": 8,
            "probes": 1,
            "sym": 0,
            "gaussian_weight": 0,
            "seed": 0,
        }
        for key, least in lowest.items():
            at_least(key, getattr(self, key), least)
        one_of("objective", self.objective, get_args(Objective))
        one_of("schedule", self.schedule, get_args(Decay))
        one_of("divergence", self.divergence, get_args(Divergence))
        if self.objective == "continuity":
            at_least("epochs", self.epochs, 1)
        within("learning_rate", self.learning_rate, 0.0, 1.0)
        check_alpha((self.alpha,))
        if not self.hidden or min(self.hidden) < 1:
            raise UserError(f"hidden = {self.hidden} is not possible: one or more numbers of 1 or above")


@dataclass(frozen=True)
class DiscoverConfig(Config):
    """Settings of the discovery of the equation."""

    library: Annotated[
        Library,
        option(help="terms to choose from: all monomials to degree 3 and both Laplacians, or Gray-Scott's own"),
    ] = "cubic"
    bootstrap: Annotated[int, option(help="resamples of the snapshots for the error bars")] = 50
    seed: Annotated[int, option(help="seed of the resamples")] = 0

    def __post_init__(self) -> None:
        one_of("library", self.library, get_args(Library))
        at_least("bootstrap", self.bootstrap, 2)
        at_least("seed", self.seed, 0)


@dataclass(frozen=True)
class EvaluateConfig(Config):
    """What to evaluate; each by name or path, and by the dataset's name when empty."""

    score: Annotated[str, option(help="score model, by name or path; the dataset's when empty")] = ""
    flow: Annotated[str, option(help="flow model, by name or path; the dataset's when empty")] = ""
    equation: Annotated[str, option(help="discovered equation, by name or path; the dataset's when empty")] = ""
    plot_channel: Annotated[int, option(help="species shown in pictures: 0 is u, 1 is v")] = 1

    def __post_init__(self) -> None:
        one_of("plot_channel", str(self.plot_channel), ("0", "1"))


@dataclass(frozen=True)
class RunConfig:
    """Settings of the whole way from simulation to report, one config a stage."""

    simulate: Annotated[SimulateConfig, tyro.conf.arg(name="")] = field(default_factory=SimulateConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    discover: DiscoverConfig = field(default_factory=DiscoverConfig)
    holdout: Annotated[float, option(help="share of the snapshots held out for validation")] = 0.1
    workers: Annotated[int, option(help="processes of each later stage; 0: one a GPU, or one a core")] = 0
    plot_channel: Annotated[int, option(help="species shown in pictures: 0 is u, 1 is v")] = 1

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            fits_unet(name, getattr(self.simulate, name), self.score.downsampling)
        self.source()
        EvaluateConfig(plot_channel=self.plot_channel)

    def source(self) -> Source:
        """What the later stages work on: the dataset that the first one makes."""
        return Source(dataset=self.simulate.dataset_name, holdout=self.holdout, workers=self.workers)


def short_name(dataset_name: str) -> str:
    """A dataset's name without its size: 'waves' for 'waves_128x128'."""
    return re.sub(r"_\d+x\d+$", "", dataset_name)


def fits_unet(name: str, size: int, multiple: int) -> None:
    """Refuse a height or width that the U-Net cannot halve often enough, with the nearest sizes that work."""
    if size % multiple or size < multiple:
        below = size // multiple * multiple
        near = f"{below} or {below + multiple}" if below else str(multiple)
        raise UserError(f"{name} = {size} does not fit the U-Net: it must be a multiple of {multiple}, such as {near}")


def check_alpha(alpha: tuple[float, ...]) -> None:
    """Refuse signal levels outside (0, 1), a range that does not rise, and more than two values."""
    for value in alpha:
        if not (math.isfinite(value) and 0 < value < 1):
            raise UserError(f"alpha = {value} is not a signal level: it must lie between 0 and 1, ends excluded")
    if len(alpha) not in (1, 2) or (len(alpha) == 2 and alpha[0] >= alpha[1]):
        raise UserError(f"alpha = {' '.join(map(str, alpha))} is not possible: give one level, or a range low high")
