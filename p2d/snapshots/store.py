"""Datasets: folders of shards with a card, of which any sample is known by its id."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from p2d.errors import UserError
from p2d.fields import Scaling
from p2d.places import place
from p2d.runs import DATA
from p2d.snapshots import schema
from p2d.snapshots.card import SHARD_VERSION, Card, load_card
from p2d.snapshots.files import label_entry, read_table, shards_there
from p2d.snapshots.shards import UNKNOWN, Kind, Shards, shard_name, shard_number
from p2d.systems.system import System
from p2d.threads import in_threads


def evenly(items: np.ndarray, most: int) -> np.ndarray:
    """At most so many of these, evenly spread."""
    return items[:: max(1, -(-len(items) // most))]


@dataclass(frozen=True)
class Dataset:
    """Snapshots on disk: a folder of shards with its card. `p2d.open_dataset` opens one.

    Example:
        import p2d
        dataset = p2d.simulate("waves", num_samples=48, height=64, width=64, steps=6000)
        states = dataset.states()                             # of the living, float32 [N, C, H, W]
        ids = dataset.living                                  # their sample ids, [N]
        runs, times = dataset.runs(ids), dataset.times(ids)   # [N]; frames of one run share its number
        train, held_out = dataset.split(0.1)                  # ids; no run is on both sides
        print(dataset.card.grid, dataset.card.names, dataset.card.systems)

    Attributes:
        folder: where it is.
        card: what is in it: species, grid, systems, ensemble averages, settings; see p2d/snapshots/card.py.
    """

    folder: Path
    card: Card

    @cached_property
    def shards(self) -> Shards:
        """The shards with the labels of all their rows, which are read where an earlier card says none."""
        shards = self.card.shards
        unknown = np.flatnonzero(shards.kind == UNKNOWN)
        if not len(unknown):
            return shards
        shards = shards.copied()
        for number, labels, alive in in_threads(self._labels_read, unknown.tolist()):
            entry = label_entry(labels, alive)
            shards.label(number, Kind.of(labels), entry["first_run"], bytes.fromhex(entry["living"]))
        return shards

    def _labels_read(self, number: int) -> tuple[int, schema.Labels, np.ndarray]:
        columns = schema.LABELS if self.card.written == SHARD_VERSION else schema.OLD_LABELS
        table = read_table(self.folder / shard_name(number), columns)
        return number, schema.Labels.of(table), table["alive"].to_numpy(zero_copy_only=False)

    @property
    def sample_ids(self) -> np.ndarray:
        """Ids of all samples."""
        return np.arange(self.card.shards.starts[-1])

    @property
    def index(self) -> pa.Table:
        """The labels of all rows, without averages and states, in the order of sample ids: for a look at small data."""
        ids, shards = self.sample_ids, self.shards
        alive = np.isin(ids, self.living)
        kinds = shards.kinds_of(ids)
        seeds, systems = (np.array([getattr(kind, key) for kind in shards.kinds]) for key in ("seed", "system"))
        columns = (ids, shards.runs(ids), seeds[kinds], systems[kinds], shards.steps(ids), shards.times(ids))
        known = {
            key: pa.array(values, schema.KNOWN[key], from_pandas=True)  # nan: a time that is not known
            for key, values in zip(schema.KNOWN, columns, strict=True)
        }
        return pa.table({**known, "alive": alive})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a state: species, rows and columns."""
        return (len(self.card.species), *self.card.grid.shape)

    @property
    def scaling(self) -> Scaling:
        """Between values and training coordinates."""
        assert self.card.scaling is not None  # of a complete dataset
        return self.card.scaling

    def scaled(self, scaling: Scaling) -> Dataset:
        """The same snapshots in other training coordinates."""
        return Dataset(self.folder, replace(self.card, scaling=scaling))

    def systems_of(self, sample_ids: np.ndarray) -> list[System] | None:
        """The system that each of these samples was simulated with; None where one is not known."""
        known = [self.card.systems.get(kind.system) for kind in self.shards.kinds]
        systems = [known[kind] for kind in self.shards.kinds_of(np.asarray(sample_ids))]
        return systems if all(systems) else None

    @cached_property
    def living(self) -> np.ndarray:
        """Sample ids of the living, in rising order."""
        shards = self.card.shards
        alive = np.repeat(shards.alive > 0, shards.rows)
        for number in np.flatnonzero((shards.alive > 0) & (shards.alive < shards.rows)).tolist():
            alive[shards.starts[number] : shards.starts[number + 1]] = self.shards.living(number)
        return np.flatnonzero(alive)

    def runs(self, sample_ids: np.ndarray) -> np.ndarray:
        """The run that each of these samples is of."""
        return self.shards.runs(sample_ids)

    def times(self, sample_ids: np.ndarray) -> np.ndarray:
        """When each of these samples was taken, in the system's time from its start; nan where it is not known."""
        return self.shards.times(sample_ids)

    def split(self, holdout: float, snapshots: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Sample ids for training and held out: whole runs, evenly spread over the living, at least one on each side.

        Of a single run, a film, its last frames are held out: they are not independent of those before.

        Args:
            holdout: share of the runs.
            snapshots: of those for training, take so many, evenly spread; 0: all.

        Raises:
            UserError: fewer than two snapshots are alive, or fewer than asked for.
        """
        ids = self.living
        runs = self.runs(ids)
        living = np.unique(runs)
        if len(ids) < 2:
            raise UserError(
                f"{self.folder} has {len(ids)} living snapshot{'s' * (len(ids) != 1)} of {self.card.samples}, and at "
                "least 2 are needed, one of them held out; take more, which are not uniform"
            )
        is_film = len(living) < 2
        if is_film:
            runs = living = ids
        held = min(max(1, round(holdout * len(living))), len(living) - 1)
        # The last of each of `held` equal stretches: a function of the ids alone.
        places = len(living) - held + np.arange(held) if is_film else np.arange(1, held + 1) * len(living) // held - 1
        held_out = np.isin(runs, living[places])
        train = ids[~held_out]
        if snapshots > len(train):
            raise UserError(f"snapshots = {snapshots} is more than the {len(train)} of {self.folder} for training")
        return train[np.arange(snapshots) * len(train) // snapshots] if snapshots else train, ids[held_out]

    def by_shard(self, sample_ids: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Names of the shards that hold these samples, with their ids in rising order, shard by shard.

        Raises:
            UserError: an id that there is not, or one that is asked for twice.
        """
        ids = np.sort(sample_ids)
        last = self.card.shards.starts[-1] - 1
        unknown = ids[(ids < 0) | (ids > last)]
        if len(unknown) or (ids[1:] == ids[:-1]).any():
            told = f"knows no sample {unknown[0]}" if len(unknown) else "was asked for a sample twice"
            raise UserError(f"{self.folder} {told}; its ids are 0 to {last}")
        numbers = self.card.shards.places(ids)[0]
        ends = np.flatnonzero(np.diff(numbers, append=-1)) + 1
        for start, end in itertools.pairwise([0, *ends.tolist()] if len(ids) else [0]):
            yield shard_name(int(numbers[start])), ids[start:end]

    def read_ids(self, name: str, sample_ids: np.ndarray) -> np.ndarray:
        """Those of the given ids that a shard holds, in rising order; no file is opened."""
        first, last = self._ends(name)
        return np.unique(sample_ids[(sample_ids >= first) & (sample_ids < last)])

    def read_shard(self, name: str, sample_ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 [N] and states float32 [N, C, H, W] of a shard; of the given ids only, in stored order.

        Raises:
            UserError: it cannot be read, or is not the shard that the card says.
        """
        first, last = self._ends(name)
        table = read_table(self.folder / name, ["sample_id", "state"])
        ids = table.column("sample_id").to_numpy()
        if not np.array_equal(ids, np.arange(first, last)):
            raise UserError(f"{self.folder / name} is not the shard that the card says; p2d verify tells more")
        states = schema.array_of(table, "state")
        if sample_ids is None:
            return ids, states
        rows = self.read_ids(name, sample_ids) - first
        return ids[rows], states[rows]

    def _ends(self, name: str) -> tuple[int, int]:
        """The first id of a shard, and one more than its last."""
        number = shard_number(name)
        if number is None or number >= len(self.card.shards):
            raise UserError(f"{self.folder} has no shard {name}")
        first, last = self.card.shards.starts[number : number + 2].tolist()
        return first, last

    def states(self, sample_ids: np.ndarray | None = None) -> np.ndarray:
        """Values, float32 [N, C, H, W], of the given sample ids in their order; of all living when None.

        Raises:
            UserError: a shard that cannot be read, or a value that is not finite (names shard and sample).
        """
        ids = self.living if sample_ids is None else np.asarray(sample_ids)
        out = np.empty((len(ids), *self.shape), np.float32)
        order, done = np.argsort(ids), 0

        def read(part: tuple[str, np.ndarray]) -> np.ndarray:
            return self._finite_states(*part)

        for states in in_threads(read, self.by_shard(ids)):
            out[order[done : done + len(states)]] = states
            done += len(states)
        return out

    def _finite_states(self, name: str, sample_ids: np.ndarray) -> np.ndarray:
        """States of some samples of a shard."""
        ids, states = self.read_shard(name, sample_ids)
        broken = np.flatnonzero(~np.isfinite(states).all(axis=(1, 2, 3)))
        if len(broken):
            sample = ids[broken[0]]
            row = sample - self._ends(name)[0]
            raise UserError(f"{self.folder / name}: row {row} (sample {sample}) holds a value that is not finite")
        return states


def open_dataset(path: str | Path) -> Dataset:
    """Open a dataset by its folder.

    Raises:
        UserError: no such folder, no card, a foreign format, or a dataset whose making was interrupted.
    """
    folder = place(path)
    card = load_card(folder)
    if not card.complete:
        raise UserError(f"the dataset {folder} is unfinished; run the same {card.command} again to finish it")
    lacking = np.flatnonzero(~shards_there(folder, len(card.shards)))
    if len(lacking):
        name = shard_name(int(lacking[0]))
        raise UserError(f"{folder} lacks its shard {name}; run the same {card.command} again to restore it")
    return Dataset(folder, card)


def find_dataset(name: str, out: str | Path) -> Dataset:
    """Open a dataset named by its path, by its name under OUT/data, or by that name without its size.

    Raises:
        UserError: no such dataset (lists those that are there), several of that name, or one that cannot be opened.
    """
    return open_dataset(DATA.find(out, name))
