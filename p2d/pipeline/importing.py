"""Datasets of others' files: what they hold is told, and made a dataset that every stage takes."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from p2d.config.importing import ImportConfig
from p2d.pipeline.simulate import dataset_facts
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress
from p2d.runs import DATA
from p2d.snapshots.importing import Sources, look_at, report_text, writing
from p2d.snapshots.store import Dataset, open_dataset

SMALL = 2e9  # bytes of snapshots that a process imports in about the seconds in which Ray and its actors start


def import_files(config: ImportConfig, out: Path, track: Tracker) -> Outcome:
    """Import files into OUT/data/NAME.

    Raises:
        UserError: files that cannot be read, do not go together or hold no pattern; nothing of these is left.
    """
    if os.environ.get("RAY_ADDRESS"):  # whose workers have working directories of their own
        config = dataclasses.replace(config, sources=tuple(map(os.path.abspath, config.sources)))
    sources = Sources.of(config)
    before = sources.made_before(out)
    if before and sources.is_finished(before):
        return _outcome(False, open_dataset(before))
    from p2d.cluster.shards import Wish, make, refuse

    start = time.monotonic()
    ready = look_at(sources)
    folder = DATA.place(out, ready.name)
    wish = Wish("cpu", config.workers, small=sources.bytes < SMALL, name="workers")
    refuse(wish, len(sources.labels(ready.chunk)), folder)
    with stage(track, "import", folder, {**config.to_dict(), "files": ready.files}) as child:
        with progress("import", len(sources.rows), "snapshots") as advance, writing(folder, ready.card()) as card:
            dataset = make(ready.maker(card.chunk), wish, folder, card, sources.labels(card.chunk), advance)
        child.metrics({"samples": dataset.card.samples, "alive": dataset.card.alive})
        child.artifact(folder / "card.json")
    return _outcome(True, dataset, time.monotonic() - start)


def _outcome(made: bool, dataset: Dataset, seconds: float = 0.0) -> Outcome:
    facts: dict[str, Any] = {**dataset_facts(dataset), "origin": dataset.card.origin}
    return Outcome("import", made, dataset.folder, facts, seconds, report_text(dataset))
