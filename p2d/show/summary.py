"""The tables that end a run on the screen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p2d.config.sweep import METRICS
from p2d.systems.writing import with_error


def _measurements(summary: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("held-out snapshots", "value"):
        table.add_column(column)
    score, flow, equation = (summary.get(k, {}) for k in ("score", "flow", "discover"))
    for key, value in score.items():
        if key.startswith("validation_loss_alpha_"):
            table.add_row(f"score: noise prediction loss at alpha {key.rsplit('_', 1)[1]}", f"{value:.4f}")
    for name, found in (("flow", flow), ("equation", equation)):
        if found.get("cosine") is not None:
            species = f"(u {found['cosine_u']:.4f}, v {found['cosine_v']:.4f})"
            table.add_row(f"{name}: cosine with the true velocity", f"{found['cosine']:.5f} {species}")
        if "z_rms" in found:
            table.add_row(
                f"{name}: stationarity z-scores, rms and largest", f"{found['z_rms']:.2f}, {found['z_max']:.2f}"
            )
    if "preservation" in flow:
        kept = flow["preservation"]
        baselines = {"random": "random flow", "score": "score alone", "still": "no flow"}
        there = [key for key in baselines if key in kept]
        table.add_row(f"flow: distance to the ensemble, {kept['steps']} steps on", _ratio(kept["recovered"], " floors"))
        table.add_row(
            f"the same of {', '.join(baselines[key] for key in there)}", ", ".join(_ratio(kept[key]) for key in there)
        )
    if "truth" in summary:
        truth = summary["truth"]
        table.add_row("true system: the same z-scores", f"{truth['z_rms']:.2f}, {truth['z_max']:.2f}")
    return table


def _ratio(value: float | None, unit: str = "") -> str:
    return "blown up" if value is None else f"{value:.2f}{unit}" if value < 100 else f"{value:.0f}{unit}"


def print_measurements(summary: dict[str, Any]) -> None:
    """What an evaluation measured."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(_measurements(summary))
    if summary.get("flow", {}).get("verdict"):
        console.print(f"flow: {summary['flow']['verdict']}", markup=False)


def print_sample(facts: dict[str, Any]) -> None:
    """How generated patterns compare with held-out snapshots, where there are such."""
    if "quality" in facts:
        print_quality(facts["quality"])


def print_verdict(facts: dict[str, Any]) -> None:
    """What a flow is worth, where that is told."""
    if "verdict" in facts:
        print(facts["verdict"])


def print_equation(found: dict[str, Any]) -> None:
    """An equation, and what it is worth."""
    print(equation_text(found))


def print_quality(found: dict[str, Any]) -> None:
    """How generated patterns compare with held-out snapshots, each distance beside its floor."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("distance to held-out", "generated", "floor", "ratio", "mean", "held-out"):
        table.add_column(column)
    named = {"radial power spectrum": "spectrum", "energy distance": "energy_distance"}
    for name, key in named.items():
        if key in found:
            table.add_row(name, *_beside_floor(found[key]))
    for name, moment in found["moments"].items():
        means = (f"{moment[key]:.4g}" for key in ("generated", "held_out"))
        table.add_row(f"mean of {name}", *_beside_floor(moment), *means)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print("floor: as many training snapshots; means differ in standard deviations of a snapshot's average")
    if "nearest" in found:
        near = found["nearest"]
        console.print(
            f"nearest training snapshot (0: a copy, 1: unrelated): generated {near['generated_median']:.2f} at the "
            f"median, {near['generated_smallest']:.2f} at the closest; held-out {near['held_out_median']:.2f}, "
            f"{near['held_out_smallest']:.2f}; memorised: {100 * near['memorised']:.0f} %"
        )


def _beside_floor(found: dict[str, float]) -> tuple[str, str, str]:
    return f"{found['distance']:.4f}", f"{found['floor']:.4f}", f"{found['ratio']:.2f}"


def print_rollout(found: dict[str, Any]) -> None:
    """How each kind of dynamics keeps the ensemble, and how it moves."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        f"{found['times'][-1]} steps",
        "distance",
        "largest",
        "decorrelated",
        "cosine",
        "step",
    ):
        table.add_column(column)
    for kind, course in found.items():
        if not isinstance(course, dict) or "ratio_mean" not in course:
            continue
        blown = course["blown_up"]
        numbers = [f"{course[key]:.2f}" if course[key] is not None else "" for key in ("ratio_mean", "ratio_largest")]
        if blown is not None:
            numbers[1] = f"blown up by {blown:.0f}"
        after = course["decorrelation_time"]
        cosines = course["displacement_cosine"]
        table.add_row(
            kind,
            *numbers,
            f"{after:.0f}" if after is not None else "",
            f"{cosines[-1]:.4f}" if cosines and blown is None else "",
            f"{course['step']:.2g}" if course["step"] else "",
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        "distance: energy distance of the ensemble to the data's; floor: that of as many of the data's snapshots"
    )


def equation_text(found: dict[str, Any]) -> str:
    """An equation, and what it is worth, as lines of text."""
    worth = f"{found['verdict']}, {found['snapshots']} snapshots; unit of time: {found['unit_of_time']}"
    lines = [found["text"], worth]
    if any(found["noise"]):
        u, v = found["noise"]
        lines.append(f"corrected for white noise of {u:.4f} in u and {v:.4f} in v")
    if found["step"]:
        told = with_error(*found["step"])
        lines.append(f"the snapshots show the explicit steps that made them: {told} units of time each")
    return "\n".join(lines)


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


def print_run(summary: dict[str, Any], outcomes: list[Any], out: Path) -> None:
    """What a run made and where, what was measured, the equation, and the next command to try."""
    console = Console(highlight=False, soft_wrap=True)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("stage", "time", "where"):
        made.add_column(column)
    for outcome in outcomes:
        made.add_row(outcome.stage, f"{outcome.seconds:.0f} s" if outcome.made else "was there", str(outcome.where))
    console.print(made)
    console.print(_measurements(summary))
    if summary["flow"].get("verdict"):
        console.print(f"flow: {summary['flow']['verdict']}", markup=False)
    console.print(f"\n{equation_text(summary['discover'])}", markup=False)
    place = "" if str(out) == "runs" else f" -o {out}"
    console.print(f"\nnext: p2d ui{place}   (the runs in MLflow), or p2d run -p spirals{place}", markup=False)
