"""Re-read a whole dataset and name everything in it that is not as its card says."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from p2d.snapshots import schema, store
from p2d.snapshots.card import VERSION, Card, card_hash, dataset_hash, load_card


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
        return [Fault("card.json", "says that the dataset is unfinished; run the same p2d simulate again")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing and parquet run without Python's lock
        faults = [fault for fault in pool.map(lambda entry: _fault_of(folder, entry), card.shards) if fault]
    known = {entry["name"] for entry in card.shards}
    strangers = sorted(p.name for p in folder.glob("*.parquet") if p.name not in known)
    faults += [Fault(name, "a foreign shard: the card does not know it") for name in strangers]
    return faults or _faults_of_the_whole(folder, card)


def _fault_of(folder: Path, entry: dict[str, Any]) -> Fault | None:
    """What is wrong with one shard."""
    name = entry["name"]
    path = folder / name
    if not path.is_file():
        return Fault(name, "missing")
    as_hashed = store.file_hash(path) == entry["hash"]
    try:
        table = schema.of_plain_types(pq.read_table(path))
        sound = schema.is_as_digested(table)
        finite = bool(np.isfinite(schema.array_of(table, "state")).all())
    except store.DAMAGED as error:
        told = (str(error).splitlines() or [type(error).__name__])[0].replace(str(path), "it")
        return Fault(name, f"cut or damaged ({told[:120]})")
    if not sound:
        return Fault(name, "altered: rows differ from their digests")
    if not finite:
        return Fault(name, "holds a value that is not finite")
    if not as_hashed:
        return Fault(name, "not the file that the card says, though its rows are sound in themselves")
    return None


def _faults_of_the_whole(folder: Path, card: Card) -> list[Fault]:
    """What only shows when all shards are as they should be: a card whose words do not fit its rows."""
    columns = ("digest", "alive", "system" if card.written == VERSION else "preset")
    rows = store.read_rows(folder, [entry["name"] for entry in card.shards], columns)
    labels = set(rows.column(columns[-1]).to_pylist())
    checks = {
        "dataset_hash": (card.dataset_hash, dataset_hash(rows.column("digest").to_pylist())),
        "samples": (card.samples, rows.num_rows),
        "alive": (card.alive, sum(rows.column("alive").to_pylist())),
        "systems": (set(card.systems) or labels, labels),
    }
    faults = [Fault("card.json", f"{key} is not that of the rows") for key, (a, b) in checks.items() if a != b]
    values = json.loads((folder / "card.json").read_text())
    if not faults and values["card_hash"] != card_hash(values):
        return [Fault("card.json", "altered since it was written")]
    return faults
