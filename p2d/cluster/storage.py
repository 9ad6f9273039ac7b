"""Places as Ray Train and Ray Tune take them: a path, and the file system that it is on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ray.train import Checkpoint

from p2d.places import as_remote


def filesystem(where: Path) -> Any:
    """pyarrow's file system of a place; None for that of this machine. Credentials are not part of it."""
    store = as_remote(where)
    return None if store is None else store.filesystem


def path(where: Path) -> str:
    """A place as its file system knows it."""
    store = as_remote(where)
    return str(where) if store is None else store.key


def place_of(checkpoint: Checkpoint, storage: Path) -> Path:
    """Where a checkpoint is that Ray keeps below a place."""
    store = as_remote(storage)
    return Path(checkpoint.path) if store is None else cast(Path, replace(store, key=checkpoint.path))
