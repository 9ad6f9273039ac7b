"""What a run, and a sweep, end with on the screen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p2d.config.sweep import METRICS
from p2d.evaluate.evaluation import Evaluation
from p2d.evaluate.tables import table_text


def print_sweep(found: dict[str, Any]) -> None:
    """The trials of a sweep, best first, and where its time went."""
    metric, trials = found["metric"], found["trials"]
    every = list(found["best"]["settings"])
    settings = [key for key in every if len({trial["settings"][key] for trial in trials}) > 1] or every
    measured = [
        key for key in dict.fromkeys((metric, "cosine", "z_rms", "validation_loss")) if key in found["best"]["values"]
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (*settings, *measured, "epochs", ""):
        table.add_column(column)
    sign = -1 if METRICS[metric] == "max" else 1
    words = {"FINISHED": "", "KILLED": "stopped early"}

    def place(trial: dict[str, Any]) -> tuple[int, float]:
        value = trial["values"].get(metric, math.nan)
        rank = sign * value if math.isfinite(value) else math.inf
        return ("FINISHED", "KILLED", "FAILED").index(trial["state"]), rank

    for trial in sorted(trials, key=place):
        values = trial["values"]
        numbers = (f"{values[key]:.4g}" if key in values else "" for key in measured)
        epochs = f"{values['epoch']:.0f}" if "epoch" in values else ""
        table.add_row(
            *(trial["settings"][key] for key in settings),
            *numbers,
            epochs,
            words.get(trial["state"], escape(trial["error"])),
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    seconds = found["seconds"]
    told = [f"trials {seconds['trials']:.0f} s"]
    if "overhead" in seconds:
        told.append(f"{seconds['overhead']:.1f} s a trial are not in its epochs")
    if "score_in_each_trial" in seconds:
        told.append(f"score models {seconds['score_models']:.0f} s")
        told.append(f"with a score model trained in each trial it would be {seconds['score_in_each_trial']:.0f} s")
    console.print("; ".join(told))


def run_text(evaluation: Evaluation, outcomes: list[Any], out: Path) -> str:
    """What a run made and where, what was measured, the equation, and the next command to try."""
    head = ("stage", "time", "where")
    rows = ((o.stage, f"{o.seconds:.0f} s" if o.made else "was there", str(o.where)) for o in outcomes)
    equation = f"\n\n{evaluation.equation.discovery}" if evaluation.equation else ""
    place = "" if str(out) == "runs" else f" -o {out}"
    following = f"next: p2d ui{place}   (the runs in MLflow), or p2d run -p spirals{place}"
    return f"{table_text(head, rows)}\n{evaluation}{equation}\n\n{following}"
