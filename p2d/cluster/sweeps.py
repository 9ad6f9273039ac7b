"""Sweeps with Ray Tune: how many trials run at a time, which, until when, and what is passed on of them."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from ray import tune
from ray.tune import TuneError
from ray.tune.experiment import Trial
from ray.tune.result import AUTO_RESULT_KEYS
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from p2d.cluster import placement, runtime, storage
from p2d.cluster.training import cause
from p2d.cluster.trial import Room, Sweep, point_of, run_trial
from p2d.config import FlowSource, SweepConfig
from p2d.config.sweep import METRICS, Point
from p2d.errors import UserError
from p2d.runs import remove
from p2d.snapshots.store import open_dataset

RETRIES = 3  # of a trial whose process dies, each from its last checkpoint
GRACE = 4  # a trial is let run for this share of its epochs, 1 / GRACE, before it is held against others
REDUCTION = 3  # of the trials that come to a rung of ASHA, one of so many goes on
FINISHED, STOPPED, FAILED = "FINISHED", "KILLED", "FAILED"  # as MLflow calls them
OF_TUNE = 0.1  # CPUs claimed by a trial that waits for its workers


class Watcher(Protocol):
    """What is called as trials go on, in the process that runs the sweep."""

    def started(self, trial: str, point: Point) -> None:
        """A trial has started, or started again after its process died."""
        ...

    def reported(self, trial: str, values: dict[str, float]) -> None:
        """An epoch of a trial is done; `values` holds `epoch`, the losses and what trial.measure gives."""
        ...

    def ended(self, trial: str, state: str, error: str) -> None:
        """A trial is FINISHED, was stopped early (KILLED), or has FAILED and why."""
        ...


@dataclass(frozen=True)
class Row:
    """A trial as it ended: its name, its point, FINISHED, KILLED (stopped early) or FAILED, and its last values."""

    trial: str
    point: Point
    state: str
    error: str
    values: dict[str, float]


def choose_room(config: SweepConfig, source: FlowSource) -> Room:
    """How many trials run at a time on this machine, and of how many workers and threads.

    Raises:
        UserError: a single trial does not fit, or not as many as asked for.
    """
    machines, workers, wished = placement.machines(), max(1, source.most_workers), source.cpus_per_worker
    kind, total = machines.kind, sum(machines.slots())
    fit = sum(machines.slots(wished)) // workers
    if not fit:
        each = 1 if kind == "GPUs" else max(1, wished)
        raise UserError(
            f"a trial of {workers} workers of {each} {kind} does not fit the {total} {kind} here; "
            "give fewer --workers or --cpus-per-worker"
        )
    if config.max_concurrent > fit:
        raise UserError(f"max_concurrent = {config.max_concurrent} is more than the {fit} trials that fit here")
    trials = min(config.max_concurrent or fit, config.trials)
    threads, cpus = machines.share(trials * workers, wished)
    return Room(trials, workers, threads, cpus, int(kind == "GPUs"))


def start(config: SweepConfig, source: FlowSource) -> None:
    """Start Ray, for `choose_room` and `run`.

    Raises:
        UserError: Optuna is to propose the trials, and is not installed.
    """
    if config.search == "optuna":
        _import_optuna()
    # Ray leaves the resources of a stopped trial's workers claimed unless its dashboard process is there.
    runtime.start(dashboard=source.most_workers > 1)


def run(sweep: Sweep, watcher: Watcher, room: Room) -> list[Row]:
    """Run all trials, or those that a sweep in this folder has not come to the end of; how each ended."""
    runtime.refuse_unshared(sweep.folder)
    folder = runtime.shared_folder(sweep.folder)  # trials have a working directory of their own
    scores = {name: runtime.shared_folder(score) for name, score in sweep.scores.items()}
    dataset = open_dataset(runtime.shared_folder(sweep.dataset.folder))
    sweep = dataclasses.replace(sweep, folder=folder, scores=scores, dataset=dataset)
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    _silence_tune()
    live = _live[folder] = _Live(watcher, [])
    try:
        _tuner(sweep, room).fit()
    except TuneError as error:
        raise live.mistake or error from error
    finally:
        del _live[folder]
    for left in folder.glob("trials/.*"):  # of trials that were stopped early
        remove(left)
    if all(row.state == FAILED for row in live.rows):  # there is nothing to keep, and the cause may be mended
        for place in ("tune", "trials"):
            remove(folder / place)
    return live.rows


def _tuner(sweep: Sweep, room: Room) -> tune.Tuner:
    """A new sweep, or one that was interrupted: its scheduler and search know what they knew."""
    trainable = tune.with_resources(functools.partial(run_trial, sweep=sweep, room=room), _resources(room))
    place, config = sweep.folder / "tune", sweep.config
    path, filesystem = storage.path(place), storage.filesystem(place)
    if tune.Tuner.can_restore(path, storage_filesystem=filesystem):
        return tune.Tuner.restore(
            path,
            trainable,
            resume_unfinished=True,
            restart_errored=True,
            param_space=_space(config),
            storage_filesystem=filesystem,
        )
    return tune.Tuner(
        trainable,
        param_space=_space(config),
        tune_config=tune.TuneConfig(
            metric=sweep.metric,
            mode=METRICS[sweep.metric],
            scheduler=_scheduler(config),
            search_alg=_searcher(sweep),
            num_samples=config.samples if config.search == "optuna" else 1,
            max_concurrent_trials=room.trials,
            reuse_actors=room.workers == 1,
            trial_name_creator=functools.partial(_trial_name, config),
            trial_dirname_creator=functools.partial(_trial_name, config),
        ),
        run_config=tune.RunConfig(
            name=place.name,
            storage_path=storage.path(place.parent),
            storage_filesystem=filesystem,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[_Report(sweep)],
            verbose=0,
        ),
    )


def _silence_tune() -> None:
    """Ours is the progress on the screen, and Ctrl-C."""
    os.environ |= {
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails has no metric
        "TUNE_GLOBAL_CHECKPOINT_S": "5",
    }
    for name in ("ray.tune", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _resources(room: Room) -> dict[str, float]:
    """What Tune claims for a trial: a single worker is the trial's own process, several are claimed by Ray Train."""
    if room.workers > 1:
        return {"CPU": OF_TUNE}
    return {"CPU": room.cpus, "GPU": room.gpus}


def _space(config: SweepConfig) -> dict[str, Any]:
    """What Tune chooses from: the points of a grid or a random search, or the axes for Optuna."""
    if config.search != "optuna":
        return {"point": tune.grid_search(config.points())}
    space: dict[str, Any] = {}
    for one in config.axes:
        if one.is_range:
            low, high = map(float, one.values)
            space[one.key] = tune.loguniform(low, high) if one.log else tune.uniform(low, high)
        else:
            space[one.key] = tune.choice(list(one.values))
    return space


def _trial_name(config: SweepConfig, trial: Trial) -> str:
    """A trial's name: its label; Optuna may propose a point twice, and then the trial's id tells them apart."""
    label = config.label(point_of(config, trial.config)).replace(" ", "_")
    return f"{label}_{trial.trial_id}" if config.search == "optuna" else label


def _scheduler(config: SweepConfig) -> TrialScheduler | None:
    """What stops trials early, on the training's own epoch; Tune's count of reports starts anew after a restart."""
    grace = max(1, config.passes // GRACE)
    if config.scheduler == "asha":
        return ASHAScheduler(
            time_attr="epoch", max_t=max(1, config.passes), grace_period=grace, reduction_factor=REDUCTION
        )
    if config.scheduler == "median":
        return MedianStoppingRule(time_attr="epoch", grace_period=grace)
    return None


def _searcher(sweep: Sweep) -> Searcher | None:
    if sweep.config.search != "optuna":
        return None
    _import_optuna().logging.set_verbosity(logging.ERROR)
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(metric=sweep.metric, mode=METRICS[sweep.metric], seed=sweep.config.seed)


def _import_optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise UserError('search = optuna needs Optuna: pip install "p2d[optuna]"') from error
    return optuna


@dataclass
class _Live:
    """A running sweep: its watcher, how its trials ended, and the watcher's error, which ends the sweep."""

    watcher: Watcher
    rows: list[Row]
    mistake: UserError | None = None

    def call(self, method: Callable[..., None], *values: Any) -> None:
        """Call the watcher; Tune would put its own error in the place of one that is raised in it."""
        try:
            method(*values)
        except UserError as error:
            self.mistake = error
            raise


_live: dict[Path, _Live] = {}  # by the sweep's folder


class _Report(tune.Callback):
    """Passes on what Tune reports of its trials. Tune keeps it on disk, so what is alive is looked up by the folder."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        live = _live[self.sweep.folder]
        live.call(live.watcher.started, str(trial), point_of(self.sweep.config, trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        live = _live[self.sweep.folder]
        live.call(live.watcher.reported, str(trial), _values(result))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        live, row = _live[self.sweep.folder], self._row(trial)
        live.call(live.watcher.ended, row.trial, row.state, row.error)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        _live[self.sweep.folder].rows.extend(map(self._row, trials))

    def _row(self, trial: Trial) -> Row:
        point, values = point_of(self.sweep.config, trial.config), _values(trial.last_result)
        failure, error = self.sweep.failure_file(str(trial)), trial.get_error()
        if trial.status == Trial.ERROR and error is not None:  # one that it has got over is kept too
            return Row(str(trial), point, FAILED, cause(error), values)
        if failure.exists():
            return Row(str(trial), point, FAILED, failure.read_text(), values)
        whole = values.get("epoch", -1) >= self.sweep.config.flow(point).passes
        return Row(str(trial), point, FINISHED if whole else STOPPED, "", values)


def _values(result: dict[str, Any]) -> dict[str, float]:
    """The numbers of a result that are the trial's own, without those that Tune adds."""
    return {k: float(v) for k, v in result.items() if k not in AUTO_RESULT_KEYS and type(v) in (int, float)}
