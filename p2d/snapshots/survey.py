"""What snapshots are, told to the user from a sample of them: what they show, what that does to an answer, what to do.

Nothing is said of clean data that would alarm: each test raises a false alarm in fewer than 1 % of clean ensembles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from p2d.fields import Edge, Grid
from p2d.snapshots.doubts import Doubt, examine
from p2d.snapshots.optics import choose_edges, find_repeats


@dataclass(frozen=True)
class Stored:
    """What is known of how snapshots were stored.

    Attributes:
        edges_known: whether the user, or the file, says what the edges are.
        bits: of each value, where they are whole numbers; 0 of others.
        lossy: whether the format keeps values approximately, as JPEG and most films do.
        count: of snapshots in all, of which these are some; 0: these.
    """

    edges_known: bool = False
    bits: int = 0
    lossy: bool = False
    count: int = 0


@dataclass(frozen=True)
class Finding:
    """Something that snapshots show.

    Attributes:
        kind: such as 'size' or 'rounded'.
        text: what they show.
        meaning: what it means for the answer.
        advice: what to do; '' where nothing is to be done.
        numbers: how much, by name.
    """

    kind: str
    text: str
    meaning: str = ""
    advice: str = ""
    numbers: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, doubt: Doubt) -> Finding:
        """What `examine` doubts."""
        return cls(doubt.kind, doubt.text, doubt.meaning, doubt.advice, doubt.numbers)

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.text, self.meaning, self.advice)))


@dataclass(frozen=True, eq=False)
class Survey:
    """What snapshots are.

    Attributes:
        findings: facts first, then what to do something about, the most important first.
        edges: of rows and columns: as given, or as the snapshots tell.
        repeated: whether the last row, and the last column, repeat the first and are to be dropped.
        runs: which of the snapshots belong together, [N].
        independent: number of independent snapshots that those looked at are worth.
    """

    findings: tuple[Finding, ...]
    edges: tuple[Edge, Edge]
    repeated: tuple[bool, bool]
    runs: np.ndarray
    independent: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "edges": list(self.edges),
            "repeated": list(self.repeated),
            "runs": self.runs.tolist(),
            "independent": self.independent,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Survey:
        """The survey of these JSON types."""
        findings = tuple(Finding(**finding) for finding in values["findings"])
        rows, columns = values["edges"]
        first, last = values["repeated"]
        return cls(findings, (rows, columns), (first, last), np.array(values["runs"]), values["independent"])

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))


def survey(
    states: np.ndarray,
    species: tuple[str, ...],
    grid: Grid,
    runs: np.ndarray | None = None,
    times: np.ndarray | None = None,
    stored: Stored | None = None,
) -> Survey:
    """Look at some hundreds of snapshots, evenly taken.

    Args:
        states: [N, C, H, W], finite inside the mask.
        species: C names.
        grid: with open edges unless what they are is known.
        runs: that they are of, [N]; None: each is of its own.
        times: when each was taken, [N], nan where it is not known.
        stored: how; as nothing is known of it when None.
    """
    stored = stored or Stored()
    repeated = find_repeats(states, grid)
    rows, columns = (size - end for size, end in zip(grid.shape, repeated, strict=True))
    kept = states[..., :rows, :columns]
    grid = replace(grid, shape=kept.shape[-2:]) if any(repeated) else grid
    if not stored.edges_known:
        grid = replace(grid, edges=choose_edges(kept, grid))
    examination = examine(kept, species, grid, runs)
    findings = (
        Finding("size", f"{stored.count or len(states)} snapshots of {rows} x {columns} cells"),
        *_of_repeats(repeated),
        *map(Finding.of, examination.doubts),
    )
    return Survey(findings, grid.edges, repeated, examination.runs, examination.effective)


def _of_repeats(repeated: tuple[bool, bool]) -> Iterator[Finding]:
    which = " and ".join(name for name, is_so in zip(("row", "column"), repeated, strict=True) if is_so)
    if which:
        yield Finding("repeated", f"the last {which} repeats the first", "it would count twice, and is dropped")
