"""From stacks of others' snapshots to a dataset: what one importing process does, without Ray."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config import of_each
from p2d.config.importing import ImportConfig
from p2d.errors import DataError, UserError
from p2d.fields import Edge, Grid, Mask, Species
from p2d.formats.stack import Stack
from p2d.observables import averages
from p2d.places import as_remote
from p2d.runs import DATA
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store
from p2d.snapshots import writing as shards
from p2d.snapshots.illumination import fit_surface
from p2d.snapshots.labelling import Rows
from p2d.snapshots.simulated import ALIVE_SHARE
from p2d.snapshots.sources import IMPORTED, Plan, Sources, labels_of
from p2d.snapshots.survey import Stored, Survey, survey
from p2d.snapshots.treating import Treatment, masked_cells

SHARD_BYTES = 2**26  # of the states of a shard, about
READ_BYTES = 2**24  # as stored, at a time, where values are not taken as they are
LOOKED_AT, LOOKED_AT_BYTES = 256, 2**26  # snapshots, and their states, that are surveyed
FEWEST_LOOKED_AT = 4
COARSE = 1e-4  # steps of stored values beside their standard deviation from which on the user is told


@dataclass(frozen=True, eq=False)
class Import:
    """An import that is ready to be made.

    Attributes:
        sources: what is imported.
        treatment: what is done to it.
        species: with the ranges of what was looked at.
        grid: of the dataset.
        survey: what was found.
        notes: what the user is to know of the making.
    """

    sources: Sources
    treatment: Treatment
    species: tuple[Species, ...]
    grid: Grid
    survey: Survey
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name under OUT/data."""
        config = self.sources.config
        return config.name or f"{config.own_name}_{self.grid.shape[0]}x{self.grid.shape[1]}"

    @property
    def chunk(self) -> int:
        """Rows of a shard."""
        return max(1, SHARD_BYTES // (4 * len(self.species) * self.grid.shape[0] * self.grid.shape[1]))

    def card(self) -> cards.Card:
        """The dataset's first card."""
        about = [stack.about for stack in self.sources.stacks]
        origin = {
            "kind": IMPORTED,
            "files": self.sources.file_count,
            "bits": max(a.bits for a in about),
            "lossy": any(a.lossy for a in about),
            "notes": [*self.sources.notes, *self.notes],
            "survey": self.survey.to_dict(),
        }
        return cards.Card(
            settings=self.sources.settings,
            species=self.species,
            grid=self.grid,
            chunk=self.chunk,
            conditions={label: values for label, values in self.sources.rows.conditions.items() if values},
            origin=origin,
            generator="imported: values as they were stored, in float32",
            time_unit=self.sources.rows.time_unit,
        )

    def maker(self, chunk: int) -> Imported:
        """Makes shards of so many snapshots."""
        return Imported(self.sources.stacks, Plan(self.sources.rows, chunk), self.treatment, self.species, self.grid)


def look_at(sources: Sources) -> Import:
    """Look at some snapshots: which cells there are, what edges, what the user is to know.

    Raises:
        UserError: values that are not finite or all the same, or settings that do not fit the snapshots.
    """
    config, (count, *size), rows = sources.config, sources.shape, sources.rows
    shape = (size[0], size[1])
    names = sources.species
    treatment = Treatment(
        crop=config.cropped(),
        bin=config.bin,
        scale=of_each("scale", config.scale, count),
        offset=of_each("offset", config.offset, count),
    )
    left = treatment.shape_of(shape)
    most = min(LOOKED_AT, max(FEWEST_LOOKED_AT, LOOKED_AT_BYTES // (4 * count * left[0] * left[1])))
    ids = store.evenly(np.arange(len(rows)), most)
    stored = (sources.stacks[rows.stack[n]].read(rows.row[n], rows.row[n] + 1)[0] for n in ids.tolist())
    outside = masked_cells(config, stored, shape)
    treatment = replace(treatment, outside=outside)
    reader = Reader(sources.stacks, rows, treatment, names)
    states = np.concatenate([reader.states(n, n + 1, left) for n in ids.tolist()])
    for broken in np.flatnonzero(~np.isfinite(states).all(axis=(1, 2, 3))).tolist():
        reader.refuse_broken(int(ids[broken]))
    if config.flatten:
        mask = None if treatment.cells is None else Mask.of(treatment.cells)
        own = rows.run[ids] if rows.has_runs else None
        treatment = replace(treatment, surface=fit_surface(states, mask, own))
        states = states / treatment.surface
    grid, known = _grid(sources, left, treatment)
    ranges = _ranges(states, names, config.unit, grid)
    about = [stack.about for stack in sources.stacks]
    # What is left of uneven light makes a seam of edges that join, small as it is: they are then taken as open.
    how = Stored(known or config.flatten, max(a.bits for a in about), any(a.lossy for a in about), len(rows))
    runs = rows.run[ids] if rows.has_runs else None
    times = rows.time[ids] if np.isfinite(rows.time).any() else None
    surveyed = survey(states, names, grid, runs, times, how)
    if len(rows.conditions) > 1:  # that they are of several kinds is known
        findings = tuple(finding for finding in surveyed.findings if finding.kind != "mixture")
        surveyed = replace(surveyed, findings=findings)
    treatment = replace(treatment, repeated=surveyed.repeated)
    mask = Mask.of(treatment.cells) if treatment.cells is not None else None
    grid = replace(grid, shape=treatment.shape_of(shape), edges=surveyed.edges, mask=mask)
    return Import(sources, treatment, ranges, grid, surveyed, _rounding_notes(sources, states, names))


def _grid(sources: Sources, shape: tuple[int, int], treatment: Treatment) -> tuple[Grid, bool]:
    """The grid as far as the user or the files say what it is, and whether they say what its edges are."""
    config = sources.config
    spacing, unit = config.length()
    if not spacing:
        told = sorted({(stack.about.spacing, stack.about.unit) for stack in sources.stacks})
        if len(told) > 1:
            each = " and ".join(f"{length:g} {unit}" if length else "unknown" for length, unit in told)
            raise UserError(f"the files have spacings of {each}; give one --spacing")
        spacing, unit = told[0]
    spacing = spacing * config.bin if spacing else 1.0
    edges: tuple[Edge, ...] | None = config.edges
    if not edges:
        ends = {stack.about.edges for stack in sources.stacks}
        edges = ends.pop() if len(ends) == 1 else None
        cropped = [
            len(range(*part.indices(size))) < size
            for part, size in zip(config.cropped(), sources.shape[1:], strict=True)
        ]
        edges = edges and tuple("open" if cut else edge for cut, edge in zip(cropped, edges, strict=True))
    known = bool(edges)
    both: tuple[Edge, Edge] = (edges[0], edges[-1]) if edges else ("open", "open")
    mask = Mask.of(treatment.cells) if treatment.cells is not None else None
    return Grid(shape, spacing, both, unit, mask), known


def _rounding_notes(sources: Sources, states: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """What is lost of values of 64 bits that vary little beside their size, for the user; mostly nothing."""
    if all(np.dtype(stack.dtype).itemsize <= 4 for stack in sources.stacks):
        return ()
    steps = np.spacing(np.abs(states).max(axis=(0, 2, 3)))
    spread, mean = states.std(axis=(0, 2, 3), dtype=np.float64), states.mean(axis=(0, 2, 3), dtype=np.float64)
    return tuple(
        f"{name} varies by {std:.3g} around {middle:.6g}, which 32 bits hold in steps of {step:.2g}: take the most of "
        f"it off with --offset {-middle:.4g}"
        for name, step, std, middle in zip(names, steps.tolist(), spread.tolist(), mean.tolist(), strict=True)
        if step > COARSE * std
    )


def _ranges(states: np.ndarray, names: Sequence[str], units: tuple[str, ...], grid: Grid) -> tuple[Species, ...]:
    """The species with the ranges of some states.

    Raises:
        UserError: another number of units, or states that are all uniform.
    """
    inside = states[..., grid.inside(0)]
    low, high, spread = inside.min(axis=(0, 2)), inside.max(axis=(0, 2)), inside.std(axis=2, dtype=np.float64)
    if (spread <= ALIVE_SHARE * (high - low)).all():
        values = ", ".join(
            f"{name} {a:g}" + (f" to {b:g}" if b > a else "") for name, a, b in zip(names, low, high, strict=True)
        )
        raise UserError(
            f"every one of the {len(states)} snapshots looked at is constant ({values}): there is no pattern in them"
        )
    if len(units) not in (0, 1, len(names)):
        raise UserError(f"unit = {' '.join(units)} is not possible: give one for all {len(names)} species, or for each")
    each = units * len(names) if len(units) == 1 else units or ("",) * len(names)
    ends = zip(names, each, low.tolist(), high.tolist(), strict=True)
    return tuple(Species(name, unit, a, b) for name, unit, a, b in ends)


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads snapshots of an import and treats them, in bounded memory.

    Attributes:
        names: of the species, by which a value that cannot be kept is told.
    """

    stacks: tuple[Stack, ...]
    rows: Rows
    treatment: Treatment
    names: tuple[str, ...]

    def states(self, first: int, last: int, shape: tuple[int, int]) -> np.ndarray:
        """Rows first to last as they are to be, float32 [N, C, h, w].

        Raises:
            DataError: a file that cannot be read, or a value inside the mask that is not finite or beyond float32.
        """
        parts: np.ndarray | None = None
        for start, end in self._stretches(first, last):
            stack, row = self.stacks[self.rows.stack[start]], int(self.rows.row[start])
            try:
                stored = stack.read(row, row + end - start)
            except UserError as error:
                raise DataError(str(error)) from error
            with np.errstate(over="ignore", invalid="ignore"):
                treated = self.treatment.of(stored).astype(np.float32, copy=False)
            if (start, end) == (first, last):
                return treated
            parts = np.empty((last - first, len(self.names), *shape), np.float32) if parts is None else parts
            parts[start - first : end - first] = treated
        assert parts is not None  # of one row or more
        return parts

    def _stretches(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Rows that follow each other in a stack, as many as are read at a time."""
        stack, row = self.rows.stack[first:last], self.rows.row[first:last]
        ends = np.flatnonzero((np.diff(stack) != 0) | (np.diff(row) != 1)) + 1
        bounds = [0, *ends.tolist(), last - first]
        for start, end in itertools.pairwise(bounds):
            one = self.stacks[stack[start]]
            each = int(np.prod(one.shape)) * np.dtype(one.dtype).itemsize
            most = max(1, (SHARD_BYTES if self.treatment.is_exact else READ_BYTES) // each)
            for part in range(start, end, most):
                yield first + part, first + min(part + most, end)

    def refuse_broken(self, n: int) -> None:
        """Tell where a value of a row is that cannot be kept.

        Raises:
            DataError: there is one.
        """
        stack, row = self.stacks[self.rows.stack[n]], int(self.rows.row[n])
        broken = self.treatment.broken_in(stack.read(row, row + 1)[0])
        if broken:
            species, y, x, value = broken
            if np.isfinite(value):
                what, help = f"{value:g}, beyond what 32 bits can hold", "make it smaller with --scale"
            else:
                what, help = f"{value:g}", "mend the file, or leave out such pixels with --mask nan, or a mask file"
            raise DataError(f"{stack.name_of(row)}: {self.names[species]} at row {y}, column {x} is {what}; {help}")


@dataclass(frozen=True, eq=False)
class Imported:
    """Makes the shards of an import, see snapshots/writing.py."""

    stacks: tuple[Stack, ...]
    plan: Plan
    treatment: Treatment
    species: tuple[Species, ...]
    grid: Grid

    def on(self, device: str, threads: int, tell: Callable[[int], None]) -> Callable[[int], schema.Samples]:
        """Reads and treats the snapshots of the shard of a number."""
        names = tuple(species.name for species in self.species)
        reader = Reader(self.stacks, self.plan.rows, self.treatment, names)
        spans = np.array([species.span for species in self.species])

        def samples(number: int) -> schema.Samples:
            first, last = self.plan[number]
            states = reader.states(first, last, self.grid.shape)
            observed = averages(states, self.grid)
            mean, square = observed[:, : len(names)], observed[:, len(names) : 2 * len(names)]
            for broken in np.flatnonzero(~np.isfinite(mean).all(axis=1)).tolist():
                reader.refuse_broken(first + broken)
            spread = np.sqrt(np.maximum(square - mean**2, 0.0))
            alive = (spread > ALIVE_SHARE * spans).any(axis=1)
            tell(last - first)
            return schema.Samples(labels_of(self.plan, number), states, alive, observed, observed)

        return samples


@contextmanager
def writing(folder: Path, first_card: cards.Card) -> Iterator[cards.Card]:
    """Be the one writer of a new or unfinished dataset while the block runs, see snapshots/writing.py.

    Where the data are such that it cannot be finished, nothing of it is left.
    """
    complete = True
    try:
        with shards.writing(folder, first_card) as card:
            complete = card.complete
            yield card
    except DataError:
        if not complete:
            store_folder = as_remote(folder)
            shutil.rmtree(folder) if store_folder is None else store_folder.remove_below()
        raise


def import_here(config: ImportConfig, out: str | Path) -> store.Dataset:
    """Import in this process, without Ray: for small data, notebooks and tests."""
    sources = Sources.of(config)
    before = sources.made_before(out)
    if before and sources.is_finished(before):
        return store.open_dataset(before)
    ready = look_at(sources)
    folder = DATA.place(out, ready.name)
    with writing(folder, ready.card()) as card:
        samples = ready.maker(card.chunk).on("cpu", 1, lambda _: None)
        return shards.make(folder, card, sources.labels(card.chunk), shards.written_here(folder, samples), "cpu")


def report_text(dataset: store.Dataset) -> str:
    """What was found in the files of an imported dataset, and what was made of them, for the screen."""
    card = dataset.card
    grid, origin = card.grid, card.origin
    height, width = grid.shape
    cells = f"{height} x {width} pixels" if height > 1 else f"{width} pixels"
    length = f" of {grid.spacing:g} {grid.unit}".rstrip() if grid.unit or grid.spacing != 1 else ""
    edges = grid.edges[0] if len(set(grid.edges)) == 1 else f"{grid.edges[0]} (y) and {grid.edges[1]} (x)"
    species = ", ".join(f"{s.name} ({s.unit})" if s.unit else s.name for s in card.species)
    runs = len(np.unique(dataset.runs(dataset.sample_ids)))
    lines = [str(Survey.from_dict(origin["survey"])), *(f"note: {note}" for note in origin["notes"])]
    lines.append(
        f"{card.samples:,} snapshots of {species} on {cells}{length}, {edges} edges"
        + (f", {int(grid.mask.cells.sum()):,} of them inside the mask" if grid.mask else "")
        + (f"; of {runs:,} run{'s' * (runs > 1)}" if runs < card.samples else "")
    )
    lines += [f"condition {label}: {ensemble.samples:,} snapshots" for label, ensemble in _known(card)]
    dead = card.samples - card.alive
    if dead:
        lines.append(f"{dead:,} snapshots are uniform, and are left out of what is learnt")
    return "\n".join(filter(None, lines))


def _known(card: cards.Card) -> list[tuple[str, Any]]:
    return [(label, ensemble) for label, ensemble in card.ensembles.items() if label in card.conditions]
