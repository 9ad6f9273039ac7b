"""Datasets of others' files: what they hold is told, and made a dataset that every stage takes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from p2d.config.importing import ImportConfig
from p2d.pipeline.simulate import dataset_facts
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress
from p2d.runs import DATA
from p2d.snapshots.importing import look_at, report_text, writing
from p2d.snapshots.sources import Sources
from p2d.snapshots.store import Dataset, open_dataset
from p2d.tracking.datasets import MADE

SMALL = 2e9  # bytes of snapshots that a process imports in about the seconds in which Ray and its actors start


def import_files(config: ImportConfig, out: Path, track: Tracker) -> Outcome:
    """Import files into OUT/data/NAME.

    Raises:
        UserError: files that cannot be read, do not go together or hold no pattern; nothing of these is left.
    """
    sources = Sources.of(config)
    before = sources.made_before(out)
    if before and sources.is_finished(before):
        return _outcome(False, open_dataset(before))
    from p2d.cluster.shards import Wish, is_here, make, refuse

    start = time.monotonic()
    ready = look_at(sources)
    folder = DATA.place(out, ready.name)
    small = sources.bytes < SMALL or config.workers == 1
    wish = Wish("cpu", config.workers, small=small, name="workers")
    shards = len(sources.labels(ready.chunk))
    refuse(wish, shards, folder)
    ready = ready if is_here(wish, shards) else replace(ready, sources=sources.anywhere())
    with stage(track, "import", folder, {**config.to_dict(), "files": sources.file_count}) as child:
        with progress("import", len(sources.rows), "snapshots") as advance, writing(folder, ready.card()) as card:
            dataset = make(ready.maker(card.chunk), wish, folder, card, sources.labels(card.chunk), advance)
        child.metrics({"samples": dataset.card.samples, "alive": dataset.card.alive})
        child.artifact(folder / "card.json")
        child.dataset(dataset, MADE)
    return _outcome(True, dataset, time.monotonic() - start)


def _outcome(made: bool, dataset: Dataset, seconds: float = 0.0) -> Outcome:
    facts: dict[str, Any] = {**dataset_facts(dataset), "origin": dataset.card.origin}
    return Outcome("import", made, dataset.folder, facts, seconds, report_text(dataset))
