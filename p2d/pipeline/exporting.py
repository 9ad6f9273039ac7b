"""Datasets written in the formats of others."""

from __future__ import annotations

import time
from pathlib import Path

from p2d.config.exporting import ExportConfig
from p2d.pipeline.stage import Outcome
from p2d.places import place
from p2d.progress import progress, say
from p2d.snapshots.exporting import Exported, export_dataset, made_before, refuse_export, snapshots_to_read
from p2d.snapshots.store import find_dataset

FOLDER = "export"  # of the output folder


def export(config: ExportConfig, out: Path) -> Outcome:
    """Write a dataset in another format.

    Raises:
        UserError: no such dataset, something else is in the place, or the format cannot hold it.
    """
    dataset = find_dataset(config.dataset, out)
    where = place(config.where) if config.where else out / FOLDER / f"{dataset.folder.name}_{config.to}"
    made = made_before(dataset, config.to, where)
    if made:
        return Outcome("export", False, where, _facts(config, where, made), result=made)
    refuse_export(dataset, config.to, where)
    say(f"export -> {where}")
    start = time.monotonic()
    with progress("export", snapshots_to_read(dataset, config.to), "snapshots") as advance:
        made = export_dataset(dataset, config.to, where, advance)
    return Outcome("export", True, where, _facts(config, where, made), time.monotonic() - start, made)


def _facts(config: ExportConfig, where: Path, made: Exported) -> dict[str, object]:
    return {"where": str(where), "to": config.to, **vars(made)}
