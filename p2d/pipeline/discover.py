"""The equation of a dataset."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config import DiscoverConfig, Source, refuse_other_settings
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress, say
from p2d.runs import EQUATION, short_name, write_json
from p2d.snapshots.store import Dataset, evenly, find_dataset

PASSES = 2


def discover(config: DiscoverConfig, source: Source, out: Path, track: Tracker) -> Outcome:
    """Find the equation of a dataset into OUT/discover/NAME: equation.json, and a figure.

    Raises:
        UserError: too few living snapshots, samples that are no concentrations, an equation of other settings there.
    """
    dataset = find_dataset(source.dataset, out)
    file = EQUATION.place(out, source.name or short_name(dataset.folder.name))
    asked = {**config.identity(), "dataset_hash": dataset.card.dataset_hash, "holdout": source.holdout}
    if file.exists():
        made = json.loads(file.read_text())
        refuse_other_settings(f"the equation {file}", made["settings"], asked)
        return Outcome("discover", False, file, made["found"])
    from p2d.cluster.moments import ask
    from p2d.discovery import discover as closed_form

    start = time.monotonic()
    ids, _ = dataset.split(source.holdout)
    closed_form.enough(len(ids))
    dropped = dataset.card.samples - len(dataset.living)
    if dropped:
        say(f"  {dropped} of {dataset.card.samples} patterns are uniform and left out")
    with stage(track, "discover", file, {**config.to_dict(), **source.to_dict()}) as child:
        with progress("discover", PASSES * len(ids), "snapshots") as advance:
            found, seconds = ask(dataset, ids, closed_form.question(config), source.workers, advance)
        facts = {**closed_form.summary(found), "dropped": dropped, "seconds": seconds}
        learnt_from = {"dataset": dataset.folder.name, "systems": list(dataset.card.parameters)}
        write_json(file, {"settings": asked, "learnt_from": learnt_from, "found": facts})
        picture = file.with_name("equation.png")
        draw(picture, dataset, ids, facts)
        child.metrics({key: facts[key] for key in ("gap", "misfit", "z_max", "unbalanced")})
        for path in (file, picture):
            child.artifact(path)
    return Outcome("discover", True, file, facts, time.monotonic() - start)


def draw(path: Path, dataset: Dataset, ids: np.ndarray, facts: dict[str, Any]) -> None:
    """The equation's figure, beside the true system where that is one and known."""
    from p2d.evaluate.rollout import known_system
    from p2d.show import equation_figure

    states = dataset.states(evenly(ids, equation_figure.PICTURED))
    equation_figure.equation(path, facts, known_system(dataset), states, short_name(dataset.folder.name))
