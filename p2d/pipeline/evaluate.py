"""What was learnt, measured on held-out snapshots."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from p2d.config import EvaluateConfig, ReportConfig, Source
from p2d.config.stored import Json
from p2d.errors import UserError
from p2d.evaluate.evaluation import Evaluation
from p2d.pipeline.refuse import refuse_other_systems
from p2d.pipeline.report import report
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.runs import EQUATION, FLOW, REPORT, SCORE, read_json, short_name
from p2d.show.view import View
from p2d.snapshots.store import find_dataset
from p2d.tracking.datasets import EVALUATION
from p2d.tracking.store import Run
from p2d.training.checkpoint import read_config


def evaluate(config: EvaluateConfig, source: Source, out: Path, track: Tracker, page: bool = True) -> Outcome:
    """Measure what was learnt from a dataset on its held-out snapshots, into OUT/report/NAME.

    Args:
        page: write the page that shows it, too.
    """
    outcome = _measured(config, source, out, track)
    if page:
        models = {key: getattr(config, key) for key in ("score", "flow", "equation", "show")}
        own = {key: getattr(source, key) for key in ("dataset", "name", "holdout")}
        report(ReportConfig(**own, **models), out, track)
    return outcome


def _measured(config: EvaluateConfig, source: Source, out: Path, track: Tracker) -> Outcome:
    dataset = find_dataset(source.dataset, out)
    view = View(dataset.card.species, dataset.card.grid, config.show)
    short = short_name(dataset.folder.name)
    name = source.name or short
    folder = REPORT.place(out, name)
    score = SCORE.find_or_own(out, config.score, short)
    flow = FLOW.find_or_own(out, config.flow, short)
    equation = EQUATION.find_or_own(out, config.equation, short)
    if score is None and flow is None and equation is None:
        raise UserError(f"there is nothing to evaluate for {dataset.folder}: train or discover something of it first")
    models: dict[str, Json | None] = {"score": None, "flow": None}
    for kind, model in (("score", score), ("flow", flow)):
        if model is not None:
            refuse_other_systems(kind, model, dataset)
            made = read_config(model, kind)
            models[kind] = {**made["settings"], **made["data"]}
    inputs = {
        "dataset_hash": dataset.card.dataset_hash,
        "holdout": source.holdout,
        "show": view.shown,
        **models,
        "equation": read_json(equation, "settings")["settings"] if equation else None,
    }
    inputs = json.loads(json.dumps(inputs))
    before = read_summary(folder)
    if before.get("inputs") == inputs:
        return Outcome("evaluate", False, folder, before, result=Evaluation.from_dict(before))
    from p2d.cluster.mapping import choose_mapper
    from p2d.cluster.runtime import shared_folder
    from p2d.discovery.result import Discovery
    from p2d.evaluate.report import Subject, measure_report
    from p2d.show.report import draw_report

    start = time.monotonic()
    with stage(track, "evaluate", folder, {**config.to_dict(), **source.to_dict()}) as child:
        child.dataset(dataset, EVALUATION)
        _, held_ids = dataset.split(source.holdout)
        subject = Subject(
            name=name,
            dataset=replace(dataset, folder=shared_folder(dataset.folder)),
            held_ids=held_ids,
            score=score,
            flow=flow,
            objective=read_config(flow, "flow")["settings"]["objective"] if flow else "",
            discovery=Discovery.load(equation) if equation else None,
        )
        report = measure_report(subject, choose_mapper(source.workers, folder))
        draw_report(folder, subject, report, view)
        evaluation = replace(report.evaluation, inputs=inputs, seconds=before.get("seconds", {}))
        evaluation.save(folder / "summary.json")
        _track(child, evaluation, folder)
    return Outcome("evaluate", True, folder, evaluation.to_dict(), time.monotonic() - start, evaluation)


def _track(child: Run, evaluation: Evaluation, folder: Path) -> None:
    for part, values in evaluation.to_dict().items():
        if part in ("score", "flow", "discover"):
            child.metrics({f"{part}_{key}": value for key, value in values.items()})
    for path in (*sorted(folder.glob("*.png")), folder / "summary.json"):
        child.artifact(path)


def read_summary(folder: Path) -> Json:
    """summary.json of a report; empty when there is none."""
    file = folder / "summary.json"
    return read_json(file) if file.is_file() else {}
