"""Datasets that are made by a model and not by simulation: of patterns generated anew, or denoised from others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from p2d.fields import Grid, Scaling, Species
from p2d.observables import averages
from p2d.snapshots import card as cards
from p2d.snapshots import schema, store
from p2d.snapshots import writing as shards
from p2d.snapshots.simulated import alive as living
from p2d.snapshots.writing import ShardLabels

GENERATED = "generated"  # label of a system that nothing is known of


def first_card(
    settings: dict[str, Any],
    origin: dict[str, Any],
    species: tuple[Species, ...],
    grid: Grid,
    scaling: Scaling,
    chunk: int,
    like: cards.Card | None = None,
) -> cards.Card:
    """The card of a dataset that is about to be made.

    Args:
        settings: what decides its contents.
        origin: its kind and what it is made from.
        like: card of the dataset whose systems it keeps, if it does.
    """
    return cards.Card(
        settings=settings,
        species=species,
        grid=grid,
        systems=like.systems if like else {},
        conditions=like.conditions if like else {},
        scaling=scaling,
        chunk=chunk,
        origin=origin,
        generator=f"{origin['kind']}: torch streams keyed by (seed, sample id)",
    )


def generated_labels(count: int, chunk: int, seed: int) -> ShardLabels:
    """Labels of the rows of each shard of a generated dataset: a run of its own each, of a system not known."""
    return ShardLabels(-(-count // chunk), partial(generated_rows, count, chunk, seed))


def generated_rows(count: int, chunk: int, seed: int, number: int) -> schema.Labels:
    """Labels of the rows of the shard of a number."""
    ids = np.arange(number * chunk, min((number + 1) * chunk, count), dtype=np.int64)
    return schema.Labels(ids, ids, np.zeros_like(ids), np.full(len(ids), np.nan), seed, GENERATED)


def labels_like(dataset: store.Dataset) -> ShardLabels:
    """Labels of the rows of each shard of a dataset, as they are."""
    return ShardLabels(len(dataset.shards), dataset.shards.labels)


def samples_of(
    states: np.ndarray, labels: schema.Labels, card: cards.Card, alive: np.ndarray | None = None
) -> schema.Samples:
    """Rows of a shard of these states, float32 [N, C, H, W], with these labels."""
    observed = averages(states, card.grid)
    return schema.Samples(
        labels,
        state=states,
        alive=living(states, card.species) if alive is None else alive,
        averages=observed,
        averages_before=observed,
    )


def is_finished(folder: Path, settings: dict[str, Any], labels: ShardLabels) -> bool:
    """Whether the folder holds this very dataset, complete and whole.

    Raises:
        UserError: it holds a dataset of other settings (says which differ).
    """
    return shards.is_finished(folder, settings, lambda _: labels)


def make(
    folder: Path,
    card: cards.Card,
    labels: ShardLabels,
    samples: Callable[[int], schema.Samples],
    device: str,
    advance: Callable[..., None],
) -> store.Dataset:
    """Make the shards that are missing, and complete the card.

    Args:
        card: its first card.
        samples: makes the shard of a number, and tells its own progress.
        labels, device, advance: see snapshots/writing.py, as for what is raised.
    """
    with shards.writing(folder, card) as kept:
        return shards.make(folder, kept, labels, shards.written_here(folder, samples), device, advance)
