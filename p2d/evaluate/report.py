"""The measurements of a report, on held-out snapshots, and the arrays that its figures show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from p2d.discovery.result import Discovery
from p2d.evaluate import metrics, rollout
from p2d.evaluate.evaluation import EquationMeasures, Evaluation, FieldMeasures, FlowMeasures, Preservation
from p2d.evaluate.fresh import measure_fresh
from p2d.flow import verdict
from p2d.flow.model import Flow
from p2d.snapshots.static import STATIC, measure_imbalance
from p2d.snapshots.store import Dataset, evenly
from p2d.training.checkpoint import read_config
from p2d.training.history import Epoch, History

ROLLED_OUT, ROLLED_STEPS = 8, 200  # held-out snapshots, and how far a flow carries them on
REFERENCE = 512  # training snapshots, at most, that make the ensemble they are held against


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a dataset, its held-out samples, and what was learnt from the others.

    Attributes:
        score, flow: checkpoint folders, or None.
        objective: of the flow, '' without one.
    """

    name: str
    dataset: Dataset
    held_ids: np.ndarray
    score: Path | None
    flow: Path | None
    objective: str
    discovery: Discovery | None


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation, and what its figures show.

    Attributes:
        states: held-out values [N, C, H, W].
        velocities: there, [N, C, H, W], by 'true', 'flow' and 'equation', as far as there are any.
        histories: of each training.
    """

    evaluation: Evaluation
    states: np.ndarray
    velocities: dict[str, np.ndarray]
    histories: dict[str, History]


def measure_report(subject: Subject) -> Report:
    """Measure everything on the held-out snapshots."""
    dataset, grid = subject.dataset, subject.dataset.card.grid
    states = dataset.states(subject.held_ids)
    truth = metrics.true_velocity(dataset, subject.held_ids, states)
    imbalance = measure_imbalance(states, grid)
    is_static = imbalance < STATIC
    velocities = {} if truth is None else {"true": truth}
    folders = {"score": subject.score, "flow": subject.flow}
    histories = {kind: History.load(folder) for kind, folder in folders.items() if folder is not None}
    flow = equation = None
    carrier = Flow.load(subject.flow).on(grid) if subject.flow is not None else None
    found = subject.discovery.system if subject.discovery else None
    # All fields are held against each other in the same cells: those where each of them is known.
    known = (*dataset.card.systems.values(), found)
    reach = max(carrier.reach if carrier else 0, *(metrics.reach_of(system, dataset) for system in known))

    def measured(velocity: np.ndarray) -> FieldMeasures:
        z = metrics.stationarity(velocity, states, grid, reach)
        cosines: dict[str, float | None] = {}
        if truth is not None:
            cosines |= metrics.cosine(velocity, truth, dataset.card.names, grid.inside(reach))
        # Of a field that is as good as zero they mean little.
        return FieldMeasures(z["z_rms"], z["z_max"], dict.fromkeys(cosines) if is_static else cosines)

    if carrier is not None:
        velocities["flow"] = metrics.flow_velocity(carrier, states)
        words, preservation = _judge(subject, carrier, histories["flow"].last, states, imbalance)
        flow = FlowMeasures(subject.objective, measured(velocities["flow"]), imbalance, words, preservation)
    if subject.discovery is not None and found is not None:
        velocities["equation"] = found.rate(states.astype(np.float64), grid, subject.discovery.operator)
        fresh = None if is_static else measure_fresh(subject.discovery, dataset)
        equation = EquationMeasures(measured(velocities["equation"]), subject.discovery, fresh)
    evaluation = Evaluation(
        dataset_hash=subject.dataset.card.dataset_hash,
        held_out=len(states),
        truth=replace(measured(truth), cosines={}) if truth is not None else None,
        score=_last_losses(histories["score"]) if "score" in histories else None,
        flow=flow,
        equation=equation,
    )
    return Report(evaluation, states, velocities, histories)


def _last_losses(history: History) -> dict[str, float]:
    losses = {key: value for key, value in history.last.metrics.items() if key.startswith("validation_loss")}
    return {**losses, "epochs": history.last.number}


def _judge(
    subject: Subject, flow: Flow, last: Epoch, states: np.ndarray, imbalance: float
) -> tuple[str, Preservation | None]:
    """The verdict on a flow, and whether an ensemble that it carries on stays what it is, which need no truth."""
    assert subject.flow is not None
    train_ids = np.setdiff1d(subject.dataset.living, subject.held_ids)
    if subject.objective == "stationarity":
        learnt_from = read_config(subject.flow, "flow")["data"].get("snapshots") or len(train_ids)
        words = verdict.verdict(last.metrics | {"imbalance": imbalance}, learnt_from, subject.dataset.card.grid.shape)
    else:
        words = verdict.static(imbalance) if imbalance < STATIC else ""
    score = rollout.score_beside(flow, subject.score)
    if flow.alpha is not None and score is None:
        return words, None
    rolled = rollout.Subject(
        flow=flow,
        system=metrics.known_system(subject.dataset),
        grid=subject.dataset.card.grid,
        operator=metrics.operator_of(subject.dataset),
        integrator=subject.dataset.card.settings.get("integrator", "euler"),
        score=score,
        starts=states[:ROLLED_OUT],
        ensemble=subject.dataset.states(evenly(train_ids, REFERENCE)),
        times=list(range(0, ROLLED_STEPS + 1, ROLLED_STEPS // 10)),
    )
    return words, _measure_preservation(rolled)


def _measure_preservation(rolled: rollout.Subject) -> Preservation:
    kinds = {"recovered": rollout.RECOVERED, "random": rollout.RANDOM, "still": rollout.STILL}
    kinds |= {"score": rollout.SCORE} if rolled.score else {}
    courses = rollout.roll_out(rolled, tuple(kinds.values()), lambda *_: None).courses
    ratios = {
        key: courses[kind].ratio_mean if courses[kind].blown_up is None else None
        for key, kind in kinds.items()
        if kind in courses
    }
    return Preservation(ratios, ROLLED_STEPS, courses[rollout.RECOVERED].decorrelation_time)
