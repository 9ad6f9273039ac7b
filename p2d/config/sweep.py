"""Settings of a sweep: what is varied, how it is searched, and by what the best is chosen."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from p2d.config.axes import Axis, axis, of_values, parse, settings_of
from p2d.config.base import MACHINE, MODEL, TRAINING, Config, at_least, least, option
from p2d.config.learn import FlowConfig, Objective, ScoreConfig
from p2d.errors import UserError, refuse_unknown

Search = Literal["grid", "random", "optuna"]
Scheduler = Literal["asha", "median", "none"]
Point = dict[str, str]  # a value for each key
DRAWS = 100  # a sample, to find points that are not there yet
METRICS = {"cosine": "max", "z_rms": "min", "z_max": "min", "validation_loss": "min"}  # and which end is the best
AUTO = "auto"
# What is swept where nothing is asked for.
DEFAULTS: dict[Objective, dict[str, tuple[str, ...]]] = {
    "continuity": {"flow.alpha": ("0.5", "0.8", "0.95", "0.99"), "flow.sym": ("0", "0.03", "0.1", "0.3")},
    "stationarity": {"flow.hidden": ("16", "64"), "flow.observables": ("128", "512")},
    "training-free": {"flow.alpha": ("0.5", "0.8", "0.95", "0.99"), "flow.kernel_radius": ("0", "1")},
}
OF_THE_SCORE = ("alpha", "probes")
OWN: dict[Objective, tuple[str, ...]] = {  # settings of a flow that one objective alone, or two, look at
    "continuity": (*OF_THE_SCORE, "sym", "gaussian_weight", "divergence"),
    "stationarity": ("observables",),
    "training-free": (*OF_THE_SCORE, "kernel_radius", "sign"),
}


@dataclass(frozen=True)
class SweepConfig(Config):
    """Train a flow at every point of a sweep, over signal levels and symmetry weights by default; keep the best."""

    group = TRAINING

    alpha: Annotated[tuple[float, ...] | None, option("-a", help="signal levels, for --param flow.alpha=...")] = None
    sym: Annotated[tuple[float, ...] | None, option(help="symmetry weights, for --param flow.sym=...")] = None
    param: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        option(
            help="KEY=VALUE,VALUE or a range KEY=LOW..HIGH[:log], of flow.NAME, score.NAME or data.snapshots; may be "
            "given several times. One value: all trials have it"
        ),
    ] = ()
    objective: Annotated[Objective, MODEL, option(help="of the flows")] = "continuity"
    search: Annotated[
        Search,
        option(help="every combination; --samples of them at random; or as Optuna proposes (pip install optuna)"),
    ] = "grid"
    samples: Annotated[int, option(help="random, optuna: trials"), least(0)] = 0
    scheduler: Annotated[Scheduler, option(help="ends trials early that fall behind, or none")] = "asha"
    metric: Annotated[
        str, option(help=f"chooses the best: {', '.join(METRICS)}; auto: cosine if the truth is known, else z_rms")
    ] = AUTO
    score_per_alpha: Annotated[
        bool, MODEL, option(help="a score model for each signal level alone, instead of one for all")
    ] = False
    seed: Annotated[int, option(help="seed of the search"), least(0)] = 0
    max_concurrent: Annotated[
        int, MACHINE, option(help="trials at a time; 0: as many as there are CPUs, or GPUs"), least(0)
    ] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("metric", self.metric, (*METRICS, AUTO))
        if self.search == "grid" and self.samples:
            raise UserError(f"samples = {self.samples} is for --search random or optuna; a grid has a trial a point")
        if self.search != "grid" and not self.samples:
            raise UserError(f"samples = 0 is not possible: --search {self.search} needs their number")
        if self.score_per_alpha and self.objective == "stationarity":
            raise UserError("score_per_alpha is not for stationarity, which needs no score model")
        for one in self.axes:
            self._check(one)
        self._check_levels()
        if self.search == "grid":
            list(map(self.flow, self.points()))

    def _check(self, one: Axis) -> None:
        """Refuse an axis that the objective does not look at, or values that are not possible."""
        stage, _, name = one.key.partition(".")
        others = {n for names in OWN.values() for n in names} - set(OWN[self.objective])
        if stage == "flow" and name in others:
            raise UserError(
                f"{name} is not for {self.objective}, which does not look at it; its own are "
                f"{', '.join(OWN[self.objective])}"
            )
        if stage == "score" and self.objective == "stationarity":
            raise UserError(f"{one.key} is not for stationarity, which needs no score model")
        if one.is_range and (self.search == "grid" or stage == "score" or (self.score_per_alpha and name == "alpha")):
            why = "a grid" if self.search == "grid" else "a setting that score models are trained for"
            raise UserError(f"{one.key} is a range, and {why} takes values; give KEY=VALUE,VALUE")
        for value in one.values:
            if stage == "flow":
                self.flow({one.key: value})
            elif stage == "score":
                ScoreConfig(**settings_of("score", {one.key: value}))
            else:
                at_least(one.key, parse(one.key, value) or 2, 2)  # 0 are all

    def _check_levels(self) -> None:
        """Refuse signal levels of a flow that a score model, trained for a trial, would not know."""
        values = {one.key: one.values for one in self.axes}
        if self.score_per_alpha and "score.alpha" in values:
            raise UserError("score.alpha is not possible with --score-per-alpha, which trains for flow.alpha")
        if self.score_per_alpha or not any(key.startswith("score.") for key in values):
            return
        for level in values.get("score.alpha", ("",)):
            known = ScoreConfig(**settings_of("score", {"score.alpha": level} if level else {})).alpha
            for value in values.get("flow.alpha", ("",)):
                alpha = self.flow({"flow.alpha": value} if value else {}).alpha
                if not known[0] <= alpha <= known[-1]:
                    raise UserError(
                        f"alpha = {alpha} is not what its score model would be trained for, which is "
                        f"{' to '.join(map(str, known))}; give score.alpha=LOWxHIGH, or --score-per-alpha"
                    )

    @property
    def axes(self) -> list[Axis]:
        """What is varied, and what is set for all trials, in the order given: alpha and sym first."""
        own = {"flow.alpha": self.alpha, "flow.sym": self.sym}
        given = [of_values(key, _texts(values)) for key, values in own.items() if values is not None]
        given += [axis(text) for text in self.param]
        keys = [one.key for one in given]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice:
            raise UserError(f"{twice} is given more than once; give all its values together")
        if any(one.varies for one in given) or any(values is not None for values in own.values()):
            return given
        default = [Axis(key, values) for key, values in DEFAULTS[self.objective].items() if key not in keys]
        return default + given

    @property
    def varied(self) -> list[Axis]:
        """The axes that tell trials apart."""
        return [one for one in self.axes if one.varies]

    def points(self) -> list[Point]:
        """Where the trials are, of a grid or a random search; distinct, and the same for the same seed."""
        axes = self.axes
        if self.search == "grid":
            return [_point(axes, values) for values in itertools.product(*(one.values for one in axes))]
        source = random.Random(self.seed)
        if any(one.is_range for one in axes):
            found: dict[tuple[str, ...], None] = {}
            for _ in range(DRAWS * self.samples):
                if len(found) < self.samples:
                    found[tuple(one.drawn(source) for one in axes)] = None
            return [_point(axes, values) for values in found]
        every = list(itertools.product(*(one.values for one in axes)))
        return [_point(axes, values) for values in source.sample(every, min(self.samples, len(every)))]

    @property
    def trials(self) -> int:
        """How many there will be."""
        return self.samples if self.search == "optuna" else len(self.points())

    def flow(self, point: Point) -> FlowConfig:
        """Settings of the flow at a point."""
        return FlowConfig(objective=self.objective, **settings_of("flow", point))

    def own_score(self, point: Point) -> ScoreConfig | None:
        """Settings of a score model that this point needs for itself; None where all share one."""
        settings = settings_of("score", point)
        if self.objective == "stationarity" or not (settings or self.score_per_alpha):
            return None
        if self.score_per_alpha:
            settings["alpha"] = (self.flow(point).alpha,)
        return ScoreConfig(**settings)

    def score_points(self) -> dict[str, Point]:
        """The points that need score models of their own, one for each model, by name."""
        relevant = [one for one in self.axes if one.key.startswith("score.")]
        if self.score_per_alpha:
            levels = [one for one in self.axes if one.key == "flow.alpha"]
            relevant += levels or [of_values("flow.alpha", _texts((FlowConfig(objective="continuity").alpha,)))]
        if not relevant or self.objective == "stationarity":
            return {}
        points = [_point(relevant, values) for values in itertools.product(*(one.values for one in relevant))]
        if self.search != "optuna":  # which may come to any; the others are known to come to these
            chosen = self.points()
            points = [p for p in points if any(all(c.get(k, v) == v for k, v in p.items()) for c in chosen)]
        return {score_name(point): point for point in points}

    def label(self, point: Point) -> str:
        """A trial's name, such as 'alpha=0.95 sym=0.1'."""
        return " ".join(f"{one.label}={point[one.key]}" for one in self.varied or self.axes)

    @property
    def passes(self) -> int:
        """The most epochs that a trial has."""
        axes = [one for one in self.axes if one.key == "flow.epochs"]
        return max(
            (self.flow({one.key: value}).passes for one in axes for value in one.values), default=self.flow({}).passes
        )


def score_name(point: Point) -> str:
    """Name of the score model of a point, such as 'alpha=0.95'; of the keys that are told alone."""
    return "_".join(f"{key.partition('.')[2]}={value}" for key, value in sorted(point.items()))


def _texts(values: tuple[float, ...]) -> tuple[str, ...]:
    for value in values:
        if not math.isfinite(value):
            raise UserError(f"{value} is not a number to try")
    return tuple(f"{value:.10g}" for value in values)


def _point(axes: list[Axis], values: list[str] | tuple[str, ...]) -> Point:
    return {one.key: value for one, value in zip(axes, values, strict=True)}
