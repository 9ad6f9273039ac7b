"""Writing a dataset: one writer, shards that are there are kept, a card that is held against what is asked for."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from p2d.config import refuse_other_settings
from p2d.errors import UserError
from p2d.fields import Scaling, Species
from p2d.observables import Change, Ensemble
from p2d.runs import remove_unfinished
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store
from p2d.snapshots.lock import sole_writer

ShardLabels = dict[int, schema.Labels]  # of the rows of each shard, by its number
Entry = dict[str, Any]  # of a shard, on the card
MakeShards = Callable[[list[int]], Iterable[tuple[int, Entry]]]  # writes those of these numbers
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # map, or one over workers with results in order


class Maker(Protocol):
    """Makes the samples of shards, anywhere: pickled, it holds settings and not what they come to."""

    def on(self, device: str, threads: int, tell: Callable[[int], None]) -> Callable[[int], schema.Samples]:
        """What makes the samples of the shard of a number, and tells how many are done as it goes."""


def written_here(folder: Path, samples: Callable[[int], schema.Samples]) -> MakeShards:
    """Shards whose samples are made and written in this process, one after the other."""
    return lambda numbers: ((n, store.write_shard(folder, n, samples(n))) for n in numbers)


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
            elif card.written != cards.VERSION:
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


def kept_shards(folder: Path, card: cards.Card, labels: ShardLabels, each: Each = map) -> dict[int, Entry]:
    """Entries of the shards on disk that need not be made again, by number; each has been checked.

    A finished dataset's shards are held against the card, an interrupted one's against the labels that their rows must
    have and against their own digests.

    Args:
        each: a map over these checks, whose function and items are pickled where it is over processes.
    """
    known = {entry["name"]: entry for entry in card.shards} if card.complete else None
    check = functools.partial(_kept_entry, folder, known, (len(card.species), *card.grid.shape))
    return {n: entry for n, entry in zip(labels, each(check, labels.items()), strict=True) if entry}


def _kept_entry(
    folder: Path, known: dict[str, Entry] | None, shape: tuple[int, ...], shard: tuple[int, schema.Labels]
) -> Entry | None:
    number, rows = shard
    path = folder / store.shard_name(number)
    if known is None:
        return store.checked_shard(path, rows, shape)
    entry = known.get(path.name)
    return entry if entry and path.is_file() and store.file_hash(path) == entry["hash"] else None


def is_finished(folder: Path, settings: dict[str, Any], labels: Callable[[cards.Card], ShardLabels]) -> bool:
    """Whether the folder holds the dataset of these settings, complete, every shard with the hash its card says.

    Raises:
        UserError: it holds a dataset of other settings (says which differ).
    """
    card = card_there(folder, settings)
    return card is not None and card.complete and len(kept_shards(folder, card, labels(card))) == len(card.shards)


def make(
    folder: Path,
    card: cards.Card,
    labels: ShardLabels,
    make_shards: MakeShards,
    device: str,
    advance: Callable[..., None] = lambda *_: None,
    normalize: bool = True,
    each: Each = map,
) -> store.Dataset:
    """Make the shards that are missing, and complete the card that `writing` yields, see `finish`.

    Args:
        labels: of the rows of each shard.
        make_shards: makes those that are missing, and tells its own progress.
        advance: told the samples of the shards that were there.
        each: how these are checked.
    """
    start = time.monotonic()
    entries = kept_shards(folder, card, labels, each)
    missing = [number for number in labels if number not in entries]
    if entries:
        advance(sum(len(labels[number]) for number in entries), f"{len(entries)} shards kept")
    if missing:
        entries.update(make_shards(missing))
    made = [entries[number] for number in labels]
    finish(folder, card, made, device, time.monotonic() - start, normalize)
    return store.open_dataset(folder)


def finish(
    folder: Path, card: cards.Card, entries: list[dict[str, Any]], device: str, seconds: float, normalize: bool = True
) -> cards.Card:
    """Complete the card: entries of all shards in order, what the ensembles are like, the dataset's hash.

    Args:
        normalize: whether training is to see scaled values, where the card does not say how yet.

    Raises:
        UserError: the dataset was complete before, and what has been made again is not what it was.
    """
    rows = store.read_rows(folder, [entry["name"] for entry in entries], (*schema.LABELS, *schema.AVERAGES, "digest"))
    dataset_hash = cards.dataset_hash(rows.column("digest").to_pylist())
    software = cards.software()
    if card.complete and dataset_hash != card.dataset_hash:
        raise UserError(
            f"{folder}: the shards made again are not what they were: first made on {card.device} with "
            f"{_packages(card.software)}, now on {device} with {_packages(software)}; "
            "make it anew under another --name"
        )
    samples, alive = (sum(entry[key] for entry in entries) for key in ("rows", "alive"))
    ensembles = _ensembles(rows, card)
    card = dataclasses.replace(
        card,
        complete=True,
        samples=samples,
        alive=alive,
        dead_share=round(1 - alive / samples, 6),
        species=card.species if card.complete or card.origin else ranged(card, entries),
        ensembles=ensembles,
        scaling=card.scaling or _scaling(card, list(ensembles.values()), normalize),
        device=device,
        seconds=round(seconds + card.seconds, 3),
        software=software,
        shards=entries,
        dataset_hash=dataset_hash,
    )
    cards.write_card(folder, card)
    return card


def _ensembles(rows: pa.Table, card: cards.Card) -> dict[str, Ensemble]:
    """For each system: its living samples, their moments, and whether averages still change late in the burn-in."""
    column = {name: rows.column(name).to_numpy(zero_copy_only=False) for name in ("system", "alive", "steps")}
    after, before = (schema.array_of(rows, name) for name in schema.AVERAGES)
    made = {}
    for label in dict.fromkeys(column["system"]):
        own = column["system"] == label
        living = own & column["alive"]
        change = Change()
        if label in card.systems and not card.origin and card.systems[label].run.steps > 1:  # one step has no half
            first = living & (column["steps"] == card.systems[label].run.steps)
            change = Change.between(before[first], after[first], card.names)
        made[str(label)] = Ensemble.measured(int(own.sum()), after[living], card.names, change)
    return made


def _limits(card: cards.Card, species: str) -> tuple[float, float]:
    """What the limits of all systems span; infinite where one has none."""
    ends = [system.limits.get(species, (-math.inf, math.inf)) for system in card.systems.values()]
    lows, highs = zip(*(ends or [(-math.inf, math.inf)]), strict=True)
    return min(lows), max(highs)


def ranged(card: cards.Card, entries: list[dict[str, Any]]) -> tuple[Species, ...]:
    """The species with ranges from their limits; where there are none, as the shards with living samples show."""
    living = [entry for entry in entries if entry["alive"]]
    made = []
    for s, species in enumerate(card.species if living else ()):
        low, high = _limits(card, species.name)
        low = low if math.isfinite(low) else min(entry["low"][s] for entry in living)
        high = high if math.isfinite(high) else max(entry["high"][s] for entry in living)
        made.append(dataclasses.replace(species, low=low, high=high if high > low else low + 1.0))
    return tuple(made) or card.species


def _scaling(card: cards.Card, ensembles: list[Ensemble], normalize: bool) -> Scaling:
    """Limits to -1 and 1; where a species has none, mean and twice the standard deviation of the living to 0 and 1."""
    count = len(card.species)
    if not normalize:
        return Scaling((0.0,) * count, (1.0,) * count)
    shift, scale = [], []
    for species in card.species:
        if all(map(math.isfinite, _limits(card, species.name))):
            shift.append((species.low + species.high) / 2)
            scale.append(species.span / 2)
            continue
        alive = sum(e.alive for e in ensembles) or 1
        mean = sum(e.alive * e.mean[species.name] for e in ensembles) / alive
        square = sum(e.alive * (e.std[species.name] ** 2 + e.mean[species.name] ** 2) for e in ensembles) / alive
        shift.append(mean)
        scale.append(2 * math.sqrt(max(square - mean**2, 0.0)) or 1.0)
    return Scaling(tuple(shift), tuple(scale))


def ensembles_text(card: cards.Card) -> list[str]:
    """For each system a line: how many patterns live, and whether the ensemble is stationary."""
    lines = []
    for label, ensemble in card.ensembles.items():
        dead = ensemble.samples - ensemble.alive
        told = f"{dead} of {ensemble.samples} patterns died out and are left out of training" if dead else "all alive"
        steps = card.systems[label].run.steps if label in card.systems else 0
        lines.append(f"{label}: {told}; {ensemble.change.text(steps)}")
    return lines


def _packages(software: dict[str, str]) -> str:
    return ", ".join(f"{name} {software[name]}" for name in ("numba", "numpy") if name in software)
