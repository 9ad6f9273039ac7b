"""The equation of a dataset."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config import DiscoverConfig, Source, refuse_other_settings
from p2d.discovery.result import Discovery
from p2d.discovery.verdict import LEAST_RUNS
from p2d.errors import UserError
from p2d.evaluate.each import SteadyStates, fit_each
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import Advance, progress, say
from p2d.runs import EQUATION, read_json, remove_unfinished, short_name
from p2d.snapshots.conditions import nearest_label
from p2d.snapshots.passes import InMemory, Means, Task
from p2d.snapshots.store import Dataset, evenly, find_dataset
from p2d.systems.system import System

FEW = 2**19  # cells: of fewer snapshots the passes take about the seconds in which Ray and its workers start
PASSES = 4  # as a rule: of rates, and of what steps add until their length settles


def discover(config: DiscoverConfig, source: Source, out: Path, track: Tracker) -> Outcome:
    """Find the equation of a dataset into OUT/discover/NAME: equation.json, and a figure; or --each into each.json.

    Raises:
        UserError: too few living snapshots, samples that are no concentrations, an equation of other settings there.
    """
    dataset = find_dataset(source.dataset, out)
    file = EQUATION.place(out, source.name or short_name(dataset.folder.name))
    settings = {**config.identity(), "dataset_hash": dataset.card.dataset_hash, "holdout": source.holdout}
    if config.each:
        return _discover_each(config, source, dataset, file.with_name("each.json"), track)
    if file.exists():
        refuse_other_settings(f"the equation {file}", read_json(file, "settings")["settings"], settings)
        known = Discovery.load(file)
        return Outcome("discover", False, file, known.to_dict(), result=known)
    from p2d.discovery.discover import discover_equation, refuse_few_runs
    from p2d.discovery.library import FREE
    from p2d.evaluate.metrics import known_system
    from p2d.show.discovery import PICTURED, draw_discovery

    start = time.monotonic()
    ids = _fitted(dataset, source.holdout)
    if len(ids) < (LEAST_RUNS if config.library == FREE else 1):
        refuse_few_runs(len(ids))
    dropped = dataset.card.samples - len(dataset.living)
    if dropped:
        say(f"  {dropped} of {dataset.card.samples} patterns are uniform and left out")
    with stage(track, "discover", file, {**config.to_dict(), **source.to_dict()}) as child:
        child.dataset(dataset)
        with (
            progress("discover", len(ids), "snapshots", passes=True) as advance,
            _opened(dataset, ids, config, source, advance) as snapshots,
        ):
            discovery = discover_equation(snapshots, config, system=known_system(dataset))
        fit = time.monotonic() - start - snapshots.seconds
        seconds = {"passes": round(snapshots.seconds, 3), "fit": round(fit, 3)}
        discovery = replace(discovery, dropped=dropped, seconds=seconds)
        discovery = discovery.in_units(dataset.card.species, dataset.card.time_unit)
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
        numbers = {key: getattr(discovery, key) for key in ("gap", "misfit", "z_max", "unbalanced")}
        numbers |= {"velocity_bound": claims.velocity, "stable": claims.stable, "p_value": claims.p_value}
        child.metrics(numbers)
        for path in (file, picture):
            child.artifact(path)
        child.model(f"equation-{file.parent.name}", file, dataset, numbers)
    return Outcome("discover", True, file, discovery.to_dict(), time.monotonic() - start, discovery)


@contextmanager
def _opened(
    dataset: Dataset, ids: np.ndarray, config: DiscoverConfig, source: Source, advance: Advance
) -> Iterator[Any]:
    """The snapshots, in this process where they are so few that workers take longer to start, or else over workers."""
    if not source.workers and not os.environ.get("RAY_ADDRESS") and len(ids) * math.prod(dataset.card.grid.shape) < FEW:
        few = InMemory.of_dataset(dataset, ids, config.across)
        yield _Counted(**{f.name: getattr(few, f.name) for f in fields(few)}, advance=advance, spent=[])
        return
    from p2d.cluster.moments import OverRay

    with OverRay(dataset, ids, source.workers, advance, config.across) as snapshots:
        yield snapshots


@dataclass(frozen=True, eq=False)
class _Counted(InMemory):
    """Snapshots in this process, whose passes are counted and timed."""

    advance: Advance = lambda *_: None
    spent: list[float] = field(default_factory=list)

    def means(self, task: Task) -> Means:
        start = time.monotonic()
        made = super().means(task)
        self.spent.append(time.monotonic() - start)
        self.advance(len(self.sample_ids))
        return made

    @property
    def seconds(self) -> float:
        """Wall time that the passes have taken so far."""
        return sum(self.spent)


def _middle_system(dataset: Dataset, discovery: Discovery) -> System | None:
    """The system of those in the middle of the conditions that an equation holds across, where it is known."""
    if not (discovery.conditions and dataset.card.systems):
        return None
    return dataset.card.systems.get(nearest_label(dataset.card.conditions, discovery.middle))


def _fitted(dataset: Dataset, holdout: float) -> np.ndarray:
    """Sample ids that an equation is fitted to; all of few runs, of which nothing is claimed."""
    living = dataset.living
    return living if len(np.unique(dataset.runs(living))) < LEAST_RUNS else dataset.split(holdout)[0]


def _discover_each(config: DiscoverConfig, source: Source, dataset: Dataset, file: Path, track: Tracker) -> Outcome:
    """The parameters of each snapshot by itself, into OUT/discover/NAME/each.json.

    Raises:
        UserError: no living snapshot, a system that does not fit the species, or a result of other settings there.
    """
    settings = {**config.identity(), "dataset_hash": dataset.card.dataset_hash}
    if file.exists():
        known = SteadyStates.load(file)
        refuse_other_settings(f"the result {file}", known.settings, settings)
        return Outcome("discover", False, file, known.to_dict(), result=known, following="p2d ui")
    from p2d.cluster.mapping import choose_mapper
    from p2d.cluster.runtime import shared_folder
    from p2d.discovery.known import Known
    from p2d.discovery.library import choose_library
    from p2d.systems.reading import load_system

    start, card = time.monotonic(), dataset.card
    library = choose_library(config, card.names, card.grid)  # refused before anything is made
    if not len(dataset.living):
        raise UserError(f"{dataset.folder} has no living snapshot: all are uniform")
    with stage(track, "discover", file, {**config.to_dict(), **source.to_dict()}) as child:
        child.dataset(dataset)
        system = Known(load_system(config.library), library)
        here = replace(dataset, folder=shared_folder(dataset.folder))
        mapper = choose_mapper(source.workers, file.parent)
        with progress("discover", len(dataset.living), "snapshots") as advance:

            def each(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
                for row in mapper(function, items):
                    advance(1)
                    yield row

            made = replace(fit_each(here, system, config, each), settings=settings)
        file.parent.mkdir(parents=True, exist_ok=True)
        made.save(file)
        child.metrics({"settled": float(made.settled)})
        child.artifact(file)
    return Outcome("discover", True, file, made.to_dict(), time.monotonic() - start, made, "p2d ui")
