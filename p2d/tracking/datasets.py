"""Datasets as MLflow has them: what the column of datasets shows, filters by, and leads back to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from p2d.places import as_remote

if TYPE_CHECKING:
    from p2d.snapshots.card import Card
    from p2d.snapshots.store import Dataset

PROFILED = 8  # ensembles of a dataset
MADE, TRAINING, EVALUATION = "made", "training", "evaluation"  # what a dataset is to a run


def described(dataset: Dataset) -> dict[str, str]:
    """Name, digest, source, schema and profile of a dataset, as MLflow keeps them; the digest is the dataset_hash.

    `mlflow.data.get_source` of it leads to the folder.
    """
    from mlflow.types import Schema, TensorSpec

    card, remote = dataset.card, as_remote(dataset.folder)
    schema = Schema([TensorSpec(np.dtype(np.float32), (-1, *dataset.shape), "state")])
    uri = str(dataset.folder.resolve()) if remote is None else remote.as_uri().partition("?")[0]
    return {
        "name": dataset.folder.name,
        "digest": card.dataset_hash,
        "source_type": "local" if remote is None else uri.partition(":")[0],
        "source": json.dumps({"uri": uri}),
        "schema": json.dumps({"mlflow_tensorspec": {"features": schema.to_json(), "targets": None}}),
        "profile": json.dumps(profile(card)),
    }


def profile(card: Card) -> dict[str, Any]:
    """What the snapshots are, in a few numbers."""
    return {
        "snapshots": card.samples,
        "alive": card.alive,
        "height": card.grid.shape[0],
        "width": card.grid.shape[1],
        "spacing": f"{card.grid.spacing:g} {card.grid.unit}".strip(),
        "edges": edges_text(card),
        "species": {s.name: f"{s.low:g} to {s.high:g} {s.unit}".strip() for s in card.species},
        "origin": card.origin.get("kind", "simulated"),
        "systems": len(card.systems),
        "ensembles": {label: {"mean": e.mean, "std": e.std} for label, e in list(card.ensembles.items())[:PROFILED]},
    }


def tags_of(dataset: Dataset) -> dict[str, str]:
    """What runs of a dataset are searched by: its name, its systems and their presets, and its edges."""
    card = dataset.card
    systems = card.systems.values()
    tags = {
        "p2d.dataset": dataset.folder.name,
        "p2d.system": ", ".join(dict.fromkeys(system.name for system in systems)),
        "p2d.preset": ", ".join(dict.fromkeys(system.preset for system in systems if system.preset)),
        "p2d.edges": edges_text(card),
    }
    return {key: value for key, value in tags.items() if value}


def edges_text(card: Card) -> str:
    """'periodic', or of rows and columns where they differ: 'open x periodic'."""
    return " x ".join(dict.fromkeys(card.grid.edges))
