"""The whole way, from simulation to report: what convinces first, the equation, before what takes longest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from p2d.config import EvaluateConfig, FlowSource, ReportConfig, RunConfig, SampleConfig
from p2d.evaluate.evaluation import Evaluation
from p2d.pipeline.discover import discover
from p2d.pipeline.evaluate import evaluate, read_summary
from p2d.pipeline.generate import sample
from p2d.pipeline.learn import flow_name, train_flow, train_score
from p2d.pipeline.refuse import refuse_objective
from p2d.pipeline.report import report
from p2d.pipeline.simulate import resolve_simulation, simulate
from p2d.pipeline.stage import Outcome, Tracker
from p2d.progress import say
from p2d.runs import REPORT, SCORE, short_name, write_json
from p2d.show.view import View
from p2d.snapshots.store import Dataset, find_dataset
from p2d.tracking.store import Run

Stages = dict[str, Callable[[], Outcome]]  # in their order, by the names that their times have in summary.json


def run(config: RunConfig, out: Path, track: Tracker, quick: bool = False) -> tuple[Evaluation, list[Outcome]]:
    """Everything: simulate, unless there is a dataset, discover, train models, evaluate, sample, and one page.

    Args:
        quick: few snapshots and their equation, without models.

    Returns:
        The evaluation, as it is in report/NAME/summary.json, and what each stage did.
    """
    config = config.quickened() if quick else config
    source = config.source()
    known = find_dataset(config.dataset, out) if config.dataset else None
    name = short_name(known.folder.name if known else source.dataset)
    _refuse(config, known, out)
    outcomes = []
    with ExitStack() as stack:

        @functools.cache
        def parent() -> Run:
            return stack.enter_context(track().child(f"run {name}", source.to_dict()))

        for key, stage in _stages(config, name, out, parent, quick).items():
            outcome = stage()
            outcomes.append(outcome)
            if outcome.made:
                _add_seconds(REPORT.place(out, name), key, outcome.seconds)
                if key == "discover":
                    say(f"\n{outcome.result}\n")  # which nobody has to wait for
            else:
                say(f"{outcome.stage}: nothing to do, {outcome.where} is there")
        evaluation = Evaluation.load(REPORT.place(out, name) / "summary.json")
        if any(o.made for o in outcomes):
            parent().metrics(_measures(evaluation))
            parent().dataset(find_dataset(source.dataset, out))
    return evaluation, outcomes


def _refuse(config: RunConfig, known: Dataset | None, out: Path) -> None:
    """Refuse before anything is made what a later stage would refuse."""
    if known:
        View(known.card.species, known.card.grid, config.show)
        refuse_objective(config.flow.objective, known)
    else:
        simulation = resolve_simulation(config.simulate, out)
        View(simulation.species, simulation.grid, config.show)


def _stages(config: RunConfig, name: str, out: Path, track: Tracker, quick: bool) -> Stages:
    source = config.source()
    simulated: Stages = {} if config.dataset else {"simulate": lambda: simulate(config.simulate, out, track)}
    simulated["discover"] = lambda: discover(config.discover, source, out, track)
    flow: Stages = {"flow": lambda: train_flow(config.flow, FlowSource(**source.to_dict()), out, track)}
    score: Stages = {"score": lambda: train_score(config.score, source, out, track, config.show)}
    models = flow | score if config.flow.objective == "stationarity" else score | flow  # the others begin with a score
    models = {} if quick else models
    settings = EvaluateConfig(flow="" if quick else flow_name(name, config.flow.objective), show=config.show)
    stages = {**simulated, **models, "evaluate": lambda: evaluate(settings, source, out, track, page=False)}
    if not quick and config.score.is_sampled:
        # Of a name of their own: those of `p2d sample` may have other settings.
        patterns = SampleConfig(name=f"{name}_patterns", workers=config.workers, show=config.show)
        stages["sample"] = lambda: sample(str(SCORE.place(out, name)), patterns, out, track)
    page = ReportConfig(dataset=source.dataset, flow=settings.flow, holdout=source.holdout, show=config.show)
    stages["report"] = lambda: report(page, out, track)
    return stages


def _measures(evaluation: Evaluation) -> dict[str, float]:
    """What a run is compared with others by."""
    measured = {
        "validation_loss": evaluation.score["validation_loss"] if evaluation.score else None,
        "flow_cosine": evaluation.flow.field.cosine if evaluation.flow else None,
        "discover_cosine": evaluation.equation.field.cosine if evaluation.equation else None,
    }
    return {key: value for key, value in measured.items() if value is not None}


def _add_seconds(folder: Path, stage: str, seconds: float) -> None:
    """Note a stage's wall time in the summary, which the evaluation completes."""
    summary = read_summary(folder)
    times = summary.setdefault("seconds", {})
    times[stage] = round(times.get(stage, 0.0) + seconds, 1)
    write_json(folder / "summary.json", summary)
