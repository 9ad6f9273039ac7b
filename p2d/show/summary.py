"""What a run, and a sweep, end with on the screen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from p2d.config.sweep import METRICS
from p2d.evaluate.evaluation import Evaluation
from p2d.evaluate.tables import table_text


def sweep_text(found: dict[str, Any]) -> str:
    """The trials of a sweep, best first, and where its time went."""
    metric, trials = found["metric"], found["trials"]
    every = list(found["best"]["settings"])
    settings = [key for key in every if len({trial["settings"][key] for trial in trials}) > 1] or every
    measured = [
        key for key in dict.fromkeys((metric, "cosine", "z_rms", "validation_loss")) if key in found["best"]["values"]
    ]
    sign = -1 if METRICS[metric] == "max" else 1
    words = {"FINISHED": "", "KILLED": "stopped early"}

    def place(trial: dict[str, Any]) -> tuple[int, float]:
        value = trial["values"].get(metric, math.nan)
        rank = sign * value if math.isfinite(value) else math.inf
        return ("FINISHED", "KILLED", "FAILED").index(trial["state"]), rank

    rows = []
    for trial in sorted(trials, key=place):
        values = trial["values"]
        numbers = [f"{values[key]:.4g}" if key in values else "" for key in measured]
        epochs = f"{values['epoch']:.0f}" if "epoch" in values else ""
        own = [trial["settings"][key] for key in settings]
        rows.append([*own, *numbers, epochs, words.get(trial["state"], trial["error"])])
    seconds = found["seconds"]
    spent = [f"trials {seconds['trials']:.0f} s"]
    if "overhead" in seconds:
        spent.append(f"{seconds['overhead']:.1f} s a trial are not in its epochs")
    if "score_in_each_trial" in seconds:
        spent.append(f"score models {seconds['score_models']:.0f} s")
        spent.append(f"with a score model trained in each trial it would be {seconds['score_in_each_trial']:.0f} s")
    return f"{table_text((*settings, *measured, 'epochs', ''), rows)}\n{'; '.join(spent)}"


def run_text(evaluation: Evaluation, outcomes: list[Any], out: Path) -> str:
    """What a run made and where, what was measured, the equation, and the next command to try."""
    head = ("stage", "time", "where")
    rows = ((o.stage, f"{o.seconds:.0f} s" if o.made else "was there", str(o.where)) for o in outcomes)
    equation = f"\n\n{evaluation.equation.discovery}" if evaluation.equation else ""
    place = "" if str(out) == "runs" else f" -o {out}"
    page = ("p2d ui", "the page of these results, and the runs in MLflow")
    following = [page, _next_command({o.stage: o.where for o in outcomes})]
    words = "\n      ".join(f"{command}{place}   ({what})" for command, what in following)
    return f"{table_text(head, rows)}\n{evaluation}{equation}\n\nnext: {words}"


def _next_command(made: dict[str, Path]) -> tuple[str, str]:
    """What to run after a run, and what it does."""
    if "train-score" not in made:
        dataset = "" if "simulate" in made else f" --dataset {made['evaluate'].name}"
        return f"p2d run{dataset}", "everything: a flow, a score model and new patterns, too"
    if "simulate" in made:
        return "p2d run -p spirals", "the same for another pattern"
    return f"p2d rollout --equation {made['evaluate'].name}", "what the equation does in time"
