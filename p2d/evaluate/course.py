"""What a rollout comes to: how each kind of dynamics keeps the ensemble, and how it moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from p2d.config.stored import Json, Stored
from p2d.evaluate.preservation import decorrelation_time
from p2d.evaluate.tables import table_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Clock:
    """How times of a rollout, which are counted in steps, are shown.

    Attributes:
        step: units of time in a step; 0: they are shown in steps.
        unit: of time; '' where it has no name.
        steps: what a step is.
    """

    step: float = 0.0
    unit: str = ""
    steps: str = "steps of the simulator"

    @property
    def label(self) -> str:
        """Of an axis: 'time (min)'."""
        return f"time ({self.unit or 'units'})" if self.step else self.steps

    def of(self, times: Sequence[float]) -> list[float]:
        """Times in steps as they are shown."""
        return [time * (self.step or 1) for time in times]

    def number(self, time: float) -> str:
        """A time in steps, as a number."""
        return f"{time * self.step:.3g}" if self.step else f"{time:.0f}"

    def text(self, time: float) -> str:
        """A time in steps, with its unit: '3.2 min', '200 steps'."""
        return f"{self.number(time)} {self.unit or 'units of time' if self.step else 'steps'}"


@dataclass(frozen=True)
class Course:
    """How one kind of dynamics went.

    Attributes:
        times: of all frames, in steps of the simulator.
        ratio: energy distance to the ensemble over its floor, at each time until it has blown up.
        correlation: with the starts.
        cosine: of the displacement with the true one; empty where that is not known.
        step: of the integration, in steps of the simulator.
        blown_up: the time of the first frame that is not finite or a thousand floors away.
        frames: of the first start, values float32 [T, C, H, W], nan from where it has blown up; not saved.
    """

    times: tuple[int, ...]
    ratio: tuple[float, ...] = ()
    correlation: tuple[float, ...] = ()
    cosine: tuple[float, ...] = ()
    _: KW_ONLY
    step: float = 0.0
    blown_up: float | None = None
    frames: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def ratio_mean(self) -> float | None:
        """Over time; None of a course that was lost at once."""
        return float(np.mean(self.ratio[1:])) if len(self.ratio) > 1 else None

    @property
    def ratio_largest(self) -> float | None:
        """Over time; None of a course that was lost at once."""
        return max(self.ratio[1:], default=None)

    @property
    def decorrelation_time(self) -> float | None:
        """When the correlation with the start first falls to 1/e; None: it does not."""
        return decorrelation_time([float(t) for t in self.times[: len(self.correlation)]], list(self.correlation))

    def cells(self, clock: Clock) -> list[str]:
        """Its row of the rollout's table."""
        mean, largest, decorrelated = self.ratio_mean, self.ratio_largest, self.decorrelation_time
        blown_up = self.blown_up is not None
        end = "" if largest is None else f"{largest:.2f}"
        return [
            "" if mean is None else f"{mean:.2f}",
            end if self.blown_up is None else f"blown up by {clock.number(self.blown_up)}",
            "" if decorrelated is None else clock.number(decorrelated),
            f"{self.cosine[-1]:.4f}" if self.cosine and not blown_up else "",
            f"{self.step * (clock.step or 1):.2g}" if self.step else "",
        ]

    def to_dict(self) -> Json:
        """As JSON types, without frames."""
        return {
            "ratio_mean": self.ratio_mean,
            "ratio_largest": self.ratio_largest,
            "decorrelation_time": self.decorrelation_time,
            "blown_up": self.blown_up,
            "step": self.step,
            "ratio": list(self.ratio),
            "correlation": list(self.correlation),
            "displacement_cosine": list(self.cosine),
        }

    @classmethod
    def from_dict(cls, values: Json, times: Sequence[int]) -> Course:
        """The course of these JSON types."""
        curves = (tuple(values[key]) for key in ("ratio", "correlation", "displacement_cosine"))
        return cls(tuple(times), *curves, step=values["step"], blown_up=values["blown_up"])


@dataclass(frozen=True)
class Rollout(Stored):
    """How several kinds of dynamics went from the same starts.

    Attributes:
        times: of the frames, in steps of the simulator.
        courses: by the kind of dynamics.
        starts: their sample ids, the shown one first.
        inputs: what it was made from, to know it again.
        clock: how times are shown.
    """

    times: tuple[int, ...]
    courses: dict[str, Course]
    starts: tuple[int, ...] = ()
    inputs: Json = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    def __str__(self) -> str:
        head = (self.clock.text(self.times[-1]), "distance", "largest", "decorrelated", "cosine", "step")
        rows = ((kind, *course.cells(self.clock)) for kind, course in self.courses.items())
        return (
            f"{table_text(head, rows)}\n"
            "distance: energy distance of the ensemble to the data's; floor: that of as many of the data's snapshots"
        )

    def __repr__(self) -> str:
        return f"<Rollout over {self.clock.text(self.times[-1])}: {', '.join(self.courses)}>"

    def plot(self, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
        """Draw how far ensembles go from the data over time, and how they lose the memory of their start.

        Args:
            axes: two, of matplotlib; of a new figure when None.
        """
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")[1]
        distance, memory = axes
        for kind, course in self.courses.items():
            for place, curve in ((distance, course.ratio), (memory, course.correlation)):
                place.plot(self.clock.of(self.times[: len(curve)]), curve, label=kind, linewidth=1.3)
        distance.set_title("energy distance to the data / its floor", fontsize=9)
        memory.set_title("correlation with the start", fontsize=9)
        for place in axes:
            place.set_xlabel(self.clock.label, fontsize=8)
            place.grid(alpha=0.3)
            place.tick_params(labelsize=8)
        distance.set_yscale("log")
        distance.axhspan(distance.get_ylim()[0], 2, color="grey", alpha=0.12, linewidth=0)
        memory.legend(fontsize=7)
        return axes

    def metrics(self, frame: int) -> dict[str, float]:
        """The ratio of each kind of dynamics at a frame, where it has not blown up, by names for tracking."""
        names = {kind: "still" if kind == "v = 0" else kind.replace(" ", "_") for kind in self.courses}
        return {f"ratio_{names[k]}": c.ratio[frame] for k, c in self.courses.items() if frame < len(c.ratio)}

    def to_dict(self) -> Json:
        """As JSON types, without frames."""
        courses = {kind: course.to_dict() for kind, course in self.courses.items()}
        others = {"inputs": self.inputs, "starts": list(self.starts), "clock": asdict(self.clock)}
        return {"times": list(self.times), **courses, **others}

    @classmethod
    def from_dict(cls, values: Json) -> Rollout:
        """The rollout of these JSON types."""
        others = {key: values.get(key, {}) for key in ("times", "inputs", "starts", "clock")}
        courses = {k: Course.from_dict(v, values["times"]) for k, v in values.items() if k not in others}
        return cls(tuple(values["times"]), courses, tuple(values["starts"]), values["inputs"], Clock(**others["clock"]))
