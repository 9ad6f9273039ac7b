"""Shards on disk: written whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from p2d.errors import UserError, one_line
from p2d.fields import Scaling
from p2d.runs import DATA, whole
from p2d.snapshots import schema
from p2d.snapshots.card import VERSION, Card, load_card
from p2d.systems.system import System

# Bytes of equal rank beside each other: states take 1.6 times less room than with zstd alone, and less time.
PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": False,
    "column_encoding": {"state.list.element": "BYTE_STREAM_SPLIT"},
}


# What reading a damaged shard may raise: damaged metadata shows up as any of these.
DAMAGED = (UserError, pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError)


def shard_name(index: int) -> str:
    """File name of the shard with this number."""
    return f"shard-{index:05d}.parquet"


def write_shard(folder: Path, index: int, samples: schema.Samples) -> dict[str, Any]:
    """Write one shard whole or not at all.

    Returns:
        Its entry for the card, see `shard_entry`.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = folder / shard_name(index)
    try:
        with whole(path) as temporary, temporary.open("wb") as file:
            pq.write_table(samples.table(), file, **PARQUET)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or take another --out"
        ) from error
    return shard_entry(path)


def shard_entry(path: Path, table: pa.Table | None = None) -> dict[str, Any]:
    """Name, rows, living rows, lowest and highest value of each species, and hash of the file of a shard on disk.

    Args:
        table: all that it holds, where that has been read.

    Raises:
        UserError: a file that is cut, altered or no shard.
    """
    table = table or read_table(path, ["alive", "state"])
    states = schema.array_of(table, "state")
    return {
        "name": path.name,
        "rows": table.num_rows,
        "alive": sum(table.column("alive").to_pylist()),
        "low": states.min(axis=(0, 2, 3)).tolist(),
        "high": states.max(axis=(0, 2, 3)).tolist(),
        "hash": file_hash(path),
    }


def file_hash(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def checked_shard(path: Path, labels: schema.Labels, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """The entry of a shard of rows with these labels, states of this shape, as their digests say; None for others."""
    if not path.exists():
        return None
    try:
        table = read_table(path)
        entry = shard_entry(path, table)
        kept = table.select(list(schema.KNOWN)).to_pylist() == labels.rows()
        kept = kept and schema.array_of(table, "state").shape[1:] == shape and schema.is_as_digested(table)
    except DAMAGED:
        return None
    return entry if kept else None


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A shard, or some columns of it.

    Raises:
        UserError: a file that is missing, cut or foreign.
    """
    try:
        return schema.of_plain_types(pq.read_table(path, columns=columns))
    except (pa.ArrowException, OSError, UserError) as error:
        raise UserError(
            f"{path} cannot be read ({one_line(error)}); run the same p2d simulate again to restore it"
        ) from error


def read_rows(folder: Path, names: list[str], columns: tuple[str, ...]) -> pa.Table:
    """These columns of these shards, in their order."""
    try:
        return pa.concat_tables(read_table(folder / name, list(columns)) for name in names)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{folder} has shards of different columns ({one_line(error)}); p2d verify names them"
        ) from error


def evenly(items: np.ndarray, most: int) -> np.ndarray:
    """At most so many of these, evenly spread."""
    return items[:: max(1, -(-len(items) // most))]


@dataclass(frozen=True)
class Dataset:
    """A folder of shards with its card. `open_dataset` opens one."""

    folder: Path
    card: Card

    @cached_property
    def index(self) -> pa.Table:
        """The labels of all rows, without averages and states, in the order of sample ids."""
        names = [entry["name"] for entry in self.card.shards]
        columns = schema.LABELS if self.card.written == VERSION else schema.OLD_LABELS
        return schema.upgraded_labels(read_rows(self.folder, names, columns)).sort_by("sample_id")

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
        ids, labels = (self.index.column(name).to_pylist() for name in ("sample_id", "system"))
        place = dict(zip(ids, labels, strict=True))
        known = self.card.systems
        labels = [place[int(i)] for i in sample_ids]
        return [known[label] for label in labels] if all(label in known for label in labels) else None

    @cached_property
    def living(self) -> np.ndarray:
        """Sample ids of the living, in rising order."""
        table = self.index
        return table.column("sample_id").to_numpy()[table.column("alive").to_numpy(zero_copy_only=False)]

    def runs(self, sample_ids: np.ndarray) -> np.ndarray:
        """The run that each of these samples is of."""
        ids, runs = (self.index.column(name).to_numpy() for name in ("sample_id", "run_id"))
        return runs[np.searchsorted(ids, sample_ids)]

    def times(self, sample_ids: np.ndarray) -> np.ndarray:
        """When each of these samples was taken, in the system's time from its start; nan where it is not known."""
        ids, times = (self.index.column(name).to_numpy(zero_copy_only=False) for name in ("sample_id", "time"))
        return times[np.searchsorted(ids, sample_ids)].astype(np.float64)

    def split(self, holdout: float, snapshots: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Sample ids for training and held out: whole runs, evenly spread over the living, at least one on each side.

        Args:
            holdout: share of the runs.
            snapshots: of those for training, take so many, evenly spread; 0: all.

        Raises:
            UserError: fewer than two runs are alive, or fewer snapshots than asked for.
        """
        table = self.index
        alive = table.column("alive").to_numpy(zero_copy_only=False)
        ids, runs = (table.column(name).to_numpy()[alive] for name in ("sample_id", "run_id"))
        living = np.unique(runs)
        if len(living) < 2:
            runs_in_all = len(set(table.column("run_id").to_pylist()))
            raise UserError(
                f"{self.folder} has {len(living)} living runs of {runs_in_all}: at least 2 are needed; "
                "take more samples, or a preset whose patterns live"
            )
        held = min(max(1, round(holdout * len(living))), len(living) - 1)
        # The last of each of `held` equal stretches: a function of the ids alone.
        places = (np.arange(1, held + 1) * len(living)) // held - 1
        held_out = np.isin(runs, living[places])
        train = ids[~held_out]
        if snapshots > len(train):
            raise UserError(f"snapshots = {snapshots} is more than the {len(train)} of {self.folder} for training")
        return train[np.arange(snapshots) * len(train) // snapshots] if snapshots else train, ids[held_out]

    def read_ids(self, name: str, sample_ids: np.ndarray) -> np.ndarray:
        """Those of the given ids that a shard holds, without reading its states."""
        ids = read_table(self.folder / name, ["sample_id"]).column("sample_id").to_numpy()
        return ids[np.isin(ids, sample_ids)]

    def read_shard(self, name: str, sample_ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 [N] and states float32 [N, C, H, W] of a shard; of the given ids only, in stored order."""
        table = read_table(self.folder / name, ["sample_id", "state"])
        ids = table.column("sample_id").to_numpy()
        states = schema.array_of(table, "state")
        if sample_ids is None:
            return ids, states
        wanted = np.isin(ids, sample_ids)
        return ids[wanted], states[wanted]

    def states(self, sample_ids: np.ndarray | None = None) -> np.ndarray:
        """Values, float32 [N, C, H, W], of the given sample ids in their order; of all living when None.

        Raises:
            UserError: a shard that cannot be read, or a value that is not finite (names shard and sample).
        """
        if sample_ids is None:
            sample_ids = self.living
        out = np.empty((len(sample_ids), *self.shape), np.float32)
        place = {int(i): n for n, i in enumerate(sample_ids)}
        unknown = set(place) - set(self.index.column("sample_id").to_pylist())
        if unknown or len(place) < len(sample_ids):
            told = f"knows no sample {min(unknown)}" if unknown else "was asked for a sample twice"
            raise UserError(f"{self.folder} {told}; its ids are 0 to {self.card.samples - 1}")
        first = 0  # ids rise by one from row to row and from shard to shard
        for entry in self.card.shards:
            there = np.arange(first, first + entry["rows"])
            first += entry["rows"]
            wanted = np.isin(there, sample_ids)
            if not wanted.any():
                continue
            ids, states = self.read_shard(entry["name"])
            if not np.array_equal(ids, there):
                raise UserError(
                    f"{self.folder / entry['name']} is not the shard that the card says; p2d verify tells more"
                )
            for row in np.flatnonzero(wanted):
                if not np.isfinite(states[row]).all():
                    raise UserError(
                        f"{self.folder / entry['name']}: row {row} (sample {ids[row]}) holds a value that is not finite"
                    )
                out[place[int(ids[row])]] = states[row]
        return out


def open_dataset(path: str | Path) -> Dataset:
    """Open a dataset by its folder.

    Raises:
        UserError: no such folder, no card, a foreign format, or a dataset whose making was interrupted.
    """
    folder = Path(path)
    card = load_card(folder)
    if not card.complete:
        raise UserError(f"the dataset {folder} is unfinished; run the same p2d simulate again to finish it")
    for entry in card.shards:
        if not (folder / entry["name"]).is_file():
            raise UserError(f"{folder} lacks its shard {entry['name']}; run the same p2d simulate again to restore it")
    return Dataset(folder, card)


def find_dataset(name: str, out: str | Path) -> Dataset:
    """Open a dataset named by its path, by its name under OUT/data, or by that name without its size.

    Raises:
        UserError: no such dataset (lists those that are there), several of that name, or one that cannot be opened.
    """
    return open_dataset(DATA.find(out, name))
