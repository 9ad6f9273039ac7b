"""What an import is of: files, the snapshots in them and their order, before any of it is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config.importing import ImportConfig
from p2d.errors import UserError
from p2d.fields import MOST_SPECIES
from p2d.formats.opening import open_stacks
from p2d.formats.stack import Stack
from p2d.runs import DATA, is_name, short_name
from p2d.snapshots import card as cards
from p2d.snapshots import schema
from p2d.snapshots import writing as shards
from p2d.snapshots.labelling import Rows, list_rows
from p2d.snapshots.treating import refuse_crop
from p2d.systems import expressions
from p2d.threads import in_threads

IMPORTED = "imported"  # kind of the origin
END_BYTES = 2**16  # of the first and last bytes of a file, which it is known by
FILES_LISTED = 16  # in a card; more are known by one hash


@dataclass(frozen=True, eq=False)
class Sources:
    """What is to be imported, before any of it is read.

    Attributes:
        config: as asked.
        stacks: what the files hold, all of one size.
        rows: the snapshots that are taken, in order.
        files: what all files are known by.
    """

    config: ImportConfig
    stacks: tuple[Stack, ...]
    rows: Rows
    files: dict[str, Any]

    @classmethod
    def of(cls, config: ImportConfig) -> Sources:
        """The snapshots that a config names.

        Raises:
            UserError: files that cannot be opened, or do not go together, or what is said of them does not fit.
        """
        stacks = tuple(open_stacks(config.sources, config.asked()))
        shape = refuse_mixed(stacks)
        refuse_crop(config, (shape[1], shape[2]))
        rows = list_rows(stacks, config)
        if not len(rows):
            raise UserError(f"{config.sources[0]} holds no snapshots")
        beside = {
            key: fingerprint([name])
            for key in ("table", "mask")
            if (name := getattr(config, key)) and os.path.isfile(name)
        }
        files = list(dict.fromkeys(name for stack in stacks for name in stack.files))
        return cls(config, stacks, rows, {"sources": fingerprint(files), **beside})

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the dataset's contents, as JSON types."""
        known_by = {key: os.path.basename(getattr(self.config, key)) for key in self.files if key != "sources"}
        return json.loads(json.dumps({**self.config.identity(), **known_by, "files": self.files}))

    @property
    def file_count(self) -> int:
        """How many files are read."""
        return len({name for stack in self.stacks for name in stack.files})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a snapshot as stored."""
        return self.stacks[0].shape

    @property
    def bytes(self) -> int:
        """Of all snapshots as they will be stored, about."""
        return len(self.rows) * 4 * int(np.prod(self.shape)) // self.config.bin**2

    @property
    def species(self) -> tuple[str, ...]:
        """Names of the species: as asked, or as the files say where these can stand in equations.

        Raises:
            UserError: another number of names than of species, or no names where there are more than two.
        """
        names, count = self.config.species or self.stacks[0].about.species, self.shape[0]
        if not self.config.species:
            try:
                for name in names:
                    expressions.refuse_name(name, "species")
            except UserError:
                names = ()
        names = names or ("u", "v")[:count]
        if len(names) != count or count > MOST_SPECIES:
            told = " ".join(names) if self.config.species else ""
            raise UserError(
                f"the snapshots have {count} species{f', not {len(names)} ({told})' if told else ''}; "
                f"name each with --species, of up to {MOST_SPECIES}"
            )
        return names

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is to know of the files."""
        own = []
        named = self.stacks[0].about.species
        if not self.config.species and named and self.species != named:
            other = " and ".join(f"{new} ({old})" for new, old in zip(self.species, named, strict=True))
            own = [f"the species are called {other}, as equations need; --species names them otherwise"]
        return (*dict.fromkeys(note for stack in self.stacks for note in stack.about.notes), *own)

    def made_before(self, out: str | Path) -> Path | None:
        """The folder of the dataset that the same import has made, or has begun to make, if there is one."""
        own = self.config.name
        names = [own] if own else [n for n in DATA.names(out) if short_name(n) == self.config.own_name]
        for name in filter(is_name, names):
            folder = DATA.place(out, name)
            if (folder / "card.json").is_file():
                try:
                    card = cards.load_card(folder)
                except UserError:
                    continue
                if card.origin.get("kind") == IMPORTED and card.settings == self.settings:
                    return folder
        return None

    def anywhere(self) -> Sources:
        """The same with files by their full paths, for processes that work in other folders."""
        full = tuple(os.path.abspath(os.path.expanduser(source)) for source in self.config.sources)
        return replace(self, stacks=tuple(open_stacks(full, self.config.asked())))

    def labels(self, chunk: int) -> shards.ShardLabels:
        """The labels of the rows of each shard of so many snapshots."""
        plan = Plan(self.rows, chunk)
        return shards.ShardLabels(len(plan), partial(labels_of, plan))

    def is_finished(self, folder: Path) -> bool:
        """Whether the folder holds this very dataset, complete and whole."""
        return shards.is_finished(folder, self.settings, lambda card: self.labels(card.chunk))


def refuse_mixed(stacks: Sequence[Stack]) -> tuple[int, int, int]:
    """The shape of the snapshots of all stacks.

    Raises:
        UserError: there are several.
    """
    counts: Counter[tuple[int, int, int]] = Counter()
    for stack in stacks:
        counts[stack.shape] += stack.count
    if len(counts) != 1:
        listed = "; ".join(
            f"{count} of {c} x {h} x {w}, such as {next(s for s in stacks if s.shape == (c, h, w)).name_of(0)}"
            for (c, h, w), count in counts.most_common(6)
        )
        raise UserError(f"all snapshots must be of one size (species x rows x columns), there are {listed or 'none'}")
    return next(iter(counts))


def fingerprint(files: Sequence[str]) -> dict[str, Any]:
    """What files are known by: names below the folder of all, sizes, and a hash of first and last bytes.

    Of many files it is how many, their size in all, and one hash.
    """
    top = os.path.dirname(os.path.commonpath([os.path.abspath(f) for f in files]) + ("/" if len(files) > 1 else ""))
    known = dict(zip((os.path.relpath(f, top) for f in files), in_threads(_ends_of, files), strict=True))
    if len(known) <= FILES_LISTED:
        return {name: [size, digest] for name, (size, digest) in known.items()}
    digest = hashlib.blake2b(json.dumps(list(known.items())).encode(), digest_size=16).hexdigest()
    return {"files": len(known), "bytes": sum(size for size, _ in known.values()), "hash": digest}


def _ends_of(file: str) -> tuple[int, str]:
    """Size of a file and hash of its first and last bytes; of a folder, of the names and sizes of what is in it."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        if os.path.isdir(file):
            inside = sorted(p for p in Path(file).rglob("*") if p.is_file())
            sizes = [p.stat().st_size for p in inside]
            names = [[str(p.relative_to(file)), size] for p, size in zip(inside, sizes, strict=True)]
            digest.update(json.dumps(names).encode())
            return sum(sizes), digest.hexdigest()
        with open(file, "rb") as data:
            size = data.seek(0, os.SEEK_END)
            for start in (0, max(0, size - END_BYTES)):
                data.seek(start)
                digest.update(data.read(END_BYTES))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    return size, digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Plan:
    """The shards of an import: whole snapshots in order, `chunk` a shard but for the last of each label."""

    rows: Rows
    chunk: int

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each shard, and one more than the last row of all."""
        ends = np.flatnonzero(np.diff(self.rows.label, append=-1)) + 1
        first = np.concatenate([[0], ends[:-1]])
        each = [np.arange(start, end, self.chunk) for start, end in zip(first.tolist(), ends.tolist(), strict=True)]
        return np.concatenate([*each, ends[-1:]])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> tuple[int, int]:
        """The first row of a shard, and one more than its last."""
        first, last = self._starts[number : number + 2].tolist()
        return first, last


def labels_of(plan: Plan, number: int) -> schema.Labels:
    """Labels of the rows of the shard of a number."""
    first, last = plan[number]
    rows = plan.rows
    label = list(rows.conditions)[int(rows.label[first])]
    ids = np.arange(first, last, dtype=np.int64)
    return schema.Labels(ids, rows.run[first:last], np.zeros_like(ids), rows.time[first:last], 0, label)
