"""Datasets that are made by a model and not by simulation: of patterns generated anew, or denoised from others."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from p2d import observables as ensemble
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store
from p2d.snapshots import writing as shards
from p2d.snapshots.simulated import ALIVE_SPREAD
from p2d.snapshots.writing import Labels

GENERATED = "generated"  # label of a system that no parameters are known of
UNKNOWN: dict[str, float] = {}


def first_card(
    settings: dict[str, Any],
    origin: dict[str, Any],
    like: cards.Card | None,
    grid: tuple[int, int],
    affine: dict[str, float],
    chunk: int,
) -> cards.Card:
    """The card of a dataset that is about to be made.

    Args:
        settings: what decides its contents.
        origin: its kind and what it is made from.
        like: card of the dataset whose systems it keeps, if it does.
    """
    return cards.Card(
        settings=settings,
        parameters=like.parameters if like else {},
        grid=grid,
        burn_in=like.burn_in if like else 0,
        affine=affine,
        chunk=chunk,
        origin=origin,
        generator=f"{origin['kind']}: torch streams keyed by (seed, sample id)",
    )


def generated_labels(count: int, chunk: int, seed: int) -> Labels:
    """Labels of the rows of each shard of a generated dataset: a run of its own each, of a system not known."""
    ids = np.arange(count, dtype=np.int64)
    parts = np.split(ids, range(chunk, count, chunk))
    return {
        n: schema.label_rows(part, part, np.zeros_like(part), seed, GENERATED, UNKNOWN) for n, part in enumerate(parts)
    }


def labels_like(dataset: store.Dataset) -> Labels:
    """Labels of the rows of each shard of a dataset, as they are."""
    found, first = {}, 0
    columns = [name for name in schema.LABELS if name != "alive"]
    for number, entry in enumerate(dataset.card.shards):
        found[number] = dataset.index.select(columns).slice(first, entry["rows"]).to_pylist()
        first += entry["rows"]
    return found


def samples_of(states: np.ndarray, rows: list[dict[str, Any]], alive: np.ndarray | None = None) -> schema.Samples:
    """Rows of a shard of these states, float32 [N, 2, H, W] concentrations, with these labels."""
    observed = ensemble.observe(states)
    parameters = {key: rows[0][key] for key in schema.PARAMETERS}
    return schema.Samples(
        state=states,
        sample_id=np.array([row["sample_id"] for row in rows]),
        run_id=np.array([row["run_id"] for row in rows]),
        steps=np.array([row["steps"] for row in rows]),
        alive=states[:, 1].std(axis=(1, 2)) > ALIVE_SPREAD if alive is None else alive,
        observed=observed,
        observed_before=observed,
        seed=rows[0]["seed"],
        preset=rows[0]["preset"],
        parameters=parameters if None not in parameters.values() else UNKNOWN,
    )


def is_finished(folder: Path, settings: dict[str, Any], labels: Labels) -> bool:
    """Whether the folder holds this very dataset, complete and whole.

    Raises:
        UserError: it holds a dataset of other settings (says which differ).
    """
    return shards.is_finished(folder, settings, lambda _: labels)


def make(
    folder: Path,
    card: cards.Card,
    labels: Labels,
    samples: Callable[[int], schema.Samples],
    device: str,
    advance: Callable[..., None],
) -> store.Dataset:
    """Make the shards that are missing, and complete the card.

    Args:
        folder: the dataset's.
        card: its first card.
        labels: of the rows of each shard.
        samples: makes the shard of a number, and tells its own progress.
        device: they are made on.
        advance: told the samples of each shard that was there.

    Raises:
        UserError: as snapshots/writing.py.
    """
    start = time.monotonic()
    with shards.writing(folder, card) as there:
        entries = shards.kept_shards(folder, there, labels)
        for number, rows in labels.items():
            if number in entries:
                advance(len(rows), "kept")
            else:
                entries[number] = store.write_shard(folder, number, samples(number))
        made = [entries[number] for number in labels]
        shards.finish(folder, there, made, device, time.monotonic() - start, _ensembles)
    return store.open_dataset(folder)


def _ensembles(rows: Any) -> dict[str, dict[str, Any]]:
    """Numbers and moments of each system; whether it is stationary cannot be told of one time."""
    systems = rows.column("preset").to_numpy(zero_copy_only=False)
    alive = rows.column("alive").to_numpy(zero_copy_only=False)
    observed = schema.array_of(rows, "observed")
    found = {}
    for system in dict.fromkeys(systems):
        living = (systems == system) & alive
        moments = ensemble.moments(observed[living])
        found[str(system)] = {
            "samples": int((systems == system).sum()),
            "alive": int(living.sum()),
            **{name: round(float(value), 9) for name, value in moments.items()},
            "change": {"z": None, "average": None, "relative": None, "stationary": None},
        }
    return found
