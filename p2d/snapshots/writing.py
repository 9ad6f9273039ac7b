"""Writing a dataset: one writer, shards that are there are kept, a card that is held against what is asked for."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from p2d.config import refuse_other_settings
from p2d.errors import UserError
from p2d.lock import sole_writer
from p2d.runs import remove_unfinished
from p2d.snapshots import card as cards
from p2d.snapshots import contents, schema, store
from p2d.snapshots.files import Listing, checked_shard, file_hash, write_shard
from p2d.snapshots.ledger import Ledger
from p2d.snapshots.shards import UNKNOWN, Shards, shard_name
from p2d.threads import Mapper, in_threads

MakeShards = Callable[[list[int]], Iterable[tuple[int, dict[str, Any]]]]  # writes those of these numbers: their entries


class Maker(Protocol):
    """Makes the samples of shards, anywhere: pickled, it holds settings and not what they come to."""

    def on(self, device: str, threads: int, tell: Callable[[int], None]) -> Callable[[int], schema.Samples]:
        """What makes the samples of the shard of a number, and tells how many are done as it goes."""


def written_here(folder: Path, samples: Callable[[int], schema.Samples]) -> MakeShards:
    """Shards whose samples are made and written in this process, one after the other."""
    return lambda numbers: ((n, write_shard(folder, n, samples(n))) for n in numbers)


@dataclass(frozen=True)
class ShardLabels(Mapping[int, schema.Labels]):
    """Labels of the rows of each shard by its number, made when they are asked for.

    Attributes:
        count: of shards.
        of: the labels of the rows of a shard.
    """

    count: int
    of: Callable[[int], schema.Labels]

    def __getitem__(self, number: int) -> schema.Labels:
        if not 0 <= number < self.count:
            raise KeyError(number)
        return self.of(number)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))

    def __len__(self) -> int:
        return self.count


@contextmanager
def writing(folder: Path, first_card: cards.Card) -> Iterator[cards.Card]:
    """Be the one writer of a new or unfinished dataset while the block runs.

    Yields:
        Its card, the one on disk if there is one. What dead runs left half written is gone.

    Raises:
        UserError: the folder holds a dataset of other settings or something else, cannot be written, or is being
            written by another process.
    """
    fresh = not (folder / "card.json").exists()
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if fresh and any(p for p in folder.iterdir() if not p.name.startswith(".")):
                raise UserError(
                    f"{folder} holds files but no card.json, so it is no dataset; take another --name or --out"
                )
            stack.enter_context(sole_writer(folder))
            remove_unfinished(folder)
            card = card_there(folder, first_card.settings)
            if card is None:
                card = first_card
                cards.write_card(folder, card)
            elif card.written != cards.SHARD_VERSION:
                raise UserError(
                    f"the dataset {folder} was begun by an earlier p2d, which alone can finish or mend it; "
                    "take another --name or --out, or remove it"
                )
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}; take another --out") from error
        yield card


def card_there(folder: Path, settings: dict[str, Any]) -> cards.Card | None:
    """The card on disk, if any.

    Raises:
        UserError: it is of other settings (says which differ).
    """
    if not (folder / "card.json").exists():
        return None
    card = cards.load_card(folder)
    refuse_other_settings(f"the dataset {folder}", card.settings, settings)
    return card


def kept_shards(folder: Path, card: cards.Card, labels: ShardLabels, each: Mapper = in_threads) -> Ledger:
    """The shards on disk that need not be made again; each has been checked.

    A finished dataset's shards are held against the card: one that is as large as it says and older than it is known,
    any other is read for its hash. An interrupted one's are held against the labels that their rows must have and
    against their own digests.

    Args:
        each: carries out the checks, anywhere that sees the folder and in any order.
    """
    ledger = Ledger(len(labels))
    listing = Listing.of(folder, len(labels))
    if not card.complete:
        check = Check(folder, labels, (len(card.species), *card.grid.shape))
        for number, entry in each(check, np.flatnonzero(listing.size >= 0).tolist()):
            if entry:
                ledger.put(number, entry)
        return ledger
    if len(card.shards) == len(labels):
        ledger.keep(_as_known(folder, card.shards, listing, each), card.shards)
    return ledger


def _as_known(folder: Path, shards: Shards, listing: Listing, each: Mapper) -> np.ndarray:
    """Numbers of the shards that are as a card says.

    A shard that was changed after the card was written is never older than the card, however coarse the times are.
    """
    on_disk, known = listing.size >= 0, shards.size != UNKNOWN
    same = on_disk & (listing.size == shards.size) & (listing.time < (folder / "card.json").stat().st_mtime_ns)
    doubtful = on_disk & ~same & (~known | (listing.size == shards.size))
    for number, hashed in each(HashOf(folder), np.flatnonzero(doubtful).tolist()):
        same[number] = hashed == shards.hash[number].tobytes()
    return np.flatnonzero(same)


@dataclass(frozen=True)
class HashOf:
    """The hash of each shard of a folder."""

    folder: Path

    def __call__(self, number: int) -> tuple[int, bytes]:
        """That of the shard of this number; none of one that cannot be read."""
        try:
            return number, bytes.fromhex(file_hash(self.folder / shard_name(number)))
        except OSError:
            return number, b""


@dataclass(frozen=True)
class Check:
    """Checks shards of an interrupted dataset, see files.checked_shard."""

    folder: Path
    labels: ShardLabels
    shape: tuple[int, ...]

    def __call__(self, number: int) -> tuple[int, dict[str, Any] | None]:
        """The entry of the shard of this number; None if it has to be made again."""
        return number, checked_shard(self.folder / shard_name(number), self.labels[number], self.shape)


def is_finished(folder: Path, settings: dict[str, Any], labels: Callable[[cards.Card], ShardLabels]) -> bool:
    """Whether the folder holds the dataset of these settings, complete, every shard as the card says.

    Raises:
        UserError: it holds a dataset of other settings (says which differ).
    """
    card = card_there(folder, settings)
    return card is not None and card.complete and not len(kept_shards(folder, card, labels(card)).missing)


def make(
    folder: Path,
    card: cards.Card,
    labels: ShardLabels,
    make_shards: MakeShards,
    device: str,
    advance: Callable[..., None] = lambda *_: None,
    normalize: bool = True,
    each: Mapper = in_threads,
) -> store.Dataset:
    """Make the shards that are missing, and complete the card that `writing` yields, see `finish`.

    Args:
        labels: of the rows of each shard.
        make_shards: makes those that are missing, and tells its own progress.
        advance: told the samples of the shards that were there.
        each: checks these, see `kept_shards`.
    """
    start = time.monotonic()
    ledger = kept_shards(folder, card, labels, each)
    missing = ledger.missing.tolist()
    if len(ledger):
        advance(int(ledger.shards.rows.sum()), f"{len(ledger)} shards kept")
    for number, entry in make_shards(missing) if missing else ():
        ledger.put(number, entry)
    finish(folder, card, ledger, device, time.monotonic() - start, normalize, each)
    return store.open_dataset(folder)


def finish(
    folder: Path,
    card: cards.Card,
    ledger: Ledger,
    device: str,
    seconds: float,
    normalize: bool = True,
    each: Mapper = in_threads,
) -> cards.Card:
    """Complete the card: all shards, what the ensembles are like, the dataset's hash.

    Args:
        ledger: of all shards.
        normalize: whether training is to see scaled values, where the card does not say how yet.
        each: reads what the ledger has had no room for.

    Raises:
        UserError: the dataset was complete before, and what has been made again is not what it was.
    """
    shards = ledger.shards.in_order()
    whole: dict[str, Any] = {
        "complete": True,
        "shards": shards,
        "device": device,
        "seconds": round(seconds + card.seconds, 3),
        "software": cards.software(),
    }
    if card.complete:
        same = np.array_equal(shards.hash, card.shards.hash)
        if not same and ledger.hash.of(folder, len(shards), each) != card.dataset_hash:
            raise UserError(
                f"{folder}: the shards made again are not what they were: first made on {card.device} with "
                f"{_packages(card.software)}, now on {device} with {_packages(cards.software())}; "
                "make it anew under another --name"
            )
    else:
        whole |= contents.contents(folder, card, ledger, normalize, each)
    card = dataclasses.replace(card, **whole)
    cards.write_card(folder, card)
    return card


def ensembles_text(card: cards.Card) -> list[str]:
    """For each system a line: how many patterns live, and whether the ensemble is stationary."""
    lines = []
    for label, ensemble in card.ensembles.items():
        dead = ensemble.samples - ensemble.alive
        told = (
            f"{dead} of {ensemble.samples} patterns died out and are left out of training"
            if dead
            else "all patterns live"
        )
        steps = card.systems[label].run.steps if label in card.systems else 0
        lines.append(f"{label}: {told}; {ensemble.change.text(steps)}")
    return lines


def _packages(software: dict[str, str]) -> str:
    return ", ".join(f"{name} {software[name]}" for name in ("numba", "numpy") if name in software)
