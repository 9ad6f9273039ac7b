"""The measurements of a report, on held-out snapshots, and the arrays that its figures show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from p2d.discovery.result import Discovery
from p2d.evaluate import metrics, ways
from p2d.evaluate.evaluation import EquationMeasures, Evaluation, FieldMeasures, FlowMeasures, Preservation
from p2d.evaluate.fresh import measure_fresh
from p2d.evaluate.passes import Fields, measure
from p2d.evaluate.rollout import roll_out
from p2d.flow import verdict
from p2d.flow.model import Flow
from p2d.snapshots.conditions import Conditions
from p2d.snapshots.static import STATIC
from p2d.snapshots.store import Dataset, evenly
from p2d.threads import Mapper
from p2d.training.checkpoint import read_config
from p2d.training.history import Epoch, History

SHOWN = 8  # held-out snapshots, at most, that figures show and a flow carries on
ROLLED_STEPS = 200
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
        states: the first held-out values, [N, C, H, W].
        velocities: there, [N, C, H, W], by 'true', 'flow' and 'equation', as far as there are any.
        histories: of each training.
    """

    evaluation: Evaluation
    states: np.ndarray
    velocities: dict[str, np.ndarray]
    histories: dict[str, History]


def measure_report(subject: Subject, each: Mapper = map) -> Report:
    """Measure everything on the held-out snapshots.

    Args:
        each: a map over parts of them, over fresh runs and over rollouts, whose functions it may pickle.
    """
    dataset, grid = subject.dataset, subject.dataset.card.grid
    states = dataset.states(subject.held_ids[:SHOWN])
    folders = {"score": subject.score, "flow": subject.flow}
    histories = {kind: History.load(folder) for kind, folder in folders.items() if folder is not None}
    carrier = Flow.load(subject.flow).on(grid) if subject.flow is not None else None
    discovery = subject.discovery
    across = tuple(discovery.conditions) if discovery else ()
    known = Conditions.of_dataset(dataset, across, subject.held_ids) if across else None
    fields = Fields(dataset, carrier, (discovery.system, discovery.operator) if discovery else None, known)
    measured = measure(fields, subject.held_ids, each)
    is_static = measured.imbalance < STATIC

    def of(name: str) -> FieldMeasures:
        cosines: dict[str, float | None] = {**measured.cosines.get(name, {})}
        # Of a field that is as good as zero they mean little.
        return FieldMeasures(**measured.z[name], cosines=dict.fromkeys(cosines) if is_static else cosines)

    flow = equation = None
    if carrier is not None:
        words, preservation = _judge(subject, carrier, histories["flow"].last, states, measured.imbalance, each)
        flow = FlowMeasures(subject.objective, of("flow"), measured.imbalance, words, preservation)
    if discovery is not None:
        fresh = None if is_static else measure_fresh(discovery, dataset, each=each)
        equation = EquationMeasures(of("equation"), discovery, fresh)
    evaluation = Evaluation(
        dataset_hash=subject.dataset.card.dataset_hash,
        held_out=len(subject.held_ids),
        truth=replace(of("true"), cosines={}) if "true" in measured.z else None,
        score=_last_losses(histories["score"]) if "score" in histories else None,
        flow=flow,
        equation=equation,
    )
    return Report(evaluation, states, fields.velocities(subject.held_ids[:SHOWN], states), histories)


def _last_losses(history: History) -> dict[str, float]:
    losses = {key: value for key, value in history.last.metrics.items() if key.startswith("validation_loss")}
    return {**losses, "epochs": history.last.number}


def _judge(
    subject: Subject, flow: Flow, last: Epoch, states: np.ndarray, imbalance: float, each: Mapper
) -> tuple[str, Preservation | None]:
    """The verdict on a flow, and whether an ensemble that it carries on stays what it is, which need no truth."""
    assert subject.flow is not None
    train_ids = np.setdiff1d(subject.dataset.living, subject.held_ids)
    if subject.objective == "stationarity":
        learnt_from = read_config(subject.flow, "flow")["data"].get("snapshots") or len(train_ids)
        words = verdict.verdict(last.metrics | {"imbalance": imbalance}, learnt_from, subject.dataset.card.grid.shape)
    else:
        words = verdict.static(imbalance) if imbalance < STATIC else ""
    score = ways.score_beside(flow, subject.score)
    if flow.alpha is not None and score is None:
        return words, None
    rolled = ways.Subject(
        flow=flow,
        system=metrics.known_system(subject.dataset),
        grid=subject.dataset.card.grid,
        operator=metrics.operator_of(subject.dataset),
        integrator=subject.dataset.card.settings.get("integrator", "euler"),
        score=score,
        starts=states,
        ensemble=subject.dataset.states(evenly(train_ids, REFERENCE)),
        times=list(range(0, ROLLED_STEPS + 1, ROLLED_STEPS // 10)),
    )
    return words, _measure_preservation(rolled, each)


def _measure_preservation(rolled: ways.Subject, each: Mapper) -> Preservation:
    kinds = {"recovered": ways.RECOVERED, "random": ways.RANDOM, "still": ways.STILL}
    kinds |= {"score": ways.SCORE} if rolled.score else {}
    courses = roll_out(rolled, tuple(kinds.values()), lambda *_: None, each).courses
    ratios = {
        key: courses[kind].ratio_mean if courses[kind].blown_up is None else None
        for key, kind in kinds.items()
        if kind in courses
    }
    return Preservation(ratios, ROLLED_STEPS, courses[ways.RECOVERED].decorrelation_time)
