"""What the making of a dataset holds of its shards: a few numbers a shard, and sums, in whatever order they come."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from p2d.observables import Sums
from p2d.snapshots.files import read_table
from p2d.snapshots.shards import NUMBERS, Shards, shard_name
from p2d.threads import Mapper, in_threads

DIGESTS_KEPT = 2**24  # bytes of digests of shards that came too early; of further ones they are read again
TOGETHER = 16  # shards whose sums are put together at once


class DatasetHash:
    """One hash of the digests of all rows in the order of sample ids; shards may come in any order."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._next = 0  # the shard whose turn it is
        self._early: dict[int, bytes] = {}
        self._bytes = 0

    def put(self, number: int, digests: bytes) -> None:
        """Take in the digests of the rows of a shard."""
        if number == self._next:
            self._hash.update(digests)
            self._next += 1
            while self._next in self._early:
                digests = self._early.pop(self._next)
                self._bytes -= len(digests)
                self._hash.update(digests)
                self._next += 1
        elif self._bytes + len(digests) <= DIGESTS_KEPT:
            self._early[number] = digests
            self._bytes += len(digests)

    def of(self, folder: Path, count: int, each: Mapper = in_threads) -> str:
        """The hash of so many shards; digests that are not known are read from them."""
        while self._next < count:
            rest = (number for number in range(self._next, count) if number not in self._early)
            for number, digests in each(DigestsOf(folder), rest):
                self.put(number, digests)
        return self._hash.hexdigest()


class DigestsOf:
    """The digests of the rows of each shard of a folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> tuple[int, bytes]:
        """Those of the shard of this number."""
        table = read_table(self.folder / shard_name(number), ["digest"])
        return number, b"".join(table["digest"].to_pylist())


class Ledger:
    """The shards of a dataset that are there.

    Args:
        count: of all shards.

    Attributes:
        shards: what the card keeps of them.
        low, high: the lowest and highest value of each species in shards with living samples, [C]; None without any.
    """

    def __init__(self, count: int) -> None:
        self.shards = Shards.empty(count)
        self.hash = DatasetHash()
        self.low: np.ndarray | None = None
        self.high: np.ndarray | None = None
        self._sums: dict[str, list[Sums]] = {}

    def put(self, number: int, entry: dict[str, Any]) -> None:
        """Take in a shard; one that comes again, as from an actor that was started anew, counts once.

        Args:
            entry: see files.shard_entry.
        """
        if number in self:
            return
        self.shards.put(number, entry)
        self.hash.put(number, bytes.fromhex(entry["digests"]))
        if entry["alive"]:
            low, high = (np.array(entry[key]) for key in ("low", "high"))
            self.low = low if self.low is None else np.minimum(low, self.low)
            self.high = high if self.high is None else np.maximum(high, self.high)
        sums = self._sums.setdefault(entry["labels"]["system"], [])
        sums.append(Sums(**entry["sums"]))
        if len(sums) == TOGETHER:
            sums[:] = [Sums.joined(sums)]

    def keep(self, numbers: np.ndarray, shards: Shards) -> None:
        """Take in shards that a card knows already, by number."""
        for key in (*NUMBERS, "hash"):
            getattr(self.shards, key)[numbers] = getattr(shards, key)[numbers]
        self.shards.kinds[:] = shards.kinds
        self.shards.mixed.update({number: bits for number, bits in shards.mixed.items() if number in self})

    @property
    def missing(self) -> np.ndarray:
        """Numbers of the shards that are not there."""
        return np.flatnonzero(self.shards.rows == 0)

    def __contains__(self, number: int) -> bool:
        return bool(self.shards.rows[number])

    def __len__(self) -> int:
        return int((self.shards.rows > 0).sum())

    def sums(self) -> dict[str, tuple[Sums, int]]:
        """Of each system, in the order of the shards: sums over its samples, and the steps of their burn-in."""
        every: dict[str, tuple[Sums, int]] = {}
        for kind in dict.fromkeys(self.shards.kind.tolist()):
            first = self.shards.kinds[kind]
            every.setdefault(first.system, (Sums.joined(self._sums[first.system]), first.steps[0]))
        return every
