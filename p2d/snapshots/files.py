"""Shards on disk, one and many: written whole or not at all, checked when read, listed at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from p2d.errors import UserError, unwritable
from p2d.observables import Sums
from p2d.places import arrow_source
from p2d.runs import whole
from p2d.snapshots import schema
from p2d.snapshots.shards import HASH_BYTES, UNKNOWN, Kind, shard_name, shard_number

# Bytes of equal rank beside each other: states take 1.6 times less room than with zstd alone, and less time.
PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": False,
    "write_statistics": False,  # nobody asks for them, and they take a tenth of the time
    "column_encoding": {"state.list.element": "BYTE_STREAM_SPLIT"},
}


# What reading a damaged shard may raise: damaged metadata shows up as any of these.
DAMAGED = (UserError, pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError)


def write_shard(folder: Path, number: int, samples: schema.Samples) -> dict[str, Any]:
    """Write one shard whole or not at all.

    Returns:
        What there is to know of it, see `shard_entry`.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = folder / shard_name(number)
    table = samples.table()
    try:
        with whole(path) as temporary, temporary.open("wb") as file:
            hashed = _Hashed(file)
            pq.write_table(table, hashed, **PARQUET)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or take another --out"
        ) from error
    return _entry(path.name, table, samples.labels, hashed.size, hashed.digest.hexdigest())


class _Hashed:
    """A file that is written from its beginning to its end, with the hash of its bytes."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, 0
        self.digest = hashlib.blake2b(digest_size=HASH_BYTES)

    def write(self, data: bytes) -> int:
        """Write more bytes."""
        self.size += memoryview(data).nbytes
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Nothing waits here."""
        self.file.flush()


def shard_entry(path: Path) -> dict[str, Any]:
    """What there is to know of a shard, as JSON types: what the card keeps, and what its dataset as a whole is made of.

    Returns:
        Its name, and of the card (see snapshots/shards.py) rows, alive, size, hash, labels, first_run and living; of
        the whole (see snapshots/ledger.py) digests of the rows, lowest and highest value of each species, and sums.

    Raises:
        UserError: a file that is cut, altered or no shard.
    """
    try:
        data = path.read_bytes()
        table = table_of(data)
        return _entry(path.name, table, schema.Labels.of(table), len(data), hash_of(data))
    except UserError:
        raise
    except DAMAGED as error:
        raise _unreadable(path, error) from error


def _entry(name: str, table: pa.Table, labels: schema.Labels, size: int, hashed: str) -> dict[str, Any]:
    """See `shard_entry`."""
    states = schema.array_of(table, "state")
    alive = table["alive"].to_numpy(zero_copy_only=False)
    after, before = (schema.array_of(table, column) for column in schema.averages_in(table))
    first = labels.steps == labels.steps[0]
    return {
        "name": name,
        "rows": len(labels),
        "alive": int(alive.sum()),
        "size": size,
        "hash": hashed,
        **label_entry(labels, alive),
        "digests": b"".join(table["digest"].to_pylist()).hex(),
        "low": states.min(axis=(0, 2, 3)).tolist(),
        "high": states.max(axis=(0, 2, 3)).tolist(),
        "sums": vars(Sums.over(before, after, alive, first, states.shape[1])),
    }


def label_entry(labels: schema.Labels, alive: np.ndarray) -> dict[str, Any]:
    """What a card keeps of the labels of a shard's rows, and of which of them live, bool [N]."""
    kind = Kind.of(labels).to_dict()
    return {"labels": kind, "first_run": int(labels.run_id[0]), "living": np.packbits(alive).tobytes().hex()}


def file_hash(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=HASH_BYTES)).hexdigest()


def hash_of(data: bytes) -> str:
    """Hash of these bytes."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()


def checked_shard(path: Path, labels: schema.Labels, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """The entry of a shard of rows with these labels, states of this shape, as their digests say; None for others."""
    try:
        data = path.read_bytes()
        table = table_of(data)
        own = schema.Labels.of(table)
        kept = own.are(labels) and schema.array_of(table, "state").shape[1:] == shape
        kept = kept and schema.is_as_digested(table)
        return _entry(path.name, table, own, len(data), hash_of(data)) if kept else None
    except DAMAGED:
        return None


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard, or some columns of it.

    Raises:
        UserError: a file that is missing, cut or foreign.
    """
    try:
        with pq.ParquetFile(arrow_source(path)) as file:
            return schema.of_plain_types(file.read(columns, use_threads=False))
    except DAMAGED as error:
        if unwritable(error):  # nothing says that the file is damaged
            raise
        raise _unreadable(path, error) from error


def table_of(data: bytes) -> pa.Table:
    """The shard of these bytes."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return schema.of_plain_types(file.read(use_threads=False))


def _unreadable(path: Path, error: Exception) -> UserError:
    told = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(f"{path} cannot be read ({told}); the same command that made it restores it")


@dataclass(frozen=True)
class Listing:
    """Which of a dataset's shards a folder holds, by one listing.

    Attributes:
        size: int64 [S], bytes; -1 for a shard that is not there.
        time: int64 [S], when each was last changed, nanoseconds.
    """

    size: np.ndarray
    time: np.ndarray

    @classmethod
    def of(cls, folder: Path, count: int) -> Listing:
        """Of so many shards."""
        listing = cls(np.full(count, UNKNOWN, np.int64), np.zeros(count, np.int64))
        for number, file in _listed(folder):
            if number < count:
                facts = file.stat()
                listing.size[number], listing.time[number] = facts.st_size, facts.st_mtime_ns
        return listing


def shards_there(folder: Path, count: int) -> np.ndarray:
    """Which of so many shards a folder holds, bool [count]."""
    on_disk = np.zeros(count, bool)
    on_disk[[number for number, _ in _listed(folder) if number < count]] = True
    return on_disk


def _listed(folder: Path) -> Iterator[tuple[int, Any]]:
    """The shards of a folder, by number."""
    files = os.scandir(folder) if isinstance(folder, Path) else folder.iterdir()
    for file in files:
        number = shard_number(file.name)
        if number is not None:
            yield number, file
