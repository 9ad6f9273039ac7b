"""The report: held-out measurements, figures and summary.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2d.evaluate import metrics, rollout
from p2d.flow import verdict
from p2d.flow.model import Flow
from p2d.score.model import ScoreModel
from p2d.show import figures, pictures
from p2d.snapshots.store import Dataset, evenly
from p2d.systems import library
from p2d.training.checkpoint import read_config
from p2d.training.history import Epoch, History

PICTURED_SNAPSHOTS = 3
ROLLED_OUT, ROLLED_STEPS = 8, 200  # held-out snapshots, and how far a flow carries them on
REFERENCE = 512  # training snapshots, at most, that make the ensemble they are held against
VALIDATION_LABELS = {
    "score": "held-out noise prediction loss",
    "stationarity": "rms z of held-out observables",
    "continuity": "held-out continuity residual",
}


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a dataset, its held-out samples, and what was learnt from the others.

    Attributes:
        score, flow: checkpoint folders, or None.
        objective: of the flow, '' without one.
        discovery: what discover.summary gives, or None.
    """

    name: str
    dataset: Dataset
    held_ids: np.ndarray
    score: Path | None
    flow: Path | None
    objective: str
    discovery: dict[str, Any] | None


def evaluate(subject: Subject, folder: Path, channel: int) -> dict[str, Any]:
    """Measure everything on the held-out snapshots, draw the figures into `folder`, and return the measurements."""
    states = subject.dataset.states(subject.held_ids)
    truth = metrics.true_velocity(subject.dataset, subject.held_ids, states)
    imbalance = verdict.imbalance(torch.from_numpy(states))
    figures.snapshots(folder / "snapshots.png", states, channel, subject.name)
    found: dict[str, Any] = {"dataset_hash": subject.dataset.card.dataset_hash, "held_out": len(states)}
    fields: dict[str, np.ndarray] = {} if truth is None else {"true": truth}
    histories = {}
    if truth is not None:
        found["truth"] = metrics.stationarity(truth, states)
    if subject.score is not None:
        history = History.load(subject.score)
        histories["score"] = history
        losses = {k: v for k, v in history.last.metrics.items() if k.startswith("validation_loss")}
        found["score"] = {**losses, "epochs": history.last.number}
        model, affine = ScoreModel.load(subject.score), subject.dataset.card.affine
        pictures.denoised(folder / "denoised.png", model, states[0], affine, channel, subject.name)
    if subject.flow is not None:
        histories["flow"] = History.load(subject.flow)
        fields["flow"] = metrics.flow_velocity(subject.flow, states)
        found["flow"] = {
            "objective": subject.objective,
            **_measured(fields["flow"], states, truth, imbalance),
            **_judged(subject, histories["flow"].last, states, imbalance),
        }
    if subject.discovery is not None:
        fields["equation"] = library.rate(subject.discovery["equation"], states.astype(np.float64))
        found["discover"] = {**_measured(fields["equation"], states, truth, imbalance), **subject.discovery}
    if fields:
        keys = {"flow": "flow", "equation": "discover"}
        cosines = {k: found[keys[k]]["cosine"] for k in fields if k in keys and truth is not None}
        cosines = {k: c for k, c in cosines.items() if c is not None}
        some = slice(0, PICTURED_SNAPSHOTS)
        chosen = {k: v[some] for k, v in fields.items()}
        figures.velocities(folder / "velocity.png", states[some], chosen, cosines, channel, subject.name)
    if histories:
        labels = {"score": VALIDATION_LABELS["score"], "flow": VALIDATION_LABELS.get(subject.objective, "")}
        figures.losses(folder / "losses.png", histories, labels, subject.name)
    return found


def _measured(
    velocity: np.ndarray, states: np.ndarray, truth: np.ndarray | None, imbalance: float
) -> dict[str, float | None]:
    """Stationarity, and cosines with the truth where there is one; None for these where nothing moves."""
    if truth is None:
        return {**metrics.stationarity(velocity, states)}
    found = metrics.cosine(velocity, truth)
    return {
        **(dict.fromkeys(found) if verdict.is_static(imbalance) else found),
        **metrics.stationarity(velocity, states),
    }


def _judged(subject: Subject, last: Epoch, states: np.ndarray, imbalance: float) -> dict[str, Any]:
    """The verdict on a flow, and whether an ensemble that it carries on stays what it is, which need no truth."""
    train_ids = np.setdiff1d(subject.dataset.living, subject.held_ids)
    if subject.objective == "stationarity":
        assert subject.flow is not None
        learnt_from = read_config(subject.flow, "flow")["data"].get("snapshots") or len(train_ids)
        words = verdict.verdict(imbalance, last.metrics["z_rms"], learnt_from, subject.dataset.card.grid)
    else:
        words = verdict.static(imbalance) if verdict.is_static(imbalance) else ""
    found: dict[str, Any] = {"imbalance": imbalance, "verdict": words}
    assert subject.flow is not None
    flow = Flow.load(subject.flow)
    score = rollout.score_beside(flow, subject.score)
    if flow.alpha is not None and score is None:
        return found
    rolled = rollout.Subject(
        flow=flow,
        system=rollout.known_system(subject.dataset),
        score=score,
        starts=states[:ROLLED_OUT],
        ensemble=subject.dataset.states(evenly(train_ids, REFERENCE)),
        times=list(range(0, ROLLED_STEPS + 1, ROLLED_STEPS // 10)),
    )
    kinds = (rollout.RECOVERED, rollout.RANDOM, rollout.STILL, *((rollout.SCORE,) if score else ()))
    courses = rollout.summary(rollout.roll_out(rolled, kinds, lambda *_: None), rolled.times)
    named = {"recovered": rollout.RECOVERED, "random": rollout.RANDOM, "still": rollout.STILL, "score": rollout.SCORE}
    there = {key: courses[kind] for key, kind in named.items() if kind in courses}
    kept = {key: course["ratio_mean"] if course["blown_up"] is None else None for key, course in there.items()}
    moves = courses[rollout.RECOVERED]["decorrelation_time"]
    return found | {"preservation": kept | {"steps": ROLLED_STEPS, "decorrelation_time": moves}}
