"""The report: held-out measurements, figures and summary.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2d.checkpoint import read_history
from p2d.dynamics import library
from p2d.evaluate import figures, metrics, pictures
from p2d.flow.model import Flow
from p2d.score.model import ScoreModel
from p2d.snapshots.store import Dataset

PICTURED_SNAPSHOTS = 3
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
    figures.snapshots(folder / "snapshots.png", states, channel, subject.name)
    found: dict[str, Any] = {"dataset_hash": subject.dataset.card.dataset_hash, "held_out": len(states)}
    fields: dict[str, np.ndarray] = {} if truth is None else {"true": truth}
    histories = {}
    if truth is not None:
        found["truth"] = metrics.stationarity(truth, states)
    if subject.score is not None:
        history = read_history(subject.score)
        histories["score"] = history
        losses = {k: v for k, v in history[-1].items() if k.startswith("validation_loss")}
        found["score"] = {**losses, "epochs": history[-1]["epoch"]}
        model, affine = ScoreModel.load(subject.score), subject.dataset.card.affine
        pictures.denoised(folder / "denoised.png", model, states[0], affine, channel, subject.name)
    if subject.flow is not None:
        histories["flow"] = read_history(subject.flow)
        fields["flow"] = _flow_velocity(subject.flow, states)
        found["flow"] = {"objective": subject.objective, **_measured(fields["flow"], states, truth)}
    if subject.discovery is not None:
        coefficients = library.from_equation(subject.discovery["equation"])
        fields["equation"] = library.rate(coefficients, states.astype(np.float64))
        found["discover"] = {**_measured(fields["equation"], states, truth), **subject.discovery}
    if fields:
        keys = {"flow": "flow", "equation": "discover"}
        cosines = {k: found[keys[k]]["cosine"] for k in fields if k in keys and truth is not None}
        some = slice(0, PICTURED_SNAPSHOTS)
        chosen = {k: v[some] for k, v in fields.items()}
        figures.velocities(folder / "velocity.png", states[some], chosen, cosines, channel, subject.name)
    if histories:
        labels = {"score": VALIDATION_LABELS["score"], "flow": VALIDATION_LABELS.get(subject.objective, "")}
        figures.losses(folder / "losses.png", histories, labels, subject.name)
    return found


def _measured(velocity: np.ndarray, states: np.ndarray, truth: np.ndarray | None) -> dict[str, float]:
    known = metrics.cosine(velocity, truth) if truth is not None else {}
    return {**known, **metrics.stationarity(velocity, states)}


@torch.no_grad()
def _flow_velocity(folder: Path, states: np.ndarray) -> np.ndarray:
    flow = Flow.load(folder)
    return torch.cat([flow(x) for x in torch.from_numpy(states).split(8)]).double().numpy()
