"""What a card knows of the shards: a few numbers a shard, in columns, so that a million of them are a small table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np

from p2d.snapshots.schema import Labels

HASH_BYTES = 16
UNKNOWN = -1  # the size or the kind of a shard that a card of an earlier version says nothing of
NUMBERS = ("rows", "alive", "size", "first_run", "kind")


def shard_name(number: int) -> str:
    """File name of the shard with this number."""
    return f"shard-{number:05d}.parquet"


def shard_number(name: str) -> int | None:
    """The number of the shard of this file name; None for another file."""
    digits = name.removeprefix("shard-").removesuffix(".parquet")
    return int(digits) if digits.isdecimal() and name == shard_name(int(digits)) else None


@dataclass(frozen=True)
class Kind:
    """What the rows of many shards have in common: row r is of run first_run + r // L + runs[r % L], and so on.

    Attributes:
        system, seed: of all rows.
        runs, steps, time: of L rows, after which they repeat with the next run.
    """

    system: str
    seed: int
    runs: tuple[int, ...]
    steps: tuple[int, ...]
    time: tuple[float | None, ...]

    @classmethod
    def of(cls, labels: Labels) -> Kind:
        """The shortest one that says what these labels, of at least one row, say."""
        runs, rows = labels.run_id - labels.run_id[0], np.arange(len(labels))
        each = int((runs != 0).argmax()) or len(rows)
        of_run = rows % each
        steps, time = labels.steps[of_run], labels.time[of_run]
        repeats = np.array_equal(runs, rows // each) and np.array_equal(labels.steps, steps)
        if not (repeats and np.array_equal(labels.time, time, equal_nan=True)):
            each = len(rows)
        known = [None if np.isnan(value) else value for value in labels.time[:each].tolist()]
        return cls(
            labels.system, labels.seed, tuple(runs[:each].tolist()), tuple(labels.steps[:each].tolist()), tuple(known)
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"system": self.system, "seed": self.seed} | {
            k: list(getattr(self, k)) for k in ("runs", "steps", "time")
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Kind:
        """Of these JSON types.

        Raises:
            TypeError, KeyError, ValueError: they are none.
        """
        runs, steps = (tuple(map(int, values[key])) for key in ("runs", "steps"))
        time = tuple(None if value is None else float(value) for value in values["time"])
        if not len(runs) == len(steps) == len(time) > 0:
            raise ValueError("a kind of shard without its rows")
        return cls(str(values["system"]), int(values["seed"]), runs, steps, time)


@dataclass(frozen=True, eq=False)
class Shards(Sequence[dict[str, Any]]):
    """The shards of a dataset, S of them, in the order of their numbers; ids rise by one from row to row.

    As a sequence: name, rows, alive and hash of each.

    Attributes:
        rows, alive: int64 [S], all and those that live; 0 rows for a shard that is not there yet.
        size: int64 [S], bytes of the file.
        hash: uint8 [S, 16], of the file.
        first_run, kind: int64 [S], the run of its first row, and which of `kinds` its rows are of.
        kinds: what the rows of many shards have in common.
        mixed: which rows live, as packed bits, by number of shard; where some do and some do not.
    """

    rows: np.ndarray
    alive: np.ndarray
    size: np.ndarray
    hash: np.ndarray
    first_run: np.ndarray
    kind: np.ndarray
    kinds: list[Kind] = field(default_factory=list)
    mixed: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def empty(cls, count: int = 0) -> Shards:
        """So many that are not there yet."""
        none, unknown = np.zeros((2, count), np.int64), np.full((3, count), UNKNOWN, np.int64)
        hashes = np.zeros((count, HASH_BYTES), np.uint8)
        return cls(none[0], none[1], unknown[0], hashes, unknown[1], unknown[2])

    @classmethod
    def of(cls, entries: Iterable[dict[str, Any]]) -> Shards:
        """Of entries, see `put`; those of earlier cards say less.

        Raises:
            TypeError, KeyError, ValueError: they are none, or not in the order of their numbers.
        """
        entries = list(entries)
        shards = cls.empty(len(entries))
        for number, entry in enumerate(entries):
            if not entry.keys() >= {"name", "rows", "alive", "hash"}:
                raise KeyError("a shard without its hash")
            if entry["name"] != shard_name(number):
                raise ValueError(f"{entry['name']!r} is no shard {number}")
            shards.put(number, entry)
        return shards

    def put(self, number: int, entry: dict[str, Any]) -> None:
        """Take in what there is to know of a shard: rows, alive, hash, and size, labels and living if they are known.

        Args:
            entry: see files.shard_entry.
        """
        self.rows[number], self.alive[number] = entry["rows"], entry["alive"]
        self.hash[number] = np.frombuffer(bytes.fromhex(entry["hash"]), np.uint8)
        self.size[number] = entry.get("size", UNKNOWN)
        if "labels" in entry:
            self.label(number, Kind.from_dict(entry["labels"]), entry["first_run"], bytes.fromhex(entry["living"]))

    def label(self, number: int, kind: Kind, first_run: int, living: bytes) -> None:
        """Take in what the rows of a shard say of themselves."""
        self.first_run[number] = first_run
        self.kind[number] = self._number_of(kind)
        self.mixed.pop(number, None)
        if 0 < self.alive[number] < self.rows[number]:
            self.mixed[number] = living

    def copied(self) -> Shards:
        """The same, to be changed without changing these."""
        arrays = {key: getattr(self, key).copy() for key in (*NUMBERS, "hash")}
        return Shards(**arrays, kinds=list(self.kinds), mixed=dict(self.mixed))

    def knows(self, name: str) -> bool:
        """Whether one of them has this file name."""
        number = shard_number(name)
        return number is not None and number < len(self)

    def in_order(self) -> Shards:
        """The same, whatever the order that they came in: kinds are numbered as they first come."""
        order = list(dict.fromkeys(self.kind.tolist()))
        number = {kind: n for n, kind in enumerate(kind for kind in order if kind != UNKNOWN)} | {UNKNOWN: UNKNOWN}
        shards = self.copied()
        shards.kind[:] = [number[kind] for kind in self.kind.tolist()]
        shards.kinds[:] = [self.kinds[kind] for kind in order if kind != UNKNOWN]
        return shards

    @cached_property
    def _numbers_of_kinds(self) -> dict[Kind, int]:
        return {kind: number for number, kind in enumerate(self.kinds)}

    def _number_of(self, kind: Kind) -> int:
        if kind not in self._numbers_of_kinds:
            self._numbers_of_kinds[kind] = len(self.kinds)
            self.kinds.append(kind)
        return self._numbers_of_kinds[kind]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, number: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, number: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        """Name, rows, alive and hash of a shard."""
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        rows, alive = int(self.rows[number]), int(self.alive[number])
        return {"name": shard_name(number), "rows": rows, "alive": alive, "hash": self.hash[number].tobytes().hex()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shards) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types: a text of numbers a column, which is read and written at once however many there are."""
        return {
            **{key: " ".join(map(str, getattr(self, key).tolist())) for key in NUMBERS},
            "hash": self.hash.tobytes().hex(" ", HASH_BYTES) if len(self) else "",
            "kinds": [kind.to_dict() for kind in self.kinds],
            "mixed": {str(number): bits.hex() for number, bits in sorted(self.mixed.items())},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any] | list[dict[str, Any]]) -> Shards:
        """The shards of a card's JSON types; a list of entries is that of an earlier version.

        Raises:
            TypeError, KeyError, ValueError, AttributeError: they are none.
        """
        if isinstance(values, list):
            return cls.of(values)
        columns = {key: _numbers(values[key]) for key in NUMBERS}
        hashes = np.frombuffer(bytes.fromhex(values["hash"]), np.uint8).reshape(-1, HASH_BYTES)
        kinds = [Kind.from_dict(kind) for kind in values["kinds"]]
        mixed = {int(number): bytes.fromhex(bits) for number, bits in values["mixed"].items()}
        shards = cls(**columns, hash=hashes, kinds=kinds, mixed=mixed)
        shards.refuse_damage()
        return shards

    def refuse_damage(self) -> None:
        """Raise a ValueError where columns do not fit each other."""
        count = len(self)
        sound = all(len(getattr(self, key)) == count for key in (*NUMBERS, "hash"))
        sound = sound and bool(((self.rows > 0) & (self.alive >= 0) & (self.alive <= self.rows)).all())
        sound = sound and bool(((self.kind >= UNKNOWN) & (self.kind < len(self.kinds))).all())
        some = set(np.flatnonzero((self.kind != UNKNOWN) & (self.alive > 0) & (self.alive < self.rows)).tolist())
        if not sound or some != self.mixed.keys():
            raise ValueError("its shards do not fit each other")
        for number in some:
            if self.living(number).sum() != self.alive[number]:
                raise ValueError(f"shard {number} has other living rows than it says")

    @cached_property
    def starts(self) -> np.ndarray:
        """Ids of the first samples of all shards, and one more than the last id, int64 [S + 1]."""
        return np.concatenate([[0], np.cumsum(self.rows)])

    def living(self, number: int) -> np.ndarray:
        """Which rows of a shard live, bool [rows]."""
        rows = int(self.rows[number])
        if number not in self.mixed:
            return np.full(rows, self.alive[number] > 0)
        bits = np.unpackbits(np.frombuffer(self.mixed[number], np.uint8))
        if not rows <= len(bits) < rows + 8:
            raise ValueError(f"shard {number} does not say which rows live")
        return bits[:rows].astype(bool)

    def places(self, sample_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number of the shard and row in it of each of these samples, which are among 0 to the last."""
        number = np.searchsorted(self.starts, sample_ids, side="right") - 1
        return number, sample_ids - self.starts[number]

    def runs(self, sample_ids: np.ndarray) -> np.ndarray:
        """The run that each of these samples is of, int64."""
        number, row = self.places(sample_ids)
        lengths, runs = self._lengths[self.kind[number]], self._flat[0]
        return self.first_run[number] + row // lengths + runs[self._offsets[self.kind[number]] + row % lengths]

    def steps(self, sample_ids: np.ndarray) -> np.ndarray:
        """Steps from the initial state to each of these samples, int64."""
        return self._flat[1][self._of_kind(sample_ids)]

    def times(self, sample_ids: np.ndarray) -> np.ndarray:
        """When each of these samples was taken, float64; nan where it is not known."""
        return self._flat[2][self._of_kind(sample_ids)]

    def kinds_of(self, sample_ids: np.ndarray) -> np.ndarray:
        """Which of `kinds` each of these samples is of."""
        return self.kind[self.places(sample_ids)[0]]

    def labels(self, number: int) -> Labels:
        """The labels of the rows of a shard."""
        ids = np.arange(self.starts[number], self.starts[number + 1])
        kind = self.kinds[self.kind[number]]
        return Labels(ids, self.runs(ids), self.steps(ids), self.times(ids), kind.seed, kind.system)

    def _of_kind(self, sample_ids: np.ndarray) -> np.ndarray:
        """Where in the rows of all kinds, one after the other, each of these samples is."""
        number, row = self.places(sample_ids)
        kind = self.kind[number]
        return self._offsets[kind] + row % self._lengths[kind]

    @property
    def _lengths(self) -> np.ndarray:
        return np.array([len(kind.runs) for kind in self.kinds], np.int64)

    @property
    def _offsets(self) -> np.ndarray:
        return np.cumsum(self._lengths) - self._lengths

    @property
    def _flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs, steps and times of the rows of all kinds, one after the other."""
        runs, steps = (
            np.array([v for k in self.kinds for v in getattr(k, key)], np.int64) for key in ("runs", "steps")
        )
        return runs, steps, np.array([v for k in self.kinds for v in k.time], np.float64)  # None becomes nan


def _numbers(text: str) -> np.ndarray:
    """The numbers of a text, int64.

    Raises:
        TypeError, ValueError, AttributeError: it holds none.
    """
    try:
        return np.array(text.split(), np.int64)
    except OverflowError as error:
        raise ValueError(str(error)) from error
