"""Datasets in the formats of others: a file for all snapshots that go together, written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError
from p2d.formats.own import Facts
from p2d.formats.writing import FORMATS, Format
from p2d.formats.writing_pictures import scale_of
from p2d.progress import Advance
from p2d.runs import LAST, read_json, recovered, whole, whole_folder, write_json
from p2d.snapshots.shards import shard_name
from p2d.snapshots.store import Dataset

BLOCK_BYTES = 2**26  # of states that are read at a time, about


@dataclass(frozen=True, eq=False)
class Part:
    """Snapshots that go into one file.

    Attributes:
        name: of the file, without its ending.
        ids: of the samples, in the order in which they are written.
        facts: what is known of them.
    """

    name: str
    ids: np.ndarray
    facts: Facts


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: names, or of pictures their number.
        notes: what the user is to know of it.
    """

    snapshots: int
    files: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        listed = ", ".join(self.files[:4]) + (f" and {len(self.files) - 4} more" if len(self.files) > 4 else "")
        return "\n".join([f"{self.snapshots} snapshots in {listed}", *(f"  {note}" for note in self.notes)])


def made_before(dataset: Dataset, to: str, where: Path) -> Exported | None:
    """What is in a place already, if it is this very dataset in this format.

    Raises:
        UserError: it is something else.
    """
    if recovered(where).is_dir() and (where / LAST).is_file():
        made = read_json(where / LAST)
        if made.get("settings") == _settings(dataset, to):
            return Exported(made["snapshots"], tuple(made["files"]), tuple(made["notes"]))
    is_empty = where.is_dir() and not any(where.iterdir())
    if where.exists() and not is_empty:
        raise UserError(f"{where} is there already: remove it, or name another place")
    return None


def export_dataset(dataset: Dataset, to: str, where: Path, advance: Advance = lambda *_: None) -> Exported:
    """Write all snapshots of a dataset, those whose pattern has died out among them.

    Args:
        to: one of FORMATS.
        where: a file, or a folder of files, that is not there.
        advance: told the snapshots that are done; `snapshots_to_read` is how many in all.

    Raises:
        UserError: the format cannot hold the dataset, or the place is named as one of another format.
    """
    form = FORMATS[to]
    parts, one_file = refuse_export(dataset, to, where)
    parts = _with_ranges(dataset, parts, advance) if form.ranges else parts
    with _writing(where, one_file) as target:
        files = _write(dataset, form, parts, target, advance, one_file)
        made = Exported(dataset.card.samples, tuple(files), tuple(notes_of(to, parts)))
        if target.is_dir():
            write_json(target / LAST, {"settings": _settings(dataset, to), **vars(made)})
    return made


def refuse_export(dataset: Dataset, to: str, where: Path) -> tuple[list[Part], bool]:
    """What is to be written, and whether into one file.

    Raises:
        UserError: see `export_dataset`.
    """
    form = FORMATS[to]
    parts = parts_of(dataset, form)
    one_file = _is_file(where, form, parts)
    for part in parts:
        form.refuse(part.facts)
    return parts, one_file


def snapshots_to_read(dataset: Dataset, to: str) -> int:
    """How many snapshots an export reads; twice as many where the format needs their range first."""
    return dataset.card.samples * (1 + FORMATS[to].ranges)


def _settings(dataset: Dataset, to: str) -> dict[str, Any]:
    return {"dataset_hash": dataset.card.dataset_hash, "to": to}


def _is_file(where: Path, form: Format, parts: list[Part]) -> bool:
    """Whether the place is that of one file, and not of a folder for all.

    Raises:
        UserError: it is, and several are needed; or it is named as a file of another kind.
    """
    if form.suffix and where.suffix in form.suffixes:
        if len(parts) > 1:
            raise UserError(
                f"{where} is one file, and {len(parts)} are needed ({parts[0].name}, {parts[1].name}, ...), one for "
                "each set of conditions or length of runs: name a folder"
            )
        return True
    others = [suffix for other in FORMATS.values() for suffix in other.suffixes]
    if where.suffix in others:
        wanted = f"a name with {form.suffix}, or a folder" if form.suffix else "a folder"
        raise UserError(f"{where} is named as a file of another format: give {wanted}")
    return False


@contextmanager
def _writing(where: Path, one_file: bool) -> Iterator[Path]:
    """Where to write what takes its place when the block ends."""
    if one_file and where.suffix != ".zarr":
        with whole(where) as file:
            yield file
    else:
        with whole_folder(where) as folder:
            yield folder


def parts_of(dataset: Dataset, form: Format) -> list[Part]:
    """The snapshots of a dataset by what goes into one file: those of one label, and of runs that are alike."""
    ids = dataset.sample_ids
    runs, times = dataset.runs(ids), dataset.times(ids)
    kinds = dataset.shards.kinds_of(ids)
    labels = np.array([kind.system for kind in dataset.shards.kinds])[kinds]
    _, run, lengths = np.unique(runs, return_inverse=True, return_counts=True)
    length = lengths[run] if form.alike else np.zeros(len(ids), np.int64)
    keys = sorted(set(zip(labels.tolist(), length.tolist(), strict=True)), key=lambda key: (key[0], -key[1]))
    parts = []
    for label, frames in keys:
        own = ids[(labels == label) & (length == frames)]
        if form.by_run:
            own = own[np.lexsort((own, times[own], runs[own]))]  # times that are not known come last
        several = [f"_{label}"] if len({key[0] for key in keys}) > 1 else []
        several += [f"_{frames}-frames"] if len([key for key in keys if key[0] == label]) > 1 else []
        name = re.sub(r"[^\w.,=+-]", "-", dataset.folder.name + "".join(several))
        parts.append(Part(name, own, _facts(dataset, label, runs[own], times[own])))
    return parts


def _facts(dataset: Dataset, label: str, runs: np.ndarray, times: np.ndarray) -> Facts:
    card = dataset.card
    conditions = card.conditions.get(label, {})
    return Facts(dataset.folder.name, card.species, card.grid, runs, times, card.time_unit, conditions)


def blocks_of(dataset: Dataset, ids: np.ndarray, advance: Advance) -> Iterator[np.ndarray]:
    """The states of these samples, float32 [n, C, H, W] some at a time, nan outside a mask."""
    mask = dataset.card.grid.mask
    for states in _in_shards(dataset, ids):
        if mask:
            states = np.where(mask.cells, states, np.float32(np.nan))
        advance(len(states))
        yield states
        del states  # before the next ones are read


def _in_shards(dataset: Dataset, ids: np.ndarray) -> Iterator[np.ndarray]:
    """The states of these samples, a shard at a time where they lie in it one after the other, as nearly always."""
    numbers = dataset.card.shards.places(ids)[0]
    ends = (np.flatnonzero((np.diff(numbers) != 0) | (np.diff(ids) != 1)) + 1).tolist()
    rows = max(1, BLOCK_BYTES // (4 * int(np.prod(dataset.shape))))
    if len(ends) > 2 * len(dataset.card.shards):  # of runs that are taken turn about: shards are read for many at once
        for first in range(0, len(ids), rows):
            yield dataset.states(ids[first : first + rows])
        return
    for first, last in pairwise([0, *ends, len(ids)]):
        known, states = dataset.read_shard(shard_name(int(numbers[first])))
        start = int(ids[first] - known[0])
        yield from (states[n : min(n + rows, start + last - first)] for n in range(start, start + last - first, rows))


def _with_ranges(dataset: Dataset, parts: list[Part], advance: Advance) -> list[Part]:
    """The parts with the lowest and highest value that there is of each species."""
    low, high = np.full(len(dataset.card.species), np.inf), np.full(len(dataset.card.species), -np.inf)
    for states in blocks_of(dataset, dataset.sample_ids, advance):
        low = np.minimum(low, np.nanmin(states, axis=(0, 2, 3)))
        high = np.maximum(high, np.nanmax(states, axis=(0, 2, 3)))
    ends = zip(dataset.card.species, low.tolist(), high.tolist(), strict=True)
    species = tuple(replace(one, low=a, high=b) for one, a, b in ends)
    return [replace(part, facts=replace(part.facts, species=species)) for part in parts]


def _write(
    dataset: Dataset, form: Format, parts: list[Part], target: Path, advance: Advance, one_file: bool
) -> list[str]:
    """Write all parts; names of what was written."""
    names = []
    for part in parts:
        whole_place = one_file or (not form.suffix and len(parts) == 1)
        path = target if whole_place else target / (part.name + form.suffix)
        form.write(path, blocks_of(dataset, part.ids, advance), part.facts)
        if form.suffix:
            names.append(part.name + form.suffix)
        else:
            names.append(f"{len(part.ids)} pictures" + f" in {part.name}" * (len(parts) > 1))
    return names


def notes_of(to: str, parts: list[Part]) -> Iterator[str]:
    """What the user is to know of an export."""
    facts = parts[0].facts
    if FORMATS[to].exact:
        yield "values are as they are, in float32"
    else:
        off = ", ".join(
            f"{species.name} by up to {step / 2:.2g}"
            for species, step in zip(facts.species, scale_of(facts)[1].ravel().tolist(), strict=True)
        )
        yield f"values are rounded to 16 bits ({off}); the scale is in each picture, and p2d import takes it back"
    if facts.grid.mask:
        yield "cells outside the mask are " + ("level 0" if to == "png" else "nan") + "; import them with --mask nan"
    if to == "well":
        yield from _notes_of_well(parts)


def _notes_of_well(parts: list[Part]) -> Iterator[str]:
    alone = [part for part in parts if len(np.unique(part.facts.runs)) == len(part.ids)]
    if alone:
        yield (
            f"{sum(len(part.ids) for part in alone)} snapshots are of no run with others: each is a trajectory of one "
            "step, which WellDataset takes with n_steps_output=0"
        )
    if len(parts) > 1:
        yield f"{len(parts)} files, as all trajectories of one have the same conditions and as many steps"
    if not all(part.facts.has_times for part in parts):
        yield "times are not known: steps are counted instead"
    if "mirror" in parts[0].facts.grid.edges:
        yield "mirror edges are its WALL"
