"""Re-read a whole dataset and name everything in it that is not as its card says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from p2d.snapshots import files, schema
from p2d.snapshots.card import Card, card_hash, load_card
from p2d.snapshots.ledger import DatasetHash
from p2d.snapshots.shards import UNKNOWN, shard_name
from p2d.threads import in_threads


@dataclass(frozen=True)
class Fault:
    """A file of a dataset and what is wrong with it."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def verify(folder: Path) -> list[Fault]:
    """Hold every shard against the card and against its own row digests; look for shards that do not belong.

    Returns:
        What is wrong, in the order of names; empty for a sound dataset.

    Raises:
        UserError: no dataset, or a card that cannot be read.
    """
    card = load_card(folder)
    if not card.complete:
        return [Fault("card.json", f"says that the dataset is unfinished; run the same {card.command} again")]
    faults, whole = [], _Whole(DatasetHash())
    check = ShardCheck(folder, card)
    for shard in in_threads(check, range(len(card.shards))):
        if isinstance(shard, Fault):
            faults.append(shard)
        else:
            whole.add(shard)
    strangers = sorted(name for name in (p.name for p in folder.glob("*.parquet")) if not card.shards.knows(name))
    faults += [Fault(name, "a foreign shard: the card does not know it") for name in strangers]
    return faults or _faults_of_the_whole(folder, card, whole)


@dataclass(frozen=True)
class SoundShard:
    """What the rows of a shard add to the dataset: their number, of the living, digests, system; and whether the card
    says the same of their labels."""

    number: int
    rows: int
    alive: int
    digests: bytes
    system: str
    as_labelled: bool


@dataclass(frozen=True)
class ShardCheck:
    """Finds what is wrong with a shard."""

    folder: Path
    card: Card

    def __call__(self, number: int) -> Fault | SoundShard:
        """What is wrong with the shard of this number, or what it holds."""
        name = shard_name(number)
        path = self.folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return Fault(name, "missing")
        except OSError as error:
            return Fault(name, f"cannot be read ({error.strerror or error})")
        try:
            table = files.table_of(data)
            sound = schema.is_as_digested(table)
            finite = bool(np.isfinite(schema.array_of(table, "state")).all())
            shard = self._held(number, table)
        except files.DAMAGED as error:
            told = (str(error).splitlines() or [type(error).__name__])[0]
            return Fault(name, f"cut or damaged ({told[:120]})")
        if not sound:
            return Fault(name, "altered: rows differ from their digests")
        if not finite:
            return Fault(name, "holds a value that is not finite")
        if files.hash_of(data) != self.card.shards.hash[number].tobytes().hex():
            return Fault(name, "not the file that the card says, though its rows are sound in themselves")
        return shard

    def _held(self, number: int, table: pa.Table) -> SoundShard:
        shards, labels = self.card.shards, schema.Labels.of(table)
        alive = table["alive"].to_numpy(zero_copy_only=False)
        same = labels.sample_id[0] == shards.starts[number] and len(labels) == shards.rows[number]
        if same and shards.kind[number] != UNKNOWN:
            same = shards.labels(number).are(labels) and np.array_equal(shards.living(number), alive)
        digests = b"".join(table["digest"].to_pylist())
        return SoundShard(number, len(labels), int(alive.sum()), digests, labels.system, bool(same))


@dataclass
class _Whole:
    """Of all rows: their hash, number, and of the living, their systems; and whether the card has their labels."""

    hash: DatasetHash
    samples: int = 0
    alive: int = 0
    systems: set[str] = field(default_factory=set)
    as_labelled: bool = True

    def add(self, shard: SoundShard) -> None:
        self.hash.put(shard.number, shard.digests)
        self.samples += shard.rows
        self.alive += shard.alive
        self.systems.add(shard.system)
        self.as_labelled &= shard.as_labelled


def _faults_of_the_whole(folder: Path, card: Card, whole: _Whole) -> list[Fault]:
    """What only shows when all shards are as they should be: a card whose words do not fit its rows."""
    checks = {
        "dataset_hash": (card.dataset_hash, whole.hash.of(folder, len(card.shards))),
        "samples": (card.samples, whole.samples),
        "alive": (card.alive, whole.alive),
        "systems": (set(card.systems) or whole.systems, whole.systems),
    }
    faults = [Fault("card.json", f"{key} is not that of the rows") for key, (a, b) in checks.items() if a != b]
    values = json.loads((folder / "card.json").read_text())
    if not faults and not whole.as_labelled:
        return [Fault("card.json", "says other labels than the rows")]
    if not faults and values["card_hash"] != card_hash(values):
        return [Fault("card.json", "altered since it was written")]
    return faults
