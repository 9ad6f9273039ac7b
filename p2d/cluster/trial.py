"""What a trial of a sweep does in its own process: train a flow at its point, and measure it after every epoch."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from p2d.cluster.training import train
from p2d.config import FlowSource, SweepConfig
from p2d.config.axes import settings_of
from p2d.config.sweep import Point
from p2d.errors import UserError
from p2d.evaluate import metrics
from p2d.flow.model import Flow
from p2d.runs import whole
from p2d.snapshots.store import Dataset, open_dataset
from p2d.training.history import Epoch, History
from p2d.training.job import TrainJob


@dataclass(frozen=True)
class Sweep:
    """What is swept over, and where.

    Attributes:
        metric: the best trial is chosen by, and trials are stopped by.
        folder: of the sweep; its trials lie in folder/trials/NAME.
        scores: score models by the name of the points that they are of; '' for one that all share.
    """

    config: SweepConfig
    source: FlowSource
    dataset: Dataset
    metric: str
    folder: Path
    scores: dict[str, Path]

    def trial_folder(self, trial: str) -> Path:
        """Where the flow of a trial lies."""
        return self.folder / "trials" / trial

    def failure_file(self, trial: str) -> Path:
        """Where it is written why a trial has failed."""
        return self.folder / "trials" / f"{trial}.failed"

    def score_of(self, point: Point) -> Path | None:
        """The score model of a point."""
        for name, own in self.config.score_points().items():
            if all(point.get(key, value) == value for key, value in own.items()):
                return self.scores[name]
        return self.scores.get("")


@dataclass(frozen=True)
class Room:
    """How trials share the cluster: `trials` at a time, each of `workers` processes of `threads` threads.

    Attributes:
        cpus, gpus: that a process claims.
    """

    trials: int
    workers: int
    threads: int
    cpus: float
    gpus: int


def point_of(config: SweepConfig, values: dict[str, Any]) -> Point:
    """The point of the values that Tune gives a trial."""
    if "point" in values:
        return values["point"]
    return {one.key: one.rounded(values[one.key]) if one.is_range else values[one.key] for one in config.axes}


def run_trial(values: dict[str, Any], sweep: Sweep, room: Room) -> None:
    """Train a flow at a trial's point as `train-flow` does, and report every epoch, measured, to Tune."""
    name = tune.get_context().get_trial_name()
    try:
        _train(name, point_of(sweep.config, values), sweep, room)
    except Exception as error:
        # Not raised: Tune would try what is wrong with the settings again, each time in a process that it starts anew.
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        with whole(sweep.failure_file(name)) as file:
            file.write_text(text or repr(error))


def _train(name: str, point: Point, sweep: Sweep, room: Room) -> None:
    source = dataclasses.replace(
        sweep.source, workers=room.workers, cpus_per_worker=room.threads, **settings_of("data", point)
    )
    job = TrainJob(
        sweep.config.flow(point),
        source,
        _open_once(sweep.dataset.folder),
        sweep.trial_folder(name),
        sweep.score_of(point),
        here=True,
        beside=room.trials,
    )

    def report(epoch: Epoch, model: Path) -> None:
        tune.report({**epoch.to_dict(), **measure(job.dataset, source.holdout, model)})

    def on_epoch(epoch: Epoch, model: Path | None) -> None:
        if epoch.number < job.config.passes and model is not None:
            report(epoch, model)

    if not job.is_trained():
        train(job, on_epoch)
    report(History.load(job.folder).last, job.folder)  # once it is in its place: Tune may end a trial at any report


@functools.lru_cache(maxsize=1)
def _open_once(folder: Path) -> Dataset:
    return open_dataset(folder)


@functools.lru_cache(maxsize=1)
def _held_out(folder: Path, holdout: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Held-out states, and the true velocity there where it is known; kept for the trials of this process."""
    dataset = _open_once(folder)
    _, ids = dataset.split(holdout)
    states = dataset.states(ids)
    return states, metrics.true_velocity(dataset, ids, states)


def measure(dataset: Dataset, holdout: float, model: Path) -> dict[str, float]:
    """What a flow does on the held-out snapshots: z-scores, and its cosine with the true velocity where it is known."""
    states, truth = _held_out(dataset.folder, holdout)
    flow, card = Flow.load(model).on(dataset.card.grid), dataset.card
    velocity = metrics.flow_velocity(flow, states)
    reach = max(flow.reach, *(metrics.reach_of(system, dataset) for system in (*card.systems.values(), None)))
    measured = metrics.stationarity(velocity, states, card.grid, reach)
    if truth is None:
        return measured
    return measured | metrics.cosine(velocity, truth, card.names, card.grid.inside(reach))
