"""A sweep over settings of a flow: its score models, its trials, the best of them, and what came of all."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2d.config import FlowSource, ScoreConfig, SweepConfig, TrainSource, refuse_other_settings
from p2d.config.sweep import AUTO, METRICS, Point
from p2d.errors import UserError
from p2d.pipeline.learn import refuse_other_score, run_job, train_score
from p2d.pipeline.refuse import refuse_objective
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import Advance, progress, say
from p2d.runs import SCORE, SWEEP, copy_whole, read_json, short_name, whole, write_json
from p2d.show.summary import sweep_text
from p2d.show.view import View
from p2d.snapshots.store import Dataset, find_dataset
from p2d.tracking.charts import of_sweep
from p2d.tracking.models import MODEL, registered_name
from p2d.tracking.store import Run
from p2d.training.history import History
from p2d.training.job import TrainJob

if TYPE_CHECKING:
    from p2d.cluster.sweeps import Row

SHOWN = 3  # snapshots in the picture of a trial's velocity
REPORTED = ("cosine", "z_rms", "validation_loss")  # of a trial, on the screen


def sweep(config: SweepConfig, source: FlowSource, out: Path, track: Tracker, show: str = "") -> Outcome:
    """Train a flow at every point of a sweep into OUT/sweep/NAME, and keep the best in OUT/sweep/NAME/best.

    An interrupted sweep is restored: trials that have ended are not run again, those that failed are.

    Raises:
        UserError: a metric that cannot be had, a signal level that the score model does not know, trials that do not
            fit the machine, a sweep of other settings in the folder, or trials that have failed one and all.
    """
    dataset = find_dataset(source.dataset, out)
    view = View(dataset.card.species, dataset.card.grid, show)
    refuse_objective(config.objective, dataset)
    short = short_name(dataset.folder.name)
    name = source.name or (short if config.objective == "continuity" else f"{short}_{config.objective}")
    folder = SWEEP.place(out, name)
    metric = _choose_metric(config, dataset, source.holdout)
    asked = _identity(config, source, dataset, metric)
    made = read_json(folder / "settings.json") if (folder / "settings.json").exists() else asked
    refuse_other_settings(f"the sweep {folder}", made, asked)
    file = folder / "sweep.json"
    if file.exists():
        known = read_json(file, "trials")
        return Outcome("sweep", False, folder, known, result=sweep_text(known))
    from p2d.cluster import sweeps
    from p2d.cluster.trial import Sweep

    start = time.monotonic()
    _refuse_unknown_levels(config, source, short, out, dataset)
    parent = track()  # a store that does not answer ends it before anything is started
    sweeps.start(config, source)
    room = sweeps.choose_room(config, source)
    with stage(lambda: parent, f"sweep {name}", folder, {**config.to_dict(), **source.to_dict()}) as run:
        write_json(folder / "settings.json", asked)
        run.dataset(dataset)
        run.view(f"{folder.name}: {metric} of {config.trials} trials", of_sweep(_varied(config), metric))
        scores = _train_scores(config, source, dataset, folder, out, lambda: run)
        say(f"  {config.trials} trials, {room.trials} at a time, each of {room.workers} x {room.threads} threads")
        begun = time.monotonic()
        with (
            progress("sweep", config.trials, "trials") as advance,
            _tracked(run, config, dataset, folder, view) as watcher,
        ):
            watcher.advance = advance
            rows = sweeps.run(Sweep(config, source, dataset, metric, folder, scores), watcher, room)
        seconds = time.monotonic() - begun
        facts = _facts(config, metric, rows, folder)
        facts["seconds"] = _seconds(rows, watcher, scores, seconds, room.trials)
        copy_whole(folder / "trials" / facts["best"]["trial"], folder / "best")
        _draw_figures(config, rows, metric, folder, name)
        _write_table(config, rows, folder / "trials.csv")
        write_json(file, facts)
        counts = {state.lower(): sum(row.state == state for row in rows) for state in ("FINISHED", "KILLED", "FAILED")}
        run.metrics({f"best_{k}": v for k, v in facts["best"]["values"].items()} | counts)
        for path in (*sorted(folder.glob("*.png")), folder / "trials.csv", file):
            run.artifact(path)
        best = watcher.ran.get(facts["best"]["trial"], run)  # of a sweep that went on, it may have run before
        registered = registered_name("flow", folder.name)
        best.model(f"flow-{folder.name}", folder / "best", dataset, facts["best"]["values"], registered)
        if best.store is not None:
            say(f"  the best is {MODEL.format(registered)} of MLflow")
    return Outcome("sweep", True, folder, facts, time.monotonic() - start, sweep_text(facts))


def _varied(config: SweepConfig) -> list[str]:
    return [one.label for one in config.varied or config.axes]


def _identity(config: SweepConfig, source: FlowSource, dataset: Dataset, metric: str) -> dict[str, Any]:
    """What decides what comes out of a sweep."""
    data = {"dataset_hash": dataset.card.dataset_hash, "holdout": source.holdout, "snapshots": source.snapshots}
    own = {**config.identity(), "metric": metric, "score": source.score, **data}
    own["axes"] = {one.key: one.told for one in config.axes}
    for given in ("alpha", "sym", "param"):  # two ways to say one thing
        del own[given]
    return json.loads(json.dumps(own))


def _choose_metric(config: SweepConfig, dataset: Dataset, holdout: float) -> str:
    """The metric that the best is chosen by.

    Raises:
        UserError: a cosine with a truth that is not known, or of patterns that do not move.
    """
    from p2d.snapshots.static import STATIC, measure_imbalance

    known = bool(dataset.card.systems)
    if config.metric not in (AUTO, "cosine"):
        return config.metric
    held = dataset.states(dataset.split(holdout)[1]) if known else None
    static = held is not None and measure_imbalance(held, dataset.card.grid) < STATIC
    if known and not static:
        return "cosine"
    if config.metric == AUTO:
        return "z_rms"
    why = "does not move" if static else "is of no known system"
    raise UserError(f"metric = cosine is not possible: {dataset.folder} {why}; take z_rms")


def _refuse_unknown_levels(config: SweepConfig, source: FlowSource, short: str, out: Path, dataset: Dataset) -> None:
    """Refuse signal levels that the score model of the trials does not know, before anything is trained."""
    if config.objective == "stationarity" or config.score_points():
        return
    levels = [value for one in config.axes if one.key == "flow.alpha" for value in one.values]
    flows = [config.flow({"flow.alpha": level}) for level in levels] or [config.flow({})]
    shared = SCORE.find_or_own(out, source.score, short)
    for flow in flows:
        if shared is not None:
            refuse_other_score(flow, dataset, shared)
        elif not ScoreConfig().alpha[0] <= flow.alpha <= ScoreConfig().alpha[-1]:
            low, high = ScoreConfig().alpha
            raise UserError(
                f"alpha = {flow.alpha} is not what the score model will be trained for, which is {low} to {high}; "
                "--score-per-alpha trains one for each level"
            )


def _train_scores(
    config: SweepConfig, source: FlowSource, dataset: Dataset, folder: Path, out: Path, track: Tracker
) -> dict[str, Path]:
    """Score models of the trials, trained where they are missing: one for all, or one for each that points ask for."""
    if config.objective == "stationarity":
        return {}
    settings = {k: v for k, v in source.to_dict().items() if k not in ("score", "name", "snapshots", "workers")}
    own = config.score_points()
    if not own:
        shared = SCORE.find_or_own(out, source.score, short_name(dataset.folder.name))
        return {"": shared or train_score(ScoreConfig(), TrainSource(**settings), out, track).where}
    scores = {}
    for name, point in own.items():
        score = config.own_score(point)
        assert score is not None
        job = TrainJob(score, TrainSource(**settings), dataset, folder / "score" / name)
        scores[name] = run_job(f"train-score {name}", job, track).where
    return scores


@dataclass
class _Tracked:
    """Passes the trials on to MLflow and to the screen; each trial is a run under the sweep's."""

    parent: Run
    config: SweepConfig
    dataset: Dataset
    folder: Path
    view: View
    advance: Advance = lambda done, note="": None
    runs: dict[str, Run] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # wall time of trials that have ended
    trained: dict[str, float] = field(default_factory=dict)  # of that, in epochs
    last: dict[str, dict[str, float]] = field(default_factory=dict)
    ran: dict[str, Run] = field(default_factory=dict)  # the runs of trials that have ended

    def started(self, trial: str, point: Point) -> None:
        """Open its run, or go on with it."""
        self.points[trial] = point
        self.begun.setdefault(trial, time.monotonic())
        settings = {one.label: point[one.key] for one in self.config.axes}
        label = self.config.label(point)
        key = f"{self.parent.run_id}/{trial}"  # of this sweep, and not of one of the same name that was removed
        run = self.parent.start(label, settings | self.config.flow(point).to_dict(), key, retry=True)
        run.dataset(self.dataset)
        self.runs[trial] = run

    def reported(self, trial: str, values: dict[str, float]) -> None:
        """Its metrics, by epoch."""
        self.last[trial] = values
        self.trained[trial] = self.trained.get(trial, 0.0) + values.get("seconds", 0.0)
        self.runs[trial].metrics(values, step=int(values["epoch"]))

    def ended(self, trial: str, state: str, error: str) -> None:
        """Close its run, with pictures of what it has come to."""
        run, values = self.runs.pop(trial), self.last.get(trial, {})
        self.ran[trial] = run
        self.seconds[trial] = time.monotonic() - self.begun[trial]
        if state == "FINISHED":
            for picture in self._draw_pictures(trial, values):
                run.artifact(picture)
        run.end(state, error or "stopped early: others were ahead")
        reported = ", ".join(f"{k} {values[k]:.4g}" for k in REPORTED if k in values)
        why = {"FAILED": f"failed: {error}", "KILLED": f"stopped early, {reported}"}.get(state, reported)
        say(f"  {self.config.label(self.points[trial])}: {why} ({self.seconds[trial]:.0f} s)")
        self.advance(1)

    def _draw_pictures(self, trial: str, values: dict[str, float]) -> list[Path]:
        from p2d.evaluate import metrics
        from p2d.flow.model import Flow
        from p2d.show import curves, figures
        from p2d.show.report import VALIDATION_LABELS

        flow = self.folder / "trials" / trial
        where, title = flow / "pictures", self.config.label(self.points[trial])
        label = VALIDATION_LABELS.get(self.config.objective, "validation loss")
        curves.draw_losses(where / "losses.png", {"flow": History.load(flow)}, {"flow": label}, title)
        ids = self.dataset.living[:SHOWN]
        states = self.dataset.states(ids)
        truth = metrics.true_velocity(self.dataset, ids, states)
        fields = {"true": truth} if truth is not None else {}
        fields["flow"] = metrics.flow_velocity(Flow.load(flow).on(self.dataset.card.grid), states)
        cosines = {"flow": values["cosine"]} if "cosine" in values else {}
        figures.draw_velocities(where / "velocity.png", states, fields, cosines, self.view, title)
        return [where / "losses.png", where / "velocity.png"]


@contextmanager
def _tracked(parent: Run, config: SweepConfig, dataset: Dataset, folder: Path, view: View) -> Iterator[_Tracked]:
    """A watcher; runs that are still open at the end, as when the sweep is interrupted, are closed."""
    watcher = _Tracked(parent, config, dataset, folder, view)
    try:
        yield watcher
    finally:
        for run in watcher.runs.values():
            run.end("KILLED", "the sweep was stopped")


def _facts(config: SweepConfig, metric: str, rows: list[Row], folder: Path) -> dict[str, Any]:
    """What --json says: the trials, and the best of those that ran to their end.

    Raises:
        UserError: there is none; says what has gone wrong.
    """
    sign = 1 if METRICS[metric] == "max" else -1
    ranked = [row for row in rows if row.state == "FINISHED" and math.isfinite(row.values.get(metric, math.nan))]
    if not ranked:
        why = next((row.error for row in rows if row.error), f"none has a finite {metric}")
        raise UserError(f"of {len(rows)} trials none has come to its end: {why}")
    best = max(ranked, key=lambda row: sign * row.values[metric])

    def to_dict(row: Row) -> dict[str, Any]:
        return {
            "trial": row.trial,
            "settings": {one.label: row.point[one.key] for one in config.axes},
            "state": row.state,
            "error": row.error,
            "values": row.values,
        }

    return {"metric": metric, "best": to_dict(best), "trials": [to_dict(row) for row in rows]}


def _seconds(
    rows: list[Row], watcher: _Tracked, scores: dict[str, Path], wall: float, at_a_time: int
) -> dict[str, float]:
    """Where the time went: score models and trials, and what a score model in each trial would have taken.

    overhead: a trial's share of the time in which places for trials were not busy with epochs, start and end of the
    sweep too; of the trials that were run this time.
    """
    learning = [History.load(folder).seconds for folder in scores.values()]
    busy = [watcher.trained.get(trial, 0.0) for trial in watcher.seconds]
    seconds = {"score_models": sum(learning), "trials": wall}
    if learning:
        # A score model is trained on the whole machine: two at a time would take as long as one after the other.
        seconds["score_in_each_trial"] = wall + len(rows) * sum(learning) / len(learning)
    return seconds | ({"overhead": (at_a_time * wall - sum(busy)) / len(busy)} if busy else {})


def _draw_figures(config: SweepConfig, rows: list[Row], metric: str, folder: Path, name: str) -> None:
    from p2d.show import sweep_figures

    varied = config.varied or config.axes
    labels = _varied(config)
    drawn = [
        sweep_figures.Trial({one.label: row.point[one.key] for one in varied}, row.values, row.state) for row in rows
    ]
    title, best = f"{name}: {config.objective}, {len(rows)} trials", METRICS[metric]
    sweep_figures.draw_heat_map(folder / "heat_map.png", drawn, labels, metric, best, title)
    sweep_figures.draw_curves(folder / "curves.png", drawn, labels, metric, title)
    sweep_figures.draw_parallel(folder / "parallel.png", drawn, labels, metric, best, title)


def _write_table(config: SweepConfig, rows: list[Row], file: Path) -> None:
    """All trials as comma-separated values: settings, state, last metrics, error."""
    measured = sorted({key for row in rows for key in row.values})
    axes = config.axes
    with whole(file) as temporary, temporary.open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["trial", *(one.label for one in axes), "state", *measured, "error"])
        for row in rows:
            settings = [row.point[one.key] for one in axes]
            table.writerow([row.trial, *settings, row.state, *(row.values.get(k, "") for k in measured), row.error])
