"""What is learnt from a dataset: a score model, a flow, an equation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2d.config import FlowConfig, FlowSource, ScoreConfig, TrainSource
from p2d.errors import UserError
from p2d.fields import Scaling
from p2d.pipeline.refuse import refuse_objective, refuse_other_levels, refuse_other_systems
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress, say
from p2d.runs import FLOW, REPORT, SCORE, remove_unfinished, short_name
from p2d.show.view import View
from p2d.snapshots.store import Dataset, find_dataset
from p2d.systems.expressions import functions_in
from p2d.training.checkpoint import read_config
from p2d.training.history import Epoch, History
from p2d.training.job import TrainJob

FACTS = (
    "validation",
    "continuity",
    "z_",
    "epoch",
    "imbalance",
    "mean_divergence",
    "direction",
    "nonlinear",
)  # of a training's last epoch
Artist = Callable[[Path, History], list[Path]]  # draws a model in training, given its history so far


def train_score(
    config: ScoreConfig,
    source: TrainSource,
    out: Path,
    track: Tracker,
    show: str = "",
    scaling: Scaling | None = None,
) -> Outcome:
    """Train a score model into OUT/score/NAME, with pictures of its training in OUT/report/NAME/training.

    Args:
        scaling: of the training coordinates, in the place of the dataset's own.
    """
    dataset = find_dataset(source.dataset, out)
    dataset = dataset.scaled(scaling) if scaling else dataset
    view = View(dataset.card.species, dataset.card.grid, show)
    if config.augment and (directed := _directed_systems(dataset)):
        say(f"snapshots are not shifted, turned or mirrored, as derivatives along x or y have a direction ({directed})")
        config = dataclasses.replace(config, augment=False)
    name = source.name or short_name(dataset.folder.name)
    job = TrainJob(config, source, dataset, SCORE.place(out, name))

    def draw(model: Path, history: History) -> list[Path]:
        from p2d.score.model import ScoreModel
        from p2d.show import pictures

        _, held = dataset.split(source.holdout)
        state, folder = dataset.states(held[:1])[0], REPORT.place(out, name) / "training"
        remove_unfinished(folder)
        return pictures.draw_progress(folder, ScoreModel.load(model), state, dataset.scaling, history, view, name)

    return run_job("train-score", job, track, draw)


def _directed_systems(dataset: Dataset) -> str:
    """The systems of a dataset whose rates know a direction, d(f, x) or d(f, y), by their labels."""
    systems = dataset.card.systems.items()
    return ", ".join(label for label, s in systems if any("d" in functions_in(tree) for tree in s.trees.values()))


def train_flow(config: FlowConfig, source: FlowSource, out: Path, track: Tracker) -> Outcome:
    """Train a flow into OUT/flow/NAME; with all objectives but stationarity, from a score model."""
    dataset = find_dataset(source.dataset, out)
    refuse_objective(config.objective, dataset)
    short = short_name(dataset.folder.name)
    job = TrainJob(config, source, dataset, FLOW.place(out, source.name or flow_name(short, config.objective)))
    if config.objective == "stationarity":
        from p2d.flow.verdict import sufficient_snapshots, verdict

        count, shape = job.training_snapshots, dataset.card.grid.shape
        if count < (least := sufficient_snapshots(shape)):
            size = f"{shape[0]} x {shape[1]}"
            say(f"warning: {count} training snapshots of {size} are few for a flow; {least} would do")
        outcome = run_job("train-flow", job, track)
        words = verdict(outcome.facts, count, shape)
        facts = {**outcome.facts, "verdict": words}
        return dataclasses.replace(outcome, facts=facts, result=f"{outcome.result}\n{words}")
    score = SCORE.find(out, source.score or short)
    refuse_other_score(config, dataset, score)
    return run_job("train-flow", dataclasses.replace(job, score=score), track)


def flow_name(short: str, objective: str) -> str:
    """Name of the flow of a dataset: those that do not recover the dynamics are named by their objective."""
    return short if objective == "stationarity" else f"{short}_{objective}"


def refuse_other_score(config: FlowConfig, dataset: Dataset, score: Path) -> None:
    """Refuse a score model of another dataset or normalisation, or one that does not know the signal level."""
    refuse_other_systems("score", score, dataset)
    made = read_config(score, "score")
    if Scaling.from_dict(made["data"]["scaling"]) != dataset.scaling:
        raise UserError(
            f"{score} was trained with another normalisation than {dataset.folder} has; train it on this one"
        )
    if made["data"]["dataset_hash"] != dataset.card.dataset_hash:
        other = made.get("learnt_from", {}).get("dataset", "another dataset")
        raise UserError(f"{score} was trained on {other}, not on what is in {dataset.folder}; train it on this one")
    refuse_other_levels(score, config.alpha)


def run_job(name: str, job: TrainJob, track: Tracker, artist: Artist | None = None) -> Outcome:
    """Train a model, tracked under a name; nothing is done if it is in its folder already.

    Args:
        artist: draws the model as it learns.
    """
    if job.is_trained():
        history = History.load(job.folder)
        return Outcome(name, False, job.folder, _facts(history), result=history)
    from p2d.cluster.training import train

    start = time.monotonic()
    parameters = {**job.config.to_dict(), **job.source.to_dict(), "dataset_hash": job.dataset.card.dataset_hash}
    with stage(track, name, job.folder, parameters) as child, progress(name, job.config.passes, "epochs") as advance:
        history = History()
        child.dataset(job.dataset)

        def on_epoch(epoch: Epoch, model: Path | None) -> None:
            nonlocal history
            metrics = epoch.metrics
            child.metrics(epoch.to_dict(), step=epoch.number)
            rate = f", {metrics['samples_per_second']:.1f} samples/s" if "samples_per_second" in metrics else ""
            done = epoch.number - (history.last.number if history.epochs else 0)
            advance(done, f"validation {epoch.validation_loss:.4g}{rate}")
            history = history.followed_by(epoch)
            if artist and model:
                for picture in artist(model, history):
                    child.artifact(picture, "training")

        train(job, on_epoch)
        history = History.load(job.folder)
        child.model(f"{job.kind}-{job.folder.name}", job.folder, job.dataset, history.last.to_dict())
    return Outcome(name, True, job.folder, _facts(history), time.monotonic() - start, history)


def _facts(history: History) -> dict[str, Any]:
    """What --json says of a training."""
    return {name: value for name, value in history.last.to_dict().items() if name.startswith(FACTS)}
