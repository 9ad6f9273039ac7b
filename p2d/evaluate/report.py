"""The report: held-out measurements, figures and summary.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2d.checkpoint import read_history
from p2d.dynamics import library
from p2d.evaluate import figures, metrics
from p2d.flow.velocity import Flow
from p2d.score import noise
from p2d.score.unet import ScoreModel
from p2d.snapshots.store import Dataset

PICTURED_ALPHAS = (0.5, 0.8, 0.95)
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
        _draw_denoised(subject, states[0], folder / "denoised.png", channel)
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


@torch.no_grad()
def _draw_denoised(subject: Subject, state: np.ndarray, path: Path, channel: int) -> None:
    assert subject.score is not None
    model = ScoreModel.load(subject.score)
    affine = subject.dataset.card.affine
    x = torch.from_numpy(state)[None] * affine["scale"] + affine["shift"]
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    alphas = (
        model.alpha if len(model.alpha) == 1 else [a for a in PICTURED_ALPHAS if model.alpha[0] <= a <= model.alpha[1]]
    )
    panels = []
    for alpha in alphas or model.alpha:
        level = torch.tensor([alpha])
        x_a = noise.add_noise(x, eps, level)
        pair = (x_a / level.sqrt(), model.denoise(x_a, level))
        noisy, mean = (((y - affine["shift"]) / affine["scale"])[0].numpy() for y in pair)
        panels.append((alpha, noisy, mean))
    figures.denoised(path, state, panels, channel, subject.name)
