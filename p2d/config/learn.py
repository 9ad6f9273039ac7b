"""Settings of what is learnt from a dataset: score model, flow, equation, and their evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from p2d.config.base import (
    DATA,
    MACHINE,
    MODEL,
    SIGMAS,
    TRAINING,
    WIDTHS,
    Check,
    Config,
    DatasetName,
    Show,
    at_least,
    between,
    least,
    option,
)
from p2d.errors import UserError
from p2d.fields import Operator
from p2d.systems import expressions

Objective = Literal["stationarity", "continuity", "training-free"]
Activation = Literal["silu", "tanh", "softplus", "relu", "leaky_relu"]
Sign = Literal["+", "-"]
Decay = Literal["cosine", "constant"]
Divergence = Literal["exact", "hutchinson"]
Extra = Literal["gradients", "derivatives"]
Stepper = Literal["muon", "adamw"]
Compile = Literal["auto", "on", "off"]
Precision = Literal["auto", "float32", "bfloat16"]
LARGEST_RADIUS = 8.0  # cells; a local field sees no further
SHARE = Check(lambda share: 0 <= share < 1, "a share of 0 or above, and below 1")
RADIUS = Check(lambda r: 1 <= r <= LARGEST_RADIUS, f"between 1 and {LARGEST_RADIUS} cells")
DEGREE = Check(lambda degree: 0 <= degree <= 9, "between 1 and 9, or 0 for the usual one")
WORKERS = Check(lambda workers: _is_count_or_span(str(workers)), "a number of 0 or above, or least:most such as 1:4")
KERNEL_RADIUS = Check(lambda r: 0 <= r <= LARGEST_RADIUS, f"between 0 and {LARGEST_RADIUS} cells")


@dataclass(frozen=True)
class Source(Config):
    """Which data a stage works on, what it holds out, what the result is called, and over how many processes."""

    dataset: DatasetName = "waves"
    name: Annotated[str, option(help="name of the result; the dataset's name without its size when empty")] = ""
    holdout: Annotated[float, option(help="share of the snapshots held out for validation"), between(0.0, 1.0)] = 0.1
    workers: Annotated[
        int, MACHINE, option(help="processes; 0: as many as the machine is best used with"), least(0)
    ] = 0


@dataclass(frozen=True)
class TrainSource(Source):
    """The same, with what the workers of a training may take of the machine."""

    workers: Annotated[
        int | str,
        MACHINE,
        option(help="processes; 0: as many as the machines are best used with; 1:4: at least 1, up to 4 as there are"),
        WORKERS,
    ] = 0  # type: ignore[assignment]
    cpus_per_worker: Annotated[
        int, MACHINE, option(help="CPU threads of each process; 0: the cores shared out"), least(0)
    ] = 0
    memory: Annotated[
        float,
        MACHINE,
        option(help="GiB of snapshots that a process keeps; more are streamed; 0: a quarter of the memory"),
        least(0),
    ] = 0.0
    at_a_time: Annotated[
        int,
        MACHINE,
        option(
            help="snapshots that a process takes together, where its share of a batch needs too much memory; 0: all"
        ),
        least(0),
    ] = 0
    snapshots: Annotated[int, option(help="train on so many of the snapshots, evenly spread; 0: on all"), least(0)] = 0

    @property
    def least_workers(self) -> int:
        """Fewest workers to train with, 0 where none are asked for."""
        return int(str(self.workers).split(":")[0])

    @property
    def most_workers(self) -> int:
        """Most workers to train with, 0 where none are asked for."""
        return int(str(self.workers).split(":")[-1])


@dataclass(frozen=True)
class FlowSource(TrainSource):
    """The same, with the score model that all objectives but stationarity need."""

    score: Annotated[
        str, option(help="continuity, training-free: score model, by name or path; the dataset's when empty")
    ] = ""


@dataclass(frozen=True)
class ScoreConfig(Config):
    """Train a score model on a dataset: denoising score matching at one signal level, or over a range."""

    group = TRAINING

    epochs: Annotated[int, option("-n", help="passes over the training snapshots"), least(1)] = 16
    batch_size: Annotated[int, option("-b", help="snapshots a step, over all workers"), least(1)] = 4
    learning_rate: Annotated[
        float, option("-l", help="peak of the schedule; Muon's is ten times that"), between(0.0, 1.0)
    ] = 2e-3
    alpha: Annotated[tuple[float, ...], MODEL, option("-a", help="signal level: one value, or a range low high")] = (
        0.5,
        0.999,
    )
    sampling: Annotated[
        float,
        MODEL,
        option(help="share of a range's steps spent on the noisier levels that sampling starts from; 0: none"),
        SHARE,
    ] = 0.15
    warmup: Annotated[int, option(help="steps of linear warm-up; at most a fifth of the run is used"), least(0)] = 500
    optimizer: Annotated[Stepper, option(help="of the convolutions; all else is AdamW's")] = "muon"
    weight_decay: Annotated[
        float, option(help="share of a weight that a step of the learning rate 1 would take"), least(0)
    ] = 1e-2
    ema: Annotated[
        float, option(help="decay a step of the averaged weights, less in a run's first steps"), between(0.0, 1.0)
    ] = 0.999
    target_loss: Annotated[float, option(help="end early at this validation loss; 0: never"), least(0)] = 0.0
    data_noise: Annotated[
        tuple[float, ...],
        MODEL,
        option(help="standard deviation of the snapshots' own noise, one or one a species; the clean score is learnt"),
        SIGMAS,
    ] = (0.0,)
    precision: Annotated[
        Precision, MACHINE, option(help="of convolutions in training; auto: bfloat16 where the hardware has it")
    ] = "auto"
    compile: Annotated[
        Compile, MACHINE, option(help="the network for training; auto: where it takes long enough to pay")
    ] = "auto"
    channels: Annotated[
        tuple[int, ...], MODEL, option(help="U-Net channels, from its finest level to its coarsest"), WIDTHS
    ] = (32, 48, 64)
    augment: Annotated[
        bool, DATA, option(help="random shifts, turns and mirror images that the grid looks the same after")
    ] = True
    seed: Annotated[int, option(help="seed of weights, order and noise"), least(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)

    schedule = "cosine"  # of the learning rate: no option, but the loop asks for it

    @property
    def passes(self) -> int:
        """Passes over the training snapshots."""
        return self.epochs

    @property
    def is_sampled(self) -> bool:
        """Whether it learns all noisier levels too, which sampling starts from."""
        return len(self.alpha) == 2 and self.sampling > 0

    def identity(self) -> dict[str, Any]:
        """The fields that decide what comes out; one noise of all species as a number."""
        known = super().identity()
        return known | {"data_noise": known["data_noise"][0]} if len(self.data_noise) == 1 else known


# Passes over the training snapshots, by default. Stationarity solves for its last layer, training-free has no weights.
PASSES: dict[Objective, int] = {"stationarity": 1, "continuity": 8, "training-free": 0}
SMOOTH: tuple[Activation, ...] = ("silu", "tanh", "softplus")  # twice differentiable


@dataclass(frozen=True)
class FlowConfig(Config):
    """Train a flow on a dataset: a velocity field that keeps the ensemble as it is."""

    group = MODEL

    objective: Annotated[
        Objective,
        option(
            help="stationarity of observables (recovers the dynamics), the original's continuity residual, or its "
            "training-free flow, a rotation of the score"
        ),
    ] = "stationarity"
    epochs: Annotated[
        int | None,
        TRAINING,
        option("-n", help="passes of gradient steps over the training snapshots; 1 by default, 8 for continuity"),
    ] = None
    batch_size: Annotated[int, TRAINING, option("-b", help="snapshots a step, over all workers"), least(1)] = 16
    learning_rate: Annotated[float, TRAINING, option("-l", help="peak of the schedule"), between(0.0, 1.0)] = 1e-3
    schedule: Annotated[Decay, TRAINING, option("-s", help="learning rate over the run")] = "cosine"
    hidden: Annotated[tuple[int, ...], option(help="widths of the field's hidden layers"), WIDTHS] = (64,)
    radius: Annotated[
        float,
        option(help="of the field's stencil, in cells: 1 for the 4 edges, 1.5 with the corners of a 3x3 stencil"),
        RADIUS,
    ] = 1.0
    activation: Annotated[Activation, option(help="of the hidden layers; continuity needs a smooth one")] = "silu"
    observables: Annotated[
        int,
        option(
            help="stationarity: random observables of the last layer's solve; half as many again as weights at least"
        ),
        least(8),
    ] = 512
    alpha: Annotated[float, option("-a", help="continuity, training-free: signal level of the score")] = 0.8
    sym: Annotated[float, option(help="continuity: weight of the penalty on v . s"), least(0)] = 0.0
    gaussian_weight: Annotated[
        float, option("-g", help="continuity: weight of the Gaussian term in the score"), least(0)
    ] = 0.0
    divergence: Annotated[Divergence, TRAINING, option(help="continuity: how div v is had")] = "exact"
    probes: Annotated[
        int,
        TRAINING,
        option(help="continuity, training-free: Hutchinson probes in each of the two independent sets"),
        least(1),
    ] = 1
    kernel_radius: Annotated[
        float,
        option(help="training-free: of the kernel, in cells; 0: the score of the cell"),
        KERNEL_RADIUS,
    ] = 0.0
    sign: Annotated[Sign, option(help="training-free: direction of time, which nothing tells; + has du/dt ~ s_v")] = "+"
    seed: Annotated[int, TRAINING, option(help="seed of weights, order, noise and observables"), least(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("epochs", self.passes, int(self.objective == "continuity"))
        if self.objective == "training-free" and self.passes:
            raise UserError(f"epochs = {self.epochs} is not possible: a training-free flow has nothing to train")
        if self.objective == "continuity" and self.activation not in SMOOTH:
            raise UserError(
                f"activation = {self.activation} is not possible with continuity, which differentiates twice; "
                f"take {', '.join(SMOOTH[:-1])} or {SMOOTH[-1]}"
            )
        check_alpha((self.alpha,))

    # No options of a flow, but the loop asks for them.
    warmup, weight_decay, ema, optimizer, target_loss = 10, 0.0, 0.0, "adamw", 0.0

    @property
    def passes(self) -> int:
        """Passes over the training snapshots, the objective's own where none are asked for."""
        return PASSES[self.objective] if self.epochs is None else self.epochs

    def identity(self) -> dict[str, Any]:
        """The fields that decide what comes out; the passes that are taken, asked for or not."""
        return super().identity() | {"epochs": self.passes}


ModelConfig = ScoreConfig | FlowConfig


@dataclass(frozen=True)
class DiscoverConfig(Config):
    """Find the equation that keeps the snapshots' ensemble as it is, in closed form."""

    group = MODEL

    library: Annotated[
        str,
        option(
            help="terms to choose from: free, or a system's own, by its name or TOML file, whose parameters are then "
            "the free numbers"
        ),
    ] = "free"
    degree: Annotated[
        int, option(help="of the monomials of a free library; 0: 3, and 2 of more than three species"), DEGREE
    ] = 0
    order: Annotated[Literal[2, 4], option(help="of the derivatives of a free library: 4 adds lap(lap(c))")] = 2
    also: Annotated[
        tuple[Extra, ...],
        option(help="what else a free library holds: gradients, as grad(u, v); derivatives, as d(u, x) and u*d(u, x)"),
    ] = ()
    terms: Annotated[
        str, option(help="one's own terms instead, such as '1, u, v, u*v**2, lap(u), lap(v)'; also u/(1 + u), exp(u)")
    ] = ""
    known: Annotated[
        str,
        option(
            help="a parameter that is known, which sets the unit of time: D_u=0.16 of a system's library, otherwise a "
            "coefficient, 'lap(u)=0.16', in the species' own equation or in another's, 'v: u*v**2=1'"
        ),
    ] = ""
    operator: Annotated[
        Literal["auto", Operator], option(help="of the Laplacians and slopes; auto: the one that needs fewest terms")
    ] = "auto"
    noise: Annotated[
        tuple[str, ...],
        DATA,
        option(help="standard deviation of white noise, in the values' unit, of all species or of each; auto: told"),
    ] = ("auto",)
    smoothing: Annotated[
        str,
        DATA,
        option(help="width in cells of the kernel they are seen through; auto: 1.5 where there is noise, or none"),
    ] = "auto"
    dynamics_noise: Annotated[
        Literal["auto", "none"],
        DATA,
        option(help="white noise in the dynamics, dc = v dt + sigma dW; auto: fitted where the snapshots ask for it"),
    ] = "auto"
    across: Annotated[
        tuple[str, ...],
        DATA,
        option(
            help="known conditions that the snapshots were made under and that one equation is to hold across, such as "
            "F: it says which terms each of them turns; p2d rollout --set F=0.02 then shows one that nobody measured"
        ),
    ] = ()
    bootstrap: Annotated[int, TRAINING, option(help="resamples of the snapshots for the error bars"), least(2)] = 100
    seed: Annotated[int, TRAINING, option(help="seed of the resamples"), least(0)] = 0
    each: Annotated[
        bool,
        DATA,
        option(
            help="the parameters of each snapshot by itself, with errors, and whether it stands still: for snapshots "
            "that are each of their own; needs --library SYSTEM"
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.each and self.library == "free":
            raise UserError("--each tells parameters of a system that stands still: name it, as --library klausmeier")
        for value in (*self.noise, self.smoothing):
            _number_or_auto("noise" if value in self.noise else "smoothing", value)
        if self.terms:
            expressions.refuse_unreadable(self.terms)

    def identity(self) -> dict[str, Any]:
        """The fields that decide what comes out; what each snapshot tells is a result of its own."""
        return {key: value for key, value in super().identity().items() if key != "each"}

    def noise_levels(self, species: int) -> tuple[float, ...] | None:
        """The white noise of each species as numbers; None: to be told from the snapshots.

        Raises:
            UserError: neither one for all nor one for each.
        """
        levels = [_number_or_auto("noise", value) for value in self.noise]
        if None in levels:
            return None
        if len(levels) not in (1, species):
            raise UserError(f"noise has {len(levels)} values; give one for all, or {species}, one for each species")
        return tuple(levels * species if len(levels) == 1 else levels)  # type: ignore[arg-type]

    @property
    def kernel_width(self) -> float | None:
        """The smoothing as a number; None: 1.5 where there is noise, otherwise none."""
        return _number_or_auto("smoothing", self.smoothing)


def _number_or_auto(name: str, value: str) -> float | None:
    """A setting that is a number, or None for 'auto'.

    Raises:
        UserError: neither 'auto' nor a finite number of 0 or above.
    """
    if value == "auto":
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise UserError(f"{name} = {value} is not possible: a number of 0 or above, or auto")
    return number


@dataclass(frozen=True)
class EvaluateConfig(Config):
    """Measure what was learnt on held-out snapshots: cosines, stationarity z-scores, figures."""

    group = MODEL

    score: Annotated[str, option(help="score model, by name or path; the dataset's when empty")] = ""
    flow: Annotated[str, option(help="flow model, by name or path; the dataset's when empty")] = ""
    equation: Annotated[str, option(help="discovered equation, by name or path; the dataset's when empty")] = ""
    show: Show = ""


def _is_count_or_span(text: str) -> bool:
    """Whether a text is a whole number, or two of 1 or above that do not fall."""
    least, colon, most = text.partition(":")
    return least.isdecimal() and (not colon or (most.isdecimal() and 1 <= int(least) <= int(most)))


def check_alpha(alpha: tuple[float, ...]) -> None:
    """Refuse signal levels outside (0, 1), a range that does not rise, and more than two values."""
    for value in alpha:
        if not (math.isfinite(value) and 0 < value < 1):
            raise UserError(f"alpha = {value} is not a signal level: it must lie between 0 and 1, ends excluded")
    if len(alpha) not in (1, 2) or (len(alpha) == 2 and alpha[0] >= alpha[1]):
        raise UserError(f"alpha = {' '.join(map(str, alpha))} is not possible: give one level, or a range low high")
