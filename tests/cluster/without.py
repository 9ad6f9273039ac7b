"""Stages without Ray: what they would ask its actors and workers for, they do in their own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any


def without_ray(put: Callable[[Any, str, Any], None]) -> None:
    """Let stages do everything by themselves.

    Args:
        put: sets an attribute, as setattr, or as a monkeypatch that takes it back.
    """
    from p2d.cluster import moments, placement, runtime, training
    from p2d.snapshots.passes import InMemory

    @contextmanager
    def snapshots(dataset: Any, ids: Any, *_: Any) -> Iterator[InMemory]:
        made = InMemory.of_dataset(dataset, ids)
        object.__setattr__(made, "seconds", 0.0)
        yield made

    train = training.train
    put(training, "train", lambda job, on_epoch: train(replace(job, here=True), on_epoch))
    put(training, "_place", lambda _: placement.Placing(1, 1, 1, 1.0, 0, "SPREAD"))
    put(moments, "OverRay", snapshots)
    for name in ("start", "refuse_unshared"):
        put(runtime, name, lambda *_, **__: None)
