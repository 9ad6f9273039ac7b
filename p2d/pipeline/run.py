"""The whole way, from simulation to report."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from p2d.config import EvaluateConfig, FlowSource, RunConfig
from p2d.evaluate.evaluation import Evaluation
from p2d.pipeline.discover import discover
from p2d.pipeline.evaluate import evaluate, read_summary
from p2d.pipeline.learn import flow_name, train_flow, train_score
from p2d.pipeline.refuse import refuse_objective
from p2d.pipeline.simulate import resolve_simulation, simulate
from p2d.pipeline.stage import Outcome, Tracker
from p2d.progress import say
from p2d.runs import REPORT, short_name, write_json
from p2d.show.view import View
from p2d.snapshots.store import find_dataset
from p2d.tracking.store import Run


def run(config: RunConfig, out: Path, track: Tracker) -> tuple[Evaluation, list[Outcome]]:
    """Everything: simulate, unless there is a dataset, train-score, train-flow, discover, evaluate; one tracked run.

    Returns:
        The evaluation, as it is in report/NAME/summary.json, and what each stage did.
    """
    source = config.source()
    known = find_dataset(config.dataset, out) if config.dataset else None
    name = short_name(known.folder.name if known else source.dataset)
    settings = EvaluateConfig(flow=flow_name(name, config.flow.objective), show=config.show)
    # Refused before anything is made.
    if known:
        View(known.card.species, known.card.grid, config.show)
        refuse_objective(config.flow.objective, known)
    else:
        simulation = resolve_simulation(config.simulate, out)
        View(simulation.species, simulation.grid, config.show)
    outcomes = []
    with ExitStack() as stack:

        @functools.cache
        def parent() -> Run:
            return stack.enter_context(track().child(f"run {name}", source.to_dict()))

        stages: dict[str, Callable[[], Outcome]] = {
            **({} if known else {"simulate": lambda: simulate(config.simulate, out, parent)}),
            "score": lambda: train_score(config.score, source, out, parent, config.show),
            "flow": lambda: train_flow(config.flow, FlowSource(**source.to_dict()), out, parent),
            "discover": lambda: discover(config.discover, source, out, parent),
            "evaluate": lambda: evaluate(settings, source, out, parent),
        }
        for key, stage in stages.items():
            outcome = stage()
            outcomes.append(outcome)
            if outcome.made:
                _add_seconds(REPORT.place(out, name), key, outcome.seconds)
            else:
                say(f"{outcome.stage}: nothing to do, {outcome.where} is there")
        evaluation = Evaluation.load(REPORT.place(out, name) / "summary.json")
        assert evaluation.score and evaluation.flow and evaluation.equation
        if any(o.made for o in outcomes):
            parent().metrics({"validation_loss": evaluation.score["validation_loss"]})
            cosines = {"flow_cosine": evaluation.flow.field.cosine, "discover_cosine": evaluation.equation.field.cosine}
            parent().metrics({k: v for k, v in cosines.items() if v is not None})
    return evaluation, outcomes


def _add_seconds(folder: Path, stage: str, seconds: float) -> None:
    """Note a stage's wall time in the summary, which the evaluation completes."""
    summary = read_summary(folder)
    times = summary.setdefault("seconds", {})
    times[stage] = round(times.get(stage, 0.0) + seconds, 1)
    write_json(folder / "summary.json", summary)
