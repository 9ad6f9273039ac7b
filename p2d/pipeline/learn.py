"""What is learnt from a dataset: a score model, a flow, an equation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2d.config import FlowConfig, FlowSource, ScoreConfig, TrainSource, check_channel
from p2d.errors import UserError
from p2d.pipeline.refuse import refuse_other_levels, refuse_other_systems
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress, say
from p2d.runs import FLOW, REPORT, SCORE, short_name
from p2d.snapshots.store import Dataset, find_dataset
from p2d.training.checkpoint import read_config, read_history
from p2d.training.identity import describe, is_trained

FACTS = ("validation", "continuity", "z_", "epoch", "imbalance", "mean_divergence")  # of a training's last epoch
Artist = Callable[[Path, list[dict[str, float]]], list[Path]]  # draws a model in training, given its metrics so far


def train_score(config: ScoreConfig, source: TrainSource, out: Path, track: Tracker, plot_channel: int = 1) -> Outcome:
    """Train a score model into OUT/score/NAME, with pictures of its training in OUT/report/NAME/training."""
    check_channel(plot_channel)
    dataset = find_dataset(source.dataset, out)
    name = source.name or short_name(dataset.folder.name)
    artist = _artist(REPORT.place(out, name) / "training", dataset, source.holdout, plot_channel, name)
    return train_into("train-score", config, source, dataset, SCORE.place(out, name), track, artist=artist)


def _artist(folder: Path, dataset: Dataset, holdout: float, channel: int, name: str) -> Artist:
    """Draws what a score model in training has come to."""

    def draw(model: Path, history: list[dict[str, float]]) -> list[Path]:
        from p2d.score.model import ScoreModel
        from p2d.show import pictures

        _, held = dataset.split(holdout)
        state = dataset.states(held[:1])[0]
        return pictures.of_training(folder, ScoreModel.load(model), state, dataset.card.affine, history, channel, name)

    return draw


def train_flow(config: FlowConfig, source: FlowSource, out: Path, track: Tracker) -> Outcome:
    """Train a flow into OUT/flow/NAME; with all objectives but stationarity, from a score model."""
    dataset = find_dataset(source.dataset, out)
    short = short_name(dataset.folder.name)
    if config.objective == "stationarity":
        _warn_of_few(dataset, source)
        folder = FLOW.place(out, source.name or flow_name(short, config.objective))
        outcome = train_into("train-flow", config, source, dataset, folder, track)
        return dataclasses.replace(outcome, facts=outcome.facts | _judged(outcome.facts, dataset, source))
    score = SCORE.find(out, source.score or short)
    check_score(config, dataset, score)
    folder = FLOW.place(out, source.name or flow_name(short, config.objective))
    return train_into("train-flow", config, source, dataset, folder, track, score=score)


def flow_name(short: str, objective: str) -> str:
    """Name of the flow of a dataset: those that do not recover the dynamics are named by their objective."""
    return short if objective == "stationarity" else f"{short}_{objective}"


def _warn_of_few(dataset: Dataset, source: TrainSource) -> None:
    """Say how many snapshots would do, where there are fewer."""
    from p2d.flow.verdict import enough_snapshots

    there, enough = len(dataset.split(source.holdout, source.snapshots)[0]), enough_snapshots(dataset.card.grid)
    if there < enough:
        height, width = dataset.card.grid
        say(f"warning: {there} training snapshots of {height} x {width} are few for a flow; {enough} would do")


def _judged(facts: dict[str, Any], dataset: Dataset, source: TrainSource) -> dict[str, Any]:
    """What a flow is worth, in words."""
    from p2d.flow.verdict import verdict

    count = len(dataset.split(source.holdout, source.snapshots)[0])
    return {"verdict": verdict(facts["imbalance"], facts["z_rms"], count, dataset.card.grid)}


def check_score(config: FlowConfig, dataset: Dataset, score: Path) -> None:
    """Refuse a score model of another dataset or normalisation, or one that does not know the signal level."""
    refuse_other_systems("score", score, dataset)
    made = read_config(score, "score")
    if made["data"]["affine"] != dataset.card.affine:
        raise UserError(
            f"{score} was trained with another normalisation than {dataset.folder} has; train it on this one"
        )
    if made["data"]["dataset_hash"] != dataset.card.dataset_hash:
        other = made.get("learnt_from", {}).get("dataset", "another dataset")
        raise UserError(f"{score} was trained on {other}, not on what is in {dataset.folder}; train it on this one")
    refuse_other_levels(score, config.alpha)


def train_into(
    name: str,
    config: ScoreConfig | FlowConfig,
    source: TrainSource,
    dataset: Dataset,
    folder: Path,
    track: Tracker,
    score: Path | None = None,
    artist: Artist | None = None,
) -> Outcome:
    """Train a model into a folder, tracked under a name; nothing is done if it is there.

    Args:
        score: folder of the score model that a flow needs.
        artist: draws the model as it learns.
    """
    if is_trained(folder, describe(config, source, dataset, score)):
        return Outcome(name, False, folder, _training_facts(read_history(folder)))
    from p2d.cluster.training import train

    start = time.monotonic()
    parameters = {**config.to_dict(), **source.to_dict(), "dataset_hash": dataset.card.dataset_hash}
    with stage(track, name, folder, parameters) as child, progress(name, config.passes, "epochs") as advance:
        history: list[dict[str, float]] = []

        def on_epoch(metrics: dict[str, float], model: Path | None) -> None:
            epoch = int(metrics["epoch"])
            child.metrics(metrics, step=epoch)
            rate = f", {metrics['samples_per_second']:.1f} samples/s" if "samples_per_second" in metrics else ""
            done = epoch - int(history[-1]["epoch"]) if history else epoch
            advance(done, f"validation {metrics['validation_loss']:.4g}{rate}")
            history.append(metrics)
            if artist and model:
                for picture in artist(model, history):
                    child.artifact(picture, "training")

        train(config, source, dataset, folder, on_epoch, score)
    return Outcome(name, True, folder, _training_facts(read_history(folder)), time.monotonic() - start)


def _training_facts(history: list[dict[str, float]]) -> dict[str, Any]:
    return {k: v for k, v in history[-1].items() if k.startswith(FACTS)}
