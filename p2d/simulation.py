"""From settings to shards: what one simulating process does, without Ray."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config import SimulateConfig, refuse_other_settings
from p2d.dynamics import gray_scott, initial, stepper
from p2d.errors import UserError
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store

# A pattern whose v varies less than this over the grid has died: it is uniform to within what images can show.
ALIVE_SPREAD = 1e-3


@dataclass(frozen=True)
class ShardPlan:
    """Which samples a shard holds."""

    index: int
    preset: str
    first: int
    rows: int


def plan(config: SimulateConfig) -> list[ShardPlan]:
    """The shards of a dataset: samples in the order of ids, `chunk` a shard, one preset a shard."""
    shards: list[ShardPlan] = []
    for number, preset in enumerate(config.preset):
        for start in range(0, config.num_samples, config.chunk):
            rows = min(config.chunk, config.num_samples - start)
            shards.append(ShardPlan(len(shards), preset, number * config.num_samples + start, rows))
    return shards


def simulate_shard(
    config: SimulateConfig, folder: Path, shard: ShardPlan, threads: int | None = None
) -> dict[str, Any]:
    """Simulate the samples of one shard and write it.

    Returns:
        The shard's entry for the card.

    Raises:
        UserError: a field that is not finite (names the sample), or a shard that cannot be written.
    """
    params = gray_scott.preset(shard.preset)
    ids = np.arange(shard.first, shard.first + shard.rows, dtype=np.int64)
    states = initial.initial_states(config.seed, ids, config.height, config.width)
    states = stepper.run(states, params, config.steps, config.wished_device, threads)
    finite = np.isfinite(states).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(f"sample {ids[~finite][0]} of {shard.preset} is not finite after {config.steps} steps")
    samples = schema.Samples(
        state=states,
        sample_id=ids,
        alive=states[:, 1].std(axis=(1, 2)) > ALIVE_SPREAD,
        seed=config.seed,
        preset=shard.preset,
        parameters={key: getattr(params, key) for key in schema.PARAMETERS},
        steps=config.steps,
    )
    return store.write_shard(folder, shard.index, samples)


def begin(config: SimulateConfig, folder: Path) -> tuple[cards.Card, SimulateConfig]:
    """Open a new or interrupted dataset for writing: its card, and the config with the chunk its shards have.

    Raises:
        UserError: the folder holds a dataset of other settings or something else, or cannot be written.
    """
    card_file = folder / "card.json"
    if card_file.exists():
        card = cards.read_card(card_file.read_text(errors="replace"), str(folder))
        refuse_other_settings(f"the dataset {folder}", card.settings, config.identity())
        return card, dataclasses.replace(config, chunk=card.chunk)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(p for p in folder.iterdir() if not p.name.startswith(".")):
            raise UserError(f"{folder} holds files but no card.json, so it is no dataset; take another --name or --out")
        card = _first_card(config)
        cards.write_card(folder, card)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}; take another --out") from error
    return card, config


def _first_card(config: SimulateConfig) -> cards.Card:
    parameters = {
        name: {key: getattr(gray_scott.preset(name), key) for key in schema.PARAMETERS} for name in config.preset
    }
    affine = {"scale": 2.0, "shift": -1.0} if config.normalize else {"scale": 1.0, "shift": 0.0}
    return cards.Card(
        settings=config.identity(),
        parameters=parameters,
        grid=(config.height, config.width),
        affine=affine,
        chunk=config.chunk,
    )


def is_finished(config: SimulateConfig, folder: Path) -> bool:
    """Whether the folder holds this very dataset, complete, every shard with the hash its card says.

    Raises:
        UserError: it holds a dataset of other settings (says which differ).
    """
    if not (folder / "card.json").exists():
        return False
    card, config = begin(config, folder)
    return card.complete and len(kept_shards(card, folder, plan(config))) == len(card.shards)


def kept_shards(card: cards.Card, folder: Path, shards: list[ShardPlan]) -> dict[int, dict[str, Any]]:
    """Entries of the shards on disk that need not be simulated again, by index; each has been checked.

    A finished dataset's shards are held against the card, an interrupted one's against their own row digests.
    """
    if card.complete:
        known = {entry["name"]: entry for entry in card.shards}
        names = {s.index: store.shard_name(s.index) for s in shards}
        return {
            i: known[name]
            for i, name in names.items()
            if (folder / name).is_file() and store.file_hash(folder / name) == known[name]["hash"]
        }
    entries = {s.index: store.checked_shard(folder / store.shard_name(s.index), s.first, s.rows) for s in shards}
    return {i: entry for i, entry in entries.items() if entry is not None}


def finish(folder: Path, card: cards.Card, entries: list[dict[str, Any]], device: str, seconds: float) -> cards.Card:
    """Complete the card: entries of all shards in order, moments of the living samples, the dataset's hash."""
    digests: list[bytes] = []
    sums = np.zeros((2, 2))
    cells = 0
    for entry in entries:
        table = store.read_table(folder / entry["name"], ["alive", "digest", "state"])
        digests += table.column("digest").to_pylist()
        states = schema.states_of(table)[table.column("alive").to_numpy(zero_copy_only=False)].astype(np.float64)
        sums += [states.sum(axis=(0, 2, 3)), (states**2).sum(axis=(0, 2, 3))]
        cells += states[:, 0].size
    mean = sums[0] / max(cells, 1)
    spread = np.sqrt(np.maximum(sums[1] / max(cells, 1) - mean**2, 0))
    card = dataclasses.replace(
        card,
        complete=True,
        samples=sum(e["rows"] for e in entries),
        alive=sum(e["alive"] for e in entries),
        moments={"mean_u": mean[0], "mean_v": mean[1], "std_u": spread[0], "std_v": spread[1]},
        device=device,
        seconds=round(seconds, 3),
        software=cards.software(),
        shards=entries,
        dataset_hash=cards.dataset_hash(digests),
    )
    cards.write_card(folder, card)
    return card


def simulate_here(config: SimulateConfig, folder: Path) -> store.Dataset:
    """Make a dataset in this process, without Ray: for small data, notebooks and tests."""
    start = time.monotonic()
    if not is_finished(config, folder):
        device = stepper.pick_device(config.wished_device)
        card, config = begin(config, folder)
        shards = plan(config)
        kept = kept_shards(card, folder, shards)
        entries = [kept.get(s.index) or simulate_shard(config, folder, s) for s in shards]
        finish(folder, card, entries, device, time.monotonic() - start)
    return store.open_dataset(folder)
