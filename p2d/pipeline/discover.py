"""The equation of a dataset."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from p2d.config import DiscoverConfig, Source, refuse_other_settings
from p2d.discovery.result import Discovery
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress, say
from p2d.runs import EQUATION, read_json, remove_unfinished, short_name
from p2d.snapshots.conditions import nearest_label
from p2d.snapshots.store import Dataset, evenly, find_dataset
from p2d.systems.system import System

PASSES = 4  # as a rule: of rates, and of what steps add until their length settles


def discover(config: DiscoverConfig, source: Source, out: Path, track: Tracker) -> Outcome:
    """Find the equation of a dataset into OUT/discover/NAME: equation.json, and a figure.

    Raises:
        UserError: too few living snapshots, samples that are no concentrations, an equation of other settings there.
    """
    dataset = find_dataset(source.dataset, out)
    file = EQUATION.place(out, source.name or short_name(dataset.folder.name))
    settings = {**config.identity(), "dataset_hash": dataset.card.dataset_hash, "holdout": source.holdout}
    if file.exists():
        refuse_other_settings(f"the equation {file}", read_json(file, "settings")["settings"], settings)
        known = Discovery.load(file)
        return Outcome("discover", False, file, known.to_dict(), result=known)
    from p2d.cluster.moments import OverRay
    from p2d.discovery.discover import discover_equation, refuse_few_runs
    from p2d.discovery.library import FREE
    from p2d.evaluate.metrics import known_system
    from p2d.show.discovery import PICTURED, draw_discovery

    start = time.monotonic()
    ids, _ = dataset.split(source.holdout)
    if config.library == FREE or not len(ids):
        refuse_few_runs(len(ids))
    dropped = dataset.card.samples - len(dataset.living)
    if dropped:
        say(f"  {dropped} of {dataset.card.samples} patterns are uniform and left out")
    with stage(track, "discover", file, {**config.to_dict(), **source.to_dict()}) as child:
        with (
            progress("discover", PASSES * len(ids), "snapshots") as advance,
            OverRay(dataset, ids, source.workers, advance, config.across) as snapshots,
        ):
            discovery = discover_equation(snapshots, config, system=known_system(dataset))
        fit = time.monotonic() - start - snapshots.seconds
        seconds = {"passes": round(snapshots.seconds, 3), "fit": round(fit, 3)}
        discovery = replace(discovery, dropped=dropped, seconds=seconds)
        pictured, truth = dataset.states(evenly(ids, PICTURED)), known_system(dataset)
        if like := truth or _middle_system(dataset, discovery):
            system = discovery.simulated_as(like, pictured, dataset.card.grid, f"{file.parent.name}_equation")
            discovery = replace(discovery, simulable=system)
        learnt_from = {"dataset": dataset.folder.name, "systems": list(dataset.card.systems)}
        picture = file.with_name("equation.png")
        remove_unfinished(file.parent)
        draw_discovery(picture, discovery, truth, pictured, short_name(dataset.folder.name))
        discovery.save(file, settings=settings, learnt_from=learnt_from)  # last: it says that all is there
        claims = discovery.claims
        child.metrics({key: getattr(discovery, key) for key in ("gap", "misfit", "z_max", "unbalanced")})
        child.metrics({"velocity_bound": claims.velocity, "stable": claims.stable, "p_value": claims.p_value})
        for path in (file, picture):
            child.artifact(path)
    return Outcome("discover", True, file, discovery.to_dict(), time.monotonic() - start, discovery)


def _middle_system(dataset: Dataset, discovery: Discovery) -> System | None:
    """The system of those in the middle of the conditions that an equation holds across, where it is known."""
    if not (discovery.conditions and dataset.card.systems):
        return None
    return dataset.card.systems.get(nearest_label(dataset.card.conditions, discovery.middle))
