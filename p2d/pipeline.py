"""The stages as functions: the same for the `p2d` command, the jobs and `p2d run`. Finished work is found and kept."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2d.checkpoint import read_config, read_history
from p2d.config import (
    DiscoverConfig,
    EvaluateConfig,
    FlowConfig,
    FlowSource,
    RunConfig,
    ScoreConfig,
    SimulateConfig,
    Source,
    refuse_other_settings,
    short_name,
    write_json,
)
from p2d.errors import UserError
from p2d.progress import progress, say
from p2d.simulation import describe_ensembles, is_finished
from p2d.snapshots.card import load_card
from p2d.snapshots.store import Dataset, find_dataset, find_folder, open_dataset
from p2d.snapshots.verify import Fault
from p2d.snapshots.verify import verify as check_dataset
from p2d.tracking import Run
from p2d.training.identity import describe, is_trained

Tracker = Callable[[], Run]  # opened when there is work to track, as MLflow takes seconds to start


@dataclass(frozen=True)
class Outcome:
    """What a stage did.

    Attributes:
        made: False when its result was there already.
        where: the result's folder or file.
        facts: the keys of the stage in the result of --json.
        seconds: wall time, 0 when nothing was made.
    """

    stage: str
    made: bool
    where: Path
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@contextmanager
def _stage(track: Tracker, name: str, where: Path, parameters: dict[str, Any]) -> Iterator[Run]:
    """A stage that has work to do: announced, and tracked as a run of its own."""
    say(f"{name} -> {where}")
    with track().child(name, parameters) as child:
        yield child


def simulate(config: SimulateConfig, out: Path, track: Tracker) -> Outcome:
    """Simulate a dataset into OUT/data/NAME."""
    folder = out / "data" / config.dataset_name
    if is_finished(config, folder):
        return Outcome("simulate", False, folder, _dataset_facts(open_dataset(folder)))
    from p2d.cluster.simulate import find_device
    from p2d.cluster.simulate import simulate as simulate_on_ray

    start = time.monotonic()
    find_device(config.wished_device)  # refused before a run is tracked
    total = config.num_samples * len(config.systems())
    with _stage(track, "simulate", folder, config.to_dict()) as child:
        with progress("simulate", total, "samples") as advance:
            dataset = simulate_on_ray(config, folder, advance)
        for name, ensemble in dataset.card.ensembles.items():
            prefix = f"{name}_" if len(dataset.card.ensembles) > 1 else ""
            child.metrics({prefix + k: v for k, v in ensemble.items() if isinstance(v, int | float)})
        child.artifact(folder / "card.json")
    for line in describe_ensembles(dataset.card):
        say(f"  {line}")
    return Outcome("simulate", True, folder, _dataset_facts(dataset), time.monotonic() - start)


def _dataset_facts(dataset: Dataset) -> dict[str, Any]:
    card = dataset.card
    facts = {"dataset_hash": card.dataset_hash, "samples": card.samples, "alive": card.alive}
    return {**facts, "ensembles": card.ensembles}


def verify(name: str, out: Path, repair: bool) -> tuple[Path, list[Fault]]:
    """Re-read a whole dataset; with `repair`, simulate exactly its missing and damaged shards again.

    A foreign shard is renamed, with '.foreign' at its end, so that no reader takes it for one of the dataset's.

    Returns:
        Its folder, and what is wrong with it (after the repair).

    Raises:
        UserError: no such dataset, or one whose card cannot be read; shards that come out otherwise than they were.
    """
    folder = find_folder(name, out)
    faults = check_dataset(folder)
    if not (faults and repair):
        return folder, faults
    for fault in faults:
        say(f"  {fault}")
    card = load_card(folder)
    config = SimulateConfig.from_dict({**card.settings, "chunk": card.chunk, "device": card.device or "auto"})
    known = {entry["name"] for entry in card.shards}
    for fault in faults:
        if fault.name.endswith(".parquet") and fault.name not in known:
            (folder / fault.name).rename(folder / f"{fault.name}.foreign")
    if any(fault.name in known for fault in faults) or not card.complete:
        from p2d.cluster.simulate import simulate as simulate_on_ray

        with progress("repair", card.samples or config.num_samples * len(card.parameters), "samples") as advance:
            simulate_on_ray(config, folder, advance)
    return folder, check_dataset(folder)


def train_score(config: ScoreConfig, source: Source, out: Path, track: Tracker) -> Outcome:
    """Train a score model into OUT/score/NAME."""
    dataset = find_dataset(source.dataset, out)
    folder = out / "score" / (source.name or short_name(dataset.folder.name))
    return _train("train-score", config, source, dataset, folder, track, None)


def train_flow(config: FlowConfig, source: FlowSource, out: Path, track: Tracker) -> Outcome:
    """Train a flow into OUT/flow/NAME; with the continuity objective, from a score model."""
    dataset = find_dataset(source.dataset, out)
    short = short_name(dataset.folder.name)
    if config.objective == "stationarity":
        return _train("train-flow", config, source, dataset, out / "flow" / (source.name or short), track, None)
    score = find_model("score", source.score or short, out)
    _check_score(config, dataset, score)
    folder = out / "flow" / (source.name or f"{short}_continuity")
    return _train("train-flow", config, source, dataset, folder, track, score)


def _check_score(config: FlowConfig, dataset: Dataset, score: Path) -> None:
    """Refuse a score model of another normalisation, or one that does not know the signal level."""
    made = read_config(score, "score")
    if made["data"]["affine"] != dataset.card.affine:
        raise UserError(
            f"{score} was trained with another normalisation than {dataset.folder} has; train it on this one"
        )
    levels = made["settings"]["alpha"]
    if not min(levels) <= config.alpha <= max(levels):
        told = " to ".join(map(str, levels))
        raise UserError(f"alpha = {config.alpha} is not what {score} was trained for, which is {told}")


def _train(
    stage: str,
    config: ScoreConfig | FlowConfig,
    source: Source,
    dataset: Dataset,
    folder: Path,
    track: Tracker,
    score: Path | None,
) -> Outcome:
    if is_trained(folder, describe(config, source, dataset, score)):
        return Outcome(stage, False, folder, _training_facts(read_history(folder)))
    from p2d.cluster.train import train

    start = time.monotonic()
    parameters = {**config.to_dict(), **source.to_dict(), "dataset_hash": dataset.card.dataset_hash}
    with _stage(track, stage, folder, parameters) as child, progress(stage, config.epochs, "epochs") as advance:
        said = 0

        def on_metrics(metrics: dict[str, float]) -> None:
            nonlocal said
            epoch = int(metrics["epoch"])
            child.metrics(metrics, step=epoch)
            rate = f", {metrics['samples_per_second']:.1f} samples/s" if "samples_per_second" in metrics else ""
            advance(epoch - said, f"validation {metrics['validation_loss']:.4g}{rate}")
            said = epoch

        train(config, source, dataset, folder, on_metrics, score)
    return Outcome(stage, True, folder, _training_facts(read_history(folder)), time.monotonic() - start)


def _training_facts(history: list[dict[str, float]]) -> dict[str, Any]:
    return {k: v for k, v in history[-1].items() if k.startswith(("validation", "continuity", "z_", "epoch"))}


def discover(config: DiscoverConfig, source: Source, out: Path, track: Tracker) -> Outcome:
    """Find the equation of a dataset into OUT/discover/NAME/equation.json."""
    dataset = find_dataset(source.dataset, out)
    file = out / "discover" / (source.name or short_name(dataset.folder.name)) / "equation.json"
    asked = {**config.identity(), "dataset_hash": dataset.card.dataset_hash, "holdout": source.holdout}
    if file.exists():
        made = json.loads(file.read_text())
        refuse_other_settings(f"the equation {file}", made["settings"], asked)
        return Outcome("discover", False, file, made["found"])
    from p2d.cluster.moments import accumulate
    from p2d.flow import discover as closed_form

    start = time.monotonic()
    with _stage(track, "discover", file, {**config.to_dict(), **source.to_dict()}) as child:
        train_ids, _ = dataset.split(source.holdout)
        closed_form.enough(len(train_ids))
        with progress("discover", len(train_ids), "snapshots") as advance:
            moments = accumulate(dataset, train_ids, source.workers, advance)
        found = closed_form.discover(moments, config.library, config.bootstrap, config.seed)
        facts = {**closed_form.summary(found), "text": closed_form.format_equation(found)}
        write_json(file, {"settings": asked, "found": facts})
        child.metrics({"gap": found.gap, "misfit": found.misfit, "unbalanced": found.unbalanced})
        child.artifact(file)
    return Outcome("discover", True, file, facts, time.monotonic() - start)


def evaluate(config: EvaluateConfig, source: Source, out: Path, track: Tracker) -> Outcome:
    """Measure what was learnt from a dataset on its held-out snapshots, into OUT/report/NAME."""
    dataset = find_dataset(source.dataset, out)
    short = short_name(dataset.folder.name)
    name = source.name or short
    folder = out / "report" / name
    score = _optional_model("score", config.score, short, out)
    flow = _optional_model("flow", config.flow, short, out)
    equation = _find_equation(config.equation, short, out)
    if score is None and flow is None and equation is None:
        raise UserError(f"there is nothing to evaluate for {dataset.folder}: train or discover something of it first")
    inputs = _inputs(config, source, dataset, score, flow, equation)
    before = read_summary(folder)
    if before.get("inputs") == inputs:
        return Outcome("evaluate", False, folder, before)
    from p2d.evaluate import report

    start = time.monotonic()
    with _stage(track, "evaluate", folder, {**config.to_dict(), **source.to_dict()}) as child:
        _, held_ids = dataset.split(source.holdout)
        subject = report.Subject(
            name=name,
            dataset=dataset,
            held_ids=held_ids,
            score=score,
            flow=flow,
            objective=read_config(flow, "flow")["settings"]["objective"] if flow else "",
            discovery=json.loads(equation.read_text())["found"] if equation else None,
        )
        found = report.evaluate(subject, folder, config.plot_channel)
        found |= {"inputs": inputs, "seconds": before.get("seconds", {})}
        write_json(folder / "summary.json", found)
        for part in ("score", "flow", "discover"):
            child.metrics({f"{part}_{k}": v for k, v in found.get(part, {}).items()})
        for path in (*sorted(folder.glob("*.png")), folder / "summary.json"):
            child.artifact(path)
    return Outcome("evaluate", True, folder, found, time.monotonic() - start)


def _inputs(
    config: EvaluateConfig,
    source: Source,
    dataset: Dataset,
    score: Path | None,
    flow: Path | None,
    equation: Path | None,
) -> dict[str, Any]:
    """What a report is made of, to know it again."""
    models = {
        "score": read_config(score, "score") if score else None,
        "flow": read_config(flow, "flow") if flow else None,
    }
    settings = {k: {**m["settings"], **m["data"]} if m else None for k, m in models.items()}
    equation_settings = json.loads(equation.read_text())["settings"] if equation else None
    inputs = {
        "dataset_hash": dataset.card.dataset_hash,
        "holdout": source.holdout,
        "plot_channel": config.plot_channel,
        **settings,
        "equation": equation_settings,
    }
    return json.loads(json.dumps(inputs))


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a report; empty when there is none."""
    file = folder / "summary.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def find_model(kind: str, name: str, out: Path) -> Path:
    """Folder of a score model or flow, named by its name under OUT/KIND or by its path.

    Raises:
        UserError: no such model (lists those that are there).
    """
    for folder in (out / kind / name, Path(name)):
        if (folder / "config.json").is_file():
            read_config(folder, kind)
            return folder
    there = sorted(p.parent.name for p in (out / kind).glob("*/config.json"))
    held = f"which holds {', '.join(there)}" if there else "which is empty"
    raise UserError(
        f"there is no {kind} model {name!r}, neither as a folder nor under {out / kind} ({held}); "
        f"p2d train-{kind} makes one"
    )


def _optional_model(kind: str, name: str, short: str, out: Path) -> Path | None:
    if name:
        return find_model(kind, name, out)
    folder = out / kind / short
    return folder if (folder / "config.json").is_file() else None


def _find_equation(name: str, short: str, out: Path) -> Path | None:
    for file in (out / "discover" / (name or short) / "equation.json", Path(name) / "equation.json", Path(name)):
        if file.is_file():
            return file
    if name:
        place = out / "discover"
        raise UserError(f"there is no equation {name!r}, neither as a file nor under {place}; p2d discover makes one")
    return None


def run(config: RunConfig, out: Path, track: Tracker) -> tuple[dict[str, Any], list[Outcome]]:
    """Everything: simulate, train-score, train-flow, discover, evaluate, tracked as children of one run.

    Returns:
        The summary, as it is in report/NAME/summary.json, and what each stage did.
    """
    source = config.source()
    name = short_name(source.dataset)
    flow_name = name if config.flow.objective == "stationarity" else f"{name}_continuity"
    evaluation = EvaluateConfig(flow=flow_name, plot_channel=config.plot_channel)
    outcomes = []
    with ExitStack() as stack:

        @functools.cache
        def parent() -> Run:
            return stack.enter_context(track().child(f"run {name}", source.to_dict()))

        stages: dict[str, Callable[[], Outcome]] = {
            "simulate": lambda: simulate(config.simulate, out, parent),
            "score": lambda: train_score(config.score, source, out, parent),
            "flow": lambda: train_flow(config.flow, FlowSource(**source.to_dict()), out, parent),
            "discover": lambda: discover(config.discover, source, out, parent),
            "evaluate": lambda: evaluate(evaluation, source, out, parent),
        }
        for key, stage in stages.items():
            outcome = stage()
            outcomes.append(outcome)
            if outcome.made:
                _add_seconds(out / "report" / name, key, outcome.seconds)
            else:
                say(f"{outcome.stage}: nothing to do, {outcome.where} is there")
        summary = read_summary(out / "report" / name)
        if any(o.made for o in outcomes):
            parent().metrics({"validation_loss": summary["score"]["validation_loss"]})
            parent().metrics({f"{k}_cosine": summary[k]["cosine"] for k in ("flow", "discover")})
    return summary, outcomes


def _add_seconds(folder: Path, stage: str, seconds: float) -> None:
    """Note a stage's wall time in the summary, which the evaluation completes."""
    summary = read_summary(folder)
    times = summary.setdefault("seconds", {})
    times[stage] = round(times.get(stage, 0.0) + seconds, 1)
    write_json(folder / "summary.json", summary)
