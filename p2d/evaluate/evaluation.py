"""What was learnt, measured on held-out snapshots: the numbers of summary.json, and the table that a run ends with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from p2d.config.stored import Json, Stored
from p2d.discovery.result import Discovery
from p2d.evaluate.tables import table_text

BASELINES = {"random": "random flow", "score": "score alone", "still": "no flow"}


FEWEST = 3  # held-out snapshots: of fewer, z-scores say nothing


@dataclass(frozen=True)
class FieldMeasures:
    """A velocity field on held-out snapshots.

    Attributes:
        z_rms, z_max: of the rates of random observables.
        cosines: with the true field, as 'cosine', and of each species as 'cosine_NAME'; None where nothing moves, and
            {} where the truth is not known.
    """

    z_rms: float
    z_max: float
    cosines: dict[str, float | None] = field(default_factory=dict)

    @property
    def cosine(self) -> float | None:
        """With the true field, all species pooled; None where it is not known or nothing moves."""
        return self.cosines.get("cosine")

    def rows(self, name: str) -> list[tuple[str, str]]:
        """Of the table."""
        rows = []
        if self.cosine is not None:
            parts = {key.removeprefix("cosine_"): value for key, value in self.cosines.items() if key != "cosine"}
            species = ", ".join(f"{s} {value:.4f}" for s, value in parts.items())
            rows.append((f"{name}: cosine with the true velocity", f"{self.cosine:.5f} ({species})"))
        return [*rows, (f"{name}: stationarity z-scores, rms and largest", f"{self.z_rms:.2f}, {self.z_max:.2f}")]

    def to_dict(self) -> Json:
        """As JSON types."""
        return {**self.cosines, "z_rms": self.z_rms, "z_max": self.z_max}

    @classmethod
    def from_dict(cls, values: Json) -> FieldMeasures:
        """Of these JSON types, among others."""
        cosines = {key: value for key, value in values.items() if key.split("_")[0] == "cosine"}
        return cls(values["z_rms"], values["z_max"], cosines)


@dataclass(frozen=True)
class Preservation:
    """Whether an ensemble that a flow carries on stays what it is.

    Attributes:
        ratios: energy distances to the data over their floor, by 'recovered', 'random', 'still' and 'score'; None of
            one that has blown up.
        steps: of the simulator.
        decorrelation_time: in these; None where the pattern has not moved on.
    """

    ratios: dict[str, float | None]
    steps: int
    decorrelation_time: float | None

    def rows(self) -> list[tuple[str, str]]:
        """Of the table."""
        others = [key for key in BASELINES if key in self.ratios]
        return [
            (
                f"flow: distance to the ensemble, {self.steps} steps on",
                _ratio_text(self.ratios["recovered"], " floors"),
            ),
            (
                f"the same of {', '.join(BASELINES[key] for key in others)}",
                ", ".join(_ratio_text(self.ratios[key]) for key in others),
            ),
        ]

    def to_dict(self) -> Json:
        """As JSON types."""
        return {**self.ratios, "steps": self.steps, "decorrelation_time": self.decorrelation_time}

    @classmethod
    def from_dict(cls, values: Json) -> Preservation:
        """Of these JSON types."""
        own = {key: values[key] for key in ("steps", "decorrelation_time")}
        return cls({key: value for key, value in values.items() if key not in own}, **own)


def _ratio_text(value: float | None, unit: str = "") -> str:
    return "blown up" if value is None else f"{value:.2f}{unit}" if value < 100 else f"{value:.0f}{unit}"


@dataclass(frozen=True)
class FlowMeasures:
    """A flow on held-out snapshots.

    Attributes:
        imbalance: of the snapshots, see flow/verdict.py.
        verdict: in words, '' where there is none to give.
        preservation: None of a flow that cannot be rolled out.
    """

    objective: str
    field: FieldMeasures
    imbalance: float
    verdict: str
    preservation: Preservation | None = None

    def to_dict(self) -> Json:
        """As JSON types."""
        own = {key: getattr(self, key) for key in ("objective", "imbalance", "verdict")}
        kept = {"preservation": self.preservation.to_dict()} if self.preservation else {}
        return own | self.field.to_dict() | kept

    @classmethod
    def from_dict(cls, values: Json) -> FlowMeasures:
        """Of these JSON types."""
        own = {key: values[key] for key in ("objective", "imbalance", "verdict")}
        kept = values.get("preservation")
        preservation = Preservation.from_dict(kept) if kept else None
        return cls(field=FieldMeasures.from_dict(values), preservation=preservation, **own)


@dataclass(frozen=True)
class Fresh:
    """How the ensemble that an equation makes from fresh initial states compares with the data.

    Attributes:
        distance: energy distance of its averages to the data's, over the floor, that of as many of the data's own
            snapshots; None where nothing lives, or a run blew up.
        runs, alive: how many were simulated, and of how many the pattern lives.
        steps: of each run.
        broken: what went wrong, '' where nothing did.
    """

    distance: float | None
    runs: int
    alive: int
    steps: int
    broken: str = ""

    def __str__(self) -> str:
        if self.distance is None:
            return self.broken or f"no pattern of {self.runs} lives"
        return f"{_ratio_text(self.distance, ' floors')}, {self.alive} of {self.runs} live"


@dataclass(frozen=True)
class EquationMeasures:
    """A discovered equation on held-out snapshots; `fresh` is None where nothing moves or the start is not known."""

    field: FieldMeasures
    discovery: Discovery
    fresh: Fresh | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Of the table."""
        fresh = [("equation: distance to the ensemble, from fresh starts", str(self.fresh))] if self.fresh else []
        return [*self.field.rows("equation"), *fresh]

    def to_dict(self) -> Json:
        """As JSON types; both have a largest z-score: z_max is the field's."""
        own = {**self.discovery.to_dict(), **self.field.to_dict(), "discovery_z_max": self.discovery.z_max}
        return own | ({"fresh": asdict(self.fresh)} if self.fresh else {})

    @classmethod
    def from_dict(cls, values: Json) -> EquationMeasures:
        """Of these JSON types."""
        own, fresh = values.get("discovery_z_max", values["z_max"]), values.get("fresh")
        discovery = Discovery.from_dict({**values, "z_max": own})
        return cls(FieldMeasures.from_dict(values), discovery, Fresh(**fresh) if fresh else None)


@dataclass(frozen=True)
class Evaluation(Stored):
    """What was learnt from a dataset, on its held-out snapshots.

    Attributes:
        held_out: how many.
        truth: of the true system, where it is known.
        score: losses of a score model's last epoch by name, and 'epochs'.
        inputs: what it was made from, to know it again.
        seconds: wall time of each stage.
    """

    dataset_hash: str
    held_out: int
    truth: FieldMeasures | None = None
    score: dict[str, float] | None = None
    flow: FlowMeasures | None = None
    equation: EquationMeasures | None = None
    inputs: Json = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        levels = {
            k.rsplit("_", 1)[1]: v for k, v in (self.score or {}).items() if k.startswith("validation_loss_alpha_")
        }
        rows = [(f"score: noise prediction loss at alpha {alpha}", f"{loss:.4f}") for alpha, loss in levels.items()]
        if self.flow:
            rows += self.flow.field.rows("flow")
        if self.equation:
            rows += self.equation.rows()
        if self.flow and self.flow.preservation:
            rows += self.flow.preservation.rows()
        if self.truth:
            rows.append(("true system: the same z-scores", f"{self.truth.z_rms:.2f}, {self.truth.z_max:.2f}"))
        if self.held_out < FEWEST:
            rows = [row for row in rows if "z-scores" not in row[0]]
        table = table_text(("held-out snapshots", "value"), rows)
        return f"{table}\nflow: {self.flow.verdict}" if self.flow and self.flow.verdict else table

    def __repr__(self) -> str:
        parts = [name for name in ("score", "flow", "equation") if getattr(self, name)]
        return f"<Evaluation of {' and '.join(parts)} on {self.held_out} held-out snapshots>"

    def to_dict(self) -> Json:
        """As JSON types, without what there is not."""
        parts = {"truth": self.truth, "flow": self.flow, "discover": self.equation}
        values: Json = {"dataset_hash": self.dataset_hash, "held_out": self.held_out}
        values |= {key: part.to_dict() for key, part in parts.items() if part}
        return values | {key: getattr(self, key) for key in ("score", "inputs", "seconds") if getattr(self, key)}

    @classmethod
    def from_dict(cls, values: Json) -> Evaluation:
        """The evaluation of these JSON types."""
        truth, flow, equation = (values.get(key) for key in ("truth", "flow", "discover"))
        return cls(
            dataset_hash=values["dataset_hash"],
            held_out=values["held_out"],
            truth=FieldMeasures.from_dict(truth) if truth else None,
            score=values.get("score"),
            flow=FlowMeasures.from_dict(flow) if flow else None,
            equation=EquationMeasures.from_dict(equation) if equation else None,
            inputs=values.get("inputs", {}),
            seconds=values.get("seconds", {}),
        )
