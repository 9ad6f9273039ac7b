"""What snapshots are, told to the user from a sample of them: what they show, what that does to an answer, what to do.

Nothing is said of clean data that would alarm: each test raises a false alarm in fewer than 1 % of clean ensembles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.fields import Edge, Grid, Species
from p2d.snapshots import findings as say
from p2d.snapshots.correlation import measure_lengths
from p2d.snapshots.dependence import FEWEST, measure_dependence
from p2d.snapshots.doubts import Examination, examine
from p2d.snapshots.findings import Finding
from p2d.snapshots.illumination import Illumination, fit_surface, measure_illumination
from p2d.snapshots.noise import seen as noise_seen
from p2d.snapshots.optics import choose_edges, find_repeats
from p2d.snapshots.pixels import find_constant, find_hot, measure_ends
from p2d.snapshots.simulated import alive
from p2d.snapshots.static import STATIC, measure_imbalance
from p2d.snapshots.store import evenly

LOOKED_AT = 64  # snapshots, for what a few tell as well
STATIC_LOOKED_AT = 8
FEWEST_STATIC, FEWEST_SYMMETRIC = 3, 4  # of fewer it may be chance: one front that moves stands still in its own frame


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
        found = tuple(Finding(**finding) for finding in values["findings"])
        rows, columns = values["edges"]
        first, last = values["repeated"]
        return cls(found, (rows, columns), (first, last), np.array(values["runs"], int), float(values["independent"]))

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))


def survey(
    states: np.ndarray,
    species: Sequence[str],
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
        times: when each was taken, [N], nan where it is not known; frames of a run are put in their order.
        stored: how; as nothing is known of it when None.
    """
    stored = stored or Stored()
    order = np.arange(len(states)) if times is None or runs is None else np.lexsort((times, runs))
    states, given = grid.masked(states[order]), None if runs is None else runs[order]
    repeated = find_repeats(evenly(states, LOOKED_AT), grid)
    rows, columns = (size - end for size, end in zip(grid.shape, repeated, strict=True))
    if any(repeated):
        states, grid = states[..., :rows, :columns], replace(grid, shape=(rows, columns))
    living = _living(states, species, grid)
    count = stored.count or len(states)
    found = [*say.of_size(states, species, grid, count), *say.of_uniform(int((~living).sum()), len(states))]
    together = np.arange(len(states)) if given is None else np.unique(given, return_inverse=True)[1]
    independent = 0.0
    if living.any():
        look = _Look(states[living], tuple(species), grid, None if given is None else given[living], stored)
        grid = look.grid
        found += [*say.of_edges(grid.edges, repeated, grid, known=stored.edges_known), *look.findings()]
        own = look.examination.runs + together.max() + 1  # numbers of their own, beside those of the uniform
        together[living], independent = own, look.independent
    back = np.empty_like(together)
    back[order] = np.unique(together, return_inverse=True)[1]
    return Survey(say.ordered(found), grid.edges, repeated, back, independent)


def _living(states: np.ndarray, species: Sequence[str], grid: Grid) -> np.ndarray:
    """Which snapshots hold a pattern, bool [N]."""
    known = states[..., grid.inside(0)]
    ends = zip(known.min(axis=(0, 2)), known.max(axis=(0, 2)), strict=True)
    ranges = tuple(Species(name, "", *map(float, end)) for name, end in zip(species, ends, strict=True))
    return alive(known[..., None], ranges)


class _Look:
    """A look at living snapshots [N, C, H, W], and what it finds."""

    def __init__(
        self, states: np.ndarray, species: tuple[str, ...], grid: Grid, runs: np.ndarray | None, stored: Stored
    ) -> None:
        self.states, self.species, self.given, self.stored = states, species, runs, stored
        self.grid = grid if stored.edges_known else replace(grid, edges=choose_edges(evenly(states, LOOKED_AT), grid))
        self.constant = find_constant(evenly(states, LOOKED_AT), self.grid)
        self.light, self.examination = self._examined()
        self.static = measure_imbalance(evenly(states, STATIC_LOOKED_AT), self.grid)
        self.independent = self._independent()

    def _examined(self) -> tuple[Illumination, Examination]:
        """The light, and the snapshots as they are in even light: uneven light alone would make them alike."""
        own = np.arange(len(self.states)) if self.given is None else self.given
        light = measure_illumination(self.states, self.grid, own)
        if light.is_uneven and not self.constant.any():  # edges that are held at a value do as much
            flat = self.states / fit_surface(self.states, self.grid.mask, own).astype(self.states.dtype)
            examination = examine(flat, self.species, self.grid, self.given)
            again = measure_illumination(self.states, self.grid, examination.runs)
            if again.is_uneven and not any(doubt.kind == "changing" for doubt in examination.doubts):
                return again, examination
        even = Illumination((0.0,) * len(self.species), 1.0)
        return even, examine(self.states, self.species, self.grid, self.given)

    def _independent(self) -> float:
        """Of frames of runs, as many as they are worth; of others, as many as runs are told."""
        runs = len(self.states) if self.given is None else len(np.unique(self.given))
        if runs == len(self.states):
            return self.examination.effective
        if len(self.states) < FEWEST:  # nothing is told of so few
            return float(runs)
        return max(measure_dependence(self.states, self.grid, np.arange(len(self.states))).effective, 1.0)

    def findings(self) -> Iterator[Finding]:
        doubts, stored, grid = self.examination.doubts, self.stored, self.grid
        some = evenly(self.states, LOOKED_AT)
        noise = self._noise()
        static = self.static <= STATIC
        yield from say.of_values(stored.bits, self.examination.steps, noise, self.species)
        yield from say.of_lengths(
            measure_lengths(some, grid, noise), self.species, grid, self.independent, static=static
        )
        yield from say.of_static(self.static, STATIC, sure=len(self.states) >= FEWEST_STATIC)
        runs = len(np.unique(self.examination.runs if self.given is None else self.given))
        yield from say.of_runs(len(self.states), runs, self.independent, known=self.given is not None)
        dependent = any(doubt.kind == "dependent" for doubt in doubts)
        given = None if self.given is None else runs
        yield from say.of_few(self.independent, static=static, dependent=dependent, runs=given)
        few = len(self.states) < FEWEST_SYMMETRIC
        yield from (Finding.of(doubt) for doubt in doubts if not (few and doubt.kind == "symmetric"))
        yield from say.of_scaling(self.states, self.species, grid, self.examination.steps)
        yield from say.of_ends(measure_ends(some, grid, self.examination.steps, self.constant), self.species)
        yield from say.of_pixels(self.constant, find_hot(some, grid), grid)
        blocks = any(doubt.kind == "compressed" for doubt in doubts)
        yield from say.of_files(stored.bits, lossy=stored.lossy, blocks=blocks)
        yield from say.of_illumination(self.light, self.species)

    def _noise(self) -> tuple[float, ...]:
        try:
            return noise_seen(evenly(self.states, LOOKED_AT), self.grid)
        except UserError:  # too small a grid to tell it from
            return (0.0,) * len(self.species)
