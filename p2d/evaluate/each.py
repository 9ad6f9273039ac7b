"""A named system on each snapshot by itself: its parameters with errors, and whether the snapshot stands still."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np

from p2d.config import DiscoverConfig
from p2d.config.stored import Json, Stored
from p2d.discovery.discover import steady_state
from p2d.discovery.known import Known
from p2d.errors import UserError
from p2d.evaluate.tables import table_text
from p2d.snapshots.passes import InMemory
from p2d.snapshots.store import Dataset
from p2d.systems.writing import number_text
from p2d.threads import Mapper

SHOWN = 40  # rows of the table, at most


@dataclass(frozen=True)
class OfOne:
    """What one snapshot tells.

    Attributes:
        sample: its id.
        conditions: known of it.
        parameters, errors: of the system, with their standard deviations; {} where they cannot be told.
        left: share of the Laplacians' power that the system's terms leave; near 0 where it stands still.
        settled: whether it does.
        note: why they cannot be told.
    """

    sample: int
    conditions: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    left: float | None = None
    settled: bool = False
    note: str = ""

    def cells(self, conditions: list[str], parameters: list[str]) -> list[str]:
        """Its row of the table."""
        known = [f"{self.conditions[name]:g}" if name in self.conditions else "" for name in conditions]
        if self.left is None:
            return [str(self.sample), *known, *([""] * len(parameters)), "", f"cannot be told: {self.note}"]
        values = [number_text(self.parameters[name], self.errors[name]) for name in parameters]
        return [str(self.sample), *known, *values, f"{self.left:.1g}", "settled" if self.settled else "not settled"]


@dataclass(frozen=True)
class SteadyStates(Stored):
    """What each of some snapshots tells of a system.

    Attributes:
        system: its name.
        unit_of_time: in words.
        rows: of each snapshot.
        settings: what they were made with, to know them again.
    """

    system: str
    unit_of_time: str
    rows: tuple[OfOne, ...]
    settings: Json = field(default_factory=dict)

    @property
    def settled(self) -> int:
        """How many stand still."""
        return sum(row.settled for row in self.rows)

    def __str__(self) -> str:
        shown = self.rows[:SHOWN]
        conditions = [*dict.fromkeys(name for row in shown for name in row.conditions)]
        parameters = [*dict.fromkeys(name for row in shown for name in row.parameters)]
        head = ("sample", *conditions, *parameters, "left", "")
        lines = [table_text(head, (row.cells(conditions, parameters) for row in shown))]
        if len(self.rows) > SHOWN:
            lines.append(f"... and {len(self.rows) - SHOWN} more, see the file")
        return "\n".join(
            [
                *lines,
                f"{self.settled} of {len(self.rows)} snapshots stand still as {self.system} does; errors are standard "
                f"deviations; unit of time: {self.unit_of_time}",
                "left: power of what the terms do not balance, over that of the Laplacians; where that is not settled, "
                "parameters mean nothing",
            ]
        )

    def to_dict(self) -> Json:
        """As JSON types."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, values: Json) -> SteadyStates:
        """What each snapshot tells, of these JSON types."""
        return cls(**{**values, "rows": tuple(OfOne(**row) for row in values["rows"])})


@dataclass(frozen=True)
class _Fit:
    """Fits the snapshot of an id, anywhere that sees the dataset."""

    dataset: Dataset
    config: DiscoverConfig

    def __call__(self, sample: int) -> OfOne:
        dataset = self.dataset
        (kind,) = dataset.shards.kinds_of(np.array([sample]))
        row = OfOne(sample, dataset.card.conditions.get(dataset.shards.kinds[int(kind)].system, {}))
        try:
            state = steady_state(InMemory.of_dataset(dataset, np.array([sample])), self.config)
        except UserError as error:  # of one snapshot, such as one of noise alone; the others may tell
            return replace(row, note=str(error))
        parameters = state.parameters
        return replace(
            row,
            parameters={name: value for name, (value, _) in parameters.items()},
            errors={name: error for name, (_, error) in parameters.items()},
            left=state.left,
            settled=state.is_settled,
        )


def fit_each(dataset: Dataset, known: Known, config: DiscoverConfig, each: Mapper = map) -> SteadyStates:
    """What each living snapshot of a dataset tells of a system.

    Args:
        each: a map over snapshots, whose function it may pickle.
    """
    rows = tuple(each(_Fit(dataset, config), dataset.living.tolist()))
    return SteadyStates(known.title, known.unit_of_steady_time, rows)
