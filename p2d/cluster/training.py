"""Data-parallel training with Ray Train: thin workers around training/loop.py, for the score and for the flow."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from p2d.cluster import placement, runtime, storage
from p2d.cluster.reports import OnEpoch, Reports, StopFile, fit
from p2d.cluster.stream import open_data
from p2d.errors import UserError, unwritable
from p2d.events import note
from p2d.progress import say
from p2d.recipes import build
from p2d.runs import copy_whole, recovered, remove
from p2d.training import loop
from p2d.training.checkpoint import read_state, write_checkpoint
from p2d.training.history import Epoch, History
from p2d.training.job import TrainJob
from p2d.training.workers import Workers

RESTARTS = 3  # of the workers, or the controller, each from the last checkpoint
SETTINGS = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "180", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
RUN, STOP = "run", "stop.json"  # in the storage of a training: Ray Train's own folder, and the file that ends it


def train(job: TrainJob, on_epoch: OnEpoch) -> None:
    """Train a score model or a flow into the job's folder, going on from its newest checkpoint if it was interrupted.

    Args:
        job: what to train; with `here`, `on_epoch` gets the model of every epoch.
        on_epoch: called in this process after every epoch.

    Raises:
        UserError: more workers than the machine holds, or whatever the training itself finds wrong with its input. Of a
            training that breaks down, the last good model is kept, in FOLDER_stopped, and the message says so.
    """
    runtime.start()
    runtime.refuse_unshared(job.folder)
    placing = _place(job)
    folder = job.folder
    job = dataclasses.replace(
        job,
        dataset=dataclasses.replace(job.dataset, folder=runtime.shared_folder(job.dataset.folder)),
        folder=runtime.shared_folder(folder),
        score=runtime.shared_folder(job.score) if job.score else None,
        threads=placing.threads,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    alone = job.here and placing.workers == 1
    made, mistake = _train_here(job, on_epoch) if alone else _train_on(placing, job, on_epoch)
    kept = ""
    if made is not None:
        last = History.load(made).last.number
        if mistake is None:
            copy_whole(made, folder)
        elif last:
            stopped = folder.with_name(f"{folder.name}_stopped")
            copy_whole(made, stopped)
            kept = f"; the model of epoch {last} is kept in {stopped}"
    remove(job.storage)
    if mistake is not None:
        raise UserError(mistake + kept)


def _place(job: TrainJob) -> placement.Placing:
    """Where a training goes, on a cluster that is asked to grow where more workers are wished for than it holds."""
    least, most = job.source.least_workers, job.source.most_workers
    threads, batch = job.source.cpus_per_worker, min(job.config.batch_size, job.training_snapshots)
    machines = placement.machines(0 if job.here else placement.SETTLE_S)
    if not job.here and least <= batch:
        machines = placement.grown(machines, max(least, 1), threads)
    placing, line = placement.choose_training(machines, least, most, threads, batch, job.beside)
    if line:
        say(line)
    return placing


def _train_here(job: TrainJob, on_epoch: OnEpoch) -> tuple[Path | None, str | None]:
    """Train in this process: the newest checkpoint, and the user's mistake that has ended it, if one has."""
    newest = recovered(job.storage / "checkpoint")

    def report(epoch: Epoch, state: dict[str, Any]) -> None:
        write_checkpoint(newest, job.description, state["average"], state)
        on_epoch(epoch, newest)

    before = newest if newest.exists() else None
    if before is not None:  # reported once more, as it may have been lost with the process that was killed
        on_epoch(History.load(before).last, before)
    mistake = None
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _learn(job, Workers(), job.beside, device, before, report)
    except UserError as error:
        mistake = str(error)
    return (newest if newest.exists() else None), mistake


def _train_on(placing: placement.Placing, job: TrainJob, on_epoch: OnEpoch) -> tuple[Path | None, str | None]:
    """Train with Ray Train: the newest checkpoint, and the user's mistake that has ended it, if one has."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    (job.storage / STOP).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        reports = Reports(Path(folder), functools.partial(_is_shown, job), job.folder)
        note(job.folder, "placed", **dataclasses.asdict(placing))
        if before := _newest(job):  # reported once more, as it may have been lost with the process that was killed
            reports.last = (epoch := History.load(before).last).number
            on_epoch(epoch, before if _is_shown(job, epoch) else None)
        for left in reversed(range(RESTARTS + 1)):
            try:
                fit(_trainer(placing, job, reports), reports, on_epoch, job.storage / STOP, is_driver=not job.here)
                break
            except ray.train.TrainingFailedError as error:
                failure = getattr(error, "controller_failure", error)
                if isinstance(failure, UserError):
                    return _newest(job), str(failure)
                if unwritable(failure):
                    raise failure from error
                raise UserError(f"training stopped: {cause(error)}; --debug shows where") from error
            except ray.exceptions.RayActorError as error:  # the controller
                if not left:
                    raise UserError("training stopped: its controller was killed again and again") from error
    return _newest(job), None


class _Trainer(TorchTrainer):
    """Without the actor that frees the workers' places when a controller dies, where it can do nothing.

    It asks Ray's dashboard whether the controller lives; where there is none it waits, and so does the end: 12 s.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        if runtime.has_dashboard:
            return callbacks
        return [one for one in callbacks if type(one).__name__ != "PlacementGroupCleanerCallback"]


def _trainer(placing: placement.Placing, job: TrainJob, reports: Reports) -> TorchTrainer:
    workers, gpu = placing.workers, placing.gpus > 0
    return _Trainer(
        _work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers if placing.least == workers else (placing.least, workers),  # type: ignore[arg-type]
            use_gpu=gpu,
            resources_per_worker={"CPU": placing.cpus, "GPU": placing.gpus},
            placement_strategy=placing.strategy,
        ),
        # Ray goes on from the newest checkpoint of a run of the same name.
        run_config=ray.train.RunConfig(
            name=RUN,
            storage_path=storage.path(job.storage),
            storage_filesystem=storage.filesystem(job.storage),
            failure_config=ray.train.FailureConfig(max_failures=RESTARTS, controller_failure_limit=RESTARTS),  # type: ignore[call-arg]
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=[reports],  # type: ignore[list-item]
        ),
    )


def _newest(job: TrainJob) -> Path | None:
    """The newest checkpoint of a training that is running, or was."""
    if not (job.storage / RUN / "checkpoint_manager_snapshot.json").exists():
        return None
    path, filesystem = storage.path(job.storage / RUN), storage.filesystem(job.storage)
    newest = ray.train.Result.from_path(path, storage_filesystem=filesystem).checkpoint
    return storage.place_of(newest, job.storage) if newest else None


def cause(error: BaseException) -> str:
    """The last line of an error's text that names an exception: what went wrong on the worker."""
    lines = [line.strip() for line in str(error).splitlines() if re.match(r"\s*[\w.]+(Error|Exception)\b", line)]
    return lines[-1] if lines else str(error).strip().splitlines()[0]


def _work(settings: dict[str, Any]) -> None:
    """What a worker of Ray Train does: learn, and report."""
    job = settings["job"]
    context = ray.train.get_context()
    workers = Workers(
        context.get_world_rank(),
        context.get_world_size(),
        context.get_node_rank(),
        context.get_local_rank(),
        context.get_local_world_size(),
    )
    before = ray.train.get_checkpoint()
    start = storage.place_of(before, job.storage) if before is not None else None
    beside = workers.local_size * job.beside
    stop = (lambda: False) if workers.rank else StopFile(job.storage / STOP)
    _learn(job, workers, beside, get_device(), start, _reporter(job, workers), stop)


def _learn(
    job: TrainJob,
    workers: Workers,
    beside: int,
    device: torch.device,
    before: Path | None,
    report: loop.Report,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Open the data, build the task, and train it, going on from a checkpoint if there is one.

    Args:
        beside: processes that share this machine's memory.
    """
    torch.set_num_threads(job.threads)
    data = open_data(job, workers, beside)
    task = build(job.config, data, job.dataset.card.grid, job.dataset.scaling, device, job.score)
    start = read_state(before) if before is not None else None
    loop.fit(task, data, job.config, workers, report, start, stop, job.source.at_a_time)


def _reporter(job: TrainJob, workers: Workers) -> loop.Report:
    """Report of an epoch, with a checkpoint from the first worker."""

    def report(epoch: Epoch, state: dict[str, Any]) -> None:
        if workers.rank:
            ray.train.report(epoch.to_dict())
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            write_checkpoint(path, job.description, state["average"], state)
            ray.train.report(epoch.to_dict(), checkpoint=ray.train.Checkpoint.from_directory(path))

    return report


def _is_shown(job: TrainJob, epoch: Epoch) -> bool:
    """Epochs whose model is passed on: 1, 2, 4, 8, ... and the last, as early on there is most to see, or all."""
    number, last = epoch.number, job.config.passes
    ended = number == last or loop.is_reached(job.config, epoch.validation_loss)
    return job.here or (number > 0 and (number & (number - 1) == 0 or ended))
